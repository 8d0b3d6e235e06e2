"""A ledger that is locked, read-only, damaged or on a strange disk: a clear sentence, and nothing lost."""

import multiprocessing
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from lekhai_helpers.core import ledger_file
from lekhai_helpers.core.ledger import Ledger, LedgerError

NOBODY = 65534


def open_ledger(path: Path, wait: float = 0.2) -> Ledger:
    return Ledger(path, experiment="lekhai-cpu-a", recipe="lekhai", profile="cpu", settings="{}", wait=wait)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "centralized.db"


@pytest.fixture
def filled(path):
    with open_ledger(path) as ledger:
        ledger.log_metrics("06_fine_tuning", 1, {"loss": 2.5})
    return path


def connect_without_shared_memory(path: Path, wait: float) -> sqlite3.Connection:
    """SQLite's own way for disks without shared memory: it refuses WAL as a network folder does."""
    return sqlite3.connect(f"file:{path}?vfs=unix-dotfile", uri=True, timeout=wait, isolation_level=None)


def mode(path: Path) -> str:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA journal_mode").fetchone()[0]


def test_a_write_into_a_locked_ledger_names_the_wait_and_the_remedy(filled):
    with open_ledger(filled) as ledger, closing(sqlite3.connect(filled, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match=r"writing to it for more than 0.2 seconds.*run again"):
            ledger.log_metrics("06_fine_tuning", 2, {"loss": 2.0})
        with pytest.raises(LedgerError, match="more than 0.2 seconds"):
            ledger.clear_stage("sft")
        other.execute("ROLLBACK")
        ledger.log_metrics("06_fine_tuning", 2, {"loss": 2.0})
        assert ledger.metrics("06_fine_tuning")["value"].tolist() == [2.5, 2.0]


def test_opening_a_locked_ledger_says_so(filled):
    with closing(sqlite3.connect(filled, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="more than 0.2 seconds"):
            open_ledger(filled)


def test_a_file_that_another_process_is_making_is_waited_for_and_then_named(path):
    lock = ledger_file.FileLock(path.with_name(".centralized.db.lock"))
    with lock, pytest.raises(LedgerError, match="more than 0.2 seconds"):
        open_ledger(path)


def test_a_file_that_may_only_be_read_is_refused_with_the_remedy(filled, monkeypatch):
    def read_only(path: Path, wait: float) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=wait, isolation_level=None)

    monkeypatch.setattr(ledger_file, "_connect", read_only)
    with pytest.raises(LedgerError, match="cannot be opened for writing.*set LEKHAI_RUNS"):
        open_ledger(filled)


def _open_as_nobody(path: Path, answer) -> None:
    if os.geteuid() == 0:  # the administrator may write anywhere
        os.setuid(NOBODY)
    try:
        open_ledger(path).close()
        answer.put("opened")
    except LedgerError as error:
        answer.put(str(error))


@pytest.mark.skipif(os.name != "posix", reason="file rights and forked processes are those of Linux and macOS")
@pytest.mark.parametrize("there", [True, False], ids=["a read-only file", "a new file in a read-only folder"])
def test_without_the_right_to_write_the_file_and_the_remedy_are_named(filled, there):
    folder = Path(tempfile.mkdtemp())
    try:
        target = folder / "centralized.db"
        if there:
            shutil.copy(filled, target)
            target.chmod(0o444)
        folder.chmod(0o555)
        context = multiprocessing.get_context("fork")
        answer = context.SimpleQueue()
        child = context.Process(target=_open_as_nobody, args=(target, answer))
        child.start()
        child.join(30)
        said = answer.get()
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)
    assert "cannot be opened for writing" in said and "Remedy: give yourself the right" in said


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "runs").write_text("no folder")
    with pytest.raises(LedgerError, match="cannot be opened for writing"):
        open_ledger(tmp_path / "runs" / "centralized.db")


def test_the_database_of_another_program_is_left_alone(path):
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE songs (name TEXT)")
    with pytest.raises(LedgerError, match="another program"):
        open_ledger(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("songs",)]


def test_damage_in_the_middle_is_told_when_it_is_read_and_the_file_is_kept(filled):
    with open_ledger(filled) as ledger:
        for step in range(2000):
            ledger.log_metrics("06_fine_tuning", step, {"loss": 1.0})
    with closing(sqlite3.connect(filled)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'training_metrics'").fetchone()[0]
    content = bytearray(filled.read_bytes())
    content[4096 * (page - 1) : 4096 * page] = b"\xff" * 4096
    filled.write_bytes(bytes(content))
    with open_ledger(filled) as ledger, pytest.raises(LedgerError, match="damaged.*Remedy: move the file away"):
        ledger.metrics("06_fine_tuning")
    assert filled.read_bytes()[4096 * (page - 1) :][:8] == b"\xff" * 8


def test_on_a_disk_without_shared_memory_the_ledger_uses_the_older_journal(path, monkeypatch):
    monkeypatch.setattr(ledger_file, "_connect", connect_without_shared_memory)
    with open_ledger(path) as ledger:
        ledger.log_metrics("06_fine_tuning", 1, {"loss": 2.5})
        assert ledger.metrics("06_fine_tuning")["value"].tolist() == [2.5]
    assert mode(path) == "delete"


def test_a_ledger_moved_to_a_disk_without_shared_memory_is_taken_out_of_wal(filled, monkeypatch):
    """Copied to a network drive, a ledger in WAL mode could not be opened at all."""
    assert mode(filled) == "wal"
    monkeypatch.setattr(ledger_file, "_connect", connect_without_shared_memory)
    with open_ledger(filled) as ledger:
        ledger.log_metrics("06_fine_tuning", 2, {"loss": 2.0})
        assert ledger.metrics("06_fine_tuning")["value"].tolist() == [2.5, 2.0]
    assert mode(filled) == "delete"
