"""Do two judges, or a judge and people, agree? Quadratic weighted kappa for two, Krippendorff's alpha for any number.

``agreement_table(verdicts, labels)`` sets a judge beside the marks that people gave (`measure.labels`). Taught in
notebook 11. Both are 1 for full agreement, about 0 for what chance gives, and below 0 for less than that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

Level = Literal["nominal", "ordinal", "interval"]
_UNIT = ["stage", "brief_id", "seed"]


def quadratic_kappa(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Cohen's kappa with quadratic weights of two raters' marks of the same texts, in the same order.

    1 minus the mean squared difference over the one expected by chance (Cohen 1968, "Weighted kappa"). None where both
    always give one and the same mark: then nothing could disagree. Raises ValueError where the lengths differ.
    """
    pairs = list(zip(first, second, strict=True))
    expected = sum((one - other) ** 2 for one in first for other in second)
    if not expected:
        return None
    return 1 - len(pairs) * sum((one - other) ** 2 for one, other in pairs) / expected


def krippendorff_alpha(ratings: Sequence[Sequence[float | None]], level: Level = "interval") -> float | None:
    """Return Krippendorff's alpha; `ratings` holds a row for each rater and a place for each text, None where missing.

    A text that fewer than two have rated says nothing and is left out. None where no text is left, or where all marks
    are the same. Formulas: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section D.
    """
    units = [[mark for mark in unit if mark is not None] for unit in zip(*ratings, strict=True)]
    units = [unit for unit in units if len(unit) > 1]
    totals = Counter(mark for unit in units for mark in unit)
    if len(totals) < 2:
        return None
    distance = _distance(level, totals)
    observed = sum(distance(*pair) / (len(unit) - 1) for unit in units for pair in permutations(unit, 2))
    expected = sum(totals[one] * totals[other] * distance(one, other) for one in totals for other in totals)
    return 1 - (totals.total() - 1) * observed / expected


def _distance(level: Level, totals: Mapping[float, int]) -> Callable[[float, float], float]:
    """Return the squared difference of two marks: `totals` says how often each was given, which ranks need."""
    if level == "nominal":
        return lambda one, other: float(one != other)
    if level == "interval":
        return lambda one, other: (one - other) ** 2

    def ordinal(one: float, other: float) -> float:
        low, high = sorted((one, other))
        between = sum(times for mark, times in totals.items() if low <= mark <= high)
        return (between - (totals[low] + totals[high]) / 2) ** 2

    return ordinal


def agreement_table(verdicts: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Return one row a judge and criterion: texts that judge and people marked, kappa, alpha, alpha of people alone.

    `verdicts` is `Ledger.verdicts()`, `labels` is `Ledger.labels()`. Kappa is taken with the judge's scores rounded
    and the people's mean mark rounded; alpha with every rater as he is. Empty where nobody has marked anything.
    """
    import pandas as pd

    scored = verdicts[verdicts["status"] == "scored"]
    rows = []
    for (judge, criterion), group in scored.groupby(["judge", "criterion"], sort=False):
        people = labels[labels["criterion"] == criterion].pivot_table(index=_UNIT, columns="rater", values="score")
        both = people.join(group.set_index(_UNIT)["score"].rename(judge), how="inner")
        if len(both):
            rows.append({"judge": judge, "criterion": criterion, **_agreement(both)})
    return pd.DataFrame(rows, columns=["judge", "criterion", "texts", "raters", "kappa", "alpha", "alpha of people"])


def _agreement(both: pd.DataFrame) -> dict[str, float | None]:
    """Return the figures of one judge and criterion; the judge is the last column."""
    people, judge = both.iloc[:, :-1], both.iloc[:, -1]
    return {
        "texts": len(both),
        "raters": people.shape[1],
        "kappa": quadratic_kappa(list(people.mean(axis=1).round()), list(judge.round())),
        "alpha": krippendorff_alpha(_marks(both)),
        "alpha of people": krippendorff_alpha(_marks(people)),
    }


def _marks(table: pd.DataFrame) -> list[list[float | None]]:
    """Return a row for each rater, None where he gave no mark."""
    return [[None if mark != mark else float(mark) for mark in table[name]] for name in table.columns]
