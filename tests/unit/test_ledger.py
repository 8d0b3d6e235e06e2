"""The ledger: what is written stays readable, whoever writes at the same time and whoever is killed."""

import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lekhai_helpers.core.ledger import SCHEMA_VERSION, Ledger, LedgerError

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

# What the child processes run, once told to start: ten rows a transaction, so many times (-1: for ever).
WRITER = """
import sys
from pathlib import Path
from lekhai_helpers.core.ledger import Ledger
path, experiment, batches = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
row = dict(seed=1, industry="i", tone="t", prompt="p", text="x" * 4000, ok=True, problems=[], facts={},
           tokens=1, seconds=0.1, stopped=True)
print("ready", flush=True)
sys.stdin.readline()
with Ledger(path, experiment=experiment, recipe="r", profile="p", settings="{}") as ledger:
    number = 0
    while batches < 0 or number < batches:
        ledger.add_responses("sft", [row | {"brief_id": f"{number}-{i}"} for i in range(10)])
        ledger.log_metrics("06_fine_tuning", number, {"loss": 1.0})
        number += 1
"""


def start_writer(path: Path, experiment: str, batches: int) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITER, str(path), experiment, str(batches)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, env=ENVIRONMENT, text=True, **pipes)


def release(*writers: subprocess.Popen) -> None:
    """Let the writers begin together, after each has done its imports."""
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()


def open_ledger(path: Path, experiment: str = "lekhai-smoke-a", settings: str = "{}") -> Ledger:
    return Ledger(path, experiment=experiment, recipe="lekhai", profile="smoke", settings=settings)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "centralized.db"


@pytest.fixture
def ledger(path):
    with open_ledger(path) as opened:
        yield opened


def response(brief_id: str = "b1", seed: int = 1, **changes) -> dict:
    row = dict(brief_id=brief_id, seed=seed, industry="রং", tone="মজার", prompt="লিখুন", text="| Visual | Audio |")
    row |= dict(ok=False, problems=["there is no table"], facts={"rows": 3}, tokens=5, seconds=0.5, stopped=True)
    return row | changes


def verdict(**changes) -> dict:
    row = dict(stage="sft", brief_id="b1", seed=1, criterion="tone", status="scored", score=7, reason="ঠিক আছে")
    return row | changes


def test_a_response_comes_back_as_it_was_written(ledger):
    assert ledger.add_responses("sft", [response(), response(seed=2, ok=True, problems=[])]) == 2
    table = ledger.responses("sft")
    first = table.iloc[0]
    assert first["industry"] == "রং" and first["problems"] == ["there is no table"] and first["facts"] == {"rows": 3}
    assert table["ok"].tolist() == [False, True]
    assert table["ok"].mean() == 0.5


def test_the_same_brief_and_seed_written_again_replaces_the_row(ledger):
    ledger.add_responses("sft", [response(text="old")])
    ledger.add_responses("sft", [response(text="new")])
    ledger.add_responses("dpo", [response(text="another stage")])
    assert ledger.responses("sft")["text"].tolist() == ["new"]
    assert len(ledger.responses()) == 2


def test_stages_stand_in_the_order_first_written(ledger):
    for stage in ("merged", "sft", "base", "merged"):
        ledger.add_responses(stage, [response(seed=len(ledger.responses()))])
    assert ledger.stages() == ["merged", "sft", "base"]


def test_a_response_without_a_field_is_refused_by_its_name_and_nothing_is_written(ledger):
    broken = response("b2")
    del broken["tokens"]
    with pytest.raises(LedgerError, match="lacks tokens"):
        ledger.add_responses("sft", [response(), broken])
    assert ledger.responses().empty


def test_metrics_are_kept_by_step_and_a_step_written_again_is_replaced(ledger):
    ledger.log_metrics("06_fine_tuning", 10, {"loss": 2.0, "eval_loss": 2.5})
    ledger.log_metrics("06_fine_tuning", 5, {"loss": 3.0})
    ledger.log_metrics("06_fine_tuning", 10, {"loss": 1.5})
    losses = ledger.metrics("06_fine_tuning").query("name == 'loss'")
    assert losses["step"].tolist() == [5, 10] and losses["value"].tolist() == [3.0, 1.5]
    assert ledger.metrics("10_preference_alignment").empty


