"""What running a file takes, measured in processes of its own, and held against the estimates."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from lekhai_helpers.learn.shapes import read_config
from lekhai_helpers.ship.budgets import begin_gguf_set
from lekhai_helpers.ship.fit import file_mb, kv_cache_mb
from lekhai_helpers.ship.footprint import footprint_table, gguf_config, measure
from lekhai_helpers.ship.quantize import convert_to_gguf, quantize

CONVERT = "import sys; from pathlib import Path; from lekhai_helpers.ship.quantize import convert_to_gguf; "
CONVERT += "convert_to_gguf(Path(sys.argv[1]), Path(sys.argv[2]))"


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    return shutil.copytree(tiny, tmp_path_factory.mktemp("footprint") / "model")


@pytest.fixture(scope="module")
def f16(folder):
    return convert_to_gguf(folder, folder.parent / "tiny-f16.gguf")


def test_the_header_gives_the_shapes_of_the_config(f16, folder):
    told, config = gguf_config(f16), json.loads((folder / "config.json").read_text())
    names = ["num_hidden_layers", "hidden_size", "num_key_value_heads", "head_dim", "sliding_window", "vocab_size"]
    assert {name: told[name] for name in names} == {name: config[name] for name in names}
    assert told["model_type"] == config["model_type"]


@pytest.mark.parametrize("kind", ["f16", "q8_0", "q4_k_m", "q5_k_m"])
def test_the_estimated_size_is_that_of_the_file(f16, folder, kind):
    """Rows of 64 are no multiple of 256: every fallback is in play. The header is a third of so small a file."""
    path = f16 if kind == "f16" else quantize(f16, f16.with_name(f"tiny-{kind}.gguf"), kind)
    header = 40_000
    assert file_mb(read_config(folder), kind) * 1e6 == pytest.approx(path.stat().st_size, rel=0.02, abs=header)


def test_a_file_is_measured_whole(f16):
    found = measure(f16, contexts=(16, 64), threads=1)
    assert found.file == "tiny-f16.gguf" and found.load_seconds > 0 and found.gpu_mb is None
    assert set(found.first_token) == set(found.speed) == {16, 64} and min(found.speed.values()) > 0
    assert found.peak_memory_mb > 10 and found.estimated_mb > found.size_mb
    assert found.kv_measured_mb == pytest.approx(found.kv_estimated_mb, rel=0.5, abs=6)
    table = footprint_table([f16], contexts=(16,))
    assert list(table.index) == ["tiny-f16.gguf"] and table["tokens_per_second_16"].iloc[0] > 0


def test_the_cache_estimate_reads_the_header(f16):
    assert kv_cache_mb(gguf_config(f16), 512) == pytest.approx(2 * 32 * 2 * 2 * 512 / 1e6)


def test_a_conversion_killed_in_the_middle_leaves_no_file_and_the_next_begins_clean(folder, tmp_path):
    """A half GGUF under a final name loads, sometimes, and writes nonsense."""
    target = tmp_path / "set" / "tiny-f16.gguf"
    target.parent.mkdir()
    environment = dict(os.environ)
    running = subprocess.Popen(
        [sys.executable, "-c", CONVERT, str(folder), str(target)],
        env=environment,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not list(target.parent.iterdir()) and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    os.killpg(running.pid, signal.SIGKILL)  # the converter is a process of its own
    running.communicate()
    assert not target.exists()
    begin_gguf_set(target.parent, read_config(folder), ["f16"])
    assert list(target.parent.iterdir()) == []
    assert convert_to_gguf(folder, target).exists() and [p.name for p in target.parent.iterdir()] == [target.name]
