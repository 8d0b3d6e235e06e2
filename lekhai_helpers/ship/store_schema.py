"""The table of scripts, as SQLAlchemy sees it, and the form a text is searched in.

Read by `ship.store`. The table itself is made by ``ship/migrations``, never from here; a test holds the two together.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Boolean, Column, DateTime, Float, Index, MetaData, Table, Text, TypeDecorator, Uuid
from sqlalchemy.engine import Dialect

from lekhai_helpers.core.bengali import normalize

# A name of its own: in a shared database another program may have an `alembic_version` already.
VERSION_TABLE = "scripts_version"
# Joiners decide how a conjunct is drawn, and few people type them; digits come in both scripts.
_ALIKE = {0x200C: None, 0x200D: None, **dict(zip(map(ord, "০১২৩৪৫৬৭৮৯"), "0123456789", strict=True))}


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC. SQLite keeps no time zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC, whichever zone it came in."""
        return value if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment with its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData()
scripts = Table(
    "scripts",
    metadata,
    Column("id", Uuid(as_uuid=False), primary_key=True),
    Column("created_at", UtcTime, nullable=False),
    Column("industry", Text, nullable=False),  # from the request, as a column of its own: the history is filtered by it
    Column("request", JSON, nullable=False),
    Column("markdown", Text, nullable=False),
    Column("valid", Boolean, nullable=False),
    Column("problems", JSON, nullable=False),
    Column("model", Text, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("search_text", Text, nullable=False),
    Index("scripts_newest_first", "created_at", "id"),
)


def search_form(text: str) -> str:
    """Return the form in which texts are compared: NFC, small letters, one kind of digit, no joiners, single spaces.

    No database knows the case of every letter (SQLite only that of A to Z), so it is done here, on both sides.
    """
    folded = normalize(text).translate(_ALIKE).casefold()
    return one_line(unicodedata.normalize("NFC", folded))


def one_line(text: str) -> str:
    """Return a name as it is kept and compared: NFC, single spaces."""
    return " ".join(normalize(text).split())


def searched_text(request: dict[str, Any], markdown: str) -> str:
    """Return what the search looks through: brand, product, message and the script."""
    parts = [str(request.get(name) or "") for name in ("brand", "product", "message")]
    return search_form("\n".join([*parts, markdown]))
