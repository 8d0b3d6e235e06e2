"""Questions over all runs of a ledger: the last ones, two against each other, everything as CSV files.

Called by ``lekhai ledger`` and from a notebook: ``last_runs(open_file(path))``. Nothing here writes into the ledger.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core.ledger_file import LedgerError, LedgerFile
from lekhai_helpers.core.ledger_schema import TABLES

if TYPE_CHECKING:
    from pandas import DataFrame

FIGURES = ("value", "low", "high", "n")
KEPT = "kept"  # the summary figure that is 1 for the stage whose model goes on, 0 for the one that does not


def open_file(path: Path) -> LedgerFile:
    """Open a ledger for questions. Raises LedgerError where there is none: asking must not make one."""
    if not Path(path).exists():
        raise LedgerError(f"there is no ledger at {path}: make a run with `lekhai run`, or set LEKHAI_RUNS")
    return LedgerFile(path)


def last_runs(ledger: LedgerFile, limit: int = 10) -> DataFrame:
    """Return the runs opened last: name, recipe, profile, opened, stages, kept, valid_tables, low, high, n.

    `kept` is the stage whose model goes on, `valid_tables` its share of valid tables (0 to 1) with its 95% interval.
    """
    import pandas as pd

    runs = ledger.read(
        "SELECT id, name, recipe, profile, opened FROM experiments ORDER BY opened DESC, id DESC LIMIT ?", limit
    )
    rows = [_run_row(ledger, run) for run in runs.to_dict("records")]
    columns = ["name", "recipe", "profile", "opened", "stages", "kept", "valid_tables", *FIGURES[1:]]
    return pd.DataFrame(rows, columns=columns).astype({"n": "Int64"})


def _run_row(ledger: LedgerFile, run: dict[str, Any]) -> dict[str, Any]:
    stages = ledger.read(
        "SELECT stage FROM model_responses WHERE experiment_id = ? GROUP BY stage ORDER BY MIN(id)", run["id"]
    )["stage"].tolist()
    kept = _kept_stage(ledger, run["id"], stages)
    found = ledger.read(
        """SELECT value AS valid_tables, low, high, n FROM evaluation_summary
        WHERE experiment_id = ? AND stage = ? AND metric = 'valid_tables'""",
        run["id"],
        kept,
    ).to_dict("records")
    return run | {"stages": ", ".join(stages), "kept": kept} | (found[0] if found else {})


def _kept_stage(ledger: LedgerFile, run_id: int, stages: Sequence[str]) -> str | None:
    """Return the stage that is written down as kept; where none is, fine-tuning, or else the last stage that wrote."""
    query = "SELECT stage FROM evaluation_summary WHERE experiment_id = ? AND metric = ? AND value = 1"
    found = ledger.read(query, run_id, KEPT)["stage"].tolist()
    if found:
        return found[-1]
    return "sft" if "sft" in stages else next(iter(reversed(stages)), None)


def compare_runs(ledger: LedgerFile, first: str, second: str) -> DataFrame:
    """Compare two runs figure by figure: stage, metric, a, b (values), difference (b - a), low, high, found.

    The interval of a difference is built from the two intervals (Newcombe 1998, "Interval estimation for the
    difference between independent proportions", method 10; for other figures Zou and Donner 2008). It takes runs and
    texts as independent, so read it as rough: several seeds of one brief make it too narrow, and the same briefs in
    both runs make it too wide. Raises LedgerError for a run that is not in the ledger.
    """
    import pandas as pd

    sides = [_summary(ledger, name) for name in (first, second)]
    keys = list(dict.fromkeys([*sides[0], *sides[1]]))
    rows = [_compared(sides[0].get(key), sides[1].get(key)) for key in keys]
    table = pd.DataFrame(keys, columns=["stage", "metric"])
    return table.join(pd.DataFrame(rows, columns=["a", "b", "difference", "low", "high", "found"]))


def _summary(ledger: LedgerFile, name: str) -> dict[tuple[str, str], dict[str, float]]:
    found = ledger.read("SELECT id FROM experiments WHERE name = ?", name)
    if found.empty:
        known = ledger.read("SELECT name FROM experiments ORDER BY opened DESC")["name"].tolist()
        hint = get_close_matches(name, known, 1, cutoff=0.4) or known[:5]
        raise LedgerError(f"no run {name!r} in the ledger; did you mean {' or '.join(hint) or 'to make one first'}?")
    table = ledger.read(
        "SELECT stage, metric, value, low, high, n FROM evaluation_summary WHERE experiment_id = ? ORDER BY id",
        int(found["id"][0]),
    )
    return {(row["stage"], row["metric"]): row for row in table.to_dict("records")}


def _compared(a: dict[str, float] | None, b: dict[str, float] | None) -> dict[str, Any]:
    if a is None or b is None:
        only = "only in A" if b is None else "only in B"
        return {"a": a and a["value"], "b": b and b["value"], "found": only}
    difference = b["value"] - a["value"]
    found = {"a": a["value"], "b": b["value"], "difference": difference}
    low, high = (_reach(a, b, side) for side in ("low", "high"))
    found |= {"low": difference - low, "high": difference + high}
    return found | {"found": _in_words(difference, found["low"], found["high"])}


def _reach(a: dict[str, float], b: dict[str, float], side: str) -> float:
    """Return how far the difference may lie to one side; NaN where a figure has no interval."""
    other = "high" if side == "low" else "low"
    return math.hypot(b[side] - b["value"], a[other] - a["value"])


def _in_words(difference: float, low: float, high: float) -> str:
    if math.isnan(difference):
        return "not measured in both"
    if difference == 0:
        return "same"
    if math.isnan(low) or math.isnan(high):
        return "unequal, without an interval"
    return "differs" if low > 0 or high < 0 else "no difference shown"


def export_csv(ledger: LedgerFile, folder: Path) -> dict[str, int]:
    """Write every table as a CSV file into `folder` and return how many rows each has.

    With a byte order mark: without it a spreadsheet shows Bengali as rubbish. Raises LedgerError where the folder
    cannot be written.
    """
    counts = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for table in TABLES:
            counts[table] = _write_csv(ledger.read(f"SELECT * FROM {table}"), folder / f"{table}.csv")
    except OSError as error:
        raise LedgerError(f"{folder} cannot be written ({error.strerror}): name another folder") from error
    return counts


def _write_csv(table: DataFrame, path: Path) -> int:
    beside = path.with_name(path.name + ".writing")
    table.to_csv(beside, index=False, encoding="utf-8-sig", quoting=csv.QUOTE_MINIMAL)
    beside.replace(path)
    return len(table)
