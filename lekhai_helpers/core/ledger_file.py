"""The ledger as a file: opened, made, upgraded, written and read, with every fault told in words.

Used through `core.ledger.Ledger` (one run's rows) and `core.ledger_queries` (all runs). One write is one transaction,
and a second writer waits for the first, so a run that is killed leaves the file with the last whole write in it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock, Timeout

from lekhai_helpers.core.ledger_schema import MIGRATIONS, SCHEMA_VERSION

if TYPE_CHECKING:
    from pandas import DataFrame

WAIT_SECONDS = 60.0  # how long a writer waits for another one

_MOVE = "move the file away (a new one is made), or set LEKHAI_RUNS to another folder"
_BUSY = "another program has been writing to it for more than {wait:g} seconds"
_LET_IT_FINISH = "let that run finish or end it, then run again; what was written before is safe"
_CLOSED = "the file or its folder cannot be opened for writing"
_OPEN_IT = "give yourself the right to write there, or copy the file to a folder of your own and set LEKHAI_RUNS to it"
_BROKEN = "it is damaged, or no database"
_RESCUE = f"{_MOVE}. Keep it: a copy from its last upgrade may lie beside it, and `sqlite3 FILE .recover` saves rows"
_DISK = "the disk refused the write"
_SPACE = "free some space, or set LEKHAI_RUNS to another disk; what was written before is safe"
# What SQLite calls the fault, to what it means and what helps.
_FAULTS = {
    **dict.fromkeys(("BUSY", "LOCKED"), (_BUSY, _LET_IT_FINISH)),
    **dict.fromkeys(("READONLY", "CANTOPEN", "PERM", "AUTH"), (_CLOSED, _OPEN_IT)),
    **dict.fromkeys(("NOTADB", "CORRUPT"), (_BROKEN, _RESCUE)),
    **dict.fromkeys(("FULL", "IOERR"), (_DISK, _SPACE)),
}


class LedgerError(RuntimeError):
    """The ledger cannot be opened, read or written; the text names the remedy."""


class LedgerFile:
    """A ledger of the version this LekhAI writes: made where there is none, upgraded where it is older.

    `wait` is how many seconds another writer is waited for. Raises LedgerError where `path` is no ledger, was written
    by a newer LekhAI, is damaged, stays locked, or cannot be written.
    """

    def __init__(self, path: Path, *, wait: float = WAIT_SECONDS) -> None:
        self.path, self.wait = Path(path), wait
        with self._faults_in_words():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = _connect(self.path, wait)
        try:
            with self._faults_in_words():
                self._prepare()
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. A closed ledger cannot be used again."""
        self._db.close()

    def read(self, query: str, *values: Any) -> DataFrame:
        """Return what a query finds, figures as numbers also where a whole column is empty."""
        import pandas as pd

        with self._faults_in_words():
            cursor = self._db.execute(query, values)
            rows = cursor.fetchall()
        table = pd.DataFrame(rows, columns=[column[0] for column in cursor.description])
        # A column of NULLs only would be of objects: figures stay figures, so that they can be drawn.
        kinds = {"value": "float", "low": "float", "high": "float", "score": "float", "n": "Int64"}
        return table.astype({name: kind for name, kind in kinds.items() if name in table})

    # --- within

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Write all or nothing. Takes the write lock at once: two writers cannot wait for each other."""
        with self._faults_in_words(), self._db:  # commits, or rolls back where anything fails
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db

    def _write(self, statement: str, rows: Iterable[tuple]) -> None:
        """Run one statement for every row, all or none."""
        with self._transaction() as db:
            db.executemany(statement, rows)

    @contextmanager
    def _faults_in_words(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise  # a row that contradicts itself, or a fault of ours: no fault of the file
        except sqlite3.DatabaseError as error:
            # The first word after SQLITE_: the rest says in which of its parts SQLite met the fault.
            name = (getattr(error, "sqlite_errorname", None) or "").removeprefix("SQLITE_").split("_")[0]
            fault, remedy = _FAULTS.get(name, (str(error), _MOVE))
            raise self._error(fault, remedy) from error
        except Timeout as error:
            raise self._error(_BUSY, _LET_IT_FINISH) from error
        except OSError as error:
            raise self._error(f"{_CLOSED} ({error.strerror})", _OPEN_IT) from error

    def _error(self, fault: str, remedy: str) -> LedgerError:
        words = fault.format(wait=self.wait)
        return LedgerError(f"{self.path} cannot be used as the ledger: {words}. Remedy: {remedy}.")

    def _prepare(self) -> None:
        """Check the schema's version; make the tables in a new file, upgrade those of an older one."""
        self._db.execute("PRAGMA foreign_keys = ON")
        version = self._first_look()
        if version > SCHEMA_VERSION:
            raise LedgerError(
                f"{self.path} was written by a newer LekhAI (schema {version}; this one knows {SCHEMA_VERSION}). "
                f"Remedy: update LekhAI, or {_MOVE}."
            )
        if version < SCHEMA_VERSION:
            # Of two processes that switch a new file to WAL, SQLite refuses one at once without waiting.
            with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=self.wait):
                self._upgrade()

    def _first_look(self) -> int:
        try:
            return self._version()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_CANTOPEN":
                raise
        # A ledger in WAL mode was moved to a disk without shared memory. Alone, SQLite can take it out of that mode.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = DELETE").fetchone()
        self._db.execute("PRAGMA locking_mode = NORMAL")
        return self._version()

    def _version(self) -> int:
        return self._db.execute("PRAGMA user_version").fetchone()[0]

    def _upgrade(self) -> None:
        version = self._version()
        if version == SCHEMA_VERSION:  # another process did it while we waited
            return
        if version == 0:
            self._check_empty()
            _use_wal(self._db)
        else:
            self._keep_copy(version)
        with self._transaction() as db:
            for number in range(self._version() + 1, SCHEMA_VERSION + 1):
                for statement in MIGRATIONS[number]:
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _check_empty(self) -> None:
        if self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
            raise self._error("it is the database of another program", _MOVE)

    def _keep_copy(self, version: int) -> Path:
        """Copy the ledger to ``centralized.v1.db`` before an upgrade; an earlier copy stays what it is."""
        if self._db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise self._error(_BROKEN, _RESCUE)
        copy, number = self.path.with_suffix(f".v{version}{self.path.suffix}"), 2
        while copy.exists():
            copy = self.path.with_suffix(f".v{version}-{number}{self.path.suffix}")
            number += 1
        beside = copy.with_name(copy.name + ".writing")
        beside.unlink(missing_ok=True)  # of an upgrade that was killed
        self._db.execute("VACUUM INTO ?", (str(beside),))
        return beside.replace(copy)


def _connect(path: Path, wait: float) -> sqlite3.Connection:
    # isolation_level=None: transactions begin where we say so, and never by themselves.
    return sqlite3.connect(path, timeout=wait, isolation_level=None)


def _use_wal(db: sqlite3.Connection) -> None:
    """Let readers not wait for a writer, where the disk has the shared memory it takes; else the older way."""
    if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        db.execute("PRAGMA journal_mode = DELETE").fetchone()
