"""The whole chain at the smoke profile, over the real notebooks: minutes. Leave it out with ``-m "not chain"``."""

import json
import re

import nbformat
import pytest

from lekhai_helpers.closing import closing_summary, recommended_gguf
from lekhai_helpers.core.bengali import bengali_share
from lekhai_helpers.core.recipe import data_file, resolve
from lekhai_helpers.core.run_folder import PHASES, Run, sha256
from lekhai_helpers.pipeline import run_chain
from lekhai_helpers.prepare.dataset import load_briefs

pytestmark = pytest.mark.chain


@pytest.fixture(scope="module")
def lines():
    """What the chain printed."""
    return []


@pytest.fixture(scope="module")
def run(tmp_path_factory, lines):
    """One run of all twelve lessons, in a folder of its own; the unpacked base comes from the usual cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEKHAI_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield run_chain("lekhai", "smoke", "test", console=lines.append)


def test_twelve_notebooks_ran_without_an_error(run):
    assert sorted(path.stem for path in run.folder.glob("*.ipynb")) == sorted(PHASES)
    for path in run.folder.glob("*.ipynb"):
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in cells if cell.source.strip()), path.name
        assert [out.ename for cell in cells for out in cell.outputs if out.output_type == "error"] == [], path.name


def test_every_phase_is_complete_and_every_output_is_what_its_manifest_says(run):
    for key, spec in PHASES.items():
        manifest = run.manifest(key)
        assert manifest is not None and run.stale_reason(key) is None, key
        assert set(manifest["outputs"]) == set(spec.outputs)
        for name, output in manifest["outputs"].items():
            assert sha256(run.output(name)) == output["sha256"], name
    assert list(run.folder.glob("*.partial*")) == []


def test_the_ledger_holds_the_texts_and_figures_of_every_stage(run):
    settings = run.settings
    with run.open_ledger() as ledger:
        stages, responses, summary = ledger.stages(), ledger.responses(), ledger.summary()
        losses = ledger.metrics("06_fine_tuning")
    quants = [f"gguf-{kind}" for kind in settings.export.quantizations]
    assert set(stages) == {"base", "merged", "sft", "sft+grammar", "dpo", *quants, "quantized"}
    assert (responses.groupby("stage").size() == settings.evaluation.limit).all()
    valid = summary[summary["metric"] == "valid_tables"].set_index("stage")
    assert set(valid.index) == set(stages)
    assert ((valid["low"] <= valid["value"]) & (valid["value"] <= valid["high"])).all()
    assert losses[losses["name"] == "loss"]["step"].max() == settings.sft.max_steps


def test_the_recommended_gguf_is_there(run):
    recommended = recommended_gguf(run)
    files = run.manifest("12_portability")["figures"]["files"]
    row = next(row for row in files if row["file"] == recommended.name)
    assert recommended.stat().st_size / 1e6 == pytest.approx(row["size_mb"], abs=0.1)
    assert recommended.read_bytes()[:4] == b"GGUF"
    assert (recommended.parent / "Modelfile").read_text(encoding="utf-8").startswith(f"FROM ./{recommended.name}\n")


def test_the_report_is_a_bengali_page_without_this_machines_paths(run):
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"<(script|style).*?</\1>|<[^>]+>|data:[^\"')]+", " ", page, flags=re.DOTALL)
    briefs = load_briefs(data_file(run.settings.evaluation.briefs))
    assert briefs[0].prompt in text and bengali_share(text) > 0.01
    assert str(run.folder.parent) not in page


def test_the_closing_lines_name_the_results(run, lines):
    summary = closing_summary(run)
    assert summary in lines
    for part in ("Before training (merged", "After (", "Valid tables by stage", "GGUF: ", "Report: "):
        assert part in summary


def test_one_lesson_can_be_run_again_by_itself(run):
    """Notebook 11 reads the ledger, which by now holds the texts of notebook 12 as well."""
    run_chain("lekhai", "smoke", "test", only=11, console=lambda line: None)
    assert run.stale_reason("11_judge") is None


def test_a_resume_runs_nothing_again(run):
    before = {key: (run.folder / key / "manifest.json").stat().st_mtime_ns for key in PHASES}
    lines = []
    run_chain("lekhai", "smoke", "test", resume=True, console=lines.append)
    assert sum("kept: complete" in line for line in lines) == 12
    assert not any(re.search(r"cell \d+/\d+", line) for line in lines)
    assert before == {key: (run.folder / key / "manifest.json").stat().st_mtime_ns for key in PHASES}


def test_a_changed_data_file_starts_again_at_lesson_03(run, tmp_path):
    import pandas as pd

    fewer = tmp_path / "fewer.csv"
    pd.read_csv(data_file(run.settings.data.file), dtype=str).iloc[:-1].to_csv(fewer, index=False)
    changed = Run(resolve("lekhai", "smoke", {"data.file": str(fewer)}), "test")
    assert changed.folder == run.folder
    assert next(key for key in PHASES if changed.stale_reason(key)) == "03_data"


def test_the_settings_in_the_manifests_are_one_and_the_same(run):
    written = {json.dumps(run.manifest(key)["settings"], sort_keys=True) for key in PHASES}
    assert len(written) == 1
