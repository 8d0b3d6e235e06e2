"""An older ledger is upgraded whole or not at all, with a copy beside it; a new one has the same tables."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from lekhai_helpers.core.ledger import Ledger, LedgerError
from lekhai_helpers.core.ledger_schema import MIGRATIONS, SCHEMA_VERSION, TABLES

ROOT = Path(__file__).parents[2]

# Upgrades a ledger, stops after the first statement inside the transaction, and waits to be killed.
STOPS_HALFWAY = """
import sys, time
from pathlib import Path
from lekhai_helpers.core import ledger_schema
from lekhai_helpers.core.ledger_file import LedgerFile
def halfway(statements=tuple(ledger_schema.MIGRATIONS[2])):
    yield statements[0]
    print("half", flush=True)
    time.sleep(600)
ledger_schema.MIGRATIONS[2] = halfway()
LedgerFile(Path(sys.argv[1]))
"""


def open_ledger(path: Path) -> Ledger:
    return Ledger(path, experiment="lekhai-cpu-old", recipe="lekhai", profile="cpu", settings="{}")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "centralized.db"


@pytest.fixture
def old(path):
    """A ledger of version 1 with one run and one metric, as the first release left it."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA journal_mode = WAL")
        for statement in MIGRATIONS[1]:
            db.execute(statement)
        db.execute("INSERT INTO experiments VALUES (1, 'lekhai-cpu-old', 'lekhai', 'cpu', '{}', 'then', 'then')")
        db.execute("INSERT INTO training_metrics VALUES (1, '06_fine_tuning', 1, 'loss', 2.5, 'then')")
        db.execute("PRAGMA user_version = 1")
    return path


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


def schema(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as db:
        return {sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}


def losses(path: Path) -> list[float]:
    with closing(sqlite3.connect(path)) as db:
        return [value for (value,) in db.execute("SELECT value FROM training_metrics")]


def test_an_older_ledger_is_upgraded_and_loses_nothing(old):
    with open_ledger(old) as ledger:
        assert ledger.metrics("06_fine_tuning")["value"].tolist() == [2.5]
        assert ledger.audits().empty and ledger.labels().empty
    assert version(old) == SCHEMA_VERSION


def test_verdicts_of_before_rubrics_are_kept_until_a_rubric_is_known(old):
    with closing(sqlite3.connect(old)) as db, db:
        for statement in MIGRATIONS[2]:
            db.execute(statement)
        db.execute("PRAGMA user_version = 2")
        text = (1, 1, "sft", "b1", 1, "i", "t", "p", "x", 1, "[]", "{}", 1, 1, 1, "then")
        db.execute(f"INSERT INTO model_responses VALUES ({', '.join('?' * len(text))})", text)
        db.execute("INSERT INTO judge_verdicts VALUES (1, 1, 'gpt', 'sft', 'b1', 1, 'idea', 'scored', 7, '', 'then')")
    key = {"stage": "sft", "brief_id": "b1", "seed": 1, "status": "scored", "score": 5, "reason": ""}
    with open_ledger(old) as ledger:
        assert ledger.verdicts()["score"].tolist() == [7]
        ledger.add_verdicts("gpt", [key | {"criterion": "tone", "rubric": "new"}])
        assert ledger.verdicts()["criterion"].tolist() == ["tone"]
    assert version(old.with_name("centralized.v2.db")) == 2


def test_the_copy_beside_it_is_the_ledger_as_it_was(old):
    open_ledger(old).close()
    copy = old.with_name("centralized.v1.db")
    assert version(copy) == 1 and losses(copy) == [2.5]
    assert not list(old.parent.glob("*.writing"))


def test_an_earlier_copy_is_not_written_over(old):
    """Whoever put an old ledger back would lose the first copy by the second upgrade."""
    old.with_name("centralized.v1.db").write_text("the first copy")
    open_ledger(old).close()
    assert old.with_name("centralized.v1.db").read_text() == "the first copy"
    assert losses(old.with_name("centralized.v1-2.db")) == [2.5]


def test_an_upgraded_ledger_has_the_tables_of_a_new_one(old, tmp_path):
    new = tmp_path / "new" / "centralized.db"
    for path in (old, new):
        open_ledger(path).close()
    assert schema(old) == schema(new)
    assert not list(new.parent.glob("*.v*"))  # nothing to keep of a file that was not there


def test_killed_in_the_middle_of_an_upgrade_the_old_ledger_is_whole_and_the_next_try_succeeds(old):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "text": True, "env": environment}
    child = subprocess.Popen([sys.executable, "-c", STOPS_HALFWAY, str(old)], **pipes)
    assert child.stdout.readline() == "half\n"
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=30)
    assert version(old) == 1 and losses(old) == [2.5]
    assert not any("judge_audits" in sql for sql in schema(old))
    with open_ledger(old) as ledger:
        assert ledger.audits().empty
    assert version(old) == SCHEMA_VERSION and losses(old) == [2.5]


def test_an_upgrade_that_fails_leaves_the_old_version(old, monkeypatch):
    monkeypatch.setitem(MIGRATIONS, 2, (*MIGRATIONS[2], "CREATE TABLE experiments (id INTEGER)"))
    with pytest.raises(LedgerError, match="already exists"):
        open_ledger(old)
    assert version(old) == 1 and losses(old) == [2.5]


def test_a_damaged_ledger_is_not_upgraded(old):
    with closing(sqlite3.connect(old)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(old.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    old.write_bytes(bytes(content))
    with pytest.raises(LedgerError, match="damaged.*Remedy: move the file away"):
        open_ledger(old)
    assert not list(old.parent.glob("centralized.v1*"))


def test_every_table_is_named_for_the_export(path):
    open_ledger(path).close()
    with closing(sqlite3.connect(path)) as db:
        assert {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")} == set(TABLES)


def test_every_foreign_key_has_an_index(path):
    """Without one, clearing a stage reads the whole table of verdicts once for every text."""
    open_ledger(path).close()
    with closing(sqlite3.connect(path)) as db:
        for table in TABLES:
            keys: dict[int, set[str]] = {}
            for row in db.execute(f"PRAGMA foreign_key_list({table})"):
                keys.setdefault(row[0], set()).add(row[3])
            indexes = [row[1] for row in db.execute(f"PRAGMA index_list({table})")]
            leading = [[row[2] for row in db.execute(f"PRAGMA index_info({name})")] for name in indexes]
            for columns in keys.values():
                assert any(set(index[: len(columns)]) == columns for index in leading), (table, columns)
