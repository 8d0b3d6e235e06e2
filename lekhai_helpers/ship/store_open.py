"""The scripts' database, found by its address and opened. Used by `ship.store`.

``open_database(None)`` opens ``runs/scripts.db``; PostgreSQL is opened by ``postgresql://user:password@host/name``.
No error and no log line holds the password of an address.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, exc
from sqlalchemy.engine import URL, make_url

from lekhai_helpers.core.run_folder import runs_folder
from lekhai_helpers.ship.store_faults import WAIT_SECONDS, StoreError, faults_in_words
from lekhai_helpers.ship.store_upgrade import bring_up_to_date

_FORMS = "sqlite:////folder/scripts.db or postgresql://user:password@host:5432/name"
_ESCAPES = "an @, : or / in a user or a password is written %40, %3A, %2F"
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


class FileMoved(Exception):
    """SQLite's file is not where it was."""


class Database:
    """An open database: `place` is how errors name it, `file` is SQLite's and None with PostgreSQL.

    SQLite's log lies beside its file under the file's name. Where the file is moved while it is in use, the log stays
    behind; another file in that place would take it for its own, and be spoilt. So one connection is always kept that
    can write the log into the file it belongs to, wherever that is now, and none is opened to another file.
    """

    def __init__(self, engine: Engine, place: str, file: Path | None) -> None:
        self.engine, self.place, self.file = engine, place, file
        self._lock, self._working = Lock(), 0
        self._identity = _identity(file) if file else None
        self._keeper = _keeper(engine) if file else None
        if file:  # before the listener that speaks to the file, which is when SQLite reads the log
            event.listen(engine, "connect", self._refuse_another, insert=True)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Give a connection; commit at the end, or roll back. Raises FileMoved, and what the database raises."""
        with self._lock:
            self._working += 1
        try:
            with self.engine.begin() as connection:
                yield connection
        finally:
            with self._lock:
                self._working -= 1

    def moved(self) -> bool:
        """Say whether the file was deleted, moved or replaced: what is written to it now would be lost."""
        return self.file is not None and _identity(self.file) != self._identity

    def settle(self) -> None:
        """Make sure of the log: write it into its file where that was moved, and hold a connection where it is back.

        To be called before every transaction, and after one that wrote: if it was under way when the file was moved, it
        added to the log.
        """
        if self.file is None:
            return
        with self._lock:
            if not self.moved():
                with suppress(FileMoved):  # just now
                    self._keeper = self._keeper or _keeper(self.engine)
            elif self._write_log() and not self._working:
                self._let_go()

    def close(self) -> None:
        """Close every connection; a new one is made where it is used again."""
        with self._lock:
            if self.moved():  # SQLite does it by itself where the file is in its place
                self._write_log()
            self._let_go()
        self.engine.dispose()

    def _write_log(self) -> bool:
        """Write the log into the file and empty it; say whether that was all of it."""
        self.engine.dispose()  # of what is idle; whoever is at work gets no other connection from here on
        return self._keeper is None or not self._keeper.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]

    def _let_go(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.close()

    def _refuse_another(self, connection: Any, _: Any) -> None:
        if self.moved():
            connection.close()
            raise FileMoved


def _keeper(engine: Engine) -> Any:
    """Return a connection of SQLite's own, opened while the file is in its place; a later one would make a new file."""
    pooled = engine.raw_connection()
    connection = pooled.driver_connection
    pooled.detach()
    return connection