def test_a_loss_that_is_not_a_number_is_kept_as_such(ledger):
    """SQLite turns NaN into NULL; a NOT NULL column would have killed the training at the step worth seeing."""
    ledger.log_metrics("06_fine_tuning", 1, {"loss": float("nan")})
    assert math.isnan(ledger.metrics("06_fine_tuning")["value"][0])


def test_clearing_a_phase_leaves_the_others(ledger):
    ledger.log_metrics("06_fine_tuning", 1, {"loss": 1.0})
    ledger.log_metrics("10_preference_alignment", 1, {"loss": 1.0})
    ledger.clear_metrics("06_fine_tuning")
    assert ledger.metrics("06_fine_tuning").empty and len(ledger.metrics("10_preference_alignment")) == 1


def test_a_stage_can_be_cleared_with_its_summary_and_verdicts(ledger):
    """A second run with fewer briefs would otherwise be counted together with the old rows."""
    for stage in ("sft", "dpo"):
        ledger.add_responses(stage, [response()])
        ledger.add_verdicts("gpt", [verdict(stage=stage)])
        ledger.summarize(stage, "valid_tables", 1.0)
    ledger.clear_stage("sft")
    assert ledger.stages() == ["dpo"]
    assert ledger.summary()["stage"].tolist() == ledger.verdicts()["stage"].tolist() == ["dpo"]


def test_a_summary_is_replaced_and_may_have_no_interval(ledger):
    ledger.summarize("sft", "valid_tables", 0.5, 0.3, 0.7, 36, "first")
    ledger.summarize("sft", "valid_tables", 0.75, 0.6, 0.9, 36)
    ledger.summarize("sft", "tone_distance", None, note="too few rows")
    table = ledger.summary().set_index("metric")
    assert table.loc["valid_tables", "value"] == 0.75 and table.loc["valid_tables", "note"] == ""
    assert math.isnan(table.loc["tone_distance", "value"]) and table.loc["tone_distance", "note"] == "too few rows"


def test_aqi_scores_are_kept_by_layer(ledger):
    ledger.add_aqi("sft", 4, "silhouette", 0.2, 0.1, 0.3, 40)
    ledger.add_aqi("sft", 4, "silhouette", 0.25, 0.1, 0.3, 40)
    assert ledger.aqi()[["layer", "value"]].values.tolist() == [[4, 0.25]]


def test_aqi_scores_of_an_earlier_try_are_forgotten_and_those_of_other_runs_kept(ledger):
    """Fewer layers, or another stage kept, left the old rows standing among the new ones."""
    ledger.add_aqi("sft", 17, "silhouette", 0.2, 0.1, 0.3, 40)
    with open_ledger(ledger.path, "another") as other:
        other.add_aqi("sft", 3, "silhouette", 0.5)
        ledger.clear_aqi()
        assert ledger.aqi().empty and other.aqi()["layer"].tolist() == [3]


def test_a_verdict_without_a_score_does_not_replace_one_that_is_scored(ledger):
    """An endpoint that was down during a second run took all marks of the first away."""
    ledger.add_responses("sft", [response()])
    assert (
        ledger.add_verdicts("gpt", [verdict(score=3), verdict(criterion="fluency", status="failed", score=None)]) == 2
    )
    down = [verdict(criterion=name, status="failed", score=None, reason="down") for name in ("tone", "fluency")]
    assert ledger.add_verdicts("gpt", down) == 1
    table = ledger.verdicts().set_index("criterion")
    assert table.loc["tone", "score"] == 3 and table.loc["fluency", "reason"] == "down"
    assert ledger.add_verdicts("gpt", []) == 0 and len(ledger.verdicts()) == 2


