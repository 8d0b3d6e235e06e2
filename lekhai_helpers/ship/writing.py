"""From a request to the text an engine writes: the same for the service, ``lekhai write`` and notebook 09.

``async for text in deltas(client, engine, chat_body(engine, order, decoding, seed))`` gives the answer piece by piece.
The brief is worded as the training data words it (`ship.forms`), and the answer is held to the contract's grammar where
there is one and the engine can.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from lekhai_helpers.core.recipe import Decoding, Settings
from lekhai_helpers.learn.model import Message
from lekhai_helpers.measure.evaluation import brief_messages
from lekhai_helpers.ship.engines import Engine
from lekhai_helpers.ship.forms import Request, form_of, grammar_of
from lekhai_helpers.ship.problems import LOG, EngineDown, Refusal

WHOLE_TEXT = 32_768  # tokens that a repetition penalty looks back: everything, as transformers does
_DONE = b"[DONE]"
_REFUSED_BY_SIZE = (400, 413, 422)  # what engines answer to a prompt that does not fit, or that they cannot read


@dataclass(frozen=True)
class Order:
    """What an engine is asked: the messages, and the grammar (GBNF) of the answer; none where it is empty."""

    messages: list[Message]
    gbnf: str


def order_for(request: Request, settings: Settings) -> Order:
    """Return what the engine is asked for a request of the service."""
    form = form_of(settings)
    return order_from(form.prompt(request, settings), settings, form.names(request))


def order_from(prompt: str, settings: Settings, names: str = "") -> Order:
    """Return what the engine is asked for a brief in one's own words; Latin `names` may stand in the table, too."""
    return Order(brief_messages(prompt, settings), grammar_of(settings, f"{prompt} {names}"))


def chat_body(engine: Engine, order: Order, decoding: Decoding, seed: int) -> dict[str, Any]:
    """Return the body of a streamed chat request with the recipe's decoding.

    llama.cpp and vLLM get their own sampling defaults switched off, as when the files were examined (notebook 12).
    Other engines get what OpenAI's API knows; a repetition penalty and a grammar are not part of that.
    """
    body = plain_chat_body(order.messages, decoding) | {"seed": seed}
    match engine.grammar_dialect:
        case "gbnf":
            penalty = {"repeat_penalty": decoding.repetition_penalty, "repeat_last_n": WHOLE_TEXT}
            grammar: dict[str, Any] = {"grammar": order.gbnf}
        case "vllm":
            # https://docs.vllm.ai/en/latest/features/structured_outputs/: its grammars are written as llama.cpp's are.
            penalty = {"repetition_penalty": decoding.repetition_penalty}
            grammar = {"structured_outputs": {"grammar": order.gbnf}}
        case _:
            return body
    return body | {"top_k": 0, "min_p": 0.0} | penalty | (grammar if order.gbnf else {})


def plain_chat_body(messages: list[Message], decoding: Decoding) -> dict[str, Any]:
    """Return a streamed chat request that every OpenAI-compatible engine takes, `model` left to `ask`."""
    return {
        "messages": messages,
        "max_tokens": decoding.max_new_tokens,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "stream": True,
    }


