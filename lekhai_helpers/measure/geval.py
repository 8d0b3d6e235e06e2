"""G-Eval in the ledger: the marks of a talking judge as expectations, base against tuned, each with its interval.

``record_geval(ledger, {judge: rows}, stages, seed)``; Liu et al. 2023 (arXiv 2303.16634): the mark is the mean of all
numbers the judge might have written, weighed by their probability. Taught in notebook 11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.ledger_judges import AUDIT_VERDICT, GEVAL
from lekhai_helpers.measure import comparisons

EXPECTATION = "expectation"  # how a mark was read: by the probabilities of all numbers, not by the one written
Verdicts = Sequence[Mapping[str, Any]]


def record_geval(
    ledger: Ledger, verdicts: Mapping[str, Verdicts], stages: tuple[str, str], seed: int = 0
) -> dict[str, list[str]]:
    """Write mean marks of both stages, and tuned minus base on the same briefs; return each judge's differences.

    `verdicts` by judge, as `grade_all` returns them; `stages` (before, after). They take the place of all G-Eval
    figures of the run. A metric bears the judge's name, for scales differ, and its note says what the judge's audit
    found. Marks that were not read as expectations are left out, for the two kinds do not mix; a judge without any
    writes nothing and has an empty list.
    """
    ledger.clear_figures(f"{GEVAL} ")
    return {judge: _record(ledger, judge, rows, stages, seed) for judge, rows in verdicts.items()}


def _record(ledger: Ledger, judge: str, rows: Verdicts, stages: tuple[str, str], seed: int) -> list[str]:
    import pandas as pd

    own = [row for row in rows if row["how"] == EXPECTATION and row["stage"] in stages]
    table = pd.DataFrame(own)
    if not own:
        return []
    metric, audit = f"{GEVAL} {judge}: ", f"judge {judge}, {_audit(ledger, judge)}."
    for mean in comparisons.means(table, seed):
        name, note = f"{metric}{mean.criterion}", f"{audit} {mean.note}".strip()
        ledger.summarize(mean.stage, name, mean.mean, mean.low, mean.high, mean.texts, note)
    if set(stages) - set(table["stage"]):
        return []
    found = comparisons.differences(table, stages[0], [stages[1]], seed)
    for one in found:
        name = f"{metric}{one.criterion}, minus {one.first}"
        ledger.summarize(one.second, name, one.difference, one.low, one.high, one.briefs, f"{audit} {one.shown}")
    return [one.sentence for one in found]


def _audit(ledger: Ledger, judge: str) -> str:
    table = ledger.audits()
    passed = table[(table["judge"] == judge) & (table["metric"] == AUDIT_VERDICT)]["value"]
    return "not audited" if passed.empty else "passed its audit" if passed.iloc[-1] == 1 else "failed its audit"
