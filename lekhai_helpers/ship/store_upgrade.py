"""The schema of the scripts' database: whose it is, its version, the way to the newest. Used by `ship.store_open`.

An upgrade is one transaction: one that is killed leaves the schema and the rows as they were before.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock
from sqlalchemy import Connection, Engine, inspect, text

from lekhai_helpers.ship.store_faults import WAIT_SECONDS, told
from lekhai_helpers.ship.store_schema import VERSION_TABLE

MIGRATIONS = Path(__file__).with_name("migrations")
_UPGRADE_LOCK = 0x1E_4A1  # any number that all our processes agree on


def bring_up_to_date(engine: Engine, place: str) -> None:
    """Check whose tables these are and of which version; make or upgrade them where need be.

    Raises StoreError where the database cannot hold Bengali, or another program or a newer LekhAI made the tables.
    """
    migrations = ScriptDirectory.from_config(_alembic())
    with engine.connect() as connection:
        _check_encoding(connection, place)
        version = _check_version(connection, migrations, place)
    if version == migrations.get_current_head():
        return
    if engine.dialect.name == "sqlite":
        _upgrade_file(engine, Path(engine.url.database or ""), version)
    else:
        _upgrade(engine)


def _check_version(connection: Connection, migrations: ScriptDirectory, place: str) -> str | None:
    # The table first: another process may be making both, and it commits them together.
    taken = inspect(connection).has_table("scripts")
    version = _version(connection)
    if version is None and taken:
        fault, remedy = "its table scripts was made by another program", "name another database in LEKHAI_DATABASE_URL"
        raise told(place, fault, remedy)
    if version is not None and version not in {known.revision for known in migrations.walk_revisions()}:
        raise told(place, f"a newer LekhAI wrote them (schema {version})", "update LekhAI, or name another database")
    return version


def _check_encoding(connection: Connection, place: str) -> None:
    """PostgreSQL made under LANG=C cannot hold Bengali, and says so only when the first script comes."""
    if connection.dialect.name != "postgresql":
        return
    encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        remedy = "make one with `createdb --encoding=UTF8 --template=template0 NAME`"
        raise told(place, f"its encoding is {encoding}, which cannot hold Bengali", remedy)


def _version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def _upgrade_file(engine: Engine, file: Path, version: str | None) -> None:
    # Of two processes that switch a new file to WAL, SQLite refuses one at once without waiting.
    with FileLock(file.with_name(f".{file.name}.lock"), timeout=WAIT_SECONDS):
        if version is None:
            _use_wal(engine)
        else:
            _keep_copy(engine, file, version)
        _upgrade(engine)


def _use_wal(engine: Engine) -> None:
    """Let readers not wait for a writer, where the disk has the shared memory it takes; else the older way."""
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        if cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            cursor.execute("PRAGMA journal_mode = DELETE").fetchone()
    finally:
        connection.close()


def _keep_copy(engine: Engine, file: Path, version: str) -> None:
    """Copy the file to ``scripts.0001.db`` before an upgrade; an earlier copy stays what it is."""
    copy = file.with_suffix(f".{version}{file.suffix}")
    beside = copy.with_name(copy.name + ".writing")
    beside.unlink(missing_ok=True)  # of an upgrade that was killed
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("VACUUM INTO ?", (str(beside),))
    finally:
        connection.close()
    if copy.exists():
        beside.unlink()
    else:
        beside.replace(copy)


def _upgrade(engine: Engine) -> None:
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
        command.upgrade(_alembic(connection), "head")


def _alembic(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
