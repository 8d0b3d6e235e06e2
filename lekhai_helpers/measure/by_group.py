"""Whether the answers keep the contract, group by group: where does a stage stand, and where did training help?

``by_group({"before": rows, "after": rows})``; a group is what the recipe spreads its briefs over, such as a kind of
request or a subject. ``mean_facts`` of the same says what the contract counted on the way. Taught in notebooks 05 and
07.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from lekhai_helpers.measure.evaluation import wilson

if TYPE_CHECKING:
    import pandas as pd


def by_group(stages: Mapping[str, Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """Return one row a group, in the order the briefs have: for each stage "kept of written (95% interval)".

    `stages` maps a name to rows of `evaluation.write_scripts`. Groups are small, so the intervals are wide.
    """
    import pandas as pd

    groups = dict.fromkeys(row["industry"] for rows in stages.values() for row in rows)
    table = {name: {group: _kept(rows, group) for group in groups} for name, rows in stages.items()}
    return pd.DataFrame(table, index=list(groups))


def mean_facts(stages: Mapping[str, Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """Return the mean of every number among the contract's facts, such as words or reading ease: a row a fact, and
    for each stage its mean and how many texts had such a thing.
    """
    import pandas as pd

    found = {}
    for name, rows in stages.items():
        facts = [{k: v for k, v in row["facts"].items() if isinstance(v, Real)} for row in rows]
        numbers = pd.DataFrame(facts, dtype=float)
        found[name], found[f"{name}: texts"] = numbers.mean(), numbers.count()
    return pd.DataFrame(found)


def _kept(rows: Sequence[Mapping[str, Any]], group: str) -> str:
    verdicts = [bool(row["ok"]) for row in rows if row["industry"] == group]
    if not verdicts:
        return "–"
    low, high = wilson(sum(verdicts), len(verdicts))
    return f"{sum(verdicts)} of {len(verdicts)} ({low:.0%} to {high:.0%})"
