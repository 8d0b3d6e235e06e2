"""``lekhai export``: lists what of a finished run would go to a hub, and with ``--push`` sends it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lekhai_helpers.core.run_folder import Run


class What(StrEnum):
    """What can be sent: the adapter with the merged weights (notebook 08), or the GGUF files (notebook 12)."""

    model = "model"
    gguf = "gguf"


def export_command(
    push: Annotated[bool, typer.Option("--push", help="Send it. Without this nothing leaves your machine.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the list, even beside --push.")] = False,
    what: Annotated[What, typer.Option(help="model: adapter and merged weights; gguf: the files of notebook 12.")] = (
        What.model
    ),
    hub_id: Annotated[str | None, typer.Option(help="YOUR-NAME/MODEL; without it, export.hub_id of the run.")] = None,
    public: Annotated[bool, typer.Option("--public", help="For everyone to see. Without it: private.")] = False,
    label: Annotated[str | None, typer.Option("--run", help="A folder in runs/; without it, the newest run.")] = None,
) -> None:
    """List what would go to the Hugging Face hub, with licences and without secrets; send it with --push.

    A push that broke off goes on where it stopped: give the same command again.
    """
    from lekhai_helpers.closing import newest_run
    from lekhai_helpers.ship.hub import login_state, push_plan
    from lekhai_helpers.ship.hub import push as send
    from lekhai_helpers.ship.licences import card_licence, licences_text

    run = newest_run(label)
    folder, name = _folder(run, what), hub_id or run.settings.export.hub_id
    licence = card_licence(folder)
    _show(folder, push_plan(folder))
    seen = "everyone can see" if public else "private"
    typer.echo(f"to: {name or '(no hub id yet: --hub-id)'}, {seen}; licence: {licence}; {login_state()}")
    if not push or dry_run:
        typer.echo("Nothing was sent. To send it: lekhai export --push --hub-id YOUR-NAME/MODEL")
        return
    extra = {"LICENCES.md": licences_text(run.settings, licence)}
    typer.echo(f"sent: {send(folder, name, private=not public, extra=extra, tell=typer.echo)}")


def _folder(run: Run, what: What) -> Path:
    from lekhai_helpers.closing import resume_command
    from lekhai_helpers.core.run_folder import RunError

    output, notebook = ("exported_model", "08") if what is What.model else ("gguf", "12")
    folder = run.output(output)
    if folder is None or not folder.is_dir():
        raise RunError(f"{run.label} has no {output} yet: notebook {notebook} makes it, `{resume_command(run)}`")
    return folder


def _show(folder: Path, plan: list[tuple[str, float]]) -> None:
    from lekhai_helpers.ship.hub import kept_here

    for path, size in plan:
        typer.echo(f"{size:10.1f} MB  {path}")
    typer.echo(f"{sum(size for _, size in plan):10.1f} MB  in {len(plan)} files, and LICENCES.md")
    if left := kept_here(folder):
        typer.echo(f"stays here: {', '.join(left)}")
