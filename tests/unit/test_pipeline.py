"""The chain over small fake notebooks: order, strictness, what a failure says, what a second start keeps.

The fakes run in real kernels and write real manifests; they take the names of lessons 08 to 10, which read no file.
"""

import json
import os
import re
import sys
from types import SimpleNamespace

import nbformat
import pytest
from nbformat import v4

from lekhai_helpers import closing, pipeline
from lekhai_helpers import progress as progress_module
from lekhai_helpers.core.recipe import SettingsError, resolve
from lekhai_helpers.core.run_folder import Run, RunError
from lekhai_helpers.progress import Lesson, Progress, clock

PARAMETERS = 'RECIPE = "lekhai"\nPROFILE = "auto"\nRUN = "first"\nOVERRIDES = {}'
OPEN = """import os, sys
from lekhai_helpers.core.run_folder import open_phase
phase = open_phase("{key}", RECIPE, PROFILE, RUN, OVERRIDES)
{need}"""
LOOK = 'print("PROFILE", PROFILE, "SEED", phase.settings.seed, sys.executable, os.getcwd(), sep="|")'
FINISH = """for name in {outputs}:
    (phase.folder / name).write_text("{content}")
_ = phase.finish({{name: phase.folder / name for name in {outputs}}}, {{"kept": "sft"}})"""
LESSONS = {
    "08_export": ("", ["exported_model"]),
    "09_integration": ('_ = phase.require("exported_model")', ["integration"]),
    "10_preference_alignment": ("", ["kept_adapter", "kept_model"]),
}


def fake(folder, key, *, work=LOOK, parameters=PARAMETERS, content="one", finish=FINISH):
    """Write a notebook that does what every lesson does: open its phase, work, finish."""
    need, outputs = LESSONS[key]
    cells = [v4.new_markdown_cell(f"# {key}"), v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += [v4.new_code_cell(OPEN.format(key=key, need=need)), v4.new_code_cell(work)]
    cells.append(v4.new_code_cell(finish.format(outputs=outputs, content=content)))
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(v4.new_notebook(cells=cells, metadata=metadata), folder / f"{key}.ipynb")


def texts(path):
    cells = nbformat.read(path, as_version=4).cells
    return "".join(out.text for cell in cells for out in cell.get("outputs", []) if out.get("name") == "stdout")


@pytest.fixture
def chain(tmp_path, monkeypatch):
    """A folder of three fakes, a folder of runs, and a `go` that runs the chain and returns what it printed."""
    monkeypatch.setenv("LEKHAI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("LEKHAI_CACHE", str(tmp_path / "cache"))
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    for key in LESSONS:
        fake(notebooks, key)

    def go(**options):
        lines = []
        options = {"first": 8, "last": 10, "overrides": {"seed": 7}} | options
        try:
            pipeline.run_chain("lekhai", "smoke", "t", console=lines.append, notebooks=notebooks, **options)
        finally:
            lines_of.extend(lines)
        return lines

    lines_of: list[str] = []
    folder = tmp_path / "runs" / "lekhai-smoke-t"
    return SimpleNamespace(go=go, notebooks=notebooks, folder=folder, lines=lines_of)


def started(lines):
    return [int(match[1]) for line in lines if (match := re.match(r"\[ ?(\d+)/12\] \w+  cell 1/", line))]


def test_the_lessons_run_in_order_with_our_python_and_a_second_start_keeps_them(chain, tmp_path, monkeypatch):
    """A kernel named python3 that belongs to another Python stands first in line on many a user's machine."""
    decoy = tmp_path / "jupyter" / "kernels" / "python3"
    decoy.mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "decoy", "language": "python"}
    (decoy / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))

    lines = chain.go()
    assert started(lines) == [8, 9, 10]
    assert any(re.match(r"\[ 8/12\] export  cell 1/4  \d+:\d\d  about \d+ min left", line) for line in lines)
    assert sum("done in" in line for line in lines) == 3
    for key in LESSONS:
        words = texts(chain.folder / f"{key}.ipynb").strip().split("|")
        assert words == ["PROFILE", "smoke", "SEED", "7", sys.executable, str(chain.notebooks)]
        assert not (chain.folder / f"{key}.partial.ipynb").exists()

    again = chain.go(resume=True)
    assert started(again) == []
    assert sum("kept" in line for line in again) == 3

    fake(chain.notebooks, "08_export", content="two")
    cascade = chain.go(first=8, last=8)
    assert started(cascade) == [8]
    after = chain.go(resume=True)
    assert started(after) == [9]
    assert any("runs: exported_model changed" in line for line in after)


