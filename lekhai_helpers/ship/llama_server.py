"""llama.cpp's own HTTP server over one GGUF file, and whether it reads a text as Hugging Face does.

Used in notebooks 02, 11 and 12 and by everything that asks a GGUF file:
``with LlamaServer(path) as server: server.chat(messages, decoding)``.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from lekhai_helpers.core.recipe import Decoding
from lekhai_helpers.learn.model import Generation, Message
from lekhai_helpers.prepare.contracts import Grammar
from lekhai_helpers.ship.errors import QuantizeError

_SPINS = "GOMP_SPINCOUNT"  # https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html


@dataclass
class LlamaServer:
    """llama.cpp's own HTTP server over one GGUF file, in a process of its own; used as a context manager.

    `slots` requests are answered at once, each with `context` tokens of room. `yields` lets go of a core soon where
    others may want it.
    """

    gguf: Path
    context: int = 1024
    slots: int = 4
    threads: int | None = None
    yields: bool = False

    def __enter__(self) -> LlamaServer:
        began = time.monotonic()
        self.port = _free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        settings = {
            "model": str(self.gguf),
            "context": self.context * self.slots,
            "slots": self.slots,
            "threads": self.threads or cores(),
            "port": self.port,
        }
        command = [sys.executable, "-m", "lekhai_helpers.ship.llama_process", json.dumps(settings)]
        # stdin stays open: the server ends by itself when this process is gone.
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environment(),
        )
        self.client = _client(self.address)
        try:
            self._wait_until_ready(seconds=120 + self.gguf.stat().st_size / 1e7)
        except QuantizeError:
            self.__exit__()
            raise
        self.load_seconds = round(time.monotonic() - began, 2)
        return self

    def __exit__(self, *_: Any) -> None:
        self.client.close()
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _environment(self) -> dict[str, str]:
        """Return this process's environment and, for a server that `yields`, how often its threads may try in vain.

        llama.cpp's threads wait for each other by trying, 300,000 times by default. Two servers on the same cores, as
        in a swap, then keep each other from working: measured on two cores, 48 tokens a second for both together, and
        135 with 200 tries. Alone that costs a sixth of the speed (114 instead of 137). What the user has set stays.
        """
        return {_SPINS: "200", **os.environ} if self.yields else dict(os.environ)

    def _wait_until_ready(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise QuantizeError(f"llama.cpp could not load {self.gguf.name}: the file is broken or memory is short")
            with contextlib.suppress(httpx.TransportError):
                if self.client.get("/health").status_code == 200:
                    return
            time.sleep(0.1)
        raise QuantizeError(f"llama.cpp did not load {self.gguf.name} within {seconds:.0f} s")

    def peak_memory_mb(self) -> float:
        """Return the most memory the server's process has held, in MB (Linux; elsewhere what it holds now)."""
        status = Path(f"/proc/{self.process.pid}/status")
        if status.exists():
            peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            return int(peak.split()[1]) * 1024 / 1e6
        import psutil

        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def tokenize(self, text: str, start: bool = False) -> list[int]:
        """Return the token ids llama.cpp gives a text; special tokens written in it count as such.

        None is added, but for the start mark where `start` asks for the ids of a prompt as llama.cpp answers it.
        """
        body = {"content": text, "add_special": start, "parse_special": True}
        return self._post("/tokenize", body)["tokens"]

    def render(self, messages: Sequence[Message]) -> str:
        """Return the prompt text that the template inside the GGUF makes of the messages."""
        return self._post("/apply-template", {"messages": list(messages)})["prompt"]

    def complete(self, prompt: str, decoding: Decoding, seed: int, grammar: str | None = None) -> dict[str, Any]:
        """Continue a rendered prompt and return llama.cpp's answer with its timings; `grammar` is GBNF."""
        body = {
            "prompt": prompt,
            "n_predict": decoding.max_new_tokens,
            "repeat_last_n": self.context,  # everything so far, as transformers does
            "cache_prompt": False,
        } | _sampling(decoding, seed)
        return self._post("/completion", body | ({} if grammar is None else {"grammar": grammar}))

    def chat(self, messages: Sequence[Message], decoding: Decoding, seed: int = 1) -> str:
        """Answer a conversation through the OpenAI-compatible route, as any other program would ask."""
        body = {
            "messages": list(messages),
            "max_tokens": decoding.max_new_tokens,
        } | _sampling(decoding, seed)
        return self._post("/v1/chat/completions", body)["choices"][0]["message"]["content"]

    def stream(
        self, messages: Sequence[Message], decoding: Decoding, seed: int = 1, reuse: bool = False
    ) -> Iterator[str]:
        """Yield the answer to a conversation piece by piece, through the route that `chat` takes.

        With `reuse` the server's notes on the beginning of the last prompt are used again where it is the same.
        """
        body = {
            "messages": list(messages),
            "max_tokens": decoding.max_new_tokens,
            "stream": True,
            "cache_prompt": reuse,
        } | _sampling(decoding, seed)
        with self.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            if answer.status_code != 200:
                raise QuantizeError(f"llama.cpp answered {answer.status_code}: {answer.read().decode()[:300]}")
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    delta = json.loads(line.removeprefix("data: "))["choices"][0]["delta"]
                    yield from [delta["content"]] if delta.get("content") else []

    def write(
        self,
        prompts: Sequence[Sequence[Message]],
        decoding: Decoding,
        seed: int,
        grammars: Sequence[Grammar] | None = None,
    ) -> list[Generation]:
        """Answer several prompts at once, `slots` at a time, in order; each within its grammar where there are any."""
        from concurrent.futures import ThreadPoolExecutor

        def one(place: int, messages: Sequence[Message]) -> Generation:
            began = time.monotonic()
            grammar = grammars[place].gbnf if grammars else None
            answer = self.complete(self.render(messages), decoding, seed * 1000 + place, grammar)
            stopped = answer["stop_type"] in ("eos", "word")
            seconds = round(time.monotonic() - began, 3)
            return Generation(answer["content"], answer["tokens_predicted"], stopped, seconds)

        with ThreadPoolExecutor(self.slots) as pool:
            return list(pool.map(one, range(len(prompts)), prompts))

    def writer(self, decoding: Decoding):
        """Return this server as a writer of `measure.evaluation`: prompts, a seed, perhaps grammars in, texts out."""
        return lambda prompts, seed, grammars=None: self.write(prompts, decoding, seed, grammars)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self.client.post(path, json=body)
        except httpx.TransportError as error:
            raise QuantizeError(f"llama.cpp stopped answering on {path}: {type(error).__name__}") from None
        if answer.status_code != 200:
            raise QuantizeError(f"llama.cpp answered {answer.status_code} on {path}: {answer.text[:300]}")
        return answer.json()


