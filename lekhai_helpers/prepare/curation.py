"""A person's decisions on extracted examples: approve, reject, edit, skip, note, undo, and what is kept of them.

``Curation(Path("reflections.jsonl"))`` opens the examples and, beside them, an SQLite file in which every decision is
one more row: nothing is written over, so there is a history, an undo, and a sitting goes on where the last one ended.
`lekhai curate` and `curation_widget` are two faces of it.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, cast, get_args

from lekhai_helpers.core.replacing import replacing
from lekhai_helpers.prepare.curation_file import CurationError, CurationFile, Event
from lekhai_helpers.prepare.secrets import mask
from lekhai_helpers.prepare.sources.base import DatasetError
from lekhai_helpers.prepare.sources.reading import json_lines
from lekhai_helpers.prepare.sources.reflections_jsonl import conversation

Decision = Literal["approved", "rejected", "skipped"]
Status = Literal["approved", "rejected", "skipped", "open"]

__all__ = ["Curation", "CurationError", "Decision", "Event", "Example", "State"]


@dataclass(frozen=True)
class Example:
    """One conversation as it stands in the file. `question` and `answer` are its last two messages."""

    id: str
    question: str
    answer: str
    row: dict[str, Any]

    @property
    def origin(self) -> str:
        """Return where it came from, in one line."""
        source = self.row.get("source") or {}
        parts = [source.get("path", ""), source.get("heading", ""), self.row.get("kind", "")]
        return " · ".join(part for part in parts if part)


@dataclass(frozen=True)
class State:
    """What stands decided about one example: its status, its texts after all edits, and its notes."""

    question: str
    answer: str
    status: Status = "open"
    notes: tuple[str, ...] = ()
    edited: bool = False
    decided: int = 0


class Curation:
    """The examples of a file and the decisions about them, kept in `database` (beside the file without one).

    Raises DatasetError where the file is no JSONL of conversations, CurationError where the database cannot be used.
    """

    def __init__(self, file: Path, database: Path | None = None) -> None:
        self.file = Path(file)
        self.examples = _read(self.file)
        self._places = {example.id: place for place, example in enumerate(self.examples)}
        self._store = CurationFile(database or self.file.with_suffix(".curation.db"))
        self._known: list[Event] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    @property
    def database(self) -> Path:
        """Return the file in which the decisions are kept."""
        return self._store.path

    def place(self, example: str) -> int:
        """Return the place of an example in the file, from 0."""
        return self._places[example]

    def states(self) -> dict[str, State]:
        """Return what stands decided about every example: the events told again, without those that were undone."""
        found = {example.id: State(example.question, example.answer) for example in self.examples}
        events = self._events()
        undone = {event.undoes for event in events}
        for event in events:
            if event.example in found and event.number not in undone and event.action != "undo":
                found[event.example] = _after(found[event.example], event)
        return found

    def pending(self) -> list[Example]:
        """Return what is still to be decided: the untouched ones in the file's order, then those that were skipped."""
        states = self.states()
        waiting = [example for example in self.examples if states[example.id].status in ("open", "skipped")]
        return sorted(waiting, key=lambda example: states[example.id].decided)

    def counts(self) -> dict[str, int]:
        """Return how many are approved, rejected, skipped and open."""
        found = Counter(state.status for state in self.states().values())
        return {name: found[name] for name in get_args(Status)}

    def history(self) -> list[Event]:
        """Return every event of this file's examples, the oldest first, those that were undone included."""
        return [event for event in self._events() if event.example in self._places]

    def decide(self, example: str, decision: Decision) -> None:
        """Approve, reject or skip an example."""
        self._add(example, decision)

    def edit(self, example: str, question: str, answer: str) -> int:
        """Put other words in the place of question and answer. Returns how many secrets had to be masked in them.

        Raises CurationError where one is empty: an example without words teaches nothing, reject it instead.
        """
        if not question.strip() or not answer.strip():
            raise CurationError("question and answer both need words: reject the example where there are none")
        (question, first), (answer, second) = self._mask(example, question), self._mask(example, answer)
        state = self.states()[example]
        if (state.question, state.answer) != (question.strip(), answer.strip()):
            self._add(example, "edited", question=question.strip(), answer=answer.strip())
        return first + second

    def note(self, example: str, text: str) -> None:
        """Keep a remark about an example; it goes into the export beside it and is never learned."""
        if text.strip():
            self._add(example, "noted", note=self._mask(example, text.strip())[0])

    def undo(self) -> Event | None:
        """Take back the last event that was not taken back yet, also one of an earlier sitting; None where none is."""
        undone = {event.undoes for event in self._events()}
        last = next((e for e in reversed(self.history()) if e.action != "undo" and e.number not in undone), None)
        if last is not None:
            self._add(last.example, "undo", undoes=last.number)
        return last

    def approved(self) -> list[dict[str, Any]]:
        """Return the approved examples as rows, with their edited words, `edited` and `notes`."""
        states = self.states()
        return [_row(e, states[e.id]) for e in self.examples if states[e.id].status == "approved"]

    def export(self, out: Path, replace: bool = False) -> int:
        """Write the approved examples as JSONL, all or none, and return how many.

        Raises CurationError where none is approved, where `out` is a file of this curation or a folder, or where it is
        there and `replace` does not say so.
        """
        out, rows = Path(out).expanduser(), self.approved()
        if not rows:
            raise CurationError(f"nothing is approved yet: `lekhai curate {self.file.name}` shows the examples")
        for own, what in ((self.file, "the file that is being curated"), (self.database, "where decisions are kept")):
            if out.resolve() == own.resolve():
                raise CurationError(f"{out.name} is {what}: give the export another name")
        if out.is_dir():
            raise CurationError(f"{out} is a folder: give the name of a file")
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        if out.exists() and not replace and out.read_bytes() != text.encode():
            raise CurationError(f"{out} is there already: give another name, or --replace to write it anew")
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as file:
            file.write(text)
        return len(rows)

    def _events(self) -> list[Event]:
        """Return all events, also those that another sitting has added since."""
        self._known += self._store.events(after=self._known[-1].number if self._known else 0)
        return self._known

    def _mask(self, example: str, text: str) -> tuple[str, int]:
        """Return a text with its secrets masked, and how many; as it is where the extraction was not to mask."""
        if self.examples[self.place(example)].row.get("masked") is None:
            return text, 0
        text, found = mask(text)
        return text, sum(found.values())

    def _add(self, example: str, action: str, **values: Any) -> None:
        if example not in self._places:
            raise CurationError(f"no example {example} in {self.file.name}")
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._store.add(Event(0, example, action, at, **values))


