"""A service in this process over engines that only pretend: one asyncio HTTP server each, in a thread of their own.

They speak what the service asks of llama.cpp (`/v1/chat/completions`, `/v1/models`, `/health`), at once and with any
fault a test wants. What only the real engine can show is tested in tests/model.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from lekhai_helpers.ship.engines import Engine, EngineError, EngineInfo, LocalEngine
from lekhai_helpers.ship.gguf_header import read_header
from lekhai_helpers.ship.switchboard import Switchboard

SCRIPT = "\n".join(
    [
        "| Visual | Audio |",
        "|---|---|",
        *(f"| ক্লোজ-আপ: দেয়ালের রং {number} | ভিও: ঘরের গল্প {number} |" for number in "১২৩৪৫৬"),
    ]
)
REQUEST = {
    "industry": "রং ও গৃহসজ্জা (Paint & Home)",
    "tone": "উষ্ণ পারিবারিক (Warm family)",
    "brand": "ঝিলমাটি",
    "product": "দেয়ালের রং",
    "duration_seconds": 30,
    "message": "বর্ষাতেও রং থাকে",
}
ONE = "one.gguf@00000000"
ADMIN = {"Authorization": "Bearer admin-token"}


@dataclass
class Behaviour:
    """What an engine over a file does; everything is well by default."""

    text: str = SCRIPT
    unaided: str | None = None  # what it writes where no grammar is sent
    pieces: int = 4
    pace: float = 0.002  # seconds between two pieces
    load_error: str = ""
    refuse: tuple[int, Any] | None = None
    dies_after: int | None = None  # pieces, then the process is gone
    hangs: bool = False
    error_event: bool = False
    ends_early: bool = False  # as a proxy does that cuts a stream: no end mark
    odd: tuple[str, ...] = ()  # events before the first piece that nobody expects


@dataclass
class World:
    """All the engines that were ever started, and the loop they live in."""

    behaviour: dict[str, Behaviour] = field(default_factory=dict)
    started: list[FakeEngine] = field(default_factory=list)
    bodies: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=100))
    left: int = 0  # answers whose reader went away
    answering: int = 0
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def of(self, name: str) -> Behaviour:
        return self.behaviour.setdefault(name, Behaviour())

    def open(self) -> list[FakeEngine]:
        return [engine for engine in self.started if engine.alive()]

    def run(self, work) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=20)


class FakeEngine(LocalEngine):
    """An engine over a small GGUF file that has a header and no model."""

    def __init__(self, world: World, gguf: Path, hash: str = "00000000") -> None:
        if error := world.of(gguf.name).load_error:
            raise EngineError(error)
        self.world, self.gguf, self.header = world, gguf, read_header(gguf)
        self._up, self._tasks = True, set()
        self._listening = world.run(asyncio.start_server(self._answer, "127.0.0.1", 0))
        port = self._listening.sockets[0].getsockname()[1]
        Engine.__init__(self, f"http://127.0.0.1:{port}", EngineInfo(f"{gguf.name}@{hash}", "llama.cpp"), "gbnf")
        world.started.append(self)

    tokens = 4096

    def alive(self) -> bool:
        return self._up

    def memory_mb(self) -> float | None:
        return 100.0 if self._up else None

    def settle(self) -> None:
        return None

    def beside(self, gguf: Path) -> Engine:
        return FakeEngine(self.world, gguf)

    def close(self) -> None:
        self._up = False
        self.world.run(self._end())

    async def _end(self) -> None:
        self._listening.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        self.world.answering += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.split("content-length:")[1].split()[0]) if "content-length:" in head else 0
            body = json.loads(await reader.readexactly(length)) if length else {}
            await self._speak(body, reader, writer)
        except ConnectionError:
            self.world.left += 1
        except asyncio.IncompleteReadError:
            return  # connected, and never asked
        finally:
            self.world.answering -= 1
            self._tasks.discard(asyncio.current_task())
            writer.close()

    async def _speak(self, body, reader, writer) -> None:
        does = self.world.of(self.gguf.name)
        self.world.bodies.append(body)
        if does.refuse:
            return await whole(writer, *does.refuse)
        text = does.text if "grammar" in body or does.unaided is None else does.unaided
        if not body.get("stream"):
            await asyncio.sleep(does.pace * does.pieces)
            message = {"role": "assistant", "content": text}
            return await whole(writer, 200, {"model": "inside", "choices": [{"index": 0, "message": message}]})
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for event in does.odd:
            send(writer, event)
        size = -(-len(text) // does.pieces) or 1
        for number in range(does.pieces):
            if does.hangs:
                await reader.read()  # until the one who asked is gone
                raise ConnectionError
            if number == does.dies_after:
                self._up = False
                self._listening.close()
                return writer.transport.abort()
            await self._event(writer, reader, text[number * size : (number + 1) * size], does.pace)
        if does.error_event:
            send(writer, json.dumps({"error": {"message": "/home/x: out of memory"}}))
        elif not does.ends_early:
            send(writer, json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]}))
            send(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _event(self, writer, reader, text: str, pace: float) -> None:
        send(writer, json.dumps({"model": "inside", "choices": [{"delta": {"content": text}}]}, ensure_ascii=False))
        await writer.drain()
        try:
            async with asyncio.timeout(pace):
                await reader.read()
        except TimeoutError:
            return
        raise ConnectionError


def send(writer: asyncio.StreamWriter, data: str) -> None:
    line = f"data: {data}\n\n".encode()
    writer.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")


async def whole(writer: asyncio.StreamWriter, status: int, body: Any) -> None:
    content = json.dumps(body).encode()
    writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
    await writer.drain()


def write_gguf(path: Path, architecture: str = "gemma3", pieces: int = 40, template: str = "{{ x }}") -> Path:
    """Write a GGUF file with everything a header must say and one small tensor."""
    import numpy
    from gguf import GGUFWriter

    writer = GGUFWriter(str(path), architecture)
    writer.add_block_count(2)
    writer.add_context_length(1024)
    writer.add_embedding_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_token_list([f"piece{number}" for number in range(pieces)])
    writer.add_chat_template(template)
    writer.add_tensor("x", numpy.zeros((4, 8), dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@dataclass
class Bench:
    """A running service and what a test asks it with."""

    client: httpx.Client
    board: Switchboard
    store: Any
    world: World
    models: Path
    app: Any

    def write(self, **change: Any) -> httpx.Response:
        return self.client.post("/v1/scripts", json=REQUEST | change)

    def events(self, **change: Any) -> list[tuple[str, Any]]:
        return read_events(self.write(stream=True, **change).text)

    def reload(self, name: str, **headers: str) -> httpx.Response:
        return self.client.post("/admin/reload-model", json={"path": name}, headers=ADMIN | headers)

    def until(self, true: Callable[[], bool], seconds: float = 10) -> None:
        wait_until(true, seconds)


def wait_until(true: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def read_events(text: str) -> list[tuple[str, Any]]:
    """Return the Server-Sent Events of a body as (event, data)."""
    found = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((lines.get("event", ""), json.loads(lines["data"])))
    return found


def assert_problem(response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status and body["title"] and body["detail"]
    for word in words:
        assert word in body["detail"]