def test_a_failure_stops_the_chain_and_says_cell_error_and_remedy(chain):
    """Papermill's own report is the whole traceback in colours, and the lesson after it would start on nothing."""
    broken = "a = 1\nb = 0\nc = 2\nd = 3\na / b\ne = 5"
    fake(chain.notebooks, "09_integration", work=broken)
    with pytest.raises(pipeline.ChainError) as caught:
        chain.go()
    text = str(caught.value)
    assert "stopped at code cell 3 of 4" in text
    assert "    a = 1\n" in text and "    ...\n" in text and "e = 5" not in text.split("...")[0]
    assert "ZeroDivisionError: division by zero" in text
    assert "a / b" in text and "\x1b" not in text
    assert "lekhai run --recipe lekhai --profile smoke --name t --from 08 --to 10 --set seed=7 --resume" in text, text
    assert len(text.splitlines()) < 20
    assert started(chain.lines) == [8, 9]
    assert (chain.folder / "09_integration.partial.ipynb").exists()
    assert not (chain.folder / "09_integration.ipynb").exists()
    assert not (chain.folder / "10_preference_alignment").exists()

    fake(chain.notebooks, "09_integration")
    assert started(chain.go(resume=True)) == [9, 10]
    assert not (chain.folder / "09_integration.partial.ipynb").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"finish": "done = True"}, "ended without finishing its phase"),
        ({"work": "sys.exit(0)", "finish": "done = True"}, "ended without finishing its phase"),
        ({"work": "os._exit(1)"}, "the notebook's Python was killed"),
    ],
)
def test_a_lesson_that_ends_without_its_manifest_has_failed(chain, change, said):
    """For papermill sys.exit(0) is a success."""
    fake(chain.notebooks, "08_export", **change)
    with pytest.raises(pipeline.ChainError, match=said):
        chain.go()
    assert started(chain.lines) == [8]


def test_a_parameter_the_notebook_does_not_know_is_refused_before_anything_starts(chain):
    """Papermill logs a warning nobody reads, and the lesson runs with its own default."""
    fake(chain.notebooks, "10_preference_alignment", parameters=PARAMETERS.replace("OVERRIDES", "OVERIDES"))
    with pytest.raises(pipeline.ChainError, match="has no parameter 'OVERRIDES'; did you mean 'OVERIDES'"):
        chain.go()
    assert started(chain.lines) == []


def test_settings_are_checked_before_anything_starts(chain):
    with pytest.raises(SettingsError, match="did you mean 'sft.max_steps'"):
        chain.go(overrides={"sft.max_step": 3})
    with pytest.raises(SettingsError, match="sft.max_steps"):
        chain.go(overrides={"sft.max_steps": "3"})
    assert not chain.folder.exists()


def test_a_missing_notebook_and_an_empty_range_are_refused(chain):
    with pytest.raises(pipeline.ChainError, match="11_judge.ipynb.*lekhai publish --build"):
        chain.go(last=11)
    with pytest.raises(pipeline.ChainError, match="no notebook from 09 to 08"):
        chain.go(first=9, last=8)


def test_a_second_run_in_the_same_folder_is_refused(chain):
    lock = Run(resolve("lekhai", "smoke"), "t").lock()
    try:
        with pytest.raises(RunError, match="being written by another process"):
            chain.go()
    finally:
        lock.release()
    assert started(chain.lines) == []


def test_a_name_that_would_leave_the_runs_folder_is_refused(chain):
    for name in ("../x", "a b", ""):
        with pytest.raises(RunError, match="cannot be a folder's"):
            pipeline.run_chain("lekhai", "smoke", name, notebooks=chain.notebooks)


def test_the_users_own_files_are_found_from_the_notebooks_folder(tmp_path, monkeypatch):
    """--set data.file=mine.csv is meant from where the user stands; kernels stand in notebooks/."""
    (tmp_path / "mine.csv").write_text("x")
    monkeypatch.chdir(tmp_path)
    given = {"data.file": "mine.csv", "evaluation.briefs": "not_here.csv", "sft.max_steps": 3}
    assert pipeline._absolute_paths(given) == given | {"data.file": str(tmp_path / "mine.csv")}


