"""Questions over all runs: the last ones, two of them compared with honest words, everything as CSV files."""

import csv
import sqlite3
from contextlib import closing

import pytest
from typer.testing import CliRunner

from lekhai_helpers import cli
from lekhai_helpers.core import ledger_queries
from lekhai_helpers.core.ledger import Ledger, LedgerError

RESPONSE = dict(brief_id="b1", seed=1, industry="রং", tone="মজার", prompt="লিখুন", text="ভিও: ক্ষমতা, জ্ঞান।\nআজই")
RESPONSE |= dict(ok=True, problems=[], facts={}, tokens=5, seconds=0.5, stopped=True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LEKHAI_RUNS", str(tmp_path))
    return tmp_path


@pytest.fixture
def two_runs(folder):
    for name, valid, low, high in (("lekhai-cpu-a", 0.25, 0.14, 0.41), ("lekhai-cpu-b", 0.86, 0.71, 0.94)):
        with Ledger(
            folder / "centralized.db", experiment=name, recipe="lekhai", profile="cpu", settings="{}"
        ) as ledger:
            for stage in ("base", "sft", "dpo"):
                ledger.add_responses(stage, [RESPONSE])
            ledger.summarize("base", "valid_tables", 0.0, 0.0, 0.1, 36)
            ledger.summarize("sft", "valid_tables", valid, low, high, 36)
            ledger.summarize("dpo", "valid_tables", 0.5 + valid / 10, 0.3, 0.7, 36)
            ledger.summarize("sft", "mean_tokens", 300 + valid, n=36)
            ledger.summarize("sft", "bengali_share", None, n=0)
            for stage in ("sft", "dpo") if name == "lekhai-cpu-a" else ():  # the other run was left before notebook 11
                ledger.summarize(stage, "kept", stage == "dpo")
    with Ledger(
        folder / "centralized.db", experiment="lekhai-cpu-b", recipe="r", profile="cpu", settings="{}"
    ) as ledger:
        ledger.summarize("sft+grammar", "valid_tables", 1.0, 0.9, 1.0, 36)
    return folder


def call(*words: str):
    return CliRunner().invoke(cli.app, ["ledger", *words])


def found(table) -> dict:
    return {(row["stage"], row["metric"]): row["found"] for row in table.to_dict("records")}


def test_the_last_runs_are_listed_with_the_valid_share_of_the_stage_they_kept(two_runs):
    with ledger_queries.open_file(two_runs / "centralized.db") as ledger:
        table = ledger_queries.last_runs(ledger).set_index("name")
        newest = ledger_queries.last_runs(ledger, 1)["name"].tolist()
    assert table.loc["lekhai-cpu-a", "kept"] == "dpo" and table.loc["lekhai-cpu-a", "valid_tables"] == 0.525
    assert table.loc["lekhai-cpu-b", "kept"] == "sft" and table.loc["lekhai-cpu-b", "n"] == 36
    assert newest == ["lekhai-cpu-b"]
    answer = call("runs")
    assert answer.exit_code == 0 and "86%" in answer.output and "base, sft, dpo" in answer.output


def test_a_run_that_wrote_nothing_is_listed_without_a_share(folder):
    Ledger(folder / "centralized.db", experiment="empty", recipe="r", profile="cpu", settings="{}").close()
    answer = call("runs")
    assert answer.exit_code == 0 and "empty" in answer.output and "nan" not in answer.output.lower()


def test_two_runs_differ_only_where_the_interval_of_the_difference_leaves_zero_out(two_runs):
    with ledger_queries.open_file(two_runs / "centralized.db") as ledger:
        table = ledger_queries.compare_runs(ledger, "lekhai-cpu-a", "lekhai-cpu-b")
    words = found(table)
    assert words["sft", "valid_tables"] == "differs"
    assert words["dpo", "valid_tables"] == "no difference shown"
    assert words["base", "valid_tables"] == "same"
    assert words["sft", "mean_tokens"] == "unequal, without an interval"
    assert words["sft", "bengali_share"] == "not measured in both"
    assert words["sft+grammar", "valid_tables"] == "only in B"


def test_the_interval_of_a_difference_is_newcombe_s():
    """Newcombe 1998, table II, example (a): 56/70 against 48/80, method 10 without continuity correction."""
    a = {"value": 48 / 80, "low": 0.4904, "high": 0.7003}
    b = {"value": 56 / 70, "low": 0.6919, "high": 0.8769}
    row = ledger_queries._compared(a, b)
    assert row["low"] == pytest.approx(0.0524, abs=0.002) and row["high"] == pytest.approx(0.3339, abs=0.002)


def test_a_run_that_is_not_there_is_named_with_the_nearest(two_runs):
    with (
        ledger_queries.open_file(two_runs / "centralized.db") as ledger,
        pytest.raises(LedgerError, match="did you mean lekhai-cpu-a"),
    ):
        ledger_queries.compare_runs(ledger, "lekhai-cpu-aa", "lekhai-cpu-b")
    answer = call("compare", "lekhai-cpu-a", "nothing-like-it")
    assert answer.exit_code == 1 and "Traceback" not in answer.output


def test_the_comparison_is_printed_with_what_a_and_b_are(two_runs):
    answer = call("compare", "lekhai-cpu-a", "lekhai-cpu-b")
    assert answer.exit_code == 0 and "A: lekhai-cpu-a" in answer.output and "no difference shown" in answer.output


def test_every_table_is_exported_and_bengali_opens_in_a_spreadsheet(two_runs, tmp_path):
    answer = call("export", "--csv", str(tmp_path / "tables"))
    assert answer.exit_code == 0 and "model_responses.csv: 6 rows" in answer.output
    path = tmp_path / "tables" / "model_responses.csv"
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["text"] == RESPONSE["text"] and len(rows) == 6
    with closing(sqlite3.connect(two_runs / "centralized.db")) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {file.stem for file in (tmp_path / "tables").glob("*.csv")} == tables


def test_a_folder_that_is_a_file_is_named(two_runs, tmp_path):
    (tmp_path / "taken").write_text("")
    answer = call("export", "--csv", str(tmp_path / "taken"))
    assert answer.exit_code == 1 and "name another folder" in answer.output


def test_asking_without_a_ledger_makes_none(folder):
    answer = call("runs")
    assert answer.exit_code == 1 and "lekhai run" in answer.output
    assert not list(folder.iterdir())
