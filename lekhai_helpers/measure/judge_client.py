"""A judge behind any OpenAI-compatible address: GPT-4o, Gemini's compatible endpoint, vLLM, llama.cpp's server.

``judge = configured(settings.judge)`` is None without a key or an address in the environment; ``judge.grade(text,
brief, criteria)`` and ``judge.compare(first, second, brief)`` never raise for what an endpoint does. Answers are kept
on disk, so that a second run goes on where the first stopped. Taught in notebook 11.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from lekhai_helpers.core.recipe import Judge as JudgeSettings
from lekhai_helpers.core.run_folder import cache_folder
from lekhai_helpers.measure.judge import Choice, Score, family_of
from lekhai_helpers.measure.judge_budget import Budget, Usage
from lekhai_helpers.measure.judge_cache import Cache
from lekhai_helpers.measure.judge_endpoint import Endpoint, Reply
from lekhai_helpers.measure.judge_forms import (
    Form,
    Wording,
    comparing,
    expected_scores,
    grading,
    read_choice,
    read_scores,
    wording_of,
)
from lekhai_helpers.prepare.dataset import Brief

_Answer = TypeVar("_Answer")
_GIVE_UP_AFTER = 3  # calls failed in a row: the endpoint is down, and the other hundred would only wait


class JudgeError(ValueError):
    """A judge cannot be used as it is set up; the text names the remedy."""


@dataclass
class Judge:
    """A model behind an OpenAI-compatible address. The key is never shown, logged, cached or put into a reason.

    `price` is US dollars per million tokens read and written, None where unknown: tokens are counted all the same.
    With `budget_usd` or `max_calls` it stops asking before more than that is spent (how exactly: `Budget`), and says
    so in every verdict it leaves out. Safe to call from several threads. Raises JudgeError where dollars are limited
    and no price is known.
    """

    model: str
    base_url: str = field(repr=False)  # may hold a name and a password
    api_key: str = field(repr=False)
    cache: Path | None = None
    max_retries: int = 4
    timeout: float = 60.0  # seconds that one try may wait for the endpoint
    price: tuple[float, float] | None = None
    budget_usd: float | None = None
    max_calls: int | None = None
    max_tokens: int | None = None
    identity: str = ""  # names the model in the cache in the address's place: a local server's port changes
    wording: Wording = field(default_factory=Wording, repr=False)
    trouble: str = field(default="", init=False)  # why the last question without a verdict has none
    _failures: int = field(default=0, init=False, repr=False)
    _stopped: str = field(default="", init=False, repr=False)
    _lock: Any = field(default_factory=threading.Condition, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.budget_usd is not None and self.price is None:
            raise JudgeError(
                f"the price of {self.model} is not known, so a budget in dollars cannot be kept: give it in "
                f"judge.prices, or limit judge.max_calls instead"
            )
        self._endpoint = Endpoint(
            self.model, self.base_url, self.api_key, self.max_retries, self.timeout, self.max_tokens
        )
        self._cache = Cache(self.cache)
        self._budget = Budget(self.price, self.budget_usd, self.max_calls)

    @property
    def name(self) -> str:
        """Return the model's name."""
        return self.model

    @property
    def family(self) -> str:
        """Return the line of models it belongs to; "" where the name does not tell."""
        return family_of(self.model)

    @property
    def measures(self) -> None:
        """Return None: it can be asked for any criterion."""

    @property
    def usage(self) -> Usage:
        """Return calls, tokens and cost so far."""
        return self._budget.usage

    def grade(self, text: str, brief: Brief, criteria: Mapping[str, str]) -> list[Score]:
        """Return one Score for each of `criteria` (name to rubric).

        The reply is kept in the cache, keyed by model, address, question, rubric, brief and text. One with a score for
        every criterion is not asked for again. Of one that lacks some the scores are used where a later reply fails or
        has none. After three failed calls in a row nothing more is asked.
        """
        form = self._form(grading(text, brief.prompt, criteria, self.wording))
        kept = self._cache.find(self._question(form))
        before = read_scores(kept.reply, criteria, kept.expected) if kept else []
        if kept and _scored(before) == len(before):
            return self._from_cache(before)
        scores = self._asked(form, criteria, _scored(before))
        return [_better(*pair) for pair in zip(before, scores, strict=True)] if kept else scores

    def _asked(self, form: Form, criteria: Mapping[str, str], beaten: int) -> list[Score]:
        """Ask, read the reply, and keep it where it has more scores than the one kept before."""
        reply = self._ask(form)
        if reply.why:
            return [Score(name, "failed", None, reply.why) for name in criteria]
        expected = expected_scores(reply.tokens, criteria)
        scores = [self._plain(score, reply.note) for score in read_scores(reply.text, criteria, expected)]
        if _scored(scores) > beaten:
            self._keep(form, reply, expected)
        return scores

    def _plain(self, score: Score, note: str) -> Score:
        """Take the key out of a reason; say why a reply could not be read where the endpoint itself said why."""
        reason = note if note and score.status == "unparsable" else self._endpoint.without_key(score.reason)
        return replace(score, reason=reason)

    def compare(self, first: str, second: str, brief: Brief) -> Choice:
        """Return which of two texts is better in this order; "unparsable" or "failed" leaves its reason in `trouble`.

        A reply that can be read is kept in the cache.
        """
        form = self._form(comparing(first, second, brief.prompt, self.wording))
        kept = self._cache.find(self._question(form))
        if kept and (found := read_choice(kept.reply)) != "unparsable":
            return self._from_cache(found)
        reply = self._ask(form)
        if reply.why:
            return "failed"
        choice = read_choice(reply.text)
        if choice == "unparsable":
            self.trouble = reply.note or "the reply names neither A, B nor tie"
        else:
            self._keep(form, reply, {})
        return choice

    # --- one question

    def _form(self, form: Form) -> Form:
        """Return the form as it is sent, which is also what its answer is kept under."""
        return form

    def _ask(self, form: Form) -> Reply:
        """Ask unless the budget or three failures forbid it; `why` of the reply then says so."""
        with self._lock:
            while self._budget.must_wait:
                self._lock.wait()
            if refused := self._stopped or self._budget.refuses():
                self.trouble = f"not asked: {refused}"
                return Reply(why=self.trouble)
            self._budget.begin()
        reply = Reply(why="interrupted")
        try:
            reply = self._endpoint.ask(form)
        finally:
            with self._lock:
                self._budget.end(reply.used, answered=not reply.why, tries=reply.tries, lost=reply.lost)
                self._note_failure(reply)
                self._lock.notify_all()
        return reply

    def _note_failure(self, reply: Reply) -> None:
        self.trouble = reply.why or self.trouble
        if reply.refused:  # it was this text: the endpoint itself is well
            return
        self._failures = self._failures + 1 if reply.why else 0
        if reply.hopeless:
            self._stopped = reply.why
        elif self._failures >= _GIVE_UP_AFTER:
            self._stopped = self._stopped or f"the endpoint failed {_GIVE_UP_AFTER} times in a row"

    # --- the cache

    def _question(self, form: Form) -> list[Any]:
        """Return all that an answer depends on."""
        return [self.model, self.identity or self.base_url, self.max_tokens, form.messages, form.schema]

    def _from_cache(self, answer: _Answer) -> _Answer:
        with self._lock:
            self._budget.cached += 1
        return answer

    def _keep(self, form: Form, reply: Reply, expected: Mapping[str, float]) -> None:
        with self._lock:  # two threads may have asked about the same text
            self._cache.keep(self._question(form), self._endpoint.without_key(reply.text), expected)


