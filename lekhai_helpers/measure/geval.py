"""G-Eval in the ledger: the marks of a talking judge as expectations, base against tuned, each with its interval.

``record_geval(ledger, name, rows, stages, seed)``; Liu et al. 2023 (arXiv 2303.16634): the mark is the mean of all
numbers the judge might have written, weighed by their probability. Taught in notebook 11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.measure import comparisons

EXPECTATION = "expectation"  # how a mark was read: by the probabilities of all numbers, not by the one written


def record_geval(
    ledger: Ledger, judge: str, rows: Sequence[Mapping[str, Any]], stages: tuple[str, str], seed: int = 0
) -> list[str]:
    """Write mean marks of both stages, and tuned minus base on the same briefs; return the differences in words.

    `rows` are verdicts of one judge as `grade_all` returns them, `stages` (before, after). Marks that were not read as
    expectations are left out, for the two kinds do not mix; without any, nothing is written and the list is empty.
    """
    import pandas as pd

    own = [row for row in rows if row["how"] == EXPECTATION and row["stage"] in stages]
    table = pd.DataFrame(own)
    if not own:
        return []
    for mean in comparisons.means(table, seed):
        name = f"g-eval {mean.criterion}"
        ledger.summarize(mean.stage, name, mean.mean, mean.low, mean.high, mean.texts, f"{judge}. {mean.note}".strip())
    if set(stages) - set(table["stage"]):
        return []
    found = comparisons.differences(table, stages[0], [stages[1]], seed)
    for one in found:
        name = f"g-eval {one.criterion}, minus {one.first}"
        ledger.summarize(one.second, name, one.difference, one.low, one.high, one.briefs, f"{judge}. {one.shown}")
    return [one.sentence for one in found]