def test_verdicts_by_another_rubric_go_and_those_of_other_judges_stay(ledger):
    """A criterion that is no longer asked stayed in the heatmap, and marks by old words among the new."""
    ledger.add_responses("sft", [response()])
    old = [verdict(criterion=name) | {"rubric": "old"} for name in ("tone", "idea")]
    for judge in ("gpt", "gemini"):
        ledger.add_verdicts(judge, old)
    failed = verdict(criterion="tone", status="failed", score=None) | {"rubric": "new"}
    ledger.add_verdicts("gpt", [failed])
    table = ledger.verdicts()
    assert table.query("judge == 'gpt'")[["criterion", "status"]].values.tolist() == [["tone", "failed"]]
    assert len(table.query("judge == 'gemini'")) == 2
    with pytest.raises(LedgerError, match="several rubrics"):
        ledger.add_verdicts("gpt", [old[0], failed])
    with pytest.raises(LedgerError, match="cannot be written"):  # and then nothing is dropped either
        ledger.add_verdicts("gpt", [verdict(stage="nowhere") | {"rubric": "third"}])
    assert len(ledger.verdicts()) == 3


def test_verdicts_are_replaced_and_an_unparsable_one_has_no_score(ledger):
    ledger.add_responses("sft", [response()])
    ledger.add_verdicts("gpt", [verdict(score=3), verdict(criterion="fluency", status="unparsable", score=None)])
    ledger.add_verdicts("gpt", [verdict(score=8)])
    table = ledger.verdicts().set_index("criterion")
    assert table.loc["tone", "score"] == 8 and math.isnan(table.loc["fluency", "score"])


def test_a_verdict_on_no_response_is_refused_because_foreign_keys_are_on(ledger):
    with pytest.raises(LedgerError, match="add_responses first"):
        ledger.add_verdicts("gpt", [verdict()])


@pytest.mark.parametrize("wrong", [{"score": None}, {"status": "failed", "score": 3}, {"status": "guessed"}])
def test_a_verdict_that_contradicts_itself_is_refused(ledger, wrong):
    ledger.add_responses("sft", [response()])
    with pytest.raises(LedgerError, match="cannot be written"):
        ledger.add_verdicts("gpt", [verdict(**wrong)])
    assert ledger.verdicts().empty


def test_a_verdict_goes_when_the_text_it_speaks_of_is_written_anew(ledger):
    """Otherwise the report would show an old score beside a new text."""
    ledger.add_responses("sft", [response(text="old")])
    ledger.add_verdicts("gpt", [verdict()])
    ledger.add_responses("sft", [response(text="old", seconds=2)])
    assert len(ledger.verdicts()) == 1
    ledger.add_responses("sft", [response(text="new")])
    assert ledger.verdicts().empty


def test_an_audit_is_kept_with_its_verdict_first_and_a_new_one_replaces_it_whole(ledger):
    """Figures of an older audit beside those of a newer one would speak of two different judges."""
    rows = [dict(metric="accuracy: broken_table", value=0.9, low=0.6, high=0.98, n=10), dict(metric="old", value=1)]
    ledger.add_audit("gpt", rows, passed=False, sentence="not to be trusted here: it prefers the first side")
    ledger.add_audit("other", [], passed=True, sentence="")
    assert ledger.add_audit("gpt", rows[:1], passed=True, sentence="trusted") == 2
    table = ledger.audits().query("judge == 'gpt'")
    assert table["metric"].tolist() == ["passed", "accuracy: broken_table"]
    assert table["value"].tolist() == [1.0, 0.9] and table["note"].tolist() == ["trusted", ""]
    assert table["n"].astype(object).tolist()[1] == 10


def test_a_figure_of_an_audit_without_its_value_is_refused(ledger):
    with pytest.raises(LedgerError, match="lacks value"):
        ledger.add_audit("gpt", [{"metric": "accuracy"}], passed=True, sentence="")
    assert ledger.audits().empty


def label(**changes) -> dict:
    return dict(stage="sft", brief_id="b1", seed=1, criterion="tone", rater="rahima", score=7) | changes


def test_a_person_s_mark_is_replaced_by_a_second_one_and_kept_beside_other_raters(ledger):
    ledger.add_responses("sft", [response()])
    assert ledger.add_labels([label(score=3), label(rater="karim")]) == 2
    ledger.add_labels([label(score=8)])
    assert ledger.labels().set_index("rater")["score"].to_dict() == {"rahima": 8, "karim": 7}


