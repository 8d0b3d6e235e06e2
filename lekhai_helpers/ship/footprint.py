"""What each GGUF file costs to run, measured in fresh processes. Taught in notebook 12.

``measure(path)`` for one file, ``footprint_table(paths)`` for all of them, one after the other: two at once would spoil
each other's speed. Which one to take is `ship.choice`'s.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lekhai_helpers.ship.errors import ExportError
from lekhai_helpers.ship.fit import kv_cache_mb, workspace_mb
from lekhai_helpers.ship.llama_server import LlamaServer

if TYPE_CHECKING:
    import pandas as pd

CONTEXTS = (128, 512, 1024)  # prompt tokens: a brief, a brief with examples, a long conversation
NEW_TOKENS = 32
# The cache is weighed as the difference between an idle server with room for few tokens and one with room for many.
_FEW, _MANY = 1024, 16384


@dataclass(frozen=True)
class Footprint:
    """What one file took. Sizes in MB (10^6 bytes), `first_token` in seconds and `speed` in tokens a second, both by
    prompt tokens; `gpu_mb` is None where the process holds no card's memory. `estimated_mb` is what `ship.fit` expects
    the peak to be, and the two figures of the cache are for the same further tokens."""

    file: str
    size_mb: float
    load_seconds: float
    peak_memory_mb: float
    estimated_mb: float
    gpu_mb: float | None
    first_token: Mapping[int, float]
    speed: Mapping[int, float]
    kv_estimated_mb: float
    kv_measured_mb: float

    def row(self) -> dict[str, Any]:
        """Return the figures flat, as a row of a table or a manifest."""
        names = ("file", "size_mb", "load_seconds", "peak_memory_mb", "estimated_mb", "gpu_mb")
        flat = {name: getattr(self, name) for name in names}
        flat |= {f"first_token_s_{tokens}": value for tokens, value in self.first_token.items()}
        flat |= {f"tokens_per_second_{tokens}": value for tokens, value in self.speed.items()}
        return flat | {"kv_estimated_mb": self.kv_estimated_mb, "kv_measured_mb": self.kv_measured_mb}


def measure(gguf: Path, contexts: Sequence[int] = CONTEXTS, threads: int | None = None) -> Footprint:
    """Return what running `gguf` takes, from three processes of its own: one that writes, two that only wait.

    Raises QuantizeError where llama.cpp cannot load the file, ExportError where it is no GGUF.
    """
    gguf = Path(gguf)
    config, room, size = gguf_config(gguf), max(contexts) + NEW_TOKENS + 16, gguf.stat().st_size / 1e6
    with LlamaServer(gguf, context=room, slots=1, threads=threads) as server:
        answers = {tokens: _answer(server, tokens) for tokens in contexts}
        load, peak, card = server.load_seconds, server.peak_memory_mb(), gpu_memory_mb(server.process.pid)
    return Footprint(
        file=gguf.name,
        size_mb=round(size, 1),
        load_seconds=load,
        peak_memory_mb=round(peak, 1),
        estimated_mb=round(size + kv_cache_mb(config, room) + workspace_mb(config), 1),
        gpu_mb=card,
        first_token={tokens: round(answer["prompt_ms"] / 1000, 3) for tokens, answer in answers.items()},
        speed={tokens: round(answer["predicted_per_second"], 1) for tokens, answer in answers.items()},
        kv_estimated_mb=round(kv_cache_mb(config, _MANY) - kv_cache_mb(config, _FEW), 1),
        kv_measured_mb=round(_idle_mb(gguf, _MANY, threads) - _idle_mb(gguf, _FEW, threads), 1),
    )


def footprint_table(files: Sequence[Path], contexts: Sequence[int] = CONTEXTS) -> pd.DataFrame:
    """Measure every file, one after the other, and return a row each."""
    import pandas as pd

    return pd.DataFrame([measure(path, contexts).row() for path in files]).set_index("file")


def _answer(server: LlamaServer, tokens: int) -> dict[str, Any]:
    """Return llama.cpp's own timings for a prompt of exactly so many tokens and NEW_TOKENS after it.

    The prompt is given as token ids, so its length is what it says in every dictionary; 5 is an ordinary piece in each.
    """
    body = {"prompt": [5] * tokens, "n_predict": NEW_TOKENS, "ignore_eos": True, "cache_prompt": False}
    answer = server.client.post("/completion", json=body | {"temperature": 0.0})
    if answer.status_code != 200:
        raise ExportError(f"llama.cpp answered {answer.status_code} for {tokens} prompt tokens: {answer.text[:200]}")
    return answer.json()["timings"]


def _idle_mb(gguf: Path, context: int, threads: int | None) -> float:
    """Return the memory of its own, in MB, that a server with this room takes: without the mapped file."""
    with LlamaServer(gguf, context=context, slots=1, threads=threads) as server:
        return own_memory_mb(server.process.pid)


def own_memory_mb(process: int) -> float:
    """Return what a process holds beside files it only maps, in MB (Linux; elsewhere all it holds)."""
    status = Path(f"/proc/{process}/status")
    if status.exists():
        own = next(line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
        return int(own.split()[1]) * 1024 / 1e6
    import psutil

    return psutil.Process(process).memory_info().rss / 1e6


def gpu_memory_mb(process: int) -> float | None:
    """Return the card memory a process holds, in MB, as `nvidia-smi` counts it; None where there is none of it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout
    rows = [[cell.strip() for cell in line.split(",")] for line in told.splitlines()]
    held = [int(row[1]) for row in rows if len(row) == 2 and row[0] == str(process) and row[1].isdigit()]
    return round(sum(held) * 1024**2 / 1e6, 1) if held else None


def gguf_config(gguf: Path) -> dict[str, Any]:
    """Return the shapes in a GGUF's header under the names of config.json, so that `ship.fit` can read them.

    Only the header is read. Raises ExportError where the file is no GGUF or its header lacks a size.
    """
    from gguf import GGUFReader

    try:
        fields = GGUFReader(gguf).fields
        kind = str(fields["general.architecture"].contents())
        told = {name.removeprefix(f"{kind}."): fields[name] for name in fields if name.startswith(f"{kind}.")}
        config: dict[str, Any] = {name: int(told[key].contents()) for name, key in _HEADER.items()}
        config["vocab_size"] = len(fields["tokenizer.ggml.tokens"].data)
    except (KeyError, ValueError, IndexError, OSError) as error:
        raise ExportError(f"{gguf.name} has no readable GGUF header ({error}): make it again (notebook 12)") from None
    width = told.get("attention.key_length")
    config["head_dim"] = int(width.contents()) if width else config["hidden_size"] // config["num_attention_heads"]
    if window := told.get("attention.sliding_window"):
        config["sliding_window"] = int(window.contents())
    return config | {"model_type": {"gemma3": "gemma3_text"}.get(kind, kind)}


_HEADER = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
}
