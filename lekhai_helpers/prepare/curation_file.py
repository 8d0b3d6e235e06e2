"""The SQLite file of a curation: one table of events, to which rows are only ever added."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

_VERSION = 1
_MARK = 0x4C454B48  # "LEKH": tells our file from the database of another program
_TABLE = """CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, example TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('approved', 'rejected', 'skipped', 'edited', 'noted', 'undo')),
    at TEXT NOT NULL, question TEXT, answer TEXT, note TEXT,
    undoes INTEGER UNIQUE REFERENCES events(number), CHECK ((action = 'undo') = (undoes IS NOT NULL)))"""


class CurationError(RuntimeError):
    """A curation that cannot go on; the text says why and what to do next."""


@dataclass(frozen=True)
class Event:
    """One thing that was decided, with the time (UTC). `undoes` is the number of the event that is taken back."""

    number: int
    example: str
    action: str
    at: str
    question: str | None = None
    answer: str | None = None
    note: str | None = None
    undoes: int | None = None


class CurationFile:
    """The file, made where there is none. Every event is written at once. Raises CurationError with the remedy."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        with self._in_words():
            self._db = sqlite3.connect(self.path, timeout=10, isolation_level=None)
        try:
            with self._in_words():
                self._prepare()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def events(self, after: int = 0) -> list[Event]:
        """Return all events with a number above `after`, the oldest first."""
        with self._in_words():
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM events WHERE number > ? ORDER BY number", (after,))
            return [Event(*row) for row in rows]

    def add(self, event: Event) -> Event:
        """Write one event and return it with its number.

        Raises CurationError where another sitting took back the same event first.
        """
        with self._in_words():
            cursor = self._db.execute(
                f"INSERT INTO events ({_COLUMNS}) VALUES (NULL{', ?' * (len(fields(Event)) - 1)})", astuple(event)[1:]
            )
        return replace(event, number=cursor.lastrowid or 0)

    def _prepare(self) -> None:
        self._db.execute("PRAGMA foreign_keys = ON")
        version, mark = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id")
        )
        if (version, mark) == (_VERSION, _MARK):
            return
        if mark == _MARK:
            raise CurationError(f"{self.path.name} was written by a newer LekhAI: update LekhAI, or move the file away")
        if self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
            raise CurationError(
                f"{self.path.name} is the database of another program: move it away, or give --database"
            )
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(_TABLE)
        self._db.execute(f"PRAGMA application_id = {_MARK}")
        self._db.execute(f"PRAGMA user_version = {_VERSION}")
        self._db.execute("COMMIT")

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as error:
            if "events.undoes" not in str(error):
                raise  # an event that contradicts itself is a fault of ours
            raise CurationError("another sitting has just taken back the same step: look again, then undo") from None
        except sqlite3.DatabaseError as error:
            raise CurationError(
                f"the decisions in {self.path} cannot be read or written ({error}): check that the folder can be "
                "written to and that no other curation is open, or give another file with --database"
            ) from error


_COLUMNS = ", ".join(field.name for field in fields(Event))