def _identity(file: Path) -> tuple[int, int] | None:
    """Return what stays the same while a file is the same file; None where there is none."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def open_database(url: str | None, file: str = "scripts.db") -> Database:
    """Open the database (without a `url`, the SQLite `file` in the folder of runs), make or upgrade its tables.

    Raises StoreError with the remedy, never with the password.
    """
    address = _address(url, file)
    place = _place(address)
    with faults_in_words(place):
        engine = _engine(address)
        try:
            bring_up_to_date(engine, place)
            return Database(engine, place, _file(address))
        except BaseException:
            engine.dispose()
            raise


# --- the address


def _address(url: str | None, file: str) -> URL:
    if url is None:
        return URL.create("sqlite", database=str((runs_folder() / file).absolute()))
    try:
        address = make_url(url)
    except (exc.ArgumentError, ValueError):
        # Not "from error": the parser's own words may repeat a piece of the password.
        raise StoreError(f"LEKHAI_DATABASE_URL cannot be read: write {_FORMS}; {_ESCAPES}.") from None
    kind = address.get_backend_name() if address.drivername != "postgres" else "postgresql"
    return {"sqlite": _sqlite_address, "postgresql": _postgres_address}.get(kind, _refuse)(address)


def _refuse(address: URL) -> URL:
    raise StoreError(f"LEKHAI_DATABASE_URL names neither SQLite nor PostgreSQL: write {_FORMS}.")


def _sqlite_address(address: URL) -> URL:
    if not address.database or address.database == ":memory:":
        raise StoreError(
            "LEKHAI_DATABASE_URL names no file, so every script would be lost: write sqlite:////folder/x.db"
        )
    _check_options(address, ())
    return URL.create("sqlite", database=str(Path(address.database).expanduser().absolute()))


def _postgres_address(address: URL) -> URL:
    if not address.host and "unix_sock" not in address.query:
        raise StoreError(f"LEKHAI_DATABASE_URL names no host: write {_FORMS}.")
    if not address.username or not address.database or set("@/") & set(address.database):
        # A raw @ or / in a password moves everything behind it into the database's name.
        raise StoreError(f"LEKHAI_DATABASE_URL needs a user and a database: write {_FORMS}; {_ESCAPES}.")
    _check_options(address, ("sslmode", "sslrootcert", "unix_sock"))
    if address.query.get("sslmode", "prefer") not in _SSL_MODES:
        raise StoreError(f"sslmode in LEKHAI_DATABASE_URL must be one of {', '.join(_SSL_MODES)}.")
    return address.set(drivername="postgresql+pg8000")


def _check_options(address: URL, known: tuple[str, ...]) -> None:
    if set(address.query) - set(known):
        takes = f"only {', '.join(known)}" if known else "none"
        raise StoreError(f"LEKHAI_DATABASE_URL has an option after ? that is not known; it takes {takes}.")


def _file(address: URL) -> Path | None:
    return Path(address.database or "") if address.get_backend_name() == "sqlite" else None


def _place(address: URL) -> str:
    host = address.host or "this machine"
    return str(_file(address) or f"the PostgreSQL database {address.database} on {host}")


# --- the engine


def _engine(address: URL) -> Engine:
    options: dict[str, Any] = {
        "hide_parameters": True,  # an error must not repeat what somebody wrote
        "json_serializer": partial(json.dumps, ensure_ascii=False),
        "pool_timeout": WAIT_SECONDS,
    }
    if (file := _file(address)) is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(address, connect_args={"timeout": WAIT_SECONDS}, **options)
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
        return engine
    how = {"timeout": WAIT_SECONDS, "application_name": "lekhai", **_ssl(address)}
    bare = address.difference_update_query(["sslmode", "sslrootcert"])
    engine = create_engine(bare, connect_args=how, pool_pre_ping=True, **options)
    event.listen(engine, "begin", _on_postgres_begin)
    return engine


def _on_sqlite_connect(connection: Any, _: Any) -> None:
    # Transactions begin where we say so: Python's own way leaves CREATE TABLE outside of them.
    connection.isolation_level = None
    # In WAL mode less than FULL may lose the last scripts when the power goes.
    connection.execute("PRAGMA synchronous = FULL")


def _on_sqlite_begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _on_postgres_begin(connection: Connection) -> None:
    # Before our own patience ends: then the server can still say that it was a lock. For this transaction only,
    # because behind a pooler the next one may be another program's.
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{WAIT_SECONDS * 0.8:g}s'")


def _ssl(address: URL) -> dict[str, Any]:
    """Return what PostgreSQL's own sslmode means for the driver, where None is "if the server can"."""
    mode = address.query.get("sslmode", "prefer")
    if not str(mode).startswith("verify"):
        return {"ssl_context": {"disable": False, "require": True}.get(str(mode))}
    authority = str(address.query.get("sslrootcert") or "") or None
    if authority and not Path(authority).is_file():
        raise StoreError("the file after sslrootcert= in LEKHAI_DATABASE_URL is not there: correct its path.")
    context = ssl.create_default_context(cafile=authority)
    context.check_hostname = mode == "verify-full"
    return {"ssl_context": context}
