"""The HTTP service: ``create_app(board, store, settings, security)`` returns the FastAPI app. Taught in notebook 09.

``lekhai serve`` runs it; a notebook runs it with `ship.serving.LocalService`. Who made `board` and `store` closes them.
Interactive documentation is not served, because its page loads scripts from elsewhere; ``/openapi.json`` is complete.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

import httpx
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from prometheus_client import CONTENT_TYPE_LATEST

from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.ship import api_chat, api_scripts
from lekhai_helpers.ship.api_models import Health, Reloaded, ReloadRequest
from lekhai_helpers.ship.limits import BodyGuard, HostGuard, Security
from lekhai_helpers.ship.metrics import Counting, Metrics
from lekhai_helpers.ship.page import add_page
from lekhai_helpers.ship.problems import Problem, Refusal, add_handlers, problems
from lekhai_helpers.ship.reload import reload_model
from lekhai_helpers.ship.service import MODEL_HEADER, ClientLeft, Parts, Service, Store, with_key, with_token
from lekhai_helpers.ship.switchboard import Switchboard
from lekhai_helpers.ship.writing import new_client

CLIENT_LEFT = 499  # what nginx made of it: nobody reads this answer, but the log and the figures do
_ABOUT = "{title}. {rule} Errors are problem details (RFC 9457)."

machine = APIRouter(tags=["operations"])


def create_app(board: Switchboard, store: Store, settings: Settings, security: Security) -> FastAPI:
    """Return the service over an engine and a store."""
    metrics = Metrics(board)
    service = Service(board, store, settings, security, metrics, new_client())
    about = _ABOUT.format(title=settings.title, rule=get_contract(settings.data.contract).rule)
    app = FastAPI(title="LekhAI", description=about, lifespan=_life, docs_url=None, redoc_url=None)
    app.state.service = service
    add_handlers(app)
    app.exception_handler(ClientLeft)(_on_client_left)
    for router in (api_scripts.router, api_scripts.writing(settings), api_chat.router, machine):
        app.include_router(router)
    add_page(app)
    app.add_middleware(BodyGuard, most=settings.serving.body_bytes)
    if not security.api_key:
        named = [urlsplit(page).hostname for page in settings.serving.origins]
        app.add_middleware(HostGuard, names=[name for name in named if name])
    if settings.serving.origins:
        # Not "*": only the pages that were named may read the answers.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.serving.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Content-Type", "Authorization"],
            expose_headers=[MODEL_HEADER, "Retry-After", "Content-Disposition"],
        )
    app.add_middleware(Counting, metrics=metrics)
    _describe_problem(app)
    return app


@contextlib.asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    """While the service runs, look after the engine; at the end, let go of the connections to it."""
    service: Service = app.state.service
    watching = asyncio.create_task(service.board.watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await service.client.aclose()


@machine.get("/health", responses={503: {"model": Health, "description": "The engine is down, or starting again."}})
async def health(service: Parts, response: Response) -> Health:
    """Say whether scripts can be asked for, and who writes them."""
    board = service.board
    up = await _answers(service)
    response.status_code = 200 if up else 503
    status = "ok" if up else ("starting" if board.starting else "engine down")
    return Health(status=status, model=board.current.name, in_flight=board.in_flight, waiting=board.waiting)  # type: ignore[arg-type]


@machine.get(
    "/metrics",
    response_class=Response,
    dependencies=[Depends(with_key)],
    responses=problems(401) | {200: {"content": {"text/plain": {}}}},
)
async def metrics(service: Parts) -> Response:
    """Return figures for Prometheus: answers, scripts, times, the queue, the engine's memory."""
    return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


@machine.post(
    "/admin/reload-model",
    dependencies=[Depends(with_token)],
    responses=problems(401, 403, 404, 408, 409, 413, 422, 507),
)
async def reload(asked: ReloadRequest, service: Parts, response: Response) -> Reloaded:
    """Let another file answer from now on, without a gap. From the service's own machine only, and with the token.

    Returns when the last request of the old model is done and its memory is free.
    """
    try:
        swapped = await reload_model(service, asked.path)
    except Exception as error:
        status = error.status if isinstance(error, Refusal) else 422
        service.metrics.reloads.labels(str(status)).inc()
        raise
    service.metrics.reloads.labels("200").inc()
    response.headers[MODEL_HEADER] = swapped.model
    return Reloaded(**asdict(swapped))


async def _answers(service: Service) -> bool:
    """Say whether the engine can be asked now; one that is elsewhere is asked whether it lists its models."""
    engine = service.board.engine
    if engine.info.kind != "remote":
        return engine.alive()
    try:
        answer = await service.client.get(f"{engine.address}/v1/models", headers=engine.headers(), timeout=2)
    except httpx.TransportError:
        return False
    return answer.status_code < 500


async def _on_client_left(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_LEFT)


def _describe_problem(app: FastAPI) -> None:
    """Put the Problem into the description, where the answers of every address refer to it.

    FastAPI's own two schemas of a 422 go: this service answers with a Problem there as well.
    """
    made = app.openapi

    def described() -> dict[str, Any]:
        document = made()
        schemas = document["components"]["schemas"]
        schemas["Problem"] = Problem.model_json_schema()
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        return document

    app.openapi = described  # type: ignore[method-assign]
