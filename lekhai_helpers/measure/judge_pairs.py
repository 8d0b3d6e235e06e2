"""The pairs that a judge is audited with: a CSV like ``data/judge_audit.csv``, or planted in the recipe's own rows.

``audit_material(settings, table)`` gives those of a recipe. Used by `judge_audit`.
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core.recipe import Settings, data_file
from lekhai_helpers.measure.audit_figures import AuditPair
from lekhai_helpers.prepare.briefs import brief_of_row
from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.prepare.dataset import Brief, load_table
from lekhai_helpers.prepare.hub_data import examples_path

if TYPE_CHECKING:
    import pandas as pd

MOST_PLANTED = 60  # pairs; more cost time and narrow no interval much

_COLUMNS = ("id", "defect", "industry", "tone", "duration_seconds", "brand", "prompt", "better", "worse")


class AuditError(ValueError):
    """The audit cannot be made; the text says what to do."""


def audit_pairs(settings: Settings, table: pd.DataFrame | None = None) -> list[AuditPair]:
    """Return the pairs of the recipe's audit file; without one, planted pairs from the training rows of `table`.

    Where no table is given either, the recipe's file of examples is read.
    """
    if settings.judge.audit_file:
        return load_pairs(data_file(settings.judge.audit_file))
    data = settings.data
    table = load_table(examples_path(data), data.prompts, data.source, data.contract)[0] if table is None else table
    return plant_pairs(table, settings.data.contract, settings.seed)


def audit_material(settings: Settings, table: pd.DataFrame | None = None) -> tuple[list[AuditPair], AuditPair | None]:
    """Return the pairs of the audit, and one more to show a small judge what good and bad look like.

    Where the recipe brings examples of its own, none is taken out for that. The shortest is taken: a small model's room
    is short.
    """
    pairs = audit_pairs(settings, table)
    if settings.judge.examples or len(pairs) < 2:
        return pairs, None
    shown = min(pairs, key=lambda pair: len(pair.better) + len(pair.worse))
    return [pair for pair in pairs if pair is not shown], shown


def plant_pairs(table: pd.DataFrame, contract: str, seed: int, most: int = MOST_PLANTED) -> list[AuditPair]:
    """Return pairs of a training row's answer and the same with one planted fault, as many of each fault as can be.

    Rows without a split are all taken. Raises AuditError where no answer has anything that the contract can spoil.
    """
    dice = random.Random(seed)
    rows = [row for row in table.to_dict("records") if row.get("split", "train") == "train" and row["usable"]]
    planted: Counter[str] = Counter()
    pairs: list[AuditPair] = []
    for row in dice.sample(rows, len(rows)):
        if len(pairs) < most and (pair := _planted(row, contract, planted, dice)) is not None:
            pairs.append(pair)
            planted[pair.defect] += 1
    if not pairs:
        raise AuditError(
            f"no fault can be planted in these rows: the contract {contract} names none that fits. Give pairs "
            "with a known better side in judge.audit_file: see data/judge_audit.csv"
        )
    return pairs


def _planted(row: Mapping[Any, Any], contract: str, planted: Counter[str], dice: random.Random) -> AuditPair | None:
    """Return the row's pair with the fault that was planted least often so far, of those that it can have."""
    defects, text = get_contract(contract).defects, row["script"]
    for name in sorted(defects, key=lambda name: planted[name]):
        if versions := [version for version in defects[name](text) if version != text]:
            brief = brief_of_row(row, row["prompt_1"])
            return AuditPair(f"planted-{row['id']}", name, brief, text, dice.choice(versions))
    return None


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
