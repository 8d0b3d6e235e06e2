"""``lekhai ledger``: what the ledger of all runs holds. ``runs`` lists the last, ``compare`` sets two side by side,
``export`` writes every table as a CSV file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lekhai_helpers.core.ledger_file import LedgerFile

ledger_app = typer.Typer(no_args_is_help=True, help="What all runs measured, in one database.")

NAME_A = Annotated[str, typer.Argument(metavar="A", help="A run's name, as `lekhai ledger runs` lists it.")]
NAME_B = Annotated[str, typer.Argument(metavar="B", help="The run to set beside it.")]
_DIGITS = {"valid_tables": "{:.0%}".format, "low": "{:.0%}".format, "high": "{:.0%}".format}


@ledger_app.command("runs")
def runs(last: Annotated[int, typer.Option(min=1, help="How many runs to list, the newest first.")] = 10) -> None:
    """List the last runs, each with its stages and the valid share of the stage it kept, with its 95% interval."""
    from lekhai_helpers.core.ledger_queries import last_runs

    with _ledger() as ledger:
        table = last_runs(ledger, last)
    table["opened"] = table["opened"].str.slice(0, 16)
    typer.echo(_text(table, _DIGITS) if len(table) else "The ledger holds no run yet: make one with `lekhai run`.")


@ledger_app.command("compare")
def compare(first: NAME_A, second: NAME_B) -> None:
    """Compare two runs figure by figure. `differs` needs an interval of the difference that leaves zero out."""
    from lekhai_helpers.core.ledger_queries import compare_runs

    with _ledger() as ledger:
        table = compare_runs(ledger, first, second)
    typer.echo(f"A: {first}\nB: {second}\ndifference: B minus A, with its 95% interval\n")
    typer.echo(_text(table, {}) if len(table) else "Neither run has a figure yet: notebooks 05 and 07 write them.")


@ledger_app.command("export")
def export(folder: Annotated[Path, typer.Option("--csv", help="The folder for the files; it is made.")]) -> None:
    """Write every table of the ledger as a CSV file that a spreadsheet opens."""
    from lekhai_helpers.core.ledger_queries import export_csv

    with _ledger() as ledger:
        counts = export_csv(ledger, folder)
    for table, rows in counts.items():
        typer.echo(f"{folder / table}.csv: {rows} rows")


def _ledger() -> LedgerFile:
    from lekhai_helpers.core.ledger_queries import open_file
    from lekhai_helpers.core.run_folder import runs_folder

    return open_file(runs_folder() / "centralized.db")


def _text(table: Any, digits: dict[str, Any]) -> str:
    """Return a table in plain letters, a dash where nothing was measured."""
    shown = table.astype(object).where(table.notna(), None)
    for name in table.columns:
        words = digits.get(name, lambda value: f"{value:.4g}" if isinstance(value, float) else str(value))
        shown[name] = [words(value) if value is not None else "–" for value in shown[name]]
    return shown.to_string(index=False, max_colwidth=60)
