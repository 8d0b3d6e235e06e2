"""What code can count about texts, so that no judge has to be asked.

``counted_table(responses, briefs, contract)`` for a heatmap of many; what is counted the contract says
(``contract.count``). Taught in notebook 11.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lekhai_helpers.measure.judge import records
from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.prepare.dataset import Brief

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ["stage", "brief_id", "seed", "industry", "criterion", "status", "score"]


def counted_table(
    rows: Iterable[Mapping[str, Any]], briefs: Sequence[Brief], contract: str = "ad_script"
) -> pd.DataFrame:
    """Return the countable criteria of responses in the long form `heatmap_table` reads; scores run from 0 to 1.

    What a text has nothing of to count gives no row.
    """
    import pandas as pd

    by_id, count = {brief.id: brief for brief in briefs}, get_contract(contract).count
    found = []
    for row in records(rows):
        brief = by_id[row["brief_id"]]
        key = {part: row[part] for part in ("stage", "brief_id", "seed")} | {"industry": brief.industry}
        for name, value in count(row["text"], brief).items():
            if value is not None:
                found.append(key | {"criterion": name, "status": "scored", "score": float(value)})
    return pd.DataFrame(found, columns=_COLUMNS)
