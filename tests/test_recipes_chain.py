"""Every other recipe's whole chain at the smoke profile: the same twelve notebooks. Minutes; see test_chain.py.

Two chains run at a time, each in a process and on a core of its own. ``-s`` shows what each of them took.
"""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import nbformat
import pytest

from lekhai_helpers.closing import recommended_gguf
from lekhai_helpers.core.recipe import available, data_file, resolve
from lekhai_helpers.core.run_folder import PHASES, Run, sha256
from lekhai_helpers.pipeline import run_chain
from lekhai_helpers.prepare.contracts import expected_of, get_contract, words_of
from lekhai_helpers.prepare.dataset import briefs_of, load_examples, load_rows, load_table

pytestmark = pytest.mark.chain
RECIPES = [name for name in available("recipes") if name != "lekhai"]
# What only the ad scripts are about. As a key of JSON or of settings "industry" is the groups' name in every recipe.
ADS = re.compile(
    r"\bad.?script|advertis|copywrit|\| ?Visual ?\||\bvalid.tables?\b|(?<![\".])\bindustr(?:y|ies)\b", re.IGNORECASE
)


@pytest.fixture(scope="module")
def chains(request, tmp_path_factory):
    """What every recipe's command line came to: exit code, all it said, minutes. ``-k tutor`` runs that one alone."""
    asked = [name for name in RECIPES if any(_recipe_of(item) == name for item in request.session.items)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEKHAI_RUNS", str(tmp_path_factory.mktemp("runs")))
        with ThreadPoolExecutor(2) as lanes:
            yield dict(zip(asked, lanes.map(_chain, asked), strict=True))


def _recipe_of(item):
    return item.callspec.params.get("run") if hasattr(item, "callspec") else None


def _chain(recipe):
    began = time.monotonic()
    command = [sys.executable, "-m", "lekhai_helpers.cli", "run", "--recipe", recipe, "--profile", "smoke"]
    # Threads that wait by trying again and again would keep the other chain from working, and llama.cpp's do.
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
    done = subprocess.run([*command, "--name", "test"], env=os.environ | threads, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr, (time.monotonic() - began) / 60


@pytest.fixture(scope="module", params=RECIPES)
def run(request, chains):
    code, said, minutes = chains[request.param]
    assert code == 0, said[-3000:]
    print(f"\n{request.param}: {minutes:.1f} minutes")
    return Run(resolve(request.param, "smoke"), "test")


def test_twelve_notebooks_ran_without_an_error(run):
    assert sorted(path.stem for path in run.folder.glob("*.ipynb")) == sorted(PHASES)
    for key in PHASES:
        cells = _code_cells(run, key)
        assert all(cell.execution_count for cell in cells if cell.source.strip()), key
        assert [out.ename for cell in cells for out in cell.outputs if out.output_type == "error"] == [], key


def test_every_stage_has_its_manifest_and_its_outputs_are_what_it_says(run):
    for key, spec in PHASES.items():
        manifest = run.manifest(key)
        assert manifest is not None and run.stale_reason(key) is None, key
        assert set(manifest["outputs"]) == set(spec.outputs) and manifest["settings"]["recipe"] == run.settings.recipe
        assert all(sha256(run.output(name)) == output["sha256"] for name, output in manifest["outputs"].items()), key


def test_every_row_is_learned_from_or_named(run):
    """n of n: usable rows are examples, but for those that were too long, and these are named."""
    data, figures = run.settings.data, run.manifest("03_data")["figures"]
    table, problems = load_table(data_file(data.file), data.prompts, data.source, data.contract)
    assert figures["rows"] == len(table) > 80 and figures["usable"] == int(table["usable"].sum()) == len(table)
    examples = [row for part in ("train", "validation", "test") for row in load_examples(run.output("dataset"), part)]
    assert len(examples) == figures["examples"] == len(table) - len(figures["left_out"])
    assert not [problem for problem in problems if problem.level == "error"]


def test_every_answer_to_learn_from_keeps_the_recipes_own_contract(run):
    contract = get_contract(run.settings.data.contract)
    rows = load_rows(run.output("dataset")).to_dict("records")
    verdicts = [contract(row["script"], expected_of(row["expected"])) for row in rows]
    broken = [(row["id"], verdict.problems) for row, verdict in zip(rows, verdicts, strict=True) if not verdict.ok]
    assert broken == []


def test_no_conversation_is_parted_by_the_split(run):
    parts = load_rows(run.output("dataset")).groupby("thread")["split"].nunique()
    assert (parts == 1).all()


def test_every_stage_answered_every_brief_and_was_held_to_the_contract(run):
    settings, contract = run.settings, get_contract(run.settings.data.contract)
    briefs = {brief.id: brief for brief in briefs_of(settings, part=None)}
    with run.open_ledger() as ledger:
        stages, responses, summary = ledger.stages(), ledger.responses(), ledger.summary()
    files = [f"gguf-{kind}" for kind in settings.export.quantizations]
    assert set(stages) == {"base", "merged", "sft", "dpo", *files, "quantized"}
    assert (responses.groupby("stage").size() == settings.evaluation.limit).all()
    again = [contract(row.text, expected_of(briefs[row.brief_id].expected)) for row in responses.itertuples()]
    assert list(responses["ok"]) == [verdict.ok for verdict in again]
    assert list(responses["problems"]) == [verdict.problems for verdict in again]
    counted = summary[summary["metric"] == "valid_tables"].set_index("stage")
    assert (counted["value"] == responses.groupby("stage")["ok"].mean()[counted.index]).all()
    assert (counted["n"] == settings.evaluation.limit).all() and (counted["low"] <= counted["high"]).all()


def test_the_briefs_asked_are_of_every_kind(run):
    """Two briefs of one kind once stood for a recipe whose contract asks something else of each kind."""
    asked, all_of_them = briefs_of(run.settings), briefs_of(run.settings, part=None)
    kinds = {_kind(brief) for brief in all_of_them}
    assert len({_kind(brief) for brief in asked}) == min(len(kinds), run.settings.evaluation.limit)


def test_the_ledger_holds_training_audits_marks_and_alignment(run):
    settings = run.settings
    with run.open_ledger() as ledger:
        losses, rewards = ledger.metrics("06_fine_tuning"), ledger.metrics("10_preference_alignment")
        audits, verdicts, aqi = ledger.audits(), ledger.verdicts(), ledger.aqi()
    assert losses[losses["name"] == "loss"]["step"].max() == settings.sft.max_steps
    assert rewards["step"].max() == settings.dpo.max_steps
    assert len(audits) and set(verdicts["criterion"]) <= set(settings.judge.criteria)
    assert set(verdicts["status"]) <= {"scored", "unparsable", "failed"}
    found = run.manifest("11_judge")["figures"]
    own = verdicts[(verdicts["judge"] == found["judge"]) & (verdicts["stage"] != "quantized")]  # notebook 12 marks that
    texts = own[["stage", "brief_id", "seed"]].drop_duplicates()
    assert (texts.groupby("stage").size() == settings.judge.outputs_per_stage).all()
    assert found["asked"] == len(own) == len(texts) * own["criterion"].nunique()
    assert found["scored"] == (own["status"] == "scored").sum() > 0
    assert {"base", "merged"} & set(aqi["stage"]) and aqi["metric"].str.startswith("delta_").any()


def test_questions_with_one_right_answer_were_asked_before_and_after(run):
    contract, settings = get_contract(run.settings.data.contract), run.settings
    before, after = run.manifest("05_vibe_check"), run.manifest("07_refinement")["figures"]["right"]
    assert before is not None and bool(after) == bool(contract.right)
    if after:
        assert after["before"]["of"] == after["after"]["of"] == settings.evaluation.right_limit
        assert 0 <= after["after"]["right"] <= after["after"]["of"]


def test_the_style_test_was_made_where_the_recipe_has_a_writer(run):
    voice = run.manifest("07_refinement")["figures"]["voice"]
    assert voice["sentence"] and ("nearer" in voice) == run.settings.evaluation.style_test


def test_the_service_answered_and_held_its_answer_to_the_contract(run):
    figures, kept = run.manifest("09_integration")["figures"], json.loads(run.output("integration").read_text())
    contract, answer = get_contract(run.settings.data.contract), kept["answer"]
    verdict = contract(answer["markdown"])
    assert answer["contract"]["ok"] == verdict.ok and answer["contract"]["problems"] == verdict.problems
    assert figures["swap"] == 200 and figures["tools"] == len(contract.tools)
    assert bool(kept["tool_turns"]) == bool(contract.tools)
    with sqlite3.connect(run.folder / "09_integration" / "scripts.db") as store:
        assert store.execute("SELECT count(*) FROM scripts").fetchone()[0] >= 8  # the first, six at once, and one after


def test_the_wait_for_the_recommended_file_stands_beside_the_recipes_goal(run):
    found = run.manifest("12_portability")["figures"]["latency"]
    assert found["file"] == recommended_gguf(run).name and found["goal_ms"] == run.settings.serving.latency_goal_ms
    for waits in (found["first"], found["again"], found["answer"]):
        assert 0 < waits["median_ms"] <= waits["p95_ms"] and waits["n"] > 0


def test_the_recommended_gguf_is_there_and_speaks_with_the_recipes_system_prompt(run):
    recommended = recommended_gguf(run)
    files = run.manifest("12_portability")["figures"]["files"]
    kinds = run.settings.export.quantizations
    assert [row["file"] for row in files] == [f"{run.settings.recipe}-{kind}.gguf" for kind in kinds]
    row = next(row for row in files if row["file"] == recommended.name)
    assert recommended.stat().st_size / 1e6 == pytest.approx(row["size_mb"], abs=0.1)
    assert recommended.read_bytes()[:4] == b"GGUF"
    modelfile = (recommended.parent / "Modelfile").read_text(encoding="utf-8")
    assert modelfile.startswith(f"FROM ./{recommended.name}\n")
    assert run.settings.system_prompt.splitlines()[0] in modelfile


def test_no_output_speaks_of_advertisements(run):
    for key in PHASES:
        for cell in _code_cells(run, key):
            found = ADS.search(_said(cell)) if key not in ("01_environment", "02_sutro_fusion") else None
            assert not found, f"{key}: {found.group()!r} in what this cell shows:\n{cell.source}"


def test_the_report_is_about_this_recipe(run):
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"<(script|style).*?</\1>|<[^>]+>|data:[^\"')]+", " ", page, flags=re.DOTALL)
    assert run.settings.title in text and words_of(run.settings).many in text.lower()
    assert briefs_of(run.settings)[0].prompt.splitlines()[0] in text.replace("&#39;", "'").replace("&#34;", '"')
    assert not ADS.search(text), ADS.search(text).group()
    assert str(run.folder.parent) not in page


def test_a_resume_runs_nothing_again(run):
    lines = []
    run_chain(run.settings.recipe, "smoke", "test", resume=True, console=lines.append)
    assert sum("kept: complete" in line for line in lines) == 12


def _code_cells(run, key):
    cells = nbformat.read(run.folder / f"{key}.ipynb", as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def _said(cell):
    """Return all the text of a cell's outputs."""
    outputs = [out.text if out.output_type == "stream" else out.get("data", {}) for out in cell.outputs]
    return "\n".join(out if isinstance(out, str) else "\n".join(_texts(out)) for out in outputs)


def _texts(data):
    return [str(text) for kind, text in data.items() if kind.startswith("text/")]


def _kind(brief):
    expected = expected_of(brief.expected) or {}
    return expected.get("task") or expected.get("side") or brief.industry
