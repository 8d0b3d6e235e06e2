"""One request of a load, from the first byte to the last. Used by `ship.load`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from lekhai_helpers.ship.writing import stream_lines

LONGEST_PAUSE = 5.0  # seconds a client that was sent away waits at most before it asks for its next script
GIVE_UP = 900.0  # seconds for one request: more than any service of ours takes
_BRANDS = (("শিশিরকণা", "দুধ চা"), ("ঝিলমাটি", "দেয়ালের রং"), ("পথসাথী", "মোবাইল রিচার্জ"), ("নীলঘুড়ি", "শিশুদের জুতা"))


class LoadError(RuntimeError):
    """The load cannot be put on; the text says what to do."""


@dataclass(frozen=True)
class Answer:
    """One request: `fault` is empty for a script, "429" for a refusal, else what went wrong; times in seconds."""

    seconds: float
    first: float | None = None
    fault: str = ""
    pause: float = 0.0


async def briefs_for(client: httpx.AsyncClient, address: str) -> Iterator[dict[str, Any]]:
    """Return requests without an end, each another trade, tone and brand of those the service offers."""
    try:
        answer = await client.get("/v1/choices")
    except httpx.TransportError as error:
        raise LoadError(
            f"no service answers at {address} ({type(error).__name__}): `lekhai serve` starts one"
        ) from None
    if answer.status_code == 401:
        raise LoadError(f"the service at {address} wants its key: set LEKHAI_API_KEY to it")
    if answer.status_code != 200:
        raise LoadError(f"{address} answers {answer.status_code} and is no service of LekhAI")
    return _all_briefs(answer.json())


def _all_briefs(choices: dict[str, Any]) -> Iterator[dict[str, Any]]:
    make = {"ad_script": _ad, "prompt": _message}[choices.get("form", "ad_script")]
    for number in count():
        yield make(number, choices) | {"stream": True}


def _ad(number: int, choices: dict[str, Any]) -> dict[str, Any]:
    industries, tones = choices["industries"] or [""], choices["tones"] or [""]
    brand, product = _BRANDS[number % len(_BRANDS)]
    return {
        "industry": industries[number % len(industries)],
        "tone": tones[number % len(tones)],
        "brand": brand,
        "product": product,
        "duration_seconds": choices["duration_seconds"]["usual"],
    }


def _message(number: int, choices: dict[str, Any]) -> dict[str, Any]:
    asked = choices.get("examples") or ["What can you do?"]
    return {"message": asked[number % len(asked)]}


async def ask(client: httpx.AsyncClient, brief: dict[str, Any]) -> Answer:
    """Ask for one script and read it to its end."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(GIVE_UP), client.stream("POST", "/v1/scripts", json=brief) as answer:
            if answer.status_code != 200:
                return _refused(answer, await answer.aread(), time.monotonic() - began)
            return await _read(answer, began)
    except TimeoutError:
        return Answer(GIVE_UP, fault=f"no end within {GIVE_UP:g} seconds")
    except httpx.TransportError as error:
        return Answer(time.monotonic() - began, fault=f"the connection broke ({type(error).__name__})")


def _refused(answer: httpx.Response, body: bytes, seconds: float) -> Answer:
    if answer.status_code == 429:
        told = answer.headers.get("retry-after", "")
        return Answer(seconds, fault="429", pause=min(float(told) if told.isdigit() else 1.0, LONGEST_PAUSE))
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = "without a reason"
    return Answer(seconds, fault=f"{answer.status_code}: {detail}")


async def _read(answer: httpx.Response, began: float) -> Answer:
    """Read the events of a streamed script; the first piece of text is the first token that somebody sees."""
    first, event = None, ""
    async with aclosing(stream_lines(answer)) as lines:
        async for line in lines:
            if line.startswith(b"event: "):
                event = line.removeprefix(b"event: ").decode()
            elif event == "delta" and first is None:
                first = time.monotonic() - began
            elif event == "done":
                return Answer(time.monotonic() - began, first)
            elif event == "problem":
                said = json.loads(line.removeprefix(b"data: "))
                return Answer(time.monotonic() - began, first, fault=f"{said['status']}: {said['detail']}")
    return Answer(time.monotonic() - began, first, fault="the stream ended without a script")


async def tokens_counted(client: httpx.AsyncClient) -> float:
    """Return how many tokens of answers the service has counted since it was started."""
    answer = await client.get("/metrics")
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name == "lekhai_tokens_total":
                return sample.value
    raise LoadError("the service counts no tokens: it is older than this command, start it again")
