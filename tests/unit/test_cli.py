"""The lekhai command: quick to answer, and every error of ours is one sentence with a remedy and exit code 1."""

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from lekhai_helpers import cli

ROOT = Path(__file__).resolve().parents[2]
VERBS = [
    *("", "doctor", "run", "publish", "report", "data", "data check"),
    *("ledger", "ledger runs", "judge", "judge audit", "extract", "curate", "data fetch"),
]


def call(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lekhai_helpers.cli", *words]
    return subprocess.run(command, capture_output=True, check=False, encoding="utf-8", cwd=ROOT)


@pytest.mark.parametrize("verb", VERBS)
def test_help_answers_quickly(verb):
    """One heavy import at the top of one module makes every command wait for torch. Half the limit is our aim."""
    began = time.monotonic()
    answer = call(*verb.split(), "--help")
    assert answer.returncode == 0, answer.stderr
    assert time.monotonic() - began < 2


def test_the_command_line_loads_no_torch():
    probe = "import sys, lekhai_helpers.cli; print([m for m in ('torch', 'pandas', 'papermill') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", probe], text=True, cwd=ROOT).strip() == "[]"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--profile", "smok"], "did you mean 'smoke'"),
        (["run", "--profile", "smoke", "--set", "sft.max_step=2"], "did you mean 'sft.max_steps'"),
        (["run", "--profile", "smoke", "--set", "sft.max_steps=many"], "sft.max_steps = 'many'"),
        (["run", "--profile", "smoke", "--set", "sft.max_steps"], "not of the form key=value"),
        (["run", "--profile", "smoke", "--name", "a/b"], "cannot be a folder's"),
        (["data", "check", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_a_mistake_is_one_sentence_with_a_remedy(words, said):
    answer = call(*words)
    assert answer.returncode == 1
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr


def test_report_without_any_run_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.setenv("LEKHAI_RUNS", str(tmp_path))
    answer = call("report")
    assert answer.returncode == 1
    assert "lekhai run" in answer.stderr


def test_run_hands_its_options_to_the_chain(monkeypatch):
    got = {}
    monkeypatch.setattr("lekhai_helpers.pipeline.run_chain", lambda *a, **k: got.update(k, positional=a))
    words = ["run", "--profile", "smoke", "--name", "x", "--from", "03", "--to", "07", "--resume"]
    answer = CliRunner().invoke(
        cli.app, [*words, "--set", "sft.learning_rate=2e-4", "--set", "data.prompts=[prompt_1]"]
    )
    assert answer.exit_code == 0, answer.output
    assert got["positional"] == ("lekhai", "smoke", "x")
    assert (got["first"], got["last"], got["only"], got["resume"]) == (3, 7, None, True)
    assert got["overrides"] == {"sft.learning_rate": 2e-4, "data.prompts": ["prompt_1"]}


def test_data_check_names_the_row_and_fails(tmp_path):
    """A file whose second script is no table must not pass the check that stands before an hour of training."""
    table = "| Visual | Audio |\n|---|---|\n| নদী | VO: নতুন সকাল |\n| ঘর | VO: নতুন রং |\n| মুখ | VO: নতুন দিন |"
    path = tmp_path / "mine.csv"
    rows = ["prompt_1,prompt_2,prompt_3,script", f'ক,ক,ক,"{table}"', "খ,খ,খ,not a table"]
    path.write_text("\n".join(rows), encoding="utf-8")
    answer = CliRunner().invoke(cli.app, ["data", "check", str(path)])
    assert answer.exit_code == 1
    assert "row 3  error  script" in answer.output
    assert "1 of 2 rows can be used" in answer.output


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_doctor_exits_1_only_where_something_failed(monkeypatch, status, code):
    finding = SimpleNamespace(name="torch", status=status, found="2.12.0", remedy="run bash colab_setup.sh")
    monkeypatch.setitem(sys.modules, "lekhai_helpers.doctor", SimpleNamespace(check=lambda deep: [finding]))
    answer = CliRunner().invoke(cli.app, ["doctor"])
    assert answer.exit_code == code
    assert ("run bash colab_setup.sh" in answer.output) == (status != "ok")


def test_publish_without_a_wish_says_what_can_be_asked():
    answer = call("publish")
    assert answer.returncode == 2
    assert "--build" in answer.stderr


def test_a_bug_keeps_its_traceback(monkeypatch):
    """Only texts written for the user are cut to one line; an unexpected error must be reportable."""

    def broken(*_, **__):
        raise ValueError("not ours")

    monkeypatch.setattr("lekhai_helpers.pipeline.run_chain", broken)
    with pytest.raises(ValueError, match="not ours"):
        CliRunner().invoke(cli.app, ["run"], catch_exceptions=False)
