"""Two stages compared text by text on the same briefs and seeds, and the verdict on preference alignment.

``found = compare(rows_sft, rows_dpo, briefs)``, ``verdict(sft, dpo, found)``. The comparator is a function, so a judge
may take the place of counting. Taught in notebook 10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import comb
from typing import Any, Literal

from lekhai_helpers.core.words import Words
from lekhai_helpers.learn.alarms import DRIFT, length_drift
from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.prepare.dataset import Brief

Row = Mapping[str, Any]
Side = Literal["first", "second", "tie"]
# A comparator reads two answers to one brief and returns the better one and why.
Comparator = Callable[[Row, Row, Brief], tuple[Side, str]]

SHARE_GAP = 0.05  # a smaller difference of a share decides nothing
STOP_LOSS = 0.05


@dataclass(frozen=True)
class Comparison:
    """What came of comparing `first` with `second`: one decision a brief and seed, and their sum.

    `p` is the two-sided sign test over decided texts, `p_briefs` the same with one vote a brief.
    """

    first: str
    second: str
    decisions: list[dict[str, Any]]
    p: float
    p_briefs: float

    def won(self, side: Side) -> int:
        """Return how many texts `side` won, or how many were ties."""
        return sum(decision["better"] == side for decision in self.decisions)

    @property
    def decided(self) -> int:
        """Return how many texts are no ties."""
        return len(self.decisions) - self.won("tie")

    @property
    def share(self) -> float | None:
        """Return the second stage's share of the decided texts (0 to 1); None where all are ties."""
        return self.won("second") / self.decided if self.decided else None

    @property
    def favours(self) -> str | None:
        """Name the stage that won more of the decided texts; None where neither did."""
        first, second = self.won("first"), self.won("second")
        if first == second:
            return None
        return self.first if first > second else self.second

    @property
    def sentence(self) -> str:
        """Say the result in words."""
        ahead = f"{self.favours} is ahead" if self.favours else "neither is ahead"
        return (
            f"of {len(self.decisions)} texts {self.first} wins {self.won('first')}, {self.second} wins "
            f"{self.won('second')}, {self.won('tie')} are ties: {ahead} (sign test p = {self.p:.2f}; "
            f"with one vote a brief p = {self.p_briefs:.2f})"
        )


def by_counting(first: Row, second: Row, brief: Brief, contract: str = "ad_script") -> tuple[Side, str]:
    """Decide by what can be counted; the first fact of the contract that differs decides, in its order.

    Shares decide from a difference of 0.05 on. A fact that one of the two texts does not have decides nothing.
    """
    rule = get_contract(contract)
    facts = rule.decides or rule.count
    one, other = facts(first["text"], brief), facts(second["text"], brief)
    for fact in one:
        gap = _gap(one[fact], other.get(fact))
        if gap:
            return ("first" if gap > 0 else "second"), fact
    return "tie", ""


def _gap(one: float | bool | None, other: float | bool | None) -> float:
    """Return how far the first lies above the second; 0 where that decides nothing."""
    if one is None or other is None:
        return 0.0
    gap = float(one) - float(other)
    whole = isinstance(one, bool) and isinstance(other, bool)
    return gap if whole or abs(gap) >= SHARE_GAP else 0.0


def counting(contract: str) -> Comparator:
    """Return the comparator that decides by what a contract counts."""
    return partial(by_counting, contract=contract)


def compare(
    first: Iterable[Row],
    second: Iterable[Row],
    briefs: Sequence[Brief],
    comparator: Comparator = by_counting,
    names: tuple[str, str] = ("sft", "dpo"),
) -> Comparison:
    """Compare two stages' texts (rows of `Ledger.responses` or `write_scripts`), pair by pair of brief and seed.

    Raises ValueError where the stages do not hold the same briefs and seeds, or none.
    """
    by_id = {brief.id: brief for brief in briefs}
    one, other = _by_key(first), _by_key(second)
    if not one or one.keys() != other.keys() or not {brief for brief, _ in one} <= by_id.keys():
        raise ValueError(
            f"{names[0]} has {len(one)} texts and {names[1]} {len(other)}, of which {len(one.keys() & other.keys())} "
            "answer the same brief with the same seed; both must answer the same briefs: run notebooks 07 and 10 again"
        )
    decisions = []
    for (brief, seed), row in one.items():
        better, why = comparator(row, other[brief, seed], by_id[brief])
        decisions.append({"brief_id": brief, "seed": seed, "better": better, "why": why})
    return Comparison(*names, decisions, _p_of(_votes(decisions)), _p_of(_votes_by_brief(decisions)))


def _by_key(rows: Any) -> dict[tuple[str, int], Row]:
    records = rows.to_dict("records") if hasattr(rows, "to_dict") else rows
    return {(row["brief_id"], int(row["seed"])): row for row in records}


def _votes(decisions: Sequence[Mapping[str, Any]]) -> list[int]:
    return [{"first": 1, "second": -1, "tie": 0}[decision["better"]] for decision in decisions]


def _votes_by_brief(decisions: Sequence[Mapping[str, Any]]) -> list[int]:
    """One vote a brief, for texts of one brief are alike and no independent witnesses."""
    sums: dict[str, int] = {}
    for decision, vote in zip(decisions, _votes(decisions), strict=True):
        sums[decision["brief_id"]] = sums.get(decision["brief_id"], 0) + vote
    return list(sums.values())


def _p_of(votes: Sequence[int]) -> float:
    return sign_test(sum(vote > 0 for vote in votes), sum(vote < 0 for vote in votes))


def sign_test(wins: int, losses: int) -> float:
    """Return the two-sided p of so many wins and losses if both were equally likely (exact binomial; ties left out)."""
    n = wins + losses
    tail = sum(comb(n, k) for k in range(min(wins, losses) + 1)) / 2**n
    return min(1.0, 2 * tail)


def verdict(
    before: Mapping[str, float], after: Mapping[str, float], comparison: Comparison, words: Words | None = None
) -> tuple[bool, list[str]]:
    """Decide whether the aligned adapter is kept: (keep, reasons).

    `before` and `after` are the figures of the two stages on the same briefs and seeds (see
    `measure.evaluation.summarize_stage`), `comparison` has the earlier stage first. Kept only if the contract share
    does not fall, the comparison does not favour the earlier stage, at most 5 texts in 100 fewer stop by themselves,
    and the mean length drifts by at most 15% (which nobody can tell where all texts before were empty).
    """
    reasons, many = [], (words or Words()).many
    if after["valid_tables"] < before["valid_tables"]:
        reasons.append(f"{many} fell from {before['valid_tables']:.0%} to {after['valid_tables']:.0%}")
    if comparison.favours == comparison.first:
        reasons.append(f"the pairwise comparison favours {comparison.first}: {comparison.sentence}")
    if after["stopped"] < before["stopped"] - STOP_LOSS:
        reasons.append(f"fewer texts end by themselves: {before['stopped']:.0%} to {after['stopped']:.0%}")
    drift = length_drift(before, after)
    if drift is not None and abs(drift) > DRIFT:
        reasons.append(f"the length drifted by {drift:+.0%}")
    if reasons:
        return False, reasons
    kept = f"{many} {before['valid_tables']:.0%} before and {after['valid_tables']:.0%} after"
    length = "no text before to hold the length against" if drift is None else f"length drift {drift:+.0%}"
    return True, [f"{kept}, {length}", comparison.sentence]