def configured(settings: JudgeSettings) -> Judge | None:
    """Return the judge that settings and environment name, or None where the environment names none.

    ``LEKHAI_JUDGE_URL`` and ``LEKHAI_JUDGE_KEY``, else ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY``. An OpenAI key is
    never sent to the address in LEKHAI_JUDGE_URL: a local server there needs no key. Raises JudgeError as `Judge` does.
    """
    own_url, own_key = _environment("LEKHAI_JUDGE_URL"), _environment("LEKHAI_JUDGE_KEY")
    key = own_key or ("" if own_url else _environment("OPENAI_API_KEY"))
    url = own_url or _environment("OPENAI_BASE_URL")
    if not key and not url:
        return None
    price = settings.prices.get(settings.model)
    return Judge(
        settings.model,
        url or "https://api.openai.com/v1",
        key or "no-key",
        cache=cache_folder() / "judge",
        price=(price[0], price[1]) if price else None,
        budget_usd=settings.budget_usd,
        max_calls=settings.max_calls,
        wording=wording_of(settings),
    )


def required(settings: JudgeSettings) -> Judge:
    """Return the judge that the environment names. Raises JudgeError with the remedy where it names none."""
    judge = configured(settings)
    if judge is None:
        raise JudgeError(
            "no judge is configured: set LEKHAI_JUDGE_URL (any OpenAI-compatible address, and LEKHAI_JUDGE_KEY where "
            "it needs one), or OPENAI_API_KEY; the model's name is the setting judge.model"
        )
    return judge


def _environment(name: str) -> str:
    return os.environ.get(name, "").strip()


def _scored(scores: Iterable[Score]) -> int:
    return sum(score.status == "scored" for score in scores)


def _better(before: Score, now: Score) -> Score:
    """Return the verdict of now, but no lack of a score in place of one that was there."""
    return before if before.status == "scored" and now.status != "scored" else now
