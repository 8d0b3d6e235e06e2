"""The LekhAI contract as notebooks, judges and plots use it: ``get_contract("ad_script")``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lekhai_helpers.prepare.contracts.ad_script import MAX_ROWS, MIN_ROWS, check, parse_ad_script
from lekhai_helpers.prepare.contracts.ad_script_counts import count, decides
from lekhai_helpers.prepare.contracts.ad_script_faults import DEFECTS, faults
from lekhai_helpers.prepare.contracts.ad_script_rubric import adherence, structure
from lekhai_helpers.prepare.contracts.base import Contract
from lekhai_helpers.prepare.contracts.grammar import ad_script_grammar

if TYPE_CHECKING:
    import pandas as pd

    from lekhai_helpers.prepare.row_checks import RowProblem

COLUMNS = ["Visual", "Audio"]


def show(text: str) -> pd.DataFrame | str:
    """Return the rows of a script that can be read as a table; the text itself where there are none."""
    import pandas as pd

    rows = parse_ad_script(text)[0].rows
    return pd.DataFrame(rows, columns=COLUMNS) if rows else text


def strict(table: pd.DataFrame) -> list[RowProblem]:
    """Return what the project's own data has to pass beyond the contract (`prepare.checks`)."""
    from lekhai_helpers.prepare.checks import check_table

    return check_table(table)


CONTRACT = Contract(
    name="ad_script",
    check=check,
    one="a valid table",
    many="valid tables",
    show=show,
    count=count,
    defects=DEFECTS,
    grammar=ad_script_grammar,
    rule=f"A valid table has the header Visual and Audio, two cells in every row, and {MIN_ROWS} to {MAX_ROWS} rows.",
    header=" ".join(COLUMNS),
    decides=decides,
    faults=faults,
    strict=strict,
    rubric={"structure": structure, "adherence": adherence},
)
