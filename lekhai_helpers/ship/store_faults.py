"""What can go wrong with the scripts' database, told in words. Used by `ship.store` and `ship.store_open`.

A fault of SQLite or PostgreSQL is named by its code, never by its text: the text may hold what somebody wrote.
"""

from __future__ import annotations

import errno
import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import Timeout
from sqlalchemy import exc

WAIT_SECONDS = 10.0  # how long a writer waits for another one, and a request for the server

_SAFE = "what was stored before is safe"
_BUSY = f"another program has kept it locked for more than {WAIT_SECONDS:g} seconds"
_END_IT = f"end the other program, then try again; {_SAFE}"
_CLOSED = "the file or its folder cannot be written"
_OPEN_IT = "give yourself the right to write there, or name another place in LEKHAI_DATABASE_URL"
_BROKEN = "it is damaged, or no SQLite database"
_RESCUE = (
    "move it away and keep it (`sqlite3 FILE .recover` saves rows), restore a copy if there is one, then start again"
)
_FULL = "the disk is full, or refused the write"
_SPACE = f"free some space, then try again; {_SAFE}"
_GONE = "the connection was lost or could not be made"
_START_IT = f"start the database server and check its address and the network, then try again; {_SAFE}"
_LOGIN = "the server refused the user or the password"
_CHECK_LOGIN = "check both in LEKHAI_DATABASE_URL (an @, : or / in a password is written %40, %3A, %2F)"
_CHECK_NAME = "make it with `createdb`, or correct the name in LEKHAI_DATABASE_URL"
_TABLE = "its tables are not those LekhAI made"
_RESTORE = "put the table scripts back as it was, or name another database in LEKHAI_DATABASE_URL"
_RIGHTS = "the user may not do that in this database"
_GRANT = "let the owner grant it, or name another user in LEKHAI_DATABASE_URL"

# The first word after SQLITE_ of SQLite's name for the fault.
_SQLITE = {
    **dict.fromkeys(("BUSY", "LOCKED"), (_BUSY, _END_IT)),
    **dict.fromkeys(("READONLY", "CANTOPEN", "PERM", "AUTH"), (_CLOSED, _OPEN_IT)),
    **dict.fromkeys(("NOTADB", "CORRUPT"), (_BROKEN, _RESCUE)),
    **dict.fromkeys(("FULL", "IOERR"), (_FULL, _SPACE)),
    "ERROR": (_TABLE, _RESTORE),
}
# PostgreSQL's error codes (https://www.postgresql.org/docs/current/errcodes-appendix.html), whole or their class.
_POSTGRES = {
    **dict.fromkeys(("28",), (_LOGIN, _CHECK_LOGIN)),
    **dict.fromkeys(("3D",), ("there is no database of that name", _CHECK_NAME)),
    **dict.fromkeys(("53100", "58030"), (_FULL, _SPACE)),
    **dict.fromkeys(("53300",), ("the server has no connection left", _END_IT)),
    **dict.fromkeys(("42501",), (_RIGHTS, _GRANT)),
    **dict.fromkeys(("25006",), ("the server only lets it be read", "use the address of the server that writes")),
    **dict.fromkeys(("55P03", "57014", "40"), (_BUSY, _END_IT)),
    **dict.fromkeys(("42",), (_TABLE, _RESTORE)),
    **dict.fromkeys(("XX001", "XX002"), (_BROKEN, "restore a copy, or ask whoever runs the server")),
}
_CERTIFICATE = "give the authority's file in LEKHAI_DATABASE_URL (sslrootcert=FILE), or take sslmode=require"
_FILE_ERRORS = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
_AWAY = ("08", "57P")  # classes in which the server goes away, restarts or starts


class StoreError(RuntimeError):
    """The database of scripts cannot be opened, read or written; the text names the remedy, never a password."""


class DatabaseGone(StoreError):
    """The server does not answer: the same may succeed on a new connection."""


class UnknownScript(StoreError):
    """There is no script with that id."""


def told(place: str, fault: str, remedy: str, kind: type[StoreError] = StoreError) -> StoreError:
    """Return the error for a fault: where, what, what to do."""
    return kind(f"the scripts in {place} cannot be reached: {fault}. Remedy: {remedy}.")


@contextmanager
def faults_in_words(place: str) -> Iterator[None]:
    """Turn the database's faults into StoreError; a fault of our own code passes as it is."""
    try:
        yield
    except exc.DBAPIError as error:
        if isinstance(error, exc.IntegrityError):
            raise
        raise _of_database(place, error.orig) from error
    except sqlite3.Error as error:  # where we speak to SQLite without SQLAlchemy
        raise _of_database(place, error) from error
    except exc.TimeoutError as error:
        raise told(place, "all connections have been busy for too long", "try again in a moment") from error
    except Timeout as error:
        raise told(place, _BUSY, _END_IT) from error
    except OSError as error:  # of the folder, or of the network: the driver lets some of those through as they are
        raise _of_system(place, error) from error


def _of_system(place: str, error: OSError) -> StoreError:
    if isinstance(error, ssl.SSLError):
        return told(place, "the server's certificate is not trusted", _CERTIFICATE)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return told(place, _FULL, _SPACE)
    if isinstance(error, _FILE_ERRORS):
        return told(place, f"{_CLOSED} ({error.strerror})", _OPEN_IT)
    return told(place, _GONE, _START_IT, DatabaseGone)


def _of_database(place: str, cause: BaseException | None) -> StoreError:
    if isinstance(cause, sqlite3.Error):
        name = (getattr(cause, "sqlite_errorname", None) or "").removeprefix("SQLITE_").split("_")[0]
        fault, remedy = _SQLITE.get(name, (f"SQLite says {name or 'nothing more'}", _RESCUE))
        return told(place, fault, remedy)
    if "refuses SSL" in str(cause):
        return told(place, "the server speaks no TLS", "take sslmode out of LEKHAI_DATABASE_URL, or set TLS up there")
    code = _postgres_code(cause)
    if code is None or code.startswith(_AWAY):
        return told(place, _GONE, _START_IT, DatabaseGone)
    fault, remedy = _POSTGRES.get(code) or _POSTGRES.get(code[:2], (f"PostgreSQL says {code}", "look that code up"))
    return told(place, fault, remedy)


def _postgres_code(cause: BaseException | None) -> str | None:
    """Return the five characters of the fault, or None where no server answered at all."""
    said = cause.args[0] if cause is not None and cause.args else None
    return said.get("C") if isinstance(said, dict) else None
