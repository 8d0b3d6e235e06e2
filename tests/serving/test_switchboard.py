"""Fifty models one after the other under twenty requests: nobody notices, and nothing is left behind."""

import asyncio
import gc
from dataclasses import dataclass

import httpx
import psutil
import pytest

from lekhai_helpers.ship.limits import Limits
from lekhai_helpers.ship.problems import Refusal
from lekhai_helpers.ship.switchboard import Switchboard
from tests.serving.fakes import REQUEST, FakeEngine, read_events, wait_until

IN_FLIGHT, SWAPS = 20, 50
SPARE_FILES = 15  # a store may still open five connections of three files; one file leaked a swap would make fifty


@dataclass(frozen=True)
class Answer:
    """What is worth remembering of one of thousands of answers."""

    status: int
    good: bool
    model: str
    id: str


def remember(answer: httpx.Response) -> Answer:
    stream = answer.headers["content-type"].startswith("text/event-stream")
    body = read_events(answer.text)[-1][1] if stream else answer.json()
    return Answer(answer.status_code, "id" in body, answer.headers.get("x-lekhai-model", ""), body.get("id") or "")


async def under_load(address: str, swap, swaps: int) -> list[Answer]:
    """Ask with twenty clients all the time while `swap(client, number)` is called, one after the other."""
    answers: list[Answer] = []
    over = asyncio.Event()

    async def ask(client: httpx.AsyncClient, stream: bool) -> None:
        while not over.is_set():
            answers.append(remember(await client.post("/v1/scripts", json=REQUEST | {"stream": stream})))

    async with httpx.AsyncClient(base_url=address, timeout=600) as client, asyncio.TaskGroup() as group:
        for number in range(IN_FLIGHT):
            group.create_task(ask(client, stream=bool(number % 2)))
        for number in range(swaps):
            await swap(client, number)
        over.set()
    return answers


def test_fifty_swaps_under_twenty_requests_lose_none_and_leave_nothing(start):
    bench = start({"serving.slots": IN_FLIGHT, "serving.queue": IN_FLIGHT})
    address, names = str(bench.client.base_url), ["two.gguf", "one.gguf"]

    async def swap(client: httpx.AsyncClient, number: int) -> None:
        body = {"path": names[number % 2]}
        answer = await client.post("/admin/reload-model", json=body, headers={"Authorization": "Bearer admin-token"})
        assert answer.status_code == 200, answer.text

    asyncio.run(under_load(address, swap, 4))  # whatever is made only once is made now
    before = census()
    answers = asyncio.run(under_load(address, swap, SWAPS))
    bad = [answer for answer in answers if answer.status != 200 or not answer.good]
    assert len(answers) > 10 * IN_FLIGHT and bad == []
    assert {answer.model for answer in answers} == {"one.gguf@00000000", "two.gguf@00000000"}
    assert len(bench.world.open()) == 1 and len(bench.world.started) == 1 + 4 + SWAPS
    wait_until(lambda: bench.world.answering == 0)
    assert bench.board.in_flight == bench.board.waiting == 0
    after = census()
    # A pool of threads grows to its bound while there is work; what leaks would leak with every swap.
    assert after["threads"] < before["threads"] + SWAPS / 2 and after["children"] == before["children"]
    assert after["files"] <= before["files"] + SPARE_FILES, (before, after)
    assert after["memory"] <= before["memory"] * 1.05, (before, after)


def test_every_script_that_was_acknowledged_during_swaps_is_in_the_store(start):
    bench = start({"serving.slots": IN_FLIGHT, "serving.queue": IN_FLIGHT})

    async def swap(client: httpx.AsyncClient, number: int) -> None:
        await client.post(
            "/admin/reload-model",
            json={"path": ("two.gguf", "one.gguf")[number % 2]},
            headers={"Authorization": "Bearer admin-token"},
        )

    answers = asyncio.run(under_load(str(bench.client.base_url), swap, 5))
    assert len(answers) > IN_FLIGHT
    for answer in answers:
        assert bench.store.get(answer.id).model == answer.model


def census() -> dict[str, float]:
    """Return what could leak: open files and sockets, threads, processes, memory."""
    gc.collect()
    process = psutil.Process()
    return {
        "files": process.num_fds(),
        "threads": process.num_threads(),
        "children": len(process.children(recursive=True)),
        "memory": process.memory_info().rss,
    }


# --- the board by itself


@pytest.fixture
def board(world, models):
    return Switchboard(FakeEngine(world, models / "one.gguf"), Limits(slots=2, queue=2, wait_seconds=5))


async def nothing(_) -> None:
    return None


def test_a_check_that_fails_leaves_the_old_engine_and_ends_the_new(board, world, models):
    async def refuse(_) -> None:
        raise Refusal(422, "no")

    async def work() -> None:
        with pytest.raises(Refusal, match="no"):
            await board.swap(lambda: FakeEngine(world, models / "two.gguf"), refuse)
        async with board.use() as engine:
            assert engine.info.name.startswith("one")
        await board.swap(lambda: FakeEngine(world, models / "two.gguf"), nothing)  # not "already under way"

    asyncio.run(work())
    assert [engine.info.name[:3] for engine in world.open()] == ["two"]


def test_an_engine_that_died_while_its_successor_loaded_does_not_come_back(board, world, models):
    async def work() -> None:
        async def kill(_) -> None:
            board.engine.close()

        await board.swap(lambda: FakeEngine(world, models / "two.gguf"), kill)
        await board.revive()

    asyncio.run(work())
    assert board.current.name.startswith("two") and len(world.open()) == 1 and board.restarts == 0


def test_no_task_is_left_behind(board, world, models):
    async def work() -> int:
        async def hold() -> None:
            async with board.use():
                await asyncio.sleep(0.01)

        holders = [asyncio.create_task(hold()) for _ in range(4)]
        await asyncio.sleep(0)
        holders[3].cancel()
        await board.swap(lambda: FakeEngine(world, models / "two.gguf"), nothing)
        await asyncio.gather(*holders, return_exceptions=True)
        return len(asyncio.all_tasks())

    assert asyncio.run(work()) == 1
    assert board.in_flight == board.waiting == 0


def test_many_who_find_the_engine_dead_start_it_once(board, world):
    async def work() -> None:
        board.engine.close()

        async def hold() -> None:
            async with board.use() as engine:
                assert engine.alive()

        await asyncio.gather(*(hold() for _ in range(4)))

    asyncio.run(work())
    assert len(world.started) == 2 and board.restarts == 1