def new_client() -> httpx.AsyncClient:
    """Return a client for engines. Connections are not kept: a file swapped away must not be held open by one.

    Nothing is cut off by time here but the connecting, which is tried twice: on a machine that stood still for seconds
    the first try is over before it began. Who asks sets the limit for the whole answer.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    transport = httpx.AsyncHTTPTransport(limits=limits, retries=1, trust_env=False)
    return httpx.AsyncClient(timeout=httpx.Timeout(None, connect=10), transport=transport, trust_env=False)


async def write(client: httpx.AsyncClient, engine: Engine, body: dict[str, Any]) -> str:
    """Return the whole text. Raises what `deltas` raises."""
    async with aclosing(deltas(client, engine, body)) as parts:
        return "".join([part async for part in parts])


async def deltas(
    client: httpx.AsyncClient, engine: Engine, body: dict[str, Any], count: Callable[[int], None] = lambda _: None
) -> AsyncGenerator[str, None]:
    """Yield the text of a streamed chat as it comes; `count` is told at the end how many tokens were written.

    Raises EngineDown where the engine stops before the end, Refusal (422, 429, 502) where it refuses. Whoever stops
    listening closes the connection, which is how the engine learns that nobody wants the rest.
    """
    pieces = said = 0
    try:
        async with aclosing(chunks(client, engine, body)) as events:
            async for event in events:
                said = _tokens(event) or said
                for text in _texts(event):
                    pieces += 1
                    yield text
    finally:
        # An engine that does not say, or was left in the middle: a piece is a token or a little more.
        count(said or pieces)


async def chunks(
    client: httpx.AsyncClient, engine: Engine, body: dict[str, Any]
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the events of a streamed chat as the engine sends them, decoded; raises as `deltas` does."""
    finished = False
    async with ask(client, engine, body) as answer, aclosing(stream_lines(answer)) as lines:
        async for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line.removeprefix(b"data:").strip()
            if data == _DONE:
                return
            event = _read(data)
            if "error" in event:
                LOG.error("the engine broke off: %s", str(event["error"])[:300])
                raise EngineDown("the model's engine broke off in the middle of the answer")
            finished = finished or any(choice.get("finish_reason") for choice in _choices(event))
            yield event
    if not finished:
        raise EngineDown("the model's engine stopped in the middle of the answer: ask again")


@asynccontextmanager
async def ask(client: httpx.AsyncClient, engine: Engine, body: dict[str, Any]) -> AsyncIterator[httpx.Response]:
    """Send a chat request and give the answer, its body not yet read. Raises EngineDown, Refusal."""
    address = f"{engine.address}/v1/chat/completions"
    named = body | {"model": engine.info.name}
    try:
        async with client.stream("POST", address, json=named, headers=engine.headers()) as answer:
            if answer.status_code != 200:
                raise _refused(answer.status_code, await answer.aread())
            yield answer
    except httpx.TransportError as error:
        LOG.error("the engine at %s: %s", engine.address, type(error).__name__)
        raise EngineDown("the model's engine stopped or cannot be reached: ask again") from None


def _refused(status: int, body: bytes) -> Refusal:
    """Return what a client is told when the engine refuses; only what may be the client's own fault is quoted."""
    said = body[:400].decode("utf-8", "replace")
    LOG.error("the engine answered %d: %s", status, said)
    if status in _REFUSED_BY_SIZE:
        return Refusal(422, f"the model cannot take this request, it may be too long: {_message(body)}")
    if status in (429, 503):
        return Refusal(503, "the model's engine is busy or still loading", {"Retry-After": "5"})
    return Refusal(502, f"the model's engine refused with status {status}; the service's log says more")


def _message(body: bytes) -> str:
    try:
        error = json.loads(body).get("error")
    except (ValueError, AttributeError):
        return "no reason was given"
    return str(error.get("message", error) if isinstance(error, dict) else error)[:300]


def _read(data: bytes) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        raise EngineDown("the model's engine sent something that is no JSON") from None
    return event if isinstance(event, dict) else {}


def _choices(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Return an event's choices; an engine may send null, or none, beside its figures."""
    found = event.get("choices")
    return [choice for choice in found if isinstance(choice, dict)] if isinstance(found, list) else []


def _texts(event: dict[str, Any]) -> list[str]:
    """Return what an event adds to the text. Half of a surrogate pair, which no answer can hold, becomes a sign."""
    found = [delta.get("content") for choice in _choices(event) if isinstance(delta := choice.get("delta"), dict)]
    return [text.encode("utf-8", "replace").decode("utf-8") for text in found if isinstance(text, str) and text]


def _tokens(event: dict[str, Any]) -> int:
    """Return how many tokens the engine says it wrote, in OpenAI's words or llama.cpp's; 0 where it does not say."""
    for place, name in (("usage", "completion_tokens"), ("timings", "predicted_n")):
        told = event.get(place)
        if isinstance(told, dict) and isinstance(told.get(name), int):
            return told[name]
    return 0


async def stream_lines(answer: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Yield the lines of a stream, cut at line feeds only.

    httpx's own `aiter_lines` also cuts at U+2028 and its like, which may stand inside a text.
    """
    rest = b""
    async for piece in answer.aiter_bytes():
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line
    yield rest
