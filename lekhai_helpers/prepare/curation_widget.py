"""The curation of `lekhai curate` as a form: ``curation_widget(Curation(file))``. Taught in notebook 03."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from lekhai_helpers.prepare.curation import Curation, CurationError, Decision, Example
from lekhai_helpers.prepare.near_duplicates import Duplicates

if TYPE_CHECKING:
    from ipywidgets import Widget

_BUTTONS: dict[str, Decision] = {"Approve": "approved", "Reject": "rejected", "Skip": "skipped"}
_COLUMN = "vertical-align: top; width: 50%"
_PLAIN = "white-space: pre-wrap; margin: 0"


def curation_widget(curation: Curation, duplicates: Duplicates | None = None) -> Widget:
    """Return a form: question and answer as fields to edit, a note, and Approve, Reject, Skip and Undo.

    Every press is kept at once, edited words first. `duplicates` of the examples' answers, in the file's order, are
    shown beside the example.
    """
    return _Form(curation, duplicates).box


class _Form:
    """The fields and what the buttons do. `seen` are the examples of this sitting: a skipped one comes back later."""

    def __init__(self, curation: Curation, duplicates: Duplicates | None) -> None:
        import ipywidgets

        self.curation, self.duplicates, self.seen = curation, duplicates, set[str]()
        self.current: Example | None = None
        wide = ipywidgets.Layout(width="98%")
        self.progress, self.beside, self.said = (ipywidgets.HTML() for _ in range(3))
        self.question = ipywidgets.Textarea(description="Question", rows=3, layout=wide)
        self.answer = ipywidgets.Textarea(description="Answer", rows=14, layout=wide)
        self.note = ipywidgets.Text(description="Note", layout=wide)
        self.buttons = {name: ipywidgets.Button(description=name) for name in (*_BUTTONS, "Undo")}
        for name, button in self.buttons.items():
            button.on_click(self._undo if name == "Undo" else self._decide)
        row = ipywidgets.HBox(list(self.buttons.values()))
        fields = [self.progress, self.question, self.answer, self.note, row, self.said, self.beside]
        self.box = ipywidgets.VBox(fields)
        self._show()

    def _decide(self, button: Any) -> None:
        if self.current is None:
            return
        name = self.current.id
        try:
            masked = self.curation.edit(name, self.question.value, self.answer.value)
        except CurationError as error:
            self.said.value = f"<p>{escape(str(error))}</p>"
            return
        self.curation.note(name, self.note.value)
        self.curation.decide(name, _BUTTONS[button.description])
        self.seen.add(name)
        self.said.value = f"<p>{masked} secret(s) masked in what you wrote</p>" if masked else ""
        self._show()

    def _undo(self, _: Any) -> None:
        try:
            event = self.curation.undo()
        except CurationError as error:  # another sitting was faster
            self.said.value = f"<p>{escape(str(error))}</p>"
            return
        self.said.value = f"<p>taken back: {event.action}</p>" if event else "<p>there is nothing to take back</p>"
        if event:
            self.seen.discard(event.example)
            self._show(self.curation.examples[self.curation.place(event.example)])

    def _show(self, example: Example | None = None) -> None:
        waiting = [one for one in self.curation.pending() if one.id not in self.seen]
        self.current = example or next(iter(waiting), None)
        counts = ", ".join(f"{number} {name}" for name, number in self.curation.counts().items())
        origin = escape(self.current.origin) if self.current else "Nothing is left to decide in this sitting."
        self.progress.value = f"<p>{counts}</p><p><b>{origin}</b></p>"
        state = self.curation.states()[self.current.id] if self.current else None
        self.question.value, self.answer.value = (state.question, state.answer) if state else ("", "")
        self.note.value = ""
        for name in _BUTTONS:
            self.buttons[name].disabled = self.current is None
        self.beside.value = self._neighbour()

    def _neighbour(self) -> str:
        """Return the nearest other example beside this one, with its own decision; empty where none is near."""
        if self.current is None or self.duplicates is None:
            return ""
        found = self.duplicates.nearest(self.curation.place(self.current.id))
        if found is None:
            return ""
        other = self.curation.examples[found[0]]
        state = self.curation.states()[other.id]
        columns = "".join(
            f"<td style='{_COLUMN}'><b>{escape(title)}</b><p style='{_PLAIN}'>{escape(text)}</p></td>"
            for title, text in (("this one", self.answer.value), (f"{other.origin}, {state.status}", state.answer))
        )
        method = escape(self.duplicates.method)
        return f"<p>{found[1]:.0%} alike ({method}):</p><table style='width: 98%'><tr>{columns}</tr></table>"
