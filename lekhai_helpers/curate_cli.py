"""``lekhai curate``: read extracted examples one by one in the terminal, and approve, reject, edit, skip or undo.

The screen is never taken over: what was shown scrolls up and can be read again. Every key is kept at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from lekhai_helpers.prepare.curation import Curation, Example
    from lekhai_helpers.prepare.near_duplicates import Duplicates

_WAYS = {
    "approve": "a",
    "reject": "r",
    "edit the question": "q",
    "edit the answer": "e",
    "write a note": "n",
    "skip for now": "s",
    "undo the last step": "u",
    "stop (everything is kept)": "x",
}
_DECISIONS = {"approve": "approved", "reject": "rejected", "skip for now": "skipped"}
_STOP = "stop (everything is kept)"


class Asker(Protocol):
    """Where answers come from: a person at a terminal. None means that the person wants to stop."""

    def way(self) -> str | None:
        """Return one of the ways by its name."""

    def words(self, what: str, now: str) -> str | None:
        """Return new words for `what`; `now` is what stands there."""


def curate_command(
    file: Annotated[Path, typer.Argument(help="What `lekhai extract` wrote, or any JSONL of conversations.")],
    export: Annotated[Path | None, typer.Option("--export", help="Write the approved ones here, at the end.")] = None,
    only_export: Annotated[bool, typer.Option("--only-export", help="Write them now, and ask nothing.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Write over an earlier export.")] = False,
    database: Annotated[
        Path | None, typer.Option("--database", help="Where decisions are kept; without it, beside the file.")
    ] = None,
    embedder: Annotated[
        str | None, typer.Option("--embedder", help="An embedding model, folder or hub id, to find what says the same.")
    ] = None,
) -> None:
    """Decide example by example what the model may learn. A second sitting goes on where the first one ended."""
    from rich.console import Console

    from lekhai_helpers.prepare.curation import Curation, CurationError

    if only_export and export is None:
        raise CurationError("--only-export needs to know where to: add --export FILE")
    if not only_export:
        _need_terminal()
    with Curation(file, database) as curation:
        console = Console(highlight=False)
        if not only_export:
            sit(curation, _duplicates(curation, embedder, console), console, Terminal())
        if export is not None:
            count = curation.export(export, replace)
            console.print(f"{count} approved examples written to {export}", soft_wrap=True, markup=False)


class Terminal:
    """A person at a terminal, asked by questionary; Ctrl-C and the end of input stop the sitting."""

    def way(self) -> str | None:
        """Show the ways and return the chosen one: a letter or the arrows, then Enter."""
        import questionary

        choices = [questionary.Choice(name, shortcut_key=key) for name, key in _WAYS.items()]
        return questionary.select("What shall be done with it?", choices, use_shortcuts=True, instruction=" ").ask()

    def words(self, what: str, now: str) -> str | None:
        """Open a field over several lines with what stands there."""
        import questionary

        return questionary.text(f"{what} (Esc, then Enter, ends it)", default=now, multiline=True).ask()


def sit(curation: Curation, duplicates: Duplicates | None, console: Console, asker: Asker) -> None:
    """Show one pending example after the other until none is left or the person stops."""
    seen: set[str] = set()
    current = _next(curation, seen)
    while current is not None:
        _show(curation, current, duplicates, console)
        way = asker.way()
        if way in (None, _STOP):
            break
        current = _act(curation, current, str(way), asker, console, seen)
    counts = ", ".join(f"{number} {name}" for name, number in curation.counts().items())
    console.print(f"{counts}. Decisions are kept in {curation.database}", soft_wrap=True, markup=False)


def _act(
    curation: Curation, current: Example, way: str, asker: Asker, console: Console, seen: set[str]
) -> Example | None:
    """Do what was chosen and return the example to show next."""
    from lekhai_helpers.prepare.curation import CurationError

    if way in _DECISIONS:
        curation.decide(current.id, _DECISIONS[way])  # type: ignore[arg-type]
        seen.add(current.id)
        return _next(curation, seen)
    try:
        if way == "undo the last step":
            return _undo(curation, current, console, seen)
        _write(curation, current, way, asker, console)
    except CurationError as error:
        console.print(str(error), style="red", markup=False)
    return current


def _undo(curation: Curation, current: Example, console: Console, seen: set[str]) -> Example:
    event = curation.undo()
    if event is None:
        console.print("there is nothing to take back", style="yellow")
        return current
    console.print(f"taken back: {event.action}", style="yellow")
    seen.discard(event.example)
    return curation.examples[curation.place(event.example)]


def _write(curation: Curation, current: Example, way: str, asker: Asker, console: Console) -> None:
    """Take new words or a note. Nothing changes where the person turns back."""
    state = curation.states()[current.id]
    now = {"edit the question": state.question, "edit the answer": state.answer}.get(way, "")
    given = asker.words(way, now)
    if given is None:
        return
    if way == "write a note":
        curation.note(current.id, given)
        return
    question, answer = (given, state.answer) if way == "edit the question" else (state.question, given)
    masked = curation.edit(current.id, question, answer)
    if masked:
        console.print(f"{masked} secret(s) masked in what you wrote", style="yellow")


def _next(curation: Curation, seen: set[str]) -> Example | None:
    """Return the next example of this sitting; what is skipped now comes back in the next one."""
    return next((example for example in curation.pending() if example.id not in seen), None)


def _show(curation: Curation, example: Example, duplicates: Duplicates | None, console: Console) -> None:
    """Print one example: how far the sitting is, where it came from, question and answer, and what is like it."""
    from rich.panel import Panel
    from rich.text import Text

    state, counts = curation.states()[example.id], curation.counts()
    done = len(curation.examples) - counts["open"] - counts["skipped"]
    console.rule(f"{done} of {len(curation.examples)} decided, {counts['approved']} approved", style="dim")
    edited = ", edited" if state.edited else ""
    console.print(Text(f"{example.origin} ({state.status}{edited})", style="dim"))
    console.print(Panel(Text(state.question), title="question", title_align="left"))
    console.print(Panel(Text(state.answer), title="answer", title_align="left"))
    for note in state.notes:
        console.print(Text(f"note: {note}", style="yellow"))
    _show_neighbour(curation, example, duplicates, console)


def _show_neighbour(curation: Curation, example: Example, duplicates: Duplicates | None, console: Console) -> None:
    """Print the nearest other example beside this one, with what was decided about it."""
    from rich.table import Table
    from rich.text import Text

    found = duplicates.nearest(curation.place(example.id)) if duplicates else None
    if found is None or duplicates is None:
        return
    other = curation.examples[found[0]]
    states = curation.states()
    table = Table(title=f"{found[1]:.0%} alike", title_justify="left", expand=True, show_lines=True)
    table.add_column("this one", ratio=1)
    table.add_column(Text(f"{other.origin} ({states[other.id].status})"), ratio=1)
    table.add_row(Text(states[example.id].answer), Text(states[other.id].answer))
    console.print(table)


def _duplicates(curation: Curation, embedder: str | None, console: Console) -> Duplicates:
    from lekhai_helpers.prepare.near_duplicates import near_duplicates

    found = near_duplicates([example.answer for example in curation.examples], embedder)
    console.print(f"{len(found.pairs)} pairs are near-duplicates, {found.method}", soft_wrap=True, markup=False)
    return found


def _need_terminal() -> None:
    from lekhai_helpers.prepare.curation import CurationError

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CurationError(
            "lekhai curate asks a person at a terminal, and this is none: run it in one, use curation_widget in a "
            "notebook, or write what is approved with --only-export --export FILE"
        )
