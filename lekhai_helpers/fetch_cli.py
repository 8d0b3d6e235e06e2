"""``lekhai data fetch``: the public books and headlines of the recipe twainbot, fetched on request and politely."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def fetch(
    folder: Annotated[Path, typer.Argument(help="Where the files go; files that are there already stay as they are.")],
    book: Annotated[
        list[int] | None, typer.Option(help="A book's number in Project Gutenberg; repeat it. Without it, five books.")
    ] = None,
    headlines: Annotated[bool, typer.Option(help="Also fetch the list of headlines.")] = True,
    pause: Annotated[float, typer.Option(min=1.0, help="Seconds between two requests to one host.")] = 5.0,
) -> None:
    """Fetch public books and headlines into a folder that the recipe twainbot can read as its data.file."""
    from lekhai_helpers.core.run_folder import cache_folder
    from lekhai_helpers.prepare.download import BOOKS, HEADLINES_URL, Downloader, fetch_twainbot

    downloader = Downloader(cache_folder(), pause_seconds=pause)
    written = fetch_twainbot(folder, downloader, tuple(book or BOOKS), HEADLINES_URL if headlines else None)
    for path in written:
        typer.echo(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    typer.echo(f"{len(written)} new file(s). Next: lekhai run --recipe twainbot --set data.file={folder.resolve()}")
