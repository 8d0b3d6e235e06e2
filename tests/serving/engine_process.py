"""An engine that only pretends, in a process of its own that can be killed.

``ProcessEngine(gguf)`` is `LocalEngine` over it: the same code sees it live, die and come back. Run as a program it is
the engine itself, ``python engine_process.py PIECES PACE TEXT``, and prints its port.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


async def speak(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pieces: int, pace: float, text: str
) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    if "content-length:" in head:
        await reader.readexactly(int(head.split("content-length:")[1].split()[0]))
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
    size = -(-len(text) // pieces)
    for number in range(pieces):
        piece = {"choices": [{"delta": {"content": text[number * size : (number + 1) * size]}}]}
        writer.write(f"data: {json.dumps(piece)}\n\n".encode())
        await writer.drain()
        await asyncio.sleep(pace)
    writer.write(b"data: [DONE]\n\n")
    writer.close()


async def serve(pieces: int, pace: float, text: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await speak(reader, writer, pieces, pace, text)
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]))
else:
    from lekhai_helpers.ship.engines import Engine, LocalEngine
    from lekhai_helpers.ship.gguf_header import read_header
    from tests.serving.fakes import SCRIPT

    @dataclass
    class Server:
        """What `LocalEngine` needs of a LlamaServer."""

        pieces: int
        pace: float
        context: int = 1024
        slots: int = 4

        def __post_init__(self) -> None:
            command = [sys.executable, "-S", __file__, str(self.pieces), str(self.pace), SCRIPT]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
            self.address = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

        def __exit__(self, *_) -> None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()

    class ProcessEngine(LocalEngine):
        """The first one may be slow, so that it can be killed while it writes; those after it are quick."""

        def __init__(self, gguf: Path, pieces: int = 4, pace: float = 0.002) -> None:
            super().__init__(gguf, read_header(gguf), Server(pieces, pace))

        def beside(self, gguf: Path) -> Engine:
            return ProcessEngine(gguf)