def test_kernels_get_absolute_folders_and_no_progress_bars(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEKHAI_RUNS", "my_runs")
    monkeypatch.setenv("LEKHAI_CACHE", "my_cache")
    environment = pipeline.kernel_environment()
    assert environment["LEKHAI_RUNS"] == str(tmp_path / "my_runs")
    assert environment["UNSLOTH_COMPILE_LOCATION"] == str(tmp_path / "my_cache" / "unsloth")
    assert environment["TQDM_DISABLE"] == "1"
    assert environment["PATH"] == os.environ["PATH"]


# --- progress


def cell(text="", tags=()):
    outputs = [v4.new_output("stream", name="stdout", text=text)] if text else []
    return v4.new_code_cell("x", metadata={"tags": list(tags)}, outputs=outputs)


def test_a_long_cell_still_shows_a_sign_of_life(monkeypatch, tmp_path):
    monkeypatch.setattr(progress_module, "HEARTBEAT_SECONDS", 0.01)
    lines: list[str] = []
    lesson = Lesson("06_fine_tuning", tmp_path, 21)
    progress = Progress(lines.append, [lesson], seconds_per_cell=None)
    with progress.during(lesson):
        progress.on_cell(cell(tags=["injected-parameters"]))
        progress.on_cell(v4.new_markdown_cell("words"))
        progress.on_cell(cell("step 19/80\rstep 20/80 loss 1.2\n"))
        while len(lines) < 3:
            pass
    assert lines[0] == "[ 6/12] fine_tuning  cell 1/21  0:00  time left not known yet"
    assert lines[2].endswith("| step 20/80 loss 1.2")
    assert lines[-1] == "[ 6/12] fine_tuning  done in 0:00"


def test_time_left_begins_with_the_promise_and_ends_with_what_was_measured(tmp_path):
    lesson = Lesson("06_fine_tuning", tmp_path, 10)
    progress = Progress(print, [lesson], seconds_per_cell=60)
    assert progress.left() == "about 10 min left"
    progress.cell, progress.started = 10, progress.started - 3000
    assert progress.left() == "about 5 min left"
    unmeasured = Progress(print, [lesson], seconds_per_cell=None)
    assert unmeasured.left() == "time left not known yet"
    unmeasured.cell, unmeasured.started = 6, unmeasured.started - 300
    assert unmeasured.left() == "about 5 min left"


def test_clock():
    assert [clock(s) for s in (0, 83.9, 3600 + 62)] == ["0:00", "1:23", "1:01:02"]


# --- the closing summary


def row(brief, text, ok):
    nothing = {"industry": "রং", "tone": "", "prompt": "", "problems": [], "facts": {}, "tokens": 1, "seconds": 1.0}
    return nothing | {"brief_id": brief, "seed": 1, "text": text, "ok": ok, "stopped": True}


def finish(run, key, outputs, figures):
    """Write a manifest as a finished phase leaves it."""
    folder = run.folder / key
    folder.mkdir(parents=True)
    for path in outputs.values():
        (folder / path).write_text("x")
    manifest = {"settings": run.settings.model_dump(mode="json"), "figures": figures}
    manifest["outputs"] = {name: {"path": path, "sha256": ""} for name, path in outputs.items()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_the_closing_summary_shows_the_same_brief_before_and_after(chain):
    run = Run(resolve("lekhai", "smoke"), "t")
    assert closing.closing_summary(run).strip() == run.label
    finish(run, "10_preference_alignment", {"kept_adapter": "a", "kept_model": "b"}, {"kept": "dpo"})
    finish(run, "12_portability", {"gguf": "model-q5.gguf"}, {})
    (run.folder / "report.html").write_text("x")
    with run.open_ledger() as ledger:
        ledger.add_responses("merged", [row("b0", "only before", False), row("b1", "scraps", False)])
        ledger.add_responses("sft", [row("b1", "not shown", True)])
        ledger.add_responses("dpo", [row("b1", "| Visual | Audio |", True)])
        ledger.summarize("merged", "valid_tables", 0.0, 0.0, 0.2, 12)
        ledger.summarize("dpo", "valid_tables", 0.92, 0.7, 0.98, 36)
        ledger.summarize("dpo", "other", None)
    text = closing.closing_summary(run)
    assert "Before training (merged, brief b1):\nscraps" in text
    assert "After (dpo, the same brief):\n| Visual | Audio |" in text
    assert "not shown" not in text and "only before" not in text
    assert "92%   70% to 98%, of 36" in text
    assert f"GGUF: {run.folder / '12_portability' / 'model-q5.gguf'}" in text
    assert f"Report: {run.folder / 'report.html'}" in text


def test_the_newest_run_is_found_with_its_settings(chain):
    with pytest.raises(RunError, match="lekhai run"):
        closing.newest_run()
    for name, age in (("old", 100), ("new", 0)):
        run = Run(resolve("lekhai", "smoke", {"seed": age + 1}), name)
        finish(run, "08_export", {"exported_model": "m"}, {})
        path = run.folder / "08_export" / "manifest.json"
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    assert (closing.newest_run().name, closing.newest_run().settings.seed) == ("new", 1)
    assert closing.newest_run("lekhai-smoke-old").settings.seed == 101
    with pytest.raises(RunError, match="'nothing' was not found"):
        closing.newest_run("nothing")
