"""A bounded load on a service: how many scripts a minute it writes, and how long one waits. Used by `lekhai bench`.

``measure_load(address, clients=(1, 4, 16), requests=16)`` returns a `Level` for each number of clients, ``load_table``
writes them as text. Each client asks for one script after the other, streamed, and never has two requests open.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import httpx

from lekhai_helpers.ship.limits import Limits, Security, on_this_machine
from lekhai_helpers.ship.load_client import Answer, LoadError, ask, briefs_for, tokens_counted

if TYPE_CHECKING:
    from lekhai_helpers.core.recipe import Settings
    from lekhai_helpers.ship.engines import Engine

CLIENTS, REQUESTS = (1, 4, 16), 16
MOST_CLIENTS, MOST_REQUESTS = 64, 1000


@dataclass(frozen=True)
class Level:
    """What so many clients at once came to. Times in seconds; None where no script came at all.

    `refused` were sent away with 429; `failed` got anything else but a script. The 95th percentile is the nearest rank:
    of 16 scripts the slowest. `tokens_per_second` is the service's own count over the level, the engine's words for it.
    """

    clients: int
    scripts: int
    refused: int
    failed: int
    seconds: float
    scripts_per_second: float
    tokens_per_second: float
    median: float | None
    p95: float | None
    first_median: float | None
    first_p95: float | None
    faults: dict[str, int] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Return the figures as a row of a table or a manifest."""
        return asdict(self)


def measure_load(
    address: str,
    clients: Sequence[int] = CLIENTS,
    requests: int = REQUESTS,
    key: str = "",
    elsewhere: bool = False,
    tell: Callable[[Level], None] = lambda _: None,
) -> list[Level]:
    """Ask the service at `address` for `requests` scripts with each number of clients, one level after the other.

    A script before all of them wakes the engine and is not counted. `tell` gets each level when it is done. On a
    service that others use at the same time the tokens are theirs as well. Raises LoadError for an address that is not
    on this machine (unless `elsewhere`), for more than MOST_CLIENTS or MOST_REQUESTS, and where no service answers.
    """
    if not address.startswith(("http://", "https://")):
        raise LoadError(f"{address} is no address of a service: give it like http://127.0.0.1:8000")
    if not elsewhere and not on_this_machine(address):
        raise LoadError(f"{address} is not on this machine: a load goes to another one only with --elsewhere")
    wrong = [number for number in clients if not 1 <= number <= MOST_CLIENTS]
    if wrong or not clients or not max(clients) <= requests <= MOST_REQUESTS:
        bounds = f"1 to {MOST_CLIENTS} clients, and as many requests as clients, at most {MOST_REQUESTS}"
        raise LoadError(f"{list(clients)} clients with {requests} requests cannot be measured: it takes {bounds}")
    return _run(_levels(address, clients, requests, key, tell))


def load_table(levels: Sequence[Level]) -> str:
    """Return the levels as a table for a terminal, a row each, and below it what went wrong."""
    lines = [_HEAD, *(_line(level) for level in levels)]
    faults = Counter[str]()
    for level in levels:
        faults.update(level.faults)
    return "\n".join(lines + [f"{number} x {fault}" for fault, number in faults.most_common(5)])


@contextmanager
def service_over(engine: Engine, settings: Settings) -> Iterator[str]:
    """Run a service over an engine on this machine, its store in a folder that goes with it; give its address.

    The engine, or one that took its place, is closed at the end.
    """
    from lekhai_helpers.ship.serving import LocalService, create_app
    from lekhai_helpers.ship.store import ScriptStore
    from lekhai_helpers.ship.switchboard import Switchboard

    board = Switchboard(engine, Limits.of(settings.serving))
    try:
        with TemporaryDirectory() as folder, ScriptStore(f"sqlite:///{Path(folder) / 'scripts.db'}") as store:
            service = LocalService(create_app(board, store, settings, Security()))
            service.start()
            try:
                yield service.address
            finally:
                service.stop()
    finally:
        board.engine.close()


# --- within

_HEAD = (
    f"{'clients':>7}  {'scripts':>7}  {'refused':>7}  {'failed':>6}  {'scripts/min':>11}  {'tokens/s':>8}  "
    f"{'median s':>8}  {'95% s':>7}  {'first s':>7}  {'95% s':>7}"
)


def _line(level: Level) -> str:
    times = [level.median, level.p95, level.first_median, level.first_p95]
    median, p95, first, first_p95 = ("-" if value is None else f"{value:.2f}" for value in times)
    return (
        f"{level.clients:>7}  {level.scripts:>7}  {level.refused:>7}  {level.failed:>6}  "
        f"{60 * level.scripts_per_second:>11.1f}  {level.tokens_per_second:>8.1f}  "
        f"{median:>8}  {p95:>7}  {first:>7}  {first_p95:>7}"
    )


def _run(work: Coroutine[Any, Any, list[Level]]) -> list[Level]:
    """Run it to its end, in a notebook too: there a loop runs already, so it gets a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


async def _levels(
    address: str, clients: Sequence[int], requests: int, key: str, tell: Callable[[Level], None]
) -> list[Level]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout, limits = httpx.Timeout(None, connect=10), httpx.Limits(max_connections=None)
    found = []
    async with httpx.AsyncClient(
        base_url=address, headers=headers, timeout=timeout, limits=limits, trust_env=False
    ) as client:
        briefs = await briefs_for(client, address)
        warm = await ask(client, next(briefs))
        if warm.fault:
            raise LoadError(f"the service at {address} writes no script: {warm.fault}")
        for number in clients:
            found.append(await _level(client, briefs, number, requests))
            tell(found[-1])
    return found


async def _level(client: httpx.AsyncClient, briefs: Iterator[dict[str, Any]], clients: int, requests: int) -> Level:
    left, answers = iter(range(requests)), list[Answer]()

    async def work() -> None:
        for _ in left:  # one iterator for all of them: whoever is free takes the next
            answers.append(await ask(client, next(briefs)))
            await asyncio.sleep(answers[-1].pause)

    tokens, began = await tokens_counted(client), time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(work())
    seconds = time.monotonic() - began
    return _counted(clients, answers, seconds, await tokens_counted(client) - tokens)


def _counted(clients: int, answers: Sequence[Answer], seconds: float, tokens: float) -> Level:
    good = [answer for answer in answers if not answer.fault]
    refused = sum(answer.fault == "429" for answer in answers)
    faults = Counter(answer.fault for answer in answers if answer.fault not in ("", "429"))
    times, firsts = [answer.seconds for answer in good], [answer.first or answer.seconds for answer in good]
    return Level(
        clients=clients,
        scripts=len(good),
        refused=refused,
        failed=faults.total(),
        seconds=round(seconds, 3),
        scripts_per_second=round(len(good) / seconds, 4),
        tokens_per_second=round(tokens / seconds, 2),
        median=_median(times),
        p95=nearest_rank(times, 0.95),
        first_median=_median(firsts),
        first_p95=nearest_rank(firsts, 0.95),
        faults=dict(faults),
    )


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 3) if values else None


def nearest_rank(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least `share` of them do not exceed; None where there are none."""
    return round(sorted(values)[math.ceil(share * len(values)) - 1], 3) if values else None