def test_a_mark_does_not_count_for_another_text_and_is_not_lost(ledger):
    """A stage that is written anew would throw away hours of reading; or the mark would stand beside a new text."""
    ledger.add_responses("sft", [response(text="read by a person")])
    ledger.add_labels([label()])
    ledger.clear_stage("sft")
    ledger.add_responses("sft", [response(text="new")])
    assert ledger.labels().empty
    ledger.add_responses("sft", [response(text="read by a person")])
    assert ledger.labels()["score"].tolist() == [7]


@pytest.mark.parametrize(
    ("wrong", "said"), [({"score": 11}, "from 1 to 10"), ({"score": 0}, "from 1 to 10"), ({"seed": 9}, "seed 9")]
)
def test_a_mark_of_no_text_or_off_the_scale_is_refused_and_nothing_is_written(ledger, wrong, said):
    ledger.add_responses("sft", [response()])
    with pytest.raises(LedgerError, match=said):
        ledger.add_labels([label(), label(criterion="idea", **wrong)])
    assert ledger.labels().empty


def test_two_experiments_in_one_file_do_not_see_each_other(path, ledger):
    ledger.add_responses("sft", [response()])
    with open_ledger(path, "lekhai-cpu-b") as other:
        assert other.experiment_id != ledger.experiment_id
        assert other.responses().empty and other.stages() == []


def test_opening_again_keeps_the_experiment_and_takes_its_new_settings(path, ledger):
    ledger.log_metrics("06_fine_tuning", 1, {"loss": 1.0})
    with open_ledger(path, settings='{"seed": 2}') as again:
        assert again.experiment_id == ledger.experiment_id and len(again.metrics("06_fine_tuning")) == 1
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT settings FROM experiments").fetchall() == [('{"seed": 2}',)]
    raw.close()


def test_a_file_of_a_newer_version_is_refused_in_one_clear_sentence(path):
    open_ledger(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    raw.close()
    with pytest.raises(LedgerError, match="written by a newer LekhAI .* update LekhAI"):
        open_ledger(path)


def test_a_file_that_is_no_database_is_refused_with_the_remedy(path):
    path.parent.mkdir()
    path.write_text("stage,brief\n" * 100)
    with pytest.raises(LedgerError, match="move the file away"):
        open_ledger(path)
    assert path.read_text().startswith("stage")


def test_the_file_has_the_tables_the_design_names(path, ledger):
    with sqlite3.connect(path) as raw:
        tables = {name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        mode = raw.execute("PRAGMA journal_mode").fetchone()[0]
    raw.close()
    named = {"experiments", "training_metrics", "model_responses", "evaluation_summary", "aqi_scores"}
    assert named | {"judge_verdicts", "judge_audits", "human_labels"} <= tables and mode == "wal"


def test_two_processes_that_make_and_write_the_file_at_the_same_time_both_succeed(path):
    """SQLite refuses one of two processes that switch a new file to WAL, at once, whatever the busy timeout."""
    writers = [start_writer(path, f"run-{i}", 30) for i in range(2)]
    release(*writers)
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors
    for i in range(2):
        with open_ledger(path, f"run-{i}") as ledger:
            assert len(ledger.responses("sft")) == 300 and len(ledger.metrics("06_fine_tuning")) == 30


def test_a_process_killed_while_it_writes_leaves_a_readable_database_of_whole_transactions(path):
    writer = start_writer(path, "killed", -1)
    release(writer)
    while not path.exists() or path.stat().st_size == 0:
        time.sleep(0.01)
    time.sleep(0.4)
    writer.send_signal(signal.SIGKILL)
    writer.communicate(timeout=10)
    assert writer.returncode == -signal.SIGKILL
    with open_ledger(path, "killed") as ledger:
        written = len(ledger.responses("sft"))
        assert written > 0 and written % 10 == 0
        ledger.add_responses("sft", [response()])
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
    raw.close()


def test_importing_the_ledger_loads_no_heavy_library():
    code = "import sys, lekhai_helpers.core.ledger; print({'pandas', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
