"""`lekhai judge`: an audit in the terminal, its exit code, and marks from a person."""

import pytest
from typer.testing import CliRunner

from lekhai_helpers import cli, closing
from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.core.run_folder import Run
from lekhai_helpers.measure import judge_client
from lekhai_helpers.measure.judge import Score
from lekhai_helpers.measure.judge_budget import Usage

RESPONSE = {
    **{"brief_id": "b1", "seed": 1, "industry": "চা", "tone": "শান্ত", "prompt": "চা", "text": "| ক | খ |"},
    **{"ok": True, "problems": [], "facts": {}, "tokens": 9, "seconds": 1.0, "stopped": True},
}


class Always:
    """A judge that gives seven to everything and takes the first."""

    name, family, measures, identity, usage = "always", "google", None, "", Usage()

    def grade(self, text, brief, criteria):
        return [Score(name, "scored", 7.0, "") for name in criteria]

    def compare(self, first, second, brief):
        return "first"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("LEKHAI_RUNS", str(tmp_path))
    run = Run(resolve("lekhai", "smoke"), "first")
    monkeypatch.setattr(closing, "newest_run", lambda label=None: run)
    with run.open_ledger() as ledger:
        ledger.add_responses("sft", [RESPONSE])
    return run


def call(*words, **options):
    return CliRunner().invoke(cli.app, ["judge", *words], **options)


def test_without_a_judge_the_remedy_is_named(monkeypatch):
    for name in ("LEKHAI_JUDGE_KEY", "LEKHAI_JUDGE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    answer = call("audit")
    assert answer.exit_code == 1 and "set LEKHAI_JUDGE_URL" in answer.output


def test_an_audit_that_fails_says_so_ends_with_one_and_stands_in_the_ledger(monkeypatch, run):
    monkeypatch.setattr(judge_client, "configured", lambda settings: Always())
    answer = call("audit", "--pairs", "6", "--run", run.label)
    assert answer.exit_code == 1
    assert "always is not to be trusted here" in answer.output
    assert "one family (google)" in answer.output and "0 calls" in answer.output
    with run.open_ledger() as ledger:
        assert ledger.audits().iloc[0][["judge", "metric", "value"]].to_list() == ["always", "passed", 0.0]


def test_the_pairs_are_those_of_the_settings(monkeypatch, tmp_path):
    monkeypatch.setattr(judge_client, "configured", lambda settings: Always())
    own = tmp_path / "own.csv"
    own.write_text("id,better\n1,x\n", encoding="utf-8")
    answer = call("audit", "--set", f"judge.audit_file={own}")
    assert answer.exit_code == 1 and "own.csv lacks the columns" in answer.output


def test_marks_are_asked_for_and_saved(run):
    criteria = run.settings.judge.criteria
    answer = call("label", "--rater", "rima", input="7\n" * len(criteria))
    assert answer.exit_code == 0, answer.output
    assert "1 texts marked and saved, 0 left" in answer.output
    with run.open_ledger() as ledger:
        assert list(ledger.labels()["score"]) == [7.0] * len(criteria)
    assert "0 texts marked and saved, 0 left" in call("label", "--rater", "rima").output
