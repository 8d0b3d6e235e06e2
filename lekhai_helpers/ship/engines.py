"""What writes: an OpenAI-compatible HTTP address, and who it is. Taught in notebook 09.

``local_engine(gguf, context, slots)`` starts llama.cpp's server in a process of its own, so that a crash in it ends
nothing else; ``remote_engine("http://gpu-box:8000", "lekhai")`` is vLLM, Ollama or llama-server anywhere. The rest of
the service does not care which.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from lekhai_helpers.core.run_folder import sha256
from lekhai_helpers.ship.gguf_header import GgufHeader, ModelFileError, read_header
from lekhai_helpers.ship.problems import Refusal
from lekhai_helpers.ship.quantize import LlamaServer, QuantizeError

ENGINE_KEY = "LEKHAI_ENGINE_KEY"
Dialect = Literal["none", "gbnf", "vllm"]


class EngineError(RuntimeError):
    """An engine cannot be had; the text is for whoever runs the service."""


@dataclass(frozen=True)
class EngineInfo:
    """Who answers: the file's name and the first eight digits of its SHA-256, or the remote model's name."""

    name: str
    kind: str


class Engine:
    """An engine somewhere else. `grammar_dialect` says whether tables can be held to a grammar, and in which words."""

    def __init__(self, address: str, info: EngineInfo, grammar_dialect: Dialect = "none", key: str = "") -> None:
        self.address, self.info, self.grammar_dialect = address, info, grammar_dialect
        self._key = key

    def headers(self) -> dict[str, str]:
        """Return what every request to it carries."""
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}

    def alive(self) -> bool:
        """Say whether it can be asked. What is elsewhere has to be asked to find out, so here: yes."""
        return True

    def memory_mb(self) -> float | None:
        """Return what it holds in memory now, in MB; None where that is not ours to know."""
        return None

    def settle(self) -> None:
        """Give a process that just broke a connection a moment to be seen as gone."""

    def reopen(self) -> Engine:
        """Return an engine in the place of this one, which stopped. Raises EngineError."""
        return self

    def beside(self, gguf: Path) -> Engine:
        """Return an engine like this one over another file. Raises Refusal where this one has no file."""
        raise Refusal(409, "the model runs in an engine of its own elsewhere: change it there")

    def close(self) -> None:
        """Let go of everything it holds. May be called twice."""


class LocalEngine(Engine):
    """llama.cpp's server over one GGUF file, on this machine. Made by `local_engine`."""

    def __init__(self, gguf: Path, header: GgufHeader, server: LlamaServer) -> None:
        name = f"{gguf.name}@{sha256(gguf)[:8]}"
        super().__init__(server.address, EngineInfo(name, "llama.cpp"), "gbnf")
        self.gguf, self.header, self._server = gguf, header, server

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._server.process.pid

    @property
    def tokens(self) -> int:
        """Tokens of room, over all slots."""
        return self._server.context * self._server.slots

    def alive(self) -> bool:
        """Say whether its process runs."""
        return self._server.process.poll() is None

    def memory_mb(self) -> float | None:
        """Return what its process holds in memory now, in MB; None where it is gone."""
        import psutil

        try:
            return round(psutil.Process(self.pid).memory_info().rss / 1e6, 1)
        except psutil.NoSuchProcess:
            return None

    def settle(self) -> None:
        """Wait up to a second: a killed process breaks its connections before it is seen as gone."""
        try:
            self._server.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return

    def reopen(self) -> Engine:
        """Start another process over the same file. Raises EngineError."""
        try:
            return self.beside(self.gguf)
        except ModelFileError as error:
            raise EngineError(str(error)) from None

    def beside(self, gguf: Path) -> Engine:
        """Start a process like this one over another file. Raises EngineError, ModelFileError."""
        return local_engine(gguf, self._server.context, self._server.slots)

    def close(self) -> None:
        """End the process and wait until it is gone."""
        self._server.__exit__()
        if self._server.process.stdin:
            self._server.process.stdin.close()


def local_engine(gguf: Path, context: int, slots: int) -> Engine:
    """Load a GGUF file into a llama.cpp server of its own: `slots` answers at once, `context` tokens of room each.

    Returns when it can be asked. Raises ModelFileError for a file that is not whole, EngineError where llama.cpp does
    not take it.
    """
    header = read_header(gguf)
    server = LlamaServer(gguf, context=context, slots=slots, yields=True)
    try:
        server.__enter__()
    except QuantizeError as error:
        raise EngineError(str(error)) from None
    try:
        return LocalEngine(gguf, header, server)
    except OSError as error:  # its name holds its checksum, so it is read once more
        server.__exit__()
        raise EngineError(f"{gguf.name} was loaded and is gone since ({error.strerror}): put it back") from None


def remote_engine(url: str, model: str, dialect: Dialect = "none") -> Engine:
    """Return an engine at an OpenAI-compatible address; its key, if it wants one, stands in LEKHAI_ENGINE_KEY.

    `dialect` says how it takes a grammar: "gbnf" is llama-server's field, "vllm" is vLLM's (0.11 and later). Ollama
    takes none: there the contract is only checked afterwards.
    Raises EngineError for an address that cannot be one.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EngineError(f"{url!r} is no address of an engine: give it like http://127.0.0.1:8000")
    if parts.username or parts.password:
        raise EngineError(f"leave user and password out of the engine's address: its key belongs in {ENGINE_KEY}")
    address = url.rstrip("/").removesuffix("/v1")
    return Engine(address, EngineInfo(model, "remote"), dialect, os.environ.get(ENGINE_KEY, ""))


Loader = Callable[[], Engine]
