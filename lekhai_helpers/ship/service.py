"""What every address of the service works with, and two things they share: who is let in, and clients who leave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar

import httpx
from fastapi import Depends, Request
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Receive, Scope, Send

from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.ship.engines import Engine
from lekhai_helpers.ship.limits import Security
from lekhai_helpers.ship.metrics import Metrics
from lekhai_helpers.ship.problems import EngineDown, Problem, Refusal
from lekhai_helpers.ship.store import NewScript, StoredScript
from lekhai_helpers.ship.switchboard import Switchboard

MODEL_HEADER = "X-LekhAI-Model"
_Answer = TypeVar("_Answer")


class Store(Protocol):
    """What the service needs of a store: `ship.store.ScriptStore` has it."""

    def add(self, script: NewScript) -> StoredScript: ...

    def search(
        self, query: str = "", industry: str = "", limit: int = 20, before: str | None = None
    ) -> list[StoredScript]: ...

    def get(self, id: str) -> StoredScript | None: ...


@dataclass(frozen=True)
class Service:
    """The parts of a running service."""

    board: Switchboard
    store: Store
    settings: Settings
    security: Security
    metrics: Metrics
    client: httpx.AsyncClient


# This one and the two below are `async` though they wait for nothing: FastAPI would give each to a thread, three times
# a request.
async def service_of(request: Request) -> Service:
    """Return the service a request came to."""
    return request.app.state.service


Parts = Annotated[Service, Depends(service_of)]
_key = HTTPBearer(auto_error=False, scheme_name="key", description="LEKHAI_API_KEY, where the service has one")
_token = HTTPBearer(auto_error=False, scheme_name="admin", description="LEKHAI_ADMIN_TOKEN; from the same machine only")
Given = HTTPAuthorizationCredentials | None


async def with_key(service: Parts, given: Annotated[Given, Depends(_key)]) -> None:
    """Let in who has the key. Raises Refusal (401)."""
    service.security.check_key(given.credentials if given else None)


async def with_token(request: Request, service: Parts, given: Annotated[Given, Depends(_token)]) -> None:
    """Let in who runs the service. Raises Refusal (403, 401)."""
    host = request.client.host if request.client else None
    service.security.check_admin(host, request.headers, given.credentials if given else None)


class ClientLeft(Exception):
    """Whoever asked closed the connection: nobody reads an answer."""


async def unless_gone(request: Request, work: Coroutine[Any, Any, _Answer]) -> _Answer:
    """Do the work, and stop it when the client goes away. Raises ClientLeft then."""
    doing = asyncio.create_task(work)
    watching = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((doing, watching), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            request.app.state.service.metrics.left.inc()
            raise ClientLeft
        return doing.result()
    finally:
        await _stop(doing, watching)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _stop(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def in_time(parts: AsyncIterator[_Answer], seconds: float) -> AsyncIterator[_Answer]:
    """Yield the parts; raise Refusal (504) where they are not all there within `seconds`.

    Only the waiting for the next part is cut off, never the one who reads them.
    """
    end = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            async with asyncio.timeout_at(end):
                part = await anext(parts)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Refusal(
                504, f"the model was not done within {seconds:g} seconds: ask for something shorter"
            ) from None
        yield part


async def last_words(engine: Engine, error: Refusal) -> Problem:
    """Return the problem that ends a stream: its status is long sent, so the app's handlers cannot say it.

    Who reads it may ask again at once, so a process that broke is seen as gone first, as `Switchboard.use` does.
    """
    if isinstance(error, EngineDown):
        await asyncio.to_thread(engine.settle)
    return error.problem()


class EngineStream(StreamingResponse):
    """Server-Sent Events from an engine that is held until the last one is out, or the client is gone, or time is up.

    A stream that nobody begins to read, and one that is left in the middle, give the engine back as well.
    """

    def __init__(
        self,
        events: AsyncIterator[str],
        held: AsyncExitStack,
        model: str,
        seconds: float,
        on_leave: Callable[[], None],
    ) -> None:
        headers = {MODEL_HEADER: model, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, headers=headers, media_type="text/event-stream")
        self._events, self._held, self._seconds, self._on_leave = events, held, seconds, on_leave
        self._whole = False

    async def stream_response(self, send: Send) -> None:
        """Send all of it, and note that it was all."""
        await super().stream_response(send)
        self._whole = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            # A client that does not read holds the engine, too: the writing has its limit, and reading as much again.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2 * self._seconds):
                    await super().__call__(scope, receive, send)
        finally:
            if not self._whole:
                self._on_leave()
            await self._close()

    async def _close(self) -> None:
        close: Callable[[], Awaitable[None]] | None = getattr(self._events, "aclose", None)
        try:
            if close is not None:
                await close()
        finally:
            await self._held.aclose()


async def hold(request: Request, service: Service) -> tuple[AsyncExitStack, Engine]:
    """Wait for a turn; return the engine and the stack that gives it back. Raises ClientLeft, QueueFull, EngineDown."""
    held = AsyncExitStack()
    try:
        engine = await unless_gone(request, held.enter_async_context(service.board.use()))
    except BaseException:
        await held.aclose()
        raise
    return held, engine
