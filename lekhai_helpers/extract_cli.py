"""``lekhai extract``: an Obsidian vault in, its reflections out as conversations. The vault is only read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lekhai_helpers.prepare.vault import Tally

Tags = list[str] | None


def extract_command(
    vault: Annotated[Path, typer.Option("--vault", help="The folder that Obsidian opens.")],
    out: Annotated[Path, typer.Option("--out", help="The JSONL file to write.")] = Path("reflections.jsonl"),
    replace: Annotated[bool, typer.Option("--replace", help="Write over a file of that name.")] = False,
    tag: Annotated[Tags, typer.Option("--tag", help="One more tag that marks a reflection; repeat it.")] = None,
    private: Annotated[Tags, typer.Option("--private", help="One more tag that keeps a note out; repeat it.")] = None,
    marked: Annotated[
        bool, typer.Option("--marked", help="Only notes with such a tag or field, none by guess.")
    ] = False,
    keep_secrets: Annotated[
        bool, typer.Option("--keep-secrets", help="Do not mask keys, mail addresses and phone numbers.")
    ] = False,
) -> None:
    """Take the reflections out of an Obsidian vault, as questions and answers; `lekhai curate` goes on from there.

    Private notes (#private), hidden folders and links to other places are left out; nothing is written into the vault.
    """
    from lekhai_helpers.prepare.vault import MARKS, PRIVATE, Tally, extract, write_reflections

    tally = Tally()
    found = extract(
        vault,
        tally,
        marks=(*MARKS, *(tag or ())),
        private=(*PRIVATE, *(private or ())),
        marked_only=marked,
        keep_secrets=keep_secrets,
    )
    try:
        count = write_reflections(found, out, vault, replace)
    finally:  # also where nothing was found: what was left out says why
        for line in _report(tally, keep_secrets):
            typer.echo(line)
    typer.echo(f"{count} reflections written to {out}. Next: lekhai curate {out}")


def _report(tally: Tally, keep_secrets: bool) -> list[str]:
    """Return what became of the vault, line by line; nothing where none of it was read."""
    if not (tally.notes or tally.skips or tally.left):
        return []
    lines = [f"{tally.notes} notes read; taken: {_list(tally.kinds) or 'none'}"]
    lines += [f"left out, as notes or parts of notes: {_list(tally.left)}"] if tally.left else []
    if keep_secrets:
        lines.append("secrets were not masked, as you asked")
    elif tally.masked:
        lines.append(f"masked: {_list(tally.masked)}. What has no shape, such as a name or a street, is not masked")
    lines += [f"skipped {path}: {reason}" for path, reason in tally.skipped]
    more = tally.skips - len(tally.skipped)
    return [*lines, f"and {more} more files skipped"] if more else lines


def _list(counts) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.most_common())
