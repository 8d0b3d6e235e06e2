"""``lekhai bench``: a bounded load on the service, and one table of what it came to. See the README.

Everything heavy is imported inside the verb.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from lekhai_helpers.served_model import Gguf, RunLabel, ServeError, load_engine, served_model

if TYPE_CHECKING:
    from lekhai_helpers.ship.load import Level

Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one serving.* setting.")]


def bench_command(
    service: Annotated[str, typer.Option(help="A running service, like http://127.0.0.1:8000.")] = "",
    clients: Annotated[str, typer.Option(help="How many ask at once, one level after the other.")] = "1,4,16",
    requests: Annotated[int, typer.Option(min=1, max=1000, help="Scripts to ask for at each level.")] = 16,
    elsewhere: Annotated[
        bool, typer.Option("--elsewhere", help="With --service: it may be on another machine. Ask whose it is first.")
    ] = False,
    label: RunLabel = None,
    gguf: Gguf = None,
    overrides: Set = None,
) -> None:
    """Measure how many scripts the service writes with 1, 4 and 16 clients, and how long one waits.

    Without --service, one is started over the newest run's file, and nothing it writes is kept. A service that runs
    already keeps these scripts in its history as it keeps any other. Exit code 1 where a request failed.
    """
    from lekhai_helpers.ship.load import load_table, measure_load, service_over

    if service and (gguf or label or overrides):
        raise typer.BadParameter("--service is measured as it runs: --run, --gguf and --set start another one")
    levels = _numbers(clients)

    def measured(address: str, key: str) -> list[Level]:
        return measure_load(address, levels, requests, key, elsewhere, _tell)

    if service:
        found = measured(service, os.environ.get("LEKHAI_API_KEY", ""))
    else:
        settings, _, file = served_model(label, gguf, overrides or [])
        engine = load_engine(file, settings, settings.serving.slots)
        typer.echo(f"{engine.info.name}, {settings.serving.slots} at once, {settings.serving.queue} may wait", err=True)
        with service_over(engine, settings) as address:
            found = measured(address, "")
    typer.echo(load_table(found))
    if any(level.failed for level in found):
        raise typer.Exit(1)


def _numbers(clients: str) -> list[int]:
    parts = [part.strip() for part in clients.split(",")]
    if not all(part.isdecimal() and part.isascii() for part in parts):
        raise ServeError(f"--clients {clients!r}: give numbers with commas, like 1,4,16")
    return [int(part) for part in parts]


def _tell(level: Level) -> None:
    """Say that a level is done: the whole takes minutes."""
    typer.echo(f"{level.clients} clients: {level.seconds:.0f} s", err=True)
