"""An export killed in the middle leaves no half file under a final name, loses no earlier one, and is cleared away."""

import os
import signal
import subprocess
import sys

import pytest

from lekhai_helpers.prepare.bases import load_pointer, resolve_base, save_pointer
from lekhai_helpers.ship.atomic import can_link, clear_unfinished, new_file, new_folder, working_copy

KILLED = """
import sys, time
from pathlib import Path
from lekhai_helpers.ship.atomic import new_{kind}
with new_{kind}(Path(sys.argv[1])) as place:
    target = place / "model.safetensors" if "{kind}" == "folder" else place
    target.write_bytes(b"half")
    print("half", flush=True)
    time.sleep(60)
"""
BETWEEN = """
import sys, time
from pathlib import Path
from lekhai_helpers.ship import atomic
def stop(place, folder):
    folder.rename(folder.with_name(folder.name + ".previous"))
    print("between", flush=True)
    time.sleep(60)
atomic._take_name = stop
with atomic.new_folder(Path(sys.argv[1])) as place:
    (place / "model.safetensors").write_bytes(b"new")
"""


def kill_in_the_middle(program, path):
    """Run a program until it says where it is, and kill it as a power cut would."""
    running = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    said = running.stdout.readline().strip()
    running.send_signal(signal.SIGKILL)
    running.communicate()
    return said


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_killed_folder_keeps_the_earlier_one_and_the_next_export_clears_the_rest(tmp_path):
    target = tmp_path / "merged"
    with new_folder(target) as place:
        (place / "model.safetensors").write_bytes(b"whole")
    assert kill_in_the_middle(KILLED.format(kind="folder"), target) == "half"
    assert (target / "model.safetensors").read_bytes() == b"whole" and names(tmp_path) == ["merged", "merged.writing"]
    with new_folder(target) as place:
        (place / "model.safetensors").write_bytes(b"newer")
    assert (target / "model.safetensors").read_bytes() == b"newer" and names(tmp_path) == ["merged"]


def test_a_killed_file_leaves_nothing_under_its_name(tmp_path):
    target = tmp_path / "lekhai-f16.gguf"
    assert kill_in_the_middle(KILLED.format(kind="file"), target) == "half"
    assert names(tmp_path) == ["lekhai-f16.gguf.writing"]
    assert clear_unfinished(tmp_path) == ["lekhai-f16.gguf.writing"] and names(tmp_path) == []


def test_killed_between_the_two_renames_the_earlier_folder_is_found_again(tmp_path):
    """Deleting the old folder first would leave a moment in which neither is there."""
    target = tmp_path / "merged"
    with new_folder(target) as place:
        (place / "model.safetensors").write_bytes(b"old")
    assert kill_in_the_middle(BETWEEN, target) == "between"
    assert not target.exists()
    with pytest.raises(OSError, match="disk full"), new_folder(target):
        raise OSError("disk full")
    assert (target / "model.safetensors").read_bytes() == b"old" and names(tmp_path) == ["merged"]


def test_an_error_leaves_the_earlier_file(tmp_path):
    target = tmp_path / "Modelfile"
    with new_file(target) as place:
        place.write_text("old")
    with pytest.raises(ValueError, match="broken"), new_file(target) as place:
        place.write_text("ne")
        raise ValueError("broken")
    assert target.read_text() == "old" and names(tmp_path) == ["Modelfile"]


def test_a_file_that_was_never_written_is_no_success(tmp_path):
    with pytest.raises(FileNotFoundError), new_file(tmp_path / "nothing"):
        pass
    assert names(tmp_path) == []


def test_clearing_takes_what_is_unfinished_at_any_depth_and_nothing_else(tmp_path):
    for name in ("a/model.writing/model.safetensors", "a/x.gguf.writing", "a/whole.gguf", "b/old.previous/keep"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert clear_unfinished(tmp_path) == ["a/model.writing", "a/x.gguf.writing"]
    assert (tmp_path / "a" / "whole.gguf").exists() and (tmp_path / "b" / "old.previous" / "keep").exists()


@pytest.mark.parametrize("links", [True, False])
def test_a_working_copy_takes_no_room_where_the_disk_has_links_and_leaves_the_source_alone(
    tmp_path, monkeypatch, links
):
    """A second whole copy of the weights was never counted before the disk was checked."""
    if not links:
        monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    source, target = tmp_path / "model", tmp_path / "copy"
    for folder, name in ((source, "weights"), (target, "left by a killed run")):
        folder.mkdir()
        (folder / name).write_bytes(b"whole")
    (working_copy(source, target) / "tokenizer.model").write_bytes(b"beside")
    assert sorted(os.listdir(target)) == ["tokenizer.model", "weights"] and os.listdir(source) == ["weights"]
    assert os.path.samefile(source / "weights", target / "weights") is links


def test_a_base_on_a_hub_is_copied_from_the_hubs_cache(tmp_path, monkeypatch):
    """The pointer stayed a hub id, no folder; and a cache holds relative links, which a link to them leads nowhere."""
    cache, blob = tmp_path / "cache" / "snapshots" / "1", tmp_path / "cache" / "blobs" / "b"
    for folder in (cache, blob.parent, tmp_path / "run" / "02"):
        folder.mkdir(parents=True)
    blob.write_bytes(b"whole")
    (cache / "model.safetensors").symlink_to("../../blobs/b")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: {"google/gemma-2-2b-it": cache}[name])
    base = load_pointer(save_pointer(resolve_base("google/gemma-2-2b-it"), tmp_path / "run" / "02" / "base.json"))
    copy = working_copy(base.path, tmp_path / "run" / "source")
    assert (copy / "model.safetensors").read_bytes() == b"whole"
    assert os.path.samefile(copy / "model.safetensors", blob) and can_link(cache, copy)
