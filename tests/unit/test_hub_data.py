"""Where examples lie: a file, a folder, or a set on a hub that somebody named. Nothing else is ever downloaded."""

import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest

from lekhai_helpers.core import recipe as recipe_module
from lekhai_helpers.core.recipe import is_hub_set, resolve
from lekhai_helpers.core.run_folder import Run
from lekhai_helpers.prepare.hub_data import examples_path
from lekhai_helpers.prepare.sources.base import DatasetError

ROOT = Path(__file__).resolve().parents[2]
HUB = "Vaibhaav/alignment-instructions"


def data_of(recipe: str, file: str):
    return resolve(recipe, "cpu", {"data.file": file}).data


@pytest.mark.parametrize("name", [HUB, "owner/set@main", "owner/set@refs/convert/parquet", "some-one/a.b-c_d"])
def test_an_owner_and_a_name_is_a_set_on_a_hub(name):
    assert is_hub_set(name)


@pytest.mark.parametrize(
    "name",
    [
        "Ad Script Dataset - Scripts.csv",
        "tutor/tutor.jsonl",
        "tutor/none.jsonl",
        "data/none.csv",
        "twainbot",
        "/root/a",
        "../a",
        "a/b/c",
        "https://a/b",
    ],
)
def test_a_path_is_none_whether_it_is_there_or_not(name):
    """A misspelt file must be reported as missing, and not be asked of a server."""
    assert not is_hub_set(name)


def test_a_folder_that_is_there_wins_over_a_hub(tmp_path, monkeypatch):
    (tmp_path / "owner" / "set").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_set("owner/set")
    assert examples_path(data_of("alignment", "owner/set")) == Path("owner/set")


@pytest.mark.parametrize("recipe", ["lekhai", "twainbot", "tutor", "companion", "alignment"])
def test_what_ships_is_found_without_asking_anybody(recipe, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked a hub"))
    assert examples_path(resolve(recipe, "cpu").data).exists()


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder that stands for what the hub's client downloaded; returns it with the calls that were made."""
    calls = []

    def download(where, **how):
        calls.append((where, how["repo_type"], how["revision"]))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return tmp_path, calls


def test_a_source_of_folders_gets_the_folder_and_the_revision_is_kept(served):
    folder, calls = served
    assert examples_path(data_of("alignment", f"{HUB}@abc")) == folder
    assert calls == [(HUB, "dataset", "abc")]


def test_a_source_of_files_gets_the_only_file_or_the_names_to_choose_from(served):
    folder, _ = served
    (folder / "README.md").write_text("about", encoding="utf-8")
    with pytest.raises(DatasetError, match="none; one is needed"):
        examples_path(data_of("tutor", "owner/set"))
    (folder / "data").mkdir()
    (folder / "data" / "rows.jsonl").write_text("{}", encoding="utf-8")
    assert examples_path(data_of("tutor", "owner/set")) == folder / "data" / "rows.jsonl"
    (folder / "more.csv").write_text("a", encoding="utf-8")
    with pytest.raises(DatasetError, match="data/rows.jsonl, more.csv"):
        examples_path(data_of("tutor", "owner/set"))


def test_without_a_network_the_error_names_the_set_and_what_to_do(tmp_path):
    """In a process of its own: the hub's client reads HF_HUB_OFFLINE once, when it is loaded."""
    code = (
        "from lekhai_helpers.core.recipe import resolve\n"
        "from lekhai_helpers.prepare.hub_data import examples_path\n"
        f"examples_path(resolve('alignment', 'cpu', {{'data.file': '{HUB}'}}).data)"
    )
    alone = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=alone, cwd=ROOT)
    said = done.stderr.strip().splitlines()[-1]
    assert f"data.file names {HUB}, which is no file here" in said and "download its files into a folder" in said


def test_a_misspelt_file_is_still_a_missing_file():
    with pytest.raises(FileNotFoundError, match="tutor/tutr.jsonl was not found"):
        examples_path(data_of("tutor", "tutor/tutr.jsonl"))


def test_a_run_on_a_set_of_a_hub_watches_no_file(tmp_path, monkeypatch):
    """Its name stands in the settings; looking for it as a file would stop every notebook after the third."""
    monkeypatch.setenv("LEKHAI_RUNS", str(tmp_path))
    run = Run(resolve("alignment", "smoke", {"data.file": HUB}), "test")
    assert "data.file" not in run._file_hashes("03_data")
    assert recipe_module.is_hub_set(HUB)
