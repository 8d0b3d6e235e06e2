"""Marks from people, to hold the judge against: in the terminal (`lekhai judge label`) or with sliders in a notebook.

``open_tasks(responses, labels, rater, n)`` picks texts without saying which model wrote them; ``label_in_terminal`` or
``label_widget`` shows one after the other and saves each at once, so that nothing is lost when you stop. Taught in
notebook 11; agreement with the judge: `measure.agreement`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from lekhai_helpers.measure.judge import records

if TYPE_CHECKING:
    from ipywidgets import Widget

Mark = dict[str, Any]
Save = Callable[[Sequence[Mark]], Any]  # takes rows as `Ledger.add_labels` does


@dataclass(frozen=True)
class Task:
    """One text to be marked. ``stage`` says who wrote it and is never shown."""

    stage: str
    brief_id: str
    seed: int
    prompt: str
    text: str

    def marks(self, rater: str, scores: Mapping[str, int]) -> list[Mark]:
        """Return the rows for `Ledger.add_labels`, one a criterion."""
        key = {"stage": self.stage, "brief_id": self.brief_id, "seed": self.seed, "rater": rater}
        return [key | {"criterion": name, "score": score} for name, score in scores.items()]


def open_tasks(responses: Any, labels: Any, rater: str, n: int = 20, seed: int = 3407) -> list[Task]:
    """Return up to `n` texts that this rater has not marked, shuffled, as many of each stage as can be.

    `responses` and `labels` are `Ledger.responses()` and `Ledger.labels()`. The order is drawn from `seed` and the
    rater's name, so that a second sitting goes on with the same texts. Raises ValueError without a name.
    """
    if not rater.strip():
        raise ValueError("whose marks are these? Give a name or initials, the same at every sitting")
    marked = {_key(row) for row in records(labels) if row["rater"] == rater}
    tasks = [Task(*_key(row), row["prompt"], row["text"]) for row in records(responses)]
    dice = random.Random(f"{seed} {rater}")
    dice.shuffle(tasks)
    turns: dict[str, int] = {}
    ranked = []
    for task in tasks:
        turns[task.stage] = turns.get(task.stage, 0) + 1
        ranked.append((turns[task.stage], task))
    even = [task for _, task in sorted(ranked, key=lambda entry: entry[0])][:n]
    dice.shuffle(even)
    return [task for task in even if (task.stage, task.brief_id, task.seed) not in marked]


def _key(row: Mapping[str, Any]) -> tuple[str, str, int]:
    return str(row["stage"]), str(row["brief_id"]), int(row["seed"])


def label_in_terminal(
    tasks: Sequence[Task],
    criteria: Mapping[str, str],
    rater: str,
    save: Save,
    ask: Callable[[str], str] = input,
    tell: Callable[[str], Any] = print,
) -> int:
    """Show each text, ask for a mark from 1 to 10 by each criterion, and save. Returns how many texts were marked.

    "s" leaves a text out, "q" or the end of input stops; what was marked before is saved.
    """
    for name, anchors in criteria.items():
        tell(f"{name}: {anchors}\n")
    done = 0
    for number, task in enumerate(tasks, start=1):
        tell(f"\n--- {number} of {len(tasks)} ---\n{task.prompt}\n\n{task.text.strip()}\n")
        answer = _ask_marks(criteria, ask, tell)
        if answer == "q":
            break
        if isinstance(answer, dict):
            save(task.marks(rater, answer))
            done += 1
    return done


def _ask_marks(criteria: Mapping[str, str], ask: Callable[[str], str], tell: Callable[[str], Any]) -> Any:
    """Return {criterion: mark}, or "s" or "q"."""
    marks = {}
    for name in criteria:
        answer = _ask_mark(name, ask, tell)
        if isinstance(answer, str):
            return answer
        marks[name] = answer
    return marks


def _ask_mark(name: str, ask: Callable[[str], str], tell: Callable[[str], Any]) -> int | str:
    while True:
        try:
            given = ask(f"{name} (1 to 10, s: skip this text, q: stop) ").strip().lower()
        except EOFError:
            return "q"
        if given in ("s", "q"):
            return given
        # isdecimal and int know Bengali digits too: ৭ is 7
        if given.isdecimal() and 1 <= int(given) <= 10:
            return int(given)
        tell(f"{given!r} is no whole number from 1 to 10")


def label_widget(tasks: Sequence[Task], criteria: Mapping[str, str], rater: str, save: Save) -> Widget:
    """Return a panel for a notebook: a text, a slider for each criterion, Save and Skip.

    Nothing is saved before Save is pressed, and a text at a time.
    """
    import ipywidgets

    sliders = {name: ipywidgets.IntSlider(5, 1, 10, description=name) for name in criteria}
    page, save_button, skip = ipywidgets.HTML(), ipywidgets.Button(description="Save"), ipywidgets.Button()
    skip.description = "Skip"
    waiting = list(tasks)

    def show() -> None:
        page.value = _page(waiting, len(tasks))
        save_button.disabled = skip.disabled = not waiting

    def go_on(pressed: Any) -> None:
        task = waiting.pop(0)
        if pressed is save_button:
            save(task.marks(rater, {name: slider.value for name, slider in sliders.items()}))
        for slider in sliders.values():
            slider.value = 5
        show()

    save_button.on_click(go_on)
    skip.on_click(go_on)
    show()
    rubric = ipywidgets.HTML(
        "".join(f"<p><b>{escape(name)}</b>: {escape(text)}</p>" for name, text in criteria.items())
    )
    return ipywidgets.VBox([rubric, page, *sliders.values(), ipywidgets.HBox([save_button, skip])])


def _page(waiting: Sequence[Task], total: int) -> str:
    if not waiting:
        return "<p>No text is left to be marked. Thank you.</p>"
    task = waiting[0]
    return (
        f"<p>{total - len(waiting) + 1} of {total}</p><p><b>{escape(task.prompt)}</b></p>"
        f"<pre style='white-space: pre-wrap'>{escape(task.text.strip())}</pre>"
    )
