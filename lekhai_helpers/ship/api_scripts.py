"""The addresses the page uses: have something written, find what was written, take it away as a document.

What an order holds the recipe says (`ship.forms`): ``writing(settings)`` is the router with the address for it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy.exc import SQLAlchemyError

from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.prepare.contracts import get_contract, words_of
from lekhai_helpers.ship.api_models import (
    Choices,
    ContractVerdict,
    Durations,
    KeptScript,
    PromptRequest,
    ScriptPage,
    ScriptRequest,
    ScriptResponse,
)
from lekhai_helpers.ship.documents import to_csv, to_docx
from lekhai_helpers.ship.engines import Engine
from lekhai_helpers.ship.forms import Request as Order
from lekhai_helpers.ship.forms import form_of
from lekhai_helpers.ship.metrics import Clock
from lekhai_helpers.ship.problems import LOG, Refusal, problems
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
from lekhai_helpers.ship.store import NewScript, StoredScript, StoreError, UnknownScript
from lekhai_helpers.ship.writing import chat_body, deltas, order_for

NOT_KEPT = (
    "The {unit} could not be kept: this is the only copy. Copy it now; whoever runs the service finds why in its log."
)
_DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_EVENTS = (
    'With `stream: true`, Server-Sent Events: `delta` with `{"text": ...}` as often as there is more, then one `done` '
    "with what stands here, or one `problem` with a Problem."
)
_FOUND = problems(401, 404, 422, 500, 503)

router = APIRouter(prefix="/v1", tags=["scripts"], dependencies=[Depends(with_key)])


@router.get("/choices", responses=problems(401))
async def choices(service: Parts) -> Choices:
    """Return what the page asks for: the form of an order, the names and lengths it offers, its words."""
    settings, serving = service.settings, service.settings.serving
    words = words_of(settings)
    return Choices(
        form=serving.form,
        title=settings.title,
        language=settings.language,
        unit=words.unit,
        one=words.one,
        rule=get_contract(settings.data.contract).rule,
        group=words.group,
        examples=serving.trials,
        industries=serving.industries,
        tones=serving.tones,
        duration_seconds=Durations(least=serving.least_seconds, most=serving.most_seconds, usual=serving.usual_seconds),
    )


async def write_ad(asked: ScriptRequest, request: Request, response: Response, service: Parts) -> Any:
    """Write one script. It is returned even where the contract is broken; `contract.problems` says how."""
    _check_length(asked, service)
    return await _answer(asked, request, response, service)


async def write_answer(asked: PromptRequest, request: Request, response: Response, service: Parts) -> Any:
    """Answer one message. It is returned even where the contract is broken; `contract.problems` says how."""
    return await _answer(asked, request, response, service)


_WRITERS: Mapping[str, Callable[..., Any]] = {"ad_script": write_ad, "prompt": write_answer}


def writing(settings: Settings) -> APIRouter:
    """Return the router with `POST /v1/scripts` for the form of a recipe's orders."""
    made = APIRouter(prefix="/v1", tags=["scripts"], dependencies=[Depends(with_key)])
    made.add_api_route(
        "/scripts",
        _WRITERS[settings.serving.form],
        methods=["POST"],
        response_model=ScriptResponse,
        responses=problems(401, 408, 413, 422, 429, 500, 502, 503, 504)
        | {200: {"description": _EVENTS, "content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    )
    return made


@router.get("/scripts", responses=_FOUND)
async def history(
    service: Parts,
    query: Annotated[str, Query(max_length=200, description="words in the order or the answer")] = "",
    industry: Annotated[str, Query(max_length=80, description="one of those in /v1/choices")] = "",
    limit: Annotated[int, Query(ge=1, le=99)] = 20,
    before: Annotated[UUID | None, Query(description="`next` of the page before this one")] = None,
) -> ScriptPage:
    """Return kept scripts, newest first."""
    from_id = None if before is None else str(before)
    try:
        found = await asyncio.to_thread(service.store.search, query, industry, limit + 1, from_id)
    except UnknownScript as error:
        raise Refusal(404, str(error)) from None
    page = [_kept(script, service) for script in found[:limit]]
    return ScriptPage(scripts=page, next=page[-1].id if len(found) > limit else None)


@router.get("/scripts/{id}", responses=_FOUND)
async def one_script(id: UUID, service: Parts) -> KeptScript:
    """Return one kept script."""
    return _kept(await _get(service, id), service)


@router.get(
    "/scripts/{id}/docx",
    response_class=Response,
    responses=_FOUND | {200: {"content": {_DOCX: {}}}},
)
async def as_docx(id: UUID, service: Parts) -> Response:
    """Return one kept script as a Word document."""
    stored = await _get(service, id)
    return _file(await asyncio.to_thread(to_docx, stored, service.settings), _DOCX, f"lekhai-{str(id)[:8]}.docx")


@router.get(
    "/scripts/{id}/csv",
    response_class=Response,
    responses=_FOUND | {200: {"content": {"text/csv": {}}}},
)
async def as_csv(id: UUID, service: Parts) -> Response:
    """Return one kept script's rows as a table for a spreadsheet."""
    stored = await _get(service, id)
    return _file(to_csv(stored, service.settings), "text/csv; charset=utf-8", f"lekhai-{str(id)[:8]}.csv")


# --- writing


async def _answer(asked: Order, request: Request, response: Response, service: Service) -> Any:
    limit = service.settings.serving.write_seconds
    if asked.stream:
        held, engine = await hold(request, service)
        events = _events(service, engine, asked, limit)
        return EngineStream(events, held, engine.info.name, limit, service.metrics.left.inc)
    answer = await unless_gone(request, _write(service, asked, limit))
    response.headers[MODEL_HEADER] = answer.model
    return answer


async def _write(service: Service, asked: Order, limit: float) -> ScriptResponse:
    async with service.board.use() as engine:
        clock = Clock()
        async with aclosing(_parts(service, engine, asked, clock)) as parts:
            text = "".join([part async for part in in_time(parts, limit)])
        return await keep(service, asked, text, engine, clock.seconds)


async def _events(service: Service, engine: Engine, asked: Order, limit: float) -> AsyncGenerator[str, None]:
    """Yield the events of a streamed script; an error becomes the last one, because the status is long sent."""
    clock, written = Clock(), []
    try:
        async with aclosing(_parts(service, engine, asked, clock)) as parts:
            async for part in in_time(parts, limit):
                written.append(part)
                yield _event("delta", {"text": part})
        answer = await keep(service, asked, "".join(written), engine, clock.seconds)
        yield _event("done", answer.model_dump(mode="json"))
    except Refusal as error:
        yield _event("problem", (await last_words(engine, error)).model_dump())


async def _parts(service: Service, engine: Engine, asked: Order, clock: Clock) -> AsyncGenerator[str, None]:
    order = order_for(asked, service.settings)
    body = chat_body(engine, order, service.settings.decoding, secrets.randbelow(2**31))
    async with aclosing(deltas(service.client, engine, body, service.metrics.tokens.inc)) as parts:
        first = True
        async for part in parts:
            if first:
                service.metrics.first.observe(clock.seconds)
                first = False
            yield part


async def keep(service: Service, asked: Order, text: str, engine: Engine, seconds: float) -> ScriptResponse:
    """Check a script, keep it, and return the answer: with an id only after it is on disk.

    Where it cannot be kept it is returned all the same, without an id and with a warning: somebody waited for it, and a
    script in their hands is worth more than an error. Nothing that was called kept is ever lost.
    """
    form, contract = form_of(service.settings), service.settings.data.contract
    verdict = get_contract(contract)(text, form.expected(asked))
    new = NewScript(asked.model_dump(exclude={"stream"}), text, verdict.ok, verdict.problems, engine.info.name, seconds)
    try:
        stored: StoredScript | None = await asyncio.to_thread(service.store.add, new)
    except StoreError as error:
        LOG.error("a script could not be kept: %s", error)
        stored = None
    except SQLAlchemyError as error:  # its text may hold what somebody wrote
        LOG.error("a script could not be kept: %s", type(error).__name__)
        stored = None
    service.metrics.scripts.labels(str(verdict.ok).lower(), str(stored is not None).lower()).inc()
    service.metrics.seconds.observe(seconds)
    return ScriptResponse(
        id=stored.id if stored else None,
        created_at=stored.created_at if stored else None,
        markdown=text,
        rows=form.rows(text),
        table=form.table(text, contract),
        contract=ContractVerdict(ok=verdict.ok, problems=verdict.problems, facts=verdict.facts),
        model=engine.info.name,
        seconds=seconds,
        warning="" if stored else NOT_KEPT.format(unit=service.settings.data.unit),
    )


def _check_length(asked: ScriptRequest, service: Service) -> None:
    serving = service.settings.serving
    if not serving.least_seconds <= asked.duration_seconds <= serving.most_seconds:
        wrong = f"must be {serving.least_seconds} to {serving.most_seconds} here"
        field = {"field": "duration_seconds", "problem": wrong}
        raise Refusal(422, f"duration_seconds {wrong}", errors=[field])


def _kept(stored: StoredScript, service: Service) -> KeptScript:
    form, contract = form_of(service.settings), service.settings.data.contract
    return KeptScript(rows=form.rows(stored.markdown), table=form.table(stored.markdown, contract), **vars(stored))


async def _get(service: Service, id: UUID) -> StoredScript:
    stored = await asyncio.to_thread(service.store.get, str(id))
    if stored is None:
        raise Refusal(404, "nothing with this id was kept")
    return stored


def _file(content: bytes, kind: str, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "private, no-store"}
    return Response(content, media_type=kind, headers=headers)


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
