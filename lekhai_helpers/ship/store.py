"""The scripts that were written, kept and found again: ``runs/scripts.db``, or PostgreSQL by its address.

``ScriptStore().add(NewScript(...))`` returns once the script is on the disk; ``search("রং")`` finds it. A store may be
used from several threads at once. Taught in notebook 09.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, or_, select, text
from sqlalchemy.dialects import postgresql

from lekhai_helpers.ship.store_faults import DatabaseGone, StoreError, UnknownScript, faults_in_words, told
from lekhai_helpers.ship.store_open import FileMoved, open_database
from lekhai_helpers.ship.store_schema import one_line, scripts, search_form, searched_text

__all__ = ["NewScript", "ScriptStore", "StoreError", "StoredScript", "UnknownScript"]

MAX_PAGE = 100
MAX_QUERY = 500  # characters of a search that are looked for
_PUT_BACK = "put it back, or start the service again, which takes the file that is there, or makes a new and empty one"
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class NewScript:
    """A script with what was asked for, the contract's verdict, who wrote it and how long that took (seconds)."""

    request: dict[str, Any]
    markdown: str
    valid: bool
    problems: list[str]
    model: str
    seconds: float


@dataclass(frozen=True)
class StoredScript(NewScript):
    """A script as it is kept: `id` is a uuid4 as text, `created_at` is in UTC."""

    id: str
    created_at: datetime


class ScriptStore:
    """The database of scripts; `url` None means the SQLite `file` in the folder of runs.

    Raises StoreError where it cannot be opened, upgraded, read or written, with what to do about it.
    """

    def __init__(self, url: str | None = None, file: str = "scripts.db") -> None:
        self._database = open_database(url, file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        with faults_in_words(self._database.place):
            self._database.close()

    def add(self, script: NewScript) -> StoredScript:
        """Keep a script. When this returns it is committed; when it raises, do not tell anybody that it is kept.

        What no database can hold (a NUL, half of a surrogate pair) becomes the sign � in what is returned, too.
        """
        kept = {name: _storable(value) for name, value in asdict(script).items()}
        stored = StoredScript(**kept, id=str(uuid4()), created_at=datetime.now(UTC))
        row = asdict(stored) | {
            "industry": one_line(str(stored.request.get("industry") or "")),
            "search_text": searched_text(stored.request, stored.markdown),
        }
        self._work(lambda connection, again: _insert(connection, row, again))
        self._check_file()  # again: it may have gone during the write
        return stored

    def search(
        self, query: str = "", industry: str = "", limit: int = 20, before: str | None = None
    ) -> list[StoredScript]:
        """Return at most `limit` scripts (1 to 100), newest first, those after the one with the id `before`.

        Every word of `query` has to stand somewhere in brand, product, message or script, whatever its case and
        whichever Unicode form it was typed in. Raises UnknownScript where there is no script with the id `before`.
        """
        wanted = [scripts.c.search_text.contains(word, autoescape=True) for word in _search_words(_storable(query))]
        if industry.strip():
            wanted.append(scripts.c.industry == one_line(_storable(industry)))
        page = self._ours().order_by(scripts.c.created_at.desc(), scripts.c.id.desc())
        page = page.limit(max(1, min(limit, MAX_PAGE)))

        def read(connection: Connection, _: bool) -> list[StoredScript]:
            older = [] if before is None else [_older_than(connection, before)]
            return [_stored(row) for row in connection.execute(page.where(*wanted, *older))]

        return self._work(read)

    def get(self, id: str) -> StoredScript | None:
        """Return the script with that id, or None."""
        number = _uuid(id)
        if number is None:
            return None
        one = self._ours().where(scripts.c.id == number)
        row = self._work(lambda connection, _: connection.execute(one).one_or_none())
        return None if row is None else _stored(row)

    # --- within

    def _ours(self) -> Select[Any]:
        """Select scripts that belong to nobody: on Supabase others belong to the person who signed in there.

        The column `user_id` exists only there, and may come while this runs, so the row itself is asked for it.
        """
        rows = scripts.select()
        if self._database.engine.dialect.name != "postgresql":
            return rows
        return rows.where(text("to_jsonb(scripts) ->> 'user_id' IS NULL"))

    def _work(self, work: Callable[[Connection, bool], _Answer]) -> _Answer:
        """Do `work` in one transaction, and once more where the server was gone: it may be back by now."""
        self._check_file()
        try:
            return self._once(work, again=False)
        except DatabaseGone:
            self._database.engine.dispose()  # every connection of the old server is dead
            return self._once(work, again=True)

    def _once(self, work: Callable[[Connection, bool], _Answer], again: bool) -> _Answer:
        try:
            with faults_in_words(self._database.place), self._database.transaction() as connection:
                return work(connection, again)
        except FileMoved:
            raise self._moved() from None

    def _check_file(self) -> None:
        """Refuse to go on where the file was deleted, moved or replaced: SQLite itself would report success."""
        with faults_in_words(self._database.place):  # to look is a fault of its own where the folder is barred
            self._database.settle()
            moved = self._database.moved()
        if moved:
            raise self._moved()

    def _moved(self) -> StoreError:
        return told(self._database.place, "the file was deleted, moved or replaced while it was in use", _PUT_BACK)


def _insert(connection: Connection, row: dict[str, Any], again: bool) -> None:
    if not again:
        connection.execute(scripts.insert(), row)
        return
    # The first try may have been committed before the connection broke, or be committed at this very moment: a row with
    # this id, which was drawn by chance, is the same script.
    connection.execute(postgresql.insert(scripts).values(row).on_conflict_do_nothing(index_elements=["id"]))


def _older_than(connection: Connection, before: str) -> ColumnElement[bool]:
    """Return the condition for what comes after a script in the newest-first order, however many came since."""
    number = _uuid(before)
    moment = number and connection.scalar(select(scripts.c.created_at).where(scripts.c.id == number))
    if not moment:
        raise UnknownScript("there is no script with the id given as `before`: begin the list again without it")
    same = and_(scripts.c.created_at == moment, scripts.c.id < number)
    return or_(scripts.c.created_at < moment, same)


def _search_words(query: str) -> list[str]:
    return list(dict.fromkeys(search_form(query)[:MAX_QUERY].split()))


def _stored(row: Row[Any]) -> StoredScript:
    found = row._asdict()
    return StoredScript(**{name: found[name] for name in StoredScript.__dataclass_fields__})


def _uuid(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None


def _storable(value: Any) -> Any:
    """Return a value as a database can hold it, texts inside lists and dictionaries too."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace").replace("\x00", "�")
    if isinstance(value, dict):
        return {_storable(key): _storable(inner) for key, inner in value.items()}
    return [_storable(inner) for inner in value] if isinstance(value, list | tuple) else value