def _sampling(decoding: Decoding, seed: int) -> dict[str, Any]:
    """Return the recipe's decoding in llama.cpp's words, its own defaults for top_k and min_p switched off."""
    return {
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "repeat_penalty": decoding.repetition_penalty,
        "seed": seed,
    }


def _client(address: str) -> httpx.Client:
    """Return a client that asks every question on a connection of its own.

    llama.cpp ends a connection after a streamed answer, in the moment the next question would go out on it. There is no
    limit of time: a long text on a slow machine takes its time, and a server that died ends the connection by itself.
    """
    alone = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(base_url=address, timeout=httpx.Timeout(None, connect=10), limits=alone)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cores() -> int:
    """Return how many real cores there are: more threads than that only wait for each other."""
    import psutil

    return psutil.cpu_count(logical=False) or 1


def token_differences(server: LlamaServer, tokenizer, texts: Sequence[str]) -> list[str]:
    """Return the texts that llama.cpp and Hugging Face cut into different tokens; an empty list is the good case."""
    return [text for text in texts if server.tokenize(text) != tokenizer(text, add_special_tokens=False).input_ids]


def template_differences(server: LlamaServer, tokenizer, prompts: Sequence[Sequence[Message]]) -> list[str]:
    """Return the prompts (as Hugging Face renders them) that the template inside the GGUF renders otherwise.

    llama.cpp adds the BOS token itself, so it is left out of the comparison on both sides.
    """
    bos = tokenizer.bos_token or ""
    different = []
    for messages in prompts:
        ours = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        if server.render(messages).removeprefix(bos) != ours.removeprefix(bos):
            different.append(ours)
    return different
