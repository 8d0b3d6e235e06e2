"""A run is a folder: what is complete, what is stale, and what an interruption leaves behind."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lekhai_helpers.core import run_folder
from lekhai_helpers.core.recipe import Settings, data_file, resolve
from lekhai_helpers.core.run_folder import PHASES, Run, RunError, open_phase, sha256, write_json, write_text
from lekhai_helpers.prepare.bases import Base, load_pointer, save_pointer

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks" / "src"


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    """A folder of runs of the test's own."""
    monkeypatch.setenv("LEKHAI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("LEKHAI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "runs"


def opened(key, **overrides):
    return open_phase(key, "lekhai", "smoke", "t", {key.replace("__", "."): value for key, value in overrides.items()})


def finished(key, content="one", figures=None, **overrides):
    """Run a phase to its end, each output a file with `content`."""
    phase = opened(key, **overrides)
    outputs = {name: write_text(phase.folder / name, content) for name in PHASES[key].outputs}
    phase.finish(outputs, figures)
    return phase


def reason(key, **overrides):
    return opened(key, **overrides).run.stale_reason(key)


def test_until_it_finishes_a_phase_does_not_look_complete():
    phase = opened("04_base_model")
    write_text(phase.folder / "lora_config", "x")
    assert phase.folder.name == "04_base_model.partial"
    assert phase.run.manifest("04_base_model") is None and phase.run.output("lora_config") is None
    assert phase.run.stale_reason("04_base_model") == "it is not complete"


def test_the_manifest_is_the_last_thing_written(monkeypatch):
    """Its existence means complete: written earlier, an interruption would pass for a finished phase."""
    phase = opened("04_base_model")
    output = write_text(phase.folder / "lora_config", "x")
    seen = []
    real = run_folder.write_json

    def watch(path, value):
        seen.append((path.name, sorted(p.name for p in phase.folder.iterdir()), value["outputs"]))
        return real(path, value)

    monkeypatch.setattr(run_folder, "write_json", watch)
    phase.finish({"lora_config": output})
    assert seen == [("manifest.json", ["lora_config"], {"lora_config": {"path": "lora_config", "sha256": seen_sha()}})]
    assert phase.folder.name == "04_base_model" and (phase.folder / "manifest.json").exists()


def seen_sha():
    import hashlib

    return hashlib.sha256(b"x").hexdigest()


def test_a_manifest_half_written_leaves_no_manifest(tmp_path, monkeypatch):
    path = write_json(tmp_path / "m.json", {"a": 1})
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


def test_the_manifest_says_what_the_phase_was_made_with():
    phase = finished("04_base_model", figures={"trained": 7})
    manifest = phase.run.manifest("04_base_model")
    assert manifest["figures"] == {"trained": 7} and manifest["seed"] == 3407
    assert manifest["versions"]["python"] == sys.version.split()[0]
    assert Settings.model_validate(manifest["settings"]).hash() == phase.settings.hash()
    assert opened("05_vibe_check").figures("04_base_model") == {"trained": 7}
    assert opened("05_vibe_check").figures("06_fine_tuning") == {}


def test_a_phase_without_its_output_cannot_finish():
    phase = opened("10_preference_alignment")
    kept = write_text(phase.folder / "a", "x")
    with pytest.raises(RunError, match="missing kept_model"):
        phase.finish({"kept_adapter": kept})
    with pytest.raises(RunError, match="10_preference_alignment cannot finish: missing kept_model"):
        phase.finish({"kept_adapter": kept, "kept_model": phase.folder / "absent"})
    assert phase.run.manifest("10_preference_alignment") is None


def test_what_is_missing_is_told_with_the_notebook_and_the_command():
    with pytest.raises(RunError) as caught:
        opened("07_refinement").require("sft_adapter")
    assert "run notebook 06_fine_tuning first" in str(caught.value)
    assert "`lekhai run --only 06 --recipe lekhai --profile smoke --name t`" in str(caught.value)
    with pytest.raises(KeyError, match="no phase makes 'sft_adaptor'; known: .*sft_adapter"):
        opened("07_refinement").require("sft_adaptor")


def test_an_output_deleted_by_hand_is_missing_too():
    phase = finished("04_base_model")
    (phase.folder / "lora_config").unlink()
    with pytest.raises(RunError, match="no lora_config"):
        opened("06_fine_tuning").require("lora_config")


def test_an_output_is_found_and_its_sum_is_noted():
    made = finished("04_base_model")
    phase = opened("06_fine_tuning")
    assert phase.require("lora_config") == made.folder / "lora_config"
    assert phase.inputs == {"lora_config": sha256(made.folder / "lora_config")}


def test_a_finished_phase_holds_until_its_own_settings_change():
    finished("04_base_model")
    assert reason("04_base_model") is None
    assert reason("04_base_model", dpo__max_steps=9) is None
    assert reason("04_base_model", lora__r=8) == "its settings changed"


def test_a_changed_input_file_makes_a_phase_stale(tmp_path):
    mine = tmp_path / "mine.csv"
    mine.write_bytes(data_file("Ad Script Dataset - Scripts.csv").read_bytes())
    finished("03_data", data__file=str(mine))
    assert reason("03_data", data__file=str(mine)) is None
    mine.write_bytes(mine.read_bytes() + b"\n")
    assert reason("03_data", data__file=str(mine)) == "an input file changed"


def test_other_audit_pairs_make_the_judging_stale(tmp_path):
    """The judges' audit stood in the report though its pairs had been written anew."""
    mine = tmp_path / "pairs.csv"
    mine.write_bytes(data_file("judge_audit.csv").read_bytes())
    finished("11_judge", judge__audit_file=str(mine))
    assert reason("11_judge", judge__audit_file=str(mine)) is None
    mine.write_bytes(mine.read_bytes() + b"\n")
    assert reason("11_judge", judge__audit_file=str(mine)) == "an input file changed"


def test_a_remade_input_makes_a_phase_stale_only_if_it_differs():
    finished("04_base_model")
    phase = opened("06_fine_tuning")
    phase.require("lora_config")
    phase.finish({"sft_adapter": write_text(phase.folder / "sft_adapter", "x")})
    finished("04_base_model", content="one")
    assert reason("06_fine_tuning") is None
    finished("04_base_model", content="two")
    assert reason("06_fine_tuning") == "lora_config changed"
    shutil.rmtree(phase.run.folder / "04_base_model")
    assert reason("06_fine_tuning") == "lora_config changed"


@pytest.mark.parametrize("key", PHASES)
def test_what_a_phase_is_watched_for_exists_in_the_settings(key):
    """A misspelt section would be left out of the hash without a word, and the phase would never be stale."""
    settings = resolve("lekhai", "smoke")
    assert set(PHASES[key].sections) <= set(Settings.model_fields)
    assert set(PHASES[key].files) <= set(settings.flat())


# What a lesson reads through the helpers: writing the briefs takes the system prompt with it.
BY_HELPER = {"write_scripts": {"decoding", "evaluation", "system_prompt"}, "brief_messages": {"system_prompt"}}
# What is shown to a reader and decides nothing, or comes to the phase through an input that is watched.
ONLY_SHOWN = {
    "01_environment": {"evaluation", "data", "language"},
    "02_sutro_fusion": {"decoding"},
    "03_data": {"evaluation"},
    "05_vibe_check": {"data"},
    "06_fine_tuning": {"decoding", "evaluation", "system_prompt"},
    "07_refinement": {"seed", "system_prompt", "data", "language"},
    "08_export": {"decoding", "evaluation", "system_prompt"},
    "09_integration": {"system_prompt", "data"},
    "10_preference_alignment": {"system_prompt", "data"},
    "11_judge": {"data", "language"},
    "12_portability": {"data"},
}


@pytest.mark.parametrize("key", PHASES)
def test_a_lesson_reads_no_setting_that_it_is_not_watched_for(key):
    """With another system prompt `--resume` kept the old baseline, and before and after were two different tasks."""
    source = (NOTEBOOKS / f"{key}.py").read_text(encoding="utf-8")
    used = set(re.findall(r"\bsettings\.(\w+)", source)) & set(Settings.model_fields) - {"title", "recipe"}
    used |= {section for helper, sections in BY_HELPER.items() if f"{helper}(" in source for section in sections}
    assert used - set(PHASES[key].sections) - ONLY_SHOWN.get(key, set()) == set()


def test_an_older_complete_phase_is_kept_beside_the_new_one():
    first = finished("04_base_model", content="one")
    again = opened("04_base_model")
    write_text(again.folder / "lora_config", "two")
    assert (first.folder / "lora_config").read_text() == "one"
    again.finish({"lora_config": again.folder / "lora_config"})
    assert (again.folder / "lora_config").read_text() == "two"
    assert (again.run.folder / "04_base_model.previous" / "lora_config").read_text() == "one"
    finished("04_base_model", content="three")
    assert (again.run.folder / "04_base_model.previous" / "lora_config").read_text() == "two"


def test_a_second_process_in_the_same_run_is_refused():
    """Two writers in one folder leave a run that belongs to neither."""
    run = Run(resolve("lekhai", "smoke"), "t")
    code = (
        "from lekhai_helpers.core.run_folder import Run, RunError\n"
        "from lekhai_helpers.core.recipe import resolve\n"
        "try:\n    Run(resolve('lekhai', 'smoke'), 't').lock()\n"
        "except RunError as error:\n    print(error)\n"
        "else:\n    print('taken')"
    )

    def other():
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    lock = run.lock()
    assert "lekhai-smoke-t is being written by another process" in other()
    lock.release()
    assert other() == "taken\n"


def model_in(folder, weights="w"):
    write_text(folder / "config.json", "{}")
    write_text(folder / "model.safetensors", weights)
    return folder


def test_a_moved_run_still_finds_its_models(runs, tmp_path, monkeypatch):
    """On Colab the runs lie on Drive, and every notebook may be opened on another machine under another path."""
    phase = opened("02_sutro_fusion")
    inside = Base(str(model_in(phase.folder / "merge_t0.5")), "merged", "gemma", "...")
    phase.finish({"merged_base": save_pointer(inside, phase.folder / "merged_base.json")})
    phase = opened("08_export")
    model_in(phase.folder / "model" / "merged")
    phase.finish({"exported_model": phase.folder / "model"})
    phase = opened("10_preference_alignment")
    elsewhere = Base(str(phase.require("exported_model") / "merged"), "kept", "gemma", "...")
    outputs = {name: save_pointer(elsewhere, phase.folder / f"{name}.json") for name in ("kept_adapter", "kept_model")}
    phase.finish(outputs)

    moved = tmp_path / "drive" / "runs"
    moved.parent.mkdir()
    runs.rename(moved)
    monkeypatch.setenv("LEKHAI_RUNS", str(moved))
    later = opened("12_portability")
    for name, place in (("merged_base", "02_sutro_fusion/merge_t0.5"), ("kept_model", "08_export/model/merged")):
        found = Path(load_pointer(later.require(name)).path)
        assert found.resolve() == later.run.folder / place
        assert (found / "model.safetensors").exists()
    assert later.run.stale_reason("02_sutro_fusion") is None


def test_paths_are_shown_without_this_machines_folders(runs):
    phase = opened("04_base_model")
    assert phase.show(phase.folder / "a" / "b.json") == "a/b.json"
    assert phase.show(phase.run.folder / "report.html") == "lekhai-smoke-t/report.html"
    assert phase.show(Path("/somewhere/else/x.json")) == "x.json"


def test_the_opening_tells_the_promise_and_says_so_where_there_is_none():
    assert "time about 10 minutes" in opened("04_base_model").opening()
    settings = resolve("lekhai", "colab-t4")
    phase = opened("04_base_model")
    phase.run = Run(settings, "t")
    assert "time unmeasured, memory unmeasured, disk unmeasured" in phase.opening()


def test_a_profile_for_a_card_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr("lekhai_helpers.core.hardware.machine", lambda: {"gpu": None})
    with pytest.raises(RunError, match="colab-t4 needs an NVIDIA card.*--profile cpu"):
        open_phase("04_base_model", "lekhai", "colab-t4", "t")


def test_a_cpu_profile_hides_the_cards(monkeypatch):
    """The libraries take any card they see, and the run would not be the one its profile promises."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    opened("04_base_model")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_an_unknown_phase_is_refused():
    with pytest.raises(KeyError, match="no phase '06_fine_tune'; known: .*06_fine_tuning"):
        open_phase("06_fine_tune", "lekhai", "smoke", "t")


def test_the_sum_of_a_folder_sees_names_and_contents(tmp_path):
    folder = tmp_path / "f"
    write_text(folder / "a", "1")
    first = sha256(folder)
    (folder / "a").rename(folder / "b")
    second = sha256(folder)
    write_text(folder / "b", "2")
    assert len({first, second, sha256(folder)}) == 3
