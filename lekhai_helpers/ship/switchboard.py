"""Which engine answers: a bounded queue in front of it, another engine in its place without a gap, a new one after a
crash. ``async with board.use() as engine`` for every request. Taught in notebook 09.

All of it runs in one event loop, so between two ``await`` nothing changes; what blocks (loading, ending a process) runs
in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from lekhai_helpers.ship.engines import Engine, EngineError, EngineInfo, Loader
from lekhai_helpers.ship.limits import Limits
from lekhai_helpers.ship.problems import LOG, EngineDown, QueueFull, Refusal

MOST_RESTARTS, RESTART_WINDOW = 3, 300.0  # an engine that stops more often than this (in seconds) has a fault


@dataclass
class _Held:
    """An engine and the requests that use it. `idle` is set while there are none."""

    engine: Engine
    users: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()


@dataclass(frozen=True)
class Swapped:
    """What a swap came to. `memory_mb` is what the new engine holds, None where nobody knows."""

    model: str
    previous: str
    seconds: float
    memory_mb: float | None


class Switchboard:
    """Hands out the engine that is current, to as many requests at once as it has slots."""

    def __init__(self, first: Engine, limit: Limits) -> None:
        self._limit = limit
        self._held = _Held(first)
        self._room = asyncio.Semaphore(limit.slots)
        self._tries: deque[float] = deque()
        self._swapping = False
        self._repair: asyncio.Task[None] | None = None
        self._usual_seconds = 10.0  # how long a request takes, a moving average: for Retry-After
        self.in_flight = 0
        self.waiting = 0
        self.restarts = 0

    @property
    def current(self) -> EngineInfo:
        """Who answers the next request."""
        return self._held.engine.info

    @property
    def engine(self) -> Engine:
        """The engine that answers the next request; to ask it something, `use` it."""
        return self._held.engine

    @property
    def starting(self) -> bool:
        """Say whether an engine that stopped is being started again."""
        return self._repair is not None

    @contextlib.asynccontextmanager
    async def use(self) -> AsyncIterator[Engine]:
        """Wait for a turn and hold the current engine. Raises QueueFull, EngineDown."""
        await self._take_turn()
        began = time.monotonic()
        self.in_flight += 1
        try:
            held = await self._working()
            held.users += 1
            held.idle.clear()
            try:
                yield held.engine
            except EngineDown:
                await asyncio.to_thread(held.engine.settle)
                raise
            finally:
                held.users -= 1
                if not held.users:
                    held.idle.set()
            self._usual_seconds += 0.2 * (time.monotonic() - began - self._usual_seconds)
        finally:
            self.in_flight -= 1
            self._room.release()

    async def swap(self, load: Loader, check: Callable[[Engine], Awaitable[None]]) -> Swapped:
        """Load another engine, check it, let it answer from now on, and end the old one when its requests are done.

        Whatever `load` or `check` raises leaves everything as it was. A swap that has begun is finished even where
        nobody waits for it any more. Raises Refusal (409) while another swap is under way.
        """
        if self._swapping:
            raise Refusal(409, "another model is being loaded: wait until that is done")
        self._swapping = True
        return await _to_its_end(self._swap(load, check))

    async def revive(self) -> None:
        """Start the engine again if it has stopped. Raises EngineDown where that fails or has been tried too often."""
        if self._held.engine.alive():
            return
        if self._repair is None:
            self._repair = asyncio.create_task(self._start_again())
            self._repair.add_done_callback(self._repaired)
        await asyncio.shield(self._repair)

    async def watch(self, every: float = 1.0) -> None:
        """Look after the engine for ever, so that one that stops between two requests is back before the next."""
        while True:
            with contextlib.suppress(EngineDown):  # said in the log; the next request is told as well
                await self.revive()
            await asyncio.sleep(every)

    async def close(self) -> None:
        """Let the requests in flight end, then end the engine."""
        held = self._held
        await held.idle.wait()
        await asyncio.to_thread(held.engine.close)

    async def _take_turn(self) -> None:
        if self.waiting >= self._limit.queue and self._room.locked():
            raise self._full(f"{self.waiting} requests are waiting already")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._limit.wait_seconds):
                await self._room.acquire()
        except TimeoutError:
            raise self._full(f"no turn came within {self._limit.wait_seconds:g} seconds") from None
        finally:
            self.waiting -= 1

    def _full(self, why: str) -> QueueFull:
        rounds = (self.waiting + 1) / self._limit.slots
        seconds = max(1, min(600, math.ceil(rounds * self._usual_seconds)))
        return QueueFull(f"{why}: try again in {seconds} seconds", seconds)

    async def _working(self) -> _Held:
        await self.revive()
        return self._held

    async def _swap(self, load: Loader, check: Callable[[Engine], Awaitable[None]]) -> Swapped:
        began = time.monotonic()
        try:
            engine = await asyncio.to_thread(load)
            try:
                await check(engine)
            except BaseException:
                await asyncio.to_thread(engine.close)
                raise
            old, self._held = self._held, _Held(engine)
            self._tries.clear()
            await old.idle.wait()
            await asyncio.to_thread(old.engine.close)
            seconds = round(time.monotonic() - began, 3)
            return Swapped(engine.info.name, old.engine.info.name, seconds, engine.memory_mb())
        finally:
            self._swapping = False

    async def _start_again(self) -> None:
        broken = self._held
        self._count_try()
        LOG.warning("the engine over %s stopped and is started again", broken.engine.info.name)
        try:
            engine = await asyncio.to_thread(broken.engine.reopen)
        except (EngineError, OSError) as error:  # OSError: the machine has no process, file or memory left to give
            LOG.error("the engine cannot be started again: %s", error)
            raise EngineDown("the model's engine stopped and could not be started again", 60) from None
        await asyncio.to_thread(broken.engine.close)
        if self._held is broken:
            self._held = _Held(engine)
            self.restarts += 1
        else:  # a swap was faster
            await asyncio.to_thread(engine.close)

    def _count_try(self) -> None:
        now = time.monotonic()
        while self._tries and now - self._tries[0] > RESTART_WINDOW:
            self._tries.popleft()
        if len(self._tries) >= MOST_RESTARTS:
            wait = math.ceil(RESTART_WINDOW - (now - self._tries[0]))
            minutes = RESTART_WINDOW / 60
            raise EngineDown(f"the model's engine stopped {MOST_RESTARTS} times within {minutes:.0f} minutes", wait)
        self._tries.append(now)

    def _repaired(self, task: asyncio.Task[None]) -> None:
        self._repair = None
        if not task.cancelled():
            task.exception()  # whoever waited has it; asyncio must not complain that nobody looked


async def _to_its_end(work: Coroutine[Any, Any, Swapped]) -> Swapped:
    """Wait for work that goes on even where the one who waits is cancelled."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(task)
