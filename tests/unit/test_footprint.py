"""The recommendation by rule, and what is read from a process and from a file's header."""

import os
import subprocess
from types import SimpleNamespace

import pytest

from lekhai_helpers.core import plots
from lekhai_helpers.ship import footprint
from lekhai_helpers.ship.errors import ExportError
from lekhai_helpers.ship.footprint import recommend


def rows(**shares):
    sizes = {"f16": 246, "q8_0": 131, "q5_k_m": 100, "q4_k_m": 93}
    return [{"file": name, "size_mb": sizes[name], "valid_share": share} for name, share in shares.items()]


FILES = rows(f16=0.8, q8_0=0.8, q5_k_m=0.75, q4_k_m=0.5)


def test_the_smallest_file_that_still_does_its_job_is_recommended():
    best = recommend(FILES)
    assert best["file"] == "q5_k_m" and best["why"].startswith("q5_k_m is the smallest file that holds")
    assert "q4_k_m is smaller and writes 50% valid tables, under 70%" in best["why"]


def test_a_file_that_writes_tables_but_predicts_something_else_is_not_recommended():
    """Twelve briefs are few: a file can write valid tables by luck and still have lost what it learned."""
    far = [row | {"distance": distance} for row, distance in zip(FILES, (0.0, 0.001, 0.3, 0.9), strict=True)]
    best = recommend(far)
    assert best["file"] == "q8_0" and "q5_k_m is smaller and is 0.30 nats a token away, over 0.1" in best["why"]
    assert recommend(far, distance=0.4)["file"] == "q5_k_m"


def test_a_distance_that_was_not_measured_is_not_asked():
    assert recommend([row | {"distance": None} for row in FILES])["file"] == "q5_k_m"


def test_a_share_exactly_a_tenth_below_still_holds():
    """0.8 - 0.1 is a little more than 0.7 in floating point."""
    assert recommend(rows(f16=0.8, q8_0=0.7))["file"] == "q8_0"
    assert recommend(rows(f16=0.8, q8_0=0.7), tolerance=0.05)["file"] == "f16"


def test_where_nothing_smaller_holds_the_16_bit_file_is_recommended():
    assert recommend(rows(f16=0.8, q8_0=0.2, q4_k_m=0.1))["file"] == "f16"


def test_without_any_valid_table_the_distance_alone_decides():
    none = rows(f16=0.0, q8_0=0.0, q4_k_m=0.0)
    assert recommend([row | {"distance": d} for row, d in zip(none, (0, 0.01, 2.0), strict=True)])["file"] == "q8_0"


def test_a_file_that_is_no_gguf_is_named(tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\0" * 40)
    with pytest.raises(ExportError, match=r"broken\.gguf has no readable GGUF header"):
        footprint.gguf_config(broken)


def test_a_process_is_weighed_without_the_files_it_maps():
    assert 5 < footprint.own_memory_mb(os.getpid()) < 4000


@pytest.mark.parametrize(("told", "held"), [("11, 300\n77, 500\n77, 24", 549.5), ("11, 300", None), ("[N/A]", None)])
def test_the_cards_memory_is_that_of_the_process_alone(monkeypatch, told, held):
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=told))
    assert footprint.gpu_memory_mb(77) == held


def test_without_a_card_there_is_no_figure(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert footprint.gpu_memory_mb(77) is None


@pytest.mark.parametrize("panels", [1, 2])
def test_the_chart_names_every_file_and_rings_the_recommended(panels):
    import pandas as pd

    table = pd.DataFrame(FILES).assign(tokens_per_second=[60, 90, 100, float("nan")])
    if panels == 2:
        table["distance"] = [0, 0.01, 0.04, None]
    figure = plots.quality_size_speed(table, recommended="q5_k_m")
    assert len(figure.axes) == panels
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == 4 and labels[2] == "q5_k_m: 100 MB, 100 tokens/s"
    assert labels[3] == "q4_k_m: 93 MB, speed not measured"
    assert "q5_k_m" in figure.get_suptitle() and len(figure.axes[0].collections) == 5