def _after(state: State, event: Event) -> State:
    """Return the state of an example after one more event."""
    if event.action == "edited":
        return replace(state, question=event.question or "", answer=event.answer or "", edited=True)
    if event.action == "noted":
        return replace(state, notes=(*state.notes, event.note or ""))
    return replace(state, status=cast(Decision, event.action), decided=event.number)


def _row(example: Example, state: State) -> dict[str, Any]:
    messages = [dict(message) for message in example.row["messages"]]
    messages[-2]["content"], messages[-1]["content"] = state.question, state.answer
    return example.row | {"id": example.id, "messages": messages, "edited": state.edited, "notes": list(state.notes)}


def _read(path: Path) -> list[Example]:
    """Return the examples of a file; an id that stands there twice would mix two decisions, so it is refused."""
    examples: dict[str, Example] = {}
    for number, row in json_lines(path):
        messages = conversation(path, number, row)
        example = _example(row, messages)
        if example.id in examples:
            raise DatasetError(f"{path.name}, line {number}: the same example stands there twice ({example.id})")
        examples[example.id] = example
    return list(examples.values())


def _example(row: dict[str, Any], messages: Sequence[dict[str, str]]) -> Example:
    """Return one row as an example; without an id, one is made of its words."""
    name = row.get("id") or hashlib.sha256(json.dumps(messages, ensure_ascii=False).encode()).hexdigest()[:16]
    return Example(str(name), messages[-2]["content"], messages[-1]["content"], row)
