"""What an order to the service holds: the fields of an advertisement, or one message. Named by ``serving.form``.

``form = form_of(settings)`` says how an order becomes the words a model is asked with, what its contract holds the
answer against, and how an answer is shown. The service, ``lekhai write`` and notebook 09 ask the form, and none of them
asks which recipe is running.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core.bengali import normalize
from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.measure.tone import with_tone
from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.prepare.contracts.ad_script import parse_ad_script
from lekhai_helpers.ship.api_models import PromptRequest, Row, ScriptRequest, Table

if TYPE_CHECKING:
    import pandas as pd

Request = ScriptRequest | PromptRequest
BENGALI_DIGITS = str.maketrans("0123456789", "০১২৩৪৫৬৭৮৯")
_TITLE = 60  # characters of a message that name it in a list


@dataclass(frozen=True)
class Form:
    """One way to order.

    prompt    the words the model is asked with
    names     words of the order that a grammar lets through in Latin letters
    expected  what the contract holds the answer against
    title     a few words that name a kept order
    rows      the shots of an answer that is an ad script
    table     any other answer that its contract shows as a table
    samples   orders for the trial of a new model
    example   an order for a lesson
    """

    prompt: Callable[[Any, Settings], str]
    names: Callable[[Any], str]
    expected: Callable[[Any], Any]
    title: Callable[[Mapping[str, Any]], str]
    rows: Callable[[str], list[Row]]
    table: Callable[[str, str], Table | None]
    samples: Callable[[Settings], Sequence[Request]]
    example: Callable[[Settings], Request]


def form_of(settings: Settings) -> Form:
    """Return the form of a recipe's orders."""
    return _FORMS[settings.serving.form]


def grammar_of(settings: Settings, words: str) -> str:
    """Return the contract's grammar (GBNF) for a brief in `words`; empty where the contract has none."""
    make = get_contract(settings.data.contract).grammar
    return make(words).gbnf if make else ""


# --- the fields of an advertisement

_ADS = (  # ordinary briefs, short films: what any model for this work can do
    ScriptRequest(brand="শিশিরকণা", product="দুধ চা", tone="উষ্ণ পারিবারিক", duration_seconds=15),
    ScriptRequest(brand="ঝিলমাটি", product="দেয়ালের রং", tone="হাস্যরস", duration_seconds=20),
    ScriptRequest(brand="পথসাথী", product="মোবাইল রিচার্জ", tone="প্রাণবন্ত", duration_seconds=30),
)
_AD = ScriptRequest(
    industry="পানীয় ও চা (Beverage & Tea)",
    tone="উষ্ণ পারিবারিক (Warm family)",
    brand="শিশিরকণা",
    product="দুধ চায়ের মিক্স",
    duration_seconds=20,
    message="বৃষ্টির দিনে ঘরে বসেই টং দোকানের চা",
)


def brief_prompt(request: ScriptRequest, _: Settings | None = None) -> str:
    """Return the request as the brief the model was trained on: brand, product, seconds and tone in a sentence."""
    seconds = str(request.duration_seconds).translate(BENGALI_DIGITS)
    # The lists have the English name in brackets; the briefs of the training data are Bengali.
    tone, industry = (value.split("(")[0].strip() for value in (request.tone, request.industry))
    manner = f"{tone} সুরে " if tone else ""
    subject = f"{request.brand} ব্র্যান্ডের {request.product} নিয়ে"
    sentences = [f"{subject} {manner}{seconds} সেকেন্ডের একটি বিজ্ঞাপনের চিত্রনাট্য লিখুন।"]
    if industry:
        sentences.append(f"খাত: {industry}।")
    if request.message:
        sentences.append(f"মূল বার্তা: {request.message}")
    return " ".join(sentences)


def ad_rows(markdown: str) -> list[Row]:
    """Return the rows of a table of Visual and Audio."""
    return [Row(visual=visual, audio=audio) for visual, audio in parse_ad_script(markdown)[0].rows]


def ad_title(request: Mapping[str, Any]) -> str:
    """Return the brand and product of a kept order, as a document or a list names it."""
    names = [" ".join(normalize(str(request.get(name) or "")).split()) for name in ("brand", "product")]
    return " · ".join(name for name in names if name)


# --- one message


def message_prompt(request: PromptRequest, settings: Settings) -> str:
    """Return the message itself, with the tone it is to have in the recipe's words where one is asked for."""
    if not request.tone:
        return request.message
    return with_tone(request.message, request.tone, settings.evaluation.tone_request)


def shown_table(text: str, contract: str) -> Table | None:
    """Return an answer as the table its contract shows it as; None where it is shown as text."""
    shown = get_contract(contract).show(text)
    return None if isinstance(shown, str) or shown.empty else _table(shown)


def _table(frame: pd.DataFrame) -> Table:
    rows = frame.astype(object).where(frame.notna(), "").astype(str)
    return Table(columns=[str(name) for name in frame.columns], rows=rows.to_numpy().tolist())


def _message_title(request: Mapping[str, Any]) -> str:
    line = " ".join(str(request.get("message") or "").split())
    return line if len(line) <= _TITLE else f"{line[: _TITLE - 1].rstrip()}…"


def _trials(settings: Settings) -> list[PromptRequest]:
    return [PromptRequest(message=message) for message in settings.serving.trials]


def _first_trial(settings: Settings) -> PromptRequest:
    found = _trials(settings)
    return found[0] if found else PromptRequest(message="What can you do?")


_FORMS = {
    "ad_script": Form(
        prompt=brief_prompt,
        names=lambda request: f"{request.brand} {request.product}",
        expected=lambda request: request.duration_seconds,
        title=ad_title,
        rows=ad_rows,
        table=lambda text, contract: None,
        samples=lambda settings: _ADS,
        example=lambda settings: _AD,
    ),
    "prompt": Form(
        prompt=message_prompt,
        names=lambda request: "",
        expected=lambda request: None,
        title=_message_title,
        rows=lambda text: [],
        table=shown_table,
        samples=_trials,
        example=_first_trial,
    ),
}
