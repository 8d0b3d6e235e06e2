"""How long one reader waits for one file: to the first token, and to the end of the answer. Taught in notebook 12.

``measure_latency(gguf, prompts, settings)`` asks one thing after the other, streamed, as an app does. The figures are
this machine's: processor, threads and everything else that ran meanwhile are in them, and ``sentence`` says which
machine it was. A goal (``serving.latency_goal_ms``) is set beside them and changes nothing.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lekhai_helpers.core.recipe import Decoding, Settings
from lekhai_helpers.learn.model import Message
from lekhai_helpers.ship.errors import QuantizeError
from lekhai_helpers.ship.footprint import gpu_memory_mb
from lekhai_helpers.ship.llama_server import LlamaServer, cores

FIRST, ANSWERS = 20, 12  # how often a first token is waited for, and how often a whole answer


@dataclass(frozen=True)
class Waits:
    """How long was waited, in milliseconds: median, 95th percentile (nearest rank: of 20 the 19th), and how often."""

    median_ms: float
    p95_ms: float
    n: int


@dataclass(frozen=True)
class Latency:
    """What waiting for one file came to.

    `first` reads the whole prompt anew, `again` finds the beginning of the last prompt (the system text) still read, as
    a running service does. `answer` is a whole answer of `answer_tokens` tokens on average. `goal_ms` is for `first`.
    """

    file: str
    machine: str
    prompt_tokens: int
    first: Waits
    again: Waits
    answer: Waits
    answer_tokens: float
    goal_ms: float | None = None

    @property
    def sentence(self) -> str:
        """Say what was measured where, and how the goal stands to it."""
        said = (
            f"{self.file} on {self.machine}: first token after {_ms(self.first)}, {_ms(self.again)} where the system "
            f"text was read before; a whole answer ({self.answer_tokens:.0f} tokens) after {_ms(self.answer)}."
        )
        return f"{said} {self._held_to_goal()}"

    def _held_to_goal(self) -> str:
        if self.goal_ms is None:
            return "This recipe sets no goal."
        shares = {"the first token": self.first.median_ms, "the same with its system text read": self.again.median_ms}
        held = [name for name, median in shares.items() if median <= self.goal_ms]
        found = f"kept by the median of {' and of '.join(held)}" if held else "kept by neither median"
        return f"The goal of {self.goal_ms:g} ms to the first token is {found} on this machine."

    def figures(self) -> dict[str, Any]:
        """Return everything as plain values, for a manifest."""
        return asdict(self) | {"sentence": self.sentence}

    def table(self):
        """Return a row for each kind of waiting: median and 95th percentile in ms, how often, and the goal."""
        import pandas as pd

        kinds = {"first token": self.first, "first token, system text read": self.again, "whole answer": self.answer}
        rows = [{"waiting for": name} | asdict(waits) for name, waits in kinds.items()]
        table = pd.DataFrame(rows).set_index("waiting for")
        if self.goal_ms is not None:
            table["goal_ms"] = [self.goal_ms, self.goal_ms, float("nan")]
        return table


def measure_latency(
    gguf: Path,
    prompts: Sequence[Sequence[Message]],
    settings: Settings,
    first: int = FIRST,
    answers: int = ANSWERS,
    threads: int | None = None,
) -> Latency:
    """Return how long one reader waits: `first` times for a first token, `answers` times for a whole answer.

    The prompts are asked in turn, from the first again where they are fewer. One request goes before that is not
    counted. Raises QuantizeError where there is no prompt, or where the file answers none of them with a word.
    """
    if not prompts:
        raise QuantizeError("no prompt to wait for: give some of the recipe's briefs")
    import psutil

    one_token = settings.decoding.model_copy(update={"max_new_tokens": 1})
    busy = psutil.getloadavg()[0]
    with LlamaServer(gguf, context=settings.model.max_seq_length, slots=1, threads=threads) as server:
        _wait(server, prompts[0], one_token, 0)
        cold = [_wait(server, prompt, one_token, n)[0] for n, prompt in _turns(prompts, first)]
        warm = [_wait(server, prompt, one_token, n, reuse=True)[0] for n, prompt in _turns(prompts, first)]
        whole = [_wait(server, prompt, settings.decoding, n) for n, prompt in _turns(prompts, answers)]
        tokens = [len(server.tokenize(text)) for _, _, text in whole]
        length = max(len(server.tokenize(server.render(prompt))) for prompt in prompts)
        card = gpu_memory_mb(server.process.pid)
    return Latency(
        file=Path(gguf).name,
        machine=machine_words(threads or cores(), card, busy),
        prompt_tokens=length,
        first=waits(cold),
        again=waits(warm),
        answer=waits([end for _, end, _ in whole]),
        answer_tokens=statistics.fmean(tokens),
        goal_ms=settings.serving.latency_goal_ms,
    )


def _turns(prompts: Sequence[Sequence[Message]], times: int) -> list[tuple[int, Sequence[Message]]]:
    return [(number, prompts[number % len(prompts)]) for number in range(times)]


def _wait(
    server: LlamaServer, prompt: Sequence[Message], decoding: Decoding, seed: int, reuse: bool = False
) -> tuple[float | None, float, str]:
    """Return the seconds to the first piece (None: there was none) and to the end, and the text."""
    began, first, text = time.monotonic(), None, ""
    for piece in server.stream(prompt, decoding, seed, reuse):
        first = time.monotonic() - began if first is None else first
        text += piece
    return first, time.monotonic() - began, text


def waits(seconds: Sequence[float | None]) -> Waits:
    """Sum up waits in seconds; those that never saw a token (an answer that is empty) are left out.

    Raises QuantizeError where none is left.
    """
    known = sorted(1000 * value for value in seconds if value is not None)
    if not known:
        raise QuantizeError("the file writes no word in answer to any prompt, so there is no first token to wait for")
    return Waits(round(statistics.median(known), 1), round(known[math.ceil(0.95 * len(known)) - 1], 1), len(known))


def machine_words(threads: int, card_mb: float | None, busy: float) -> str:
    """Return this machine in a few words.

    `card_mb` is what the file held of a graphics card's memory, or None; `busy` the load before the first question:
    how many programs wanted to compute at once. With more than there are cores, the figures are too long.
    """
    from lekhai_helpers.core.hardware import machine

    facts = machine()
    card = "no graphics card used" if card_mb is None else f"{card_mb:,.0f} MB of it on {facts['gpu']}"
    load = f"{busy:.1f} other programs at work on {facts['cores']} cores when it began"
    return f"{facts['cpu']} ({threads} thread{'s' if threads > 1 else ''}, {card}, one reader, {load})"


def _ms(found: Waits) -> str:
    return f"{found.median_ms:,.0f} ms (median of {found.n}; 95th percentile {found.p95_ms:,.0f} ms)"
