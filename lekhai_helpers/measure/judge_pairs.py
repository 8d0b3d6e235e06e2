"""The pairs that a judge is audited with: a CSV like ``data/judge_audit.csv``. Used by `judge_audit`."""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from lekhai_helpers.measure.audit_figures import AuditPair
from lekhai_helpers.prepare.dataset import Brief

_COLUMNS = ("id", "defect", "industry", "tone", "duration_seconds", "brand", "prompt", "better", "worse")


class AuditError(ValueError):
    """The audit cannot be made; the text says what to do."""


def load_pairs(path: Path) -> list[AuditPair]:
    """Return the pairs of a CSV like ``data/judge_audit.csv``. Raises AuditError where columns or pairs are missing."""
    with Path(path).open(encoding="utf-8-sig", newline="") as handle:
        table = csv.DictReader(handle)
        missing = [name for name in _COLUMNS if name not in (table.fieldnames or [])]
        if missing:
            raise AuditError(f"{Path(path).name} lacks the columns {', '.join(missing)}: see data/judge_audit.csv")
        pairs = [_pair(row) for row in table]
    if not pairs:
        raise AuditError(f"{Path(path).name} holds no pair, so no judge can be audited: see data/judge_audit.csv")
    return pairs


def _pair(row: Mapping[str, str]) -> AuditPair:
    seconds = int(row["duration_seconds"]) if row["duration_seconds"] else None
    product = row.get("product") or ""
    brief = Brief(row["id"], row["industry"], row["tone"], seconds, row["brand"], product, row["prompt"])
    return AuditPair(row["id"], row["defect"], brief, row["better"], row["worse"])


def some(pairs: Sequence[AuditPair], limit: int | None, seed: int) -> list[AuditPair]:
    """Return `limit` of the pairs (all without one), as many of each defect as can be, in the order of the file."""
    if limit is None or limit >= len(pairs):
        return list(pairs)
    dice = random.Random(seed)
    shuffled = dice.sample(pairs, len(pairs))
    taken: dict[str, int] = {}
    ranked = []
    for pair in shuffled:
        taken[pair.defect] = taken.get(pair.defect, 0) + 1
        ranked.append((taken[pair.defect], pair.id))
    chosen = {name for _, name in sorted(ranked, key=lambda entry: entry[0])[:limit]}
    return [pair for pair in pairs if pair.id in chosen]
