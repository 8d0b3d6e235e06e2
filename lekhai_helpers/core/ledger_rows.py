"""The rows of the ledger: which fields each kind has, and how they are checked before they are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lekhai_helpers.core.ledger_file import LedgerError

RESPONSE = (
    *("brief_id", "seed", "industry", "tone", "prompt", "text"),
    *("ok", "problems", "facts", "tokens", "seconds", "stopped"),
)
VERDICT = ("stage", "brief_id", "seed", "criterion", "status", "score", "reason")
AUDIT = ("metric", "value", "low", "high", "n", "note")
LABEL = ("stage", "brief_id", "seed", "criterion", "rater", "score")


def records(rows: Any) -> list[Mapping[str, Any]]:
    """Return the rows of a table or of a list of mappings."""
    return rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)


def response_values(row: Mapping[str, Any]) -> tuple:
    """Return a response's values in the order of RESPONSE."""
    _check_keys(row, RESPONSE, "a response")
    return (
        str(row["brief_id"]),
        int(row["seed"]),
        *(str(row[name]) for name in ("industry", "tone", "prompt", "text")),
        int(bool(row["ok"])),
        json.dumps(list(row["problems"]), ensure_ascii=False),
        json.dumps(dict(row["facts"]), ensure_ascii=False),
        int(row["tokens"]),
        float(row["seconds"]),
        int(bool(row["stopped"])),
    )


def verdict_values(row: Mapping[str, Any]) -> tuple:
    """Return a verdict's values in the order of VERDICT."""
    _check_keys(row, VERDICT, "a verdict")
    key = (str(row["stage"]), str(row["brief_id"]), int(row["seed"]), str(row["criterion"]))
    return (*key, str(row["status"]), *floats(row["score"]), str(row["reason"]))


def audit_values(row: Mapping[str, Any]) -> tuple:
    """Return an audit figure's values in the order of AUDIT; only the metric and its value have to be there."""
    _check_keys(row, AUDIT[:2], "a figure of an audit")
    figures = floats(row["value"], row.get("low"), row.get("high"))
    note = row.get("note")
    return (str(row["metric"]), *figures, whole(row.get("n")), note if isinstance(note, str) else "")


def label_values(row: Mapping[str, Any]) -> tuple:
    """Return a person's mark in the order of LABEL. Raises LedgerError where it is no mark from 1 to 10."""
    _check_keys(row, LABEL, "a label")
    score = float(row["score"])
    if not 1 <= score <= 10:
        raise LedgerError(f"a label by {row['rater']} is {row['score']}: marks go from 1 to 10")
    names = str(row["stage"]), str(row["brief_id"])
    return (*names, int(row["seed"]), str(row["criterion"]), str(row["rater"]), score)


def floats(*values: float | None) -> tuple[float | None, ...]:
    """Return numbers as SQLite stores them; None stays None."""
    return tuple(None if value is None else float(value) for value in values)


def whole(value: Any) -> int | None:
    """Return a count, or None where there is none (pandas has two other words for it)."""
    return None if value is None or value != value or str(value) == "<NA>" else int(value)


def marks(columns: Iterable[str]) -> str:
    """Return the question marks of an INSERT."""
    return ", ".join("?" for _ in columns)


def now() -> str:
    """Return the moment as it is written down, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _check_keys(row: Mapping[str, Any], needed: Sequence[str], what: str) -> None:
    missing = [name for name in needed if name not in row]
    if missing:
        raise LedgerError(f"{what} lacks {', '.join(missing)}; it has {', '.join(map(str, row)) or 'nothing'}")
