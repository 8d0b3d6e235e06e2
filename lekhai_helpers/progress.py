"""Where a run of the chain is, in plain lines that read the same in a terminal, a log file and on Colab.

`pipeline.py` makes one `Progress` for a run and tells it of every lesson and cell.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lekhai_helpers.core.run_folder import PHASES

HEARTBEAT_SECONDS = 15.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Lesson:
    """One notebook of the chain."""

    key: str
    path: Path
    cells: int

    @property
    def number(self) -> int:
        return int(self.key[:2])

    @property
    def title(self) -> str:
        return self.key[3:]


class Progress:
    """Prints plain lines: which notebook, which cell, how long, how much is left."""

    def __init__(self, say: Say, lessons: Sequence[Lesson], seconds_per_cell: float | None) -> None:
        self.say, self.seconds_per_cell = say, seconds_per_cell
        self.total = sum(lesson.cells for lesson in lessons)
        self.before = 0  # code cells of the lessons already over
        self.cell = 0
        self.current: Lesson | None = None
        self.output: Any = None
        self.started = time.monotonic()

    @contextmanager
    def during(self, lesson: Lesson) -> Iterator[None]:
        """Print a line at the start of a lesson, one every 15 seconds, and one at its end."""
        began, self.current, self.cell, self.output = time.monotonic(), lesson, 0, None
        over = threading.Event()
        beat = threading.Thread(target=self._beat, args=(over,), daemon=True)
        self.say(self.line())
        beat.start()
        try:
            yield
        finally:
            over.set()
            beat.join()
        self.before += lesson.cells
        self.say(f"{place(lesson)}  done in {clock(time.monotonic() - began)}")

    def kept(self, lesson: Lesson) -> None:
        """Note a lesson that is not run again."""
        self.total -= lesson.cells
        self.say(f"{place(lesson)}  kept: complete, and nothing it was made from has changed")

    def on_cell(self, cell: Any) -> None:
        """Count a cell that begins; papermill's own injected cell is not the reader's."""
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", []):
            self.cell, self.output = self.cell + 1, cell

    def line(self) -> str:
        """Return e.g. "[ 6/12] fine_tuning  cell 9/21  1:23  about 9 min left"."""
        lesson = self.current
        assert lesson is not None
        parts = [place(lesson), f"cell {max(self.cell, 1)}/{lesson.cells}", clock(time.monotonic() - self.started)]
        return "  ".join([*parts, self.left(), *self._last_words()])

    def left(self) -> str:
        """Say how long it will still take: first the profile's promise, then more and more what was measured."""
        elapsed = time.monotonic() - self.started
        share = min((self.before + max(self.cell - 1, 0)) / max(self.total, 1), 1)
        if self.seconds_per_cell is not None:
            seconds = (1 - share) * ((1 - share) * self.total * self.seconds_per_cell + elapsed)
        elif share > 0.1:
            seconds = elapsed * (1 - share) / share
        else:
            return "time left not known yet"
        return f"about {max(1, round(seconds / 60))} min left"

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            self.say(self.line())

    def _last_words(self) -> list[str]:
        """Return the last line the running cell printed: a training says there at which step it is."""
        printed = [out.text for out in self.output.outputs if out.get("name") == "stdout"] if self.output else []
        lines = "".join(printed).replace("\r", "\n").strip().splitlines()
        return [f"| {lines[-1].strip()[:70]}"] if lines else []


def place(lesson: Lesson) -> str:
    """Return e.g. "[ 6/12] fine_tuning"."""
    return f"[{lesson.number:2}/{len(PHASES)}] {lesson.title}"


def clock(seconds: float) -> str:
    """Return minutes and seconds, 1:23, with hours where there are some."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
