"""A file of examples in figures: what its reader left out and why, what the contract counts, how it was split.

``left_out_counts(read_source(name)(path).left_out)``, ``counted_facts(table, contract)``, ``split_shares(table)``.
Taught in notebook 03.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING

import regex

from lekhai_helpers.prepare.contracts import expected_of, get_contract
from lekhai_helpers.prepare.sources.reading import LeftOut

if TYPE_CHECKING:
    import pandas as pd

# A reason names the place it speaks of; to be counted, "the same as row 10" and "the same as row 6" are one reason.
_PARTICULAR = regex.compile(r"(?<=same as )(?:row )?\S+$|\b\d+\b(?!$)")


def left_out_counts(left_out: Sequence[LeftOut]) -> pd.DataFrame:
    """Return how many things of each file were left out for which reason, with one example: file, reason, number, text.

    Empty where nothing was left out. Numbers inside a reason are written as "...".
    """
    import pandas as pd

    columns = ["file", "reason", "text"]
    rows = [(one.file, _PARTICULAR.sub("...", one.reason), one.text[:80]) for one in left_out]
    table = pd.DataFrame(rows, columns=columns)
    counted = table.groupby(["file", "reason"], sort=False)["text"].agg(number="size", text="first").reset_index()
    return counted.sort_values(["file", "number"], ascending=[True, False], ignore_index=True)


def counted_facts(table: pd.DataFrame, contract: str) -> pd.DataFrame:
    """Return what a contract counts in the good answers of the usable rows: rows counted, mean, least, median, most.

    One line a fact, such as words, or of English explanations how easily they read (`prepare.readability`). A fact that
    only some answers have is counted over those.
    """
    import pandas as pd

    check = get_contract(contract).check
    usable = table[table["usable"]].to_dict("records")
    facts = [check(row["script"], expected_of(row.get("expected", ""))).facts for row in usable]
    numbers = pd.DataFrame([{k: v for k, v in one.items() if isinstance(v, Real)} for one in facts], dtype=float)
    if numbers.empty:
        return pd.DataFrame(columns=["answers", "mean", "least", "median", "most"])
    found = numbers.agg(["count", "mean", "min", "median", "max"]).T
    found.columns = ["answers", "mean", "least", "median", "most"]
    return found.astype({"answers": int})


def split_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Return rows, share of all usable ones and groups of every part. `table` needs the columns split and industry."""
    used = table[table["split"] != "unused"].groupby("split", sort=False)["industry"].agg(rows="size", groups="nunique")
    used.insert(1, "share", used["rows"] / used["rows"].sum())
    return used.reindex([part for part in ("train", "validation", "test") if part in used.index])
