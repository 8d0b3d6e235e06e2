"""``POST /v1/chat/completions``: for programs that speak OpenAI's API. Passed to the engine, within the limits."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from lekhai_helpers.ship.api_models import ChatRequest
from lekhai_helpers.ship.engines import Engine
from lekhai_helpers.ship.problems import Refusal, problems
from lekhai_helpers.ship.service import (
    MODEL_HEADER,
    EngineStream,
    Parts,
    Service,
    hold,
    in_time,
    last_words,
    unless_gone,
    with_key,
)
from lekhai_helpers.ship.writing import ask, chunks

_NOT_PASSED = {"model", "user", "n", "max_completion_tokens"}

router = APIRouter(prefix="/v1", tags=["chat"], dependencies=[Depends(with_key)])


@router.post(
    "/chat/completions",
    responses=problems(401, 408, 413, 422, 429, 500, 502, 503, 504)
    | {
        200: {
            "description": "As OpenAI's API has it.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def chat(asked: ChatRequest, request: Request, response: Response, service: Parts) -> dict[str, Any]:
    """Answer a conversation, whole or as a stream. No grammar is applied and nothing is kept."""
    limit, body = service.settings.serving.write_seconds, _body(asked, service)
    if asked.stream:
        held, engine = await hold(request, service)
        events = _events(service, engine, body, limit)
        return EngineStream(events, held, engine.info.name, limit, service.metrics.left.inc)  # type: ignore[return-value]
    answer = await unless_gone(request, _answer(service, body, limit))
    response.headers[MODEL_HEADER] = answer["model"]
    return answer


def _body(asked: ChatRequest, service: Service) -> dict[str, Any]:
    """Return what is passed on; the answer's length stays within the recipe's."""
    most = service.settings.decoding.max_new_tokens
    wanted = asked.max_completion_tokens or asked.max_tokens or most
    return asked.model_dump(exclude_none=True, exclude=_NOT_PASSED) | {"max_tokens": min(wanted, most)}


async def _answer(service: Service, body: dict[str, Any], limit: float) -> dict[str, Any]:
    async with service.board.use() as engine, aclosing(_whole(service, engine, body)) as parts:
        return [part async for part in in_time(parts, limit)][0] | {"model": engine.info.name}


async def _whole(service: Service, engine: Engine, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the one answer there is, so that the same time limit applies as to a stream."""
    async with ask(service.client, engine, body) as answer:
        content = await answer.aread()
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refusal(502, "the model's engine sent something that is no JSON object")
    yield found


async def _events(service: Service, engine: Engine, body: dict[str, Any], limit: float) -> AsyncGenerator[str, None]:
    try:
        async with aclosing(chunks(service.client, engine, body)) as parts:
            async for part in in_time(parts, limit):
                yield _event(part | {"model": engine.info.name})
        yield "data: [DONE]\n\n"
    except Refusal as error:
        problem = await last_words(engine, error)
        yield _event({"error": {"message": problem.detail, "type": problem.title, "code": problem.status}})


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
