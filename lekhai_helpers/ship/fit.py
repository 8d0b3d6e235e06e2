"""How large will a GGUF file be, and where will it run: from config.json alone, before anything is written.

``file_mb(config, "q4_k_m")``, ``kv_cache_mb(config, 4096)``, ``fit_table(recipe_bases())``. Taught in notebook 12.
One MB is 10^6 bytes, one GB 10^9. llama.cpp's own rules are followed: the bytes of its blocks (ggml-common.h) and
which tensor gets which type (llama-quant.cpp, llama_tensor_get_type).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lekhai_helpers.learn.shapes import Shapes, shapes
from lekhai_helpers.prepare.model_facts import count_parameters, recorded_facts, text_part

if TYPE_CHECKING:
    import pandas as pd

# Numbers in a block, and the bytes it takes with its scales.
BLOCKS = {
    **{"f32": (1, 4), "f16": (1, 2), "q8_0": (32, 34), "q5_0": (32, 22), "q5_1": (32, 24)},
    **{"q4_k": (256, 144), "q5_k": (256, 176), "q6_k": (256, 210)},
}
# A file's plain type; in the mixtures ("_m") some tensors get q6_k instead.
_PLAIN = {"f16": "f16", "q8_0": "q8_0", "q6_k": "q6_k", "q5_k_m": "q5_k", "q4_k_m": "q4_k"}
# Where a row is no multiple of 256, a block of 256 does not fit into it; these have blocks of 32.
_FALLBACK = {"q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0"}
_NAMES = {"v_proj": "attn_v", "down_proj": "ffn_down"}
# Each piece of the dictionary is written out with its score and type: 25.8 bytes measured on a Bengali one. Byte-level
# dictionaries list their merges too and take up to 60; both are under a thousandth of a 7B's file.
_PIECE_BYTES = 26
# What these model types slide over where their config does not say: (window in tokens, every n-th layer sees all).
_SLIDING = {"gemma2": (4096, 2), "gemma3_text": (512, 6)}
_BATCH = 512  # tokens llama.cpp works through at once (n_ubatch)

EMBEDDED_CONFIG = {
    **{"model_type": "gemma3_text", "num_hidden_layers": 18, "hidden_size": 640, "num_attention_heads": 4},
    **{"num_key_value_heads": 1, "head_dim": 256, "intermediate_size": 2048, "vocab_size": 34622},
    **{"sliding_window": 512, "tie_word_embeddings": True},
}
# Real files of other people, in GB (10^9 bytes): what the formulas are held against.
PUBLISHED_Q4_K_M_GB = {
    "Qwen/Qwen2.5-7B-Instruct": 4.76,
    "meta-llama/Llama-3.1-8B": 4.92,
    "google/gemma-2-9b-it": 5.76,
}


@dataclass(frozen=True)
class Machine:
    """A machine to run on: what it has and what is left for a model, in GB of 10^9 bytes."""

    name: str
    has_gb: float
    kept_gb: float  # for the system, the screen, the driver
    why: str

    @property
    def left_gb(self) -> float:
        """What a model may take."""
        return self.has_gb - self.kept_gb


# 8 GiB are 8.6 GB. The cards' figures are what their driver reports: 15360 and 12227 MiB.
MACHINES = (
    Machine("8 GB RAM laptop", 8.6, 2.1, "2 GiB kept for the system and a browser"),
    Machine("T4 16 GB", 16.1, 0.6, "0.6 GB kept for the driver; no screen hangs on it"),
    Machine("RTX 5070 12 GB", 12.8, 1.1, "0.6 GB kept for the driver, 0.5 GB for the screen"),
)


def recipe_bases() -> dict[str, Mapping[str, Any]]:
    """Return the recipe's bases by size: the embedded one, and the 1B, 7B, 8B, 9B of its profiles and pairs."""
    names = {
        "1B": "md-nishat-008/TigerLLM-1B-it",
        "7B": "Qwen/Qwen2.5-7B-Instruct",
        "8B": "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
        "9B": "md-nishat-008/TigerLLM-9B-it",
    }
    known = {f"{size} {name.split('/')[1]}": recorded_facts(name).config for size, name in names.items()}
    return {"270M embedded, trimmed": EMBEDDED_CONFIG, **known}


def tensor_types(config: Mapping[str, Any], kind: str) -> Iterator[tuple[str, int, str]]:
    """Yield (name, numbers, llama.cpp's type) of every tensor; norms and biases together as one, in f32.

    `kind` is f16, q8_0, q6_k, q5_k_m or q4_k_m. The rule: the output layer (the dictionary where both are one) gets
    q6_k, or q8_0 where its rows are no multiple of 256; so do, in the mixtures, half of the values and down
    projections: the first eighth of the layers, the last eighth, and every third between.
    """
    size = shapes(config)
    for layer in range(size.layers):
        for name, (row, columns) in size.linear.items():
            yield f"blk.{layer}.{_NAMES.get(name, name)}", row * columns, _linear_type(kind, name, row, layer, size)
    dictionary = size.vocabulary * size.hidden
    yield "output", dictionary, _output_type(kind, size.hidden)
    if not size.tied:
        yield "token_embd", dictionary, _fitting(_PLAIN[kind], size.hidden)
    linear = size.layers * sum(row * columns for row, columns in size.linear.values())
    small = count_parameters(dict(config)) - linear - dictionary * (1 if size.tied else 2)
    yield "norms and biases", small, "f32"


def _linear_type(kind: str, name: str, row: int, layer: int, size: Shapes) -> str:
    better = kind.endswith("_m") and name in _NAMES and _more_bits(layer, size.layers)
    return _fitting("q6_k" if better else _PLAIN[kind], row)


def _more_bits(layer: int, layers: int) -> bool:
    """Say whether a layer is one of those that matter more (llama.cpp's use_more_bits, in whole numbers)."""
    first = layers // 8
    return layer < first or layer >= 7 * layers // 8 or (layer - first) % 3 == 2


def _output_type(kind: str, row: int) -> str:
    if kind in ("f16", "q8_0"):
        return kind
    return "q6_k" if row % 256 == 0 else "q8_0"


def _fitting(kind: str, row: int) -> str:
    return kind if row % BLOCKS[kind][0] == 0 else _FALLBACK.get(kind, "f16")


def file_mb(config: Mapping[str, Any], kind: str) -> float:
    """Return the size of a GGUF file in MB. Raises ValueError for an unknown kind or a config without its sizes."""
    if kind not in _PLAIN:
        raise ValueError(f"{kind} is no file type known here; known: {', '.join(_PLAIN)}")
    total = sum(numbers * BLOCKS[chosen][1] / BLOCKS[chosen][0] for _, numbers, chosen in tensor_types(config, kind))
    return (total + shapes(config).vocabulary * _PIECE_BYTES) / 1e6


def kv_cache_mb(config: Mapping[str, Any], context: int, bytes_each: float = 2, slots: int = 1) -> float:
    """Return what llama.cpp's cache of keys and values takes, in MB: 2 * layers * kv_heads * head_dim * bytes * tokens.

    A layer that looks back over a window only (two in three or more of Gemma's) keeps the window and one batch, rounded
    up to 256 tokens, however long the text. `bytes_each` is 2 for llama.cpp's default f16, 1.0625 for q8_0. `slots`
    texts at once have `context` tokens each.
    """
    size, (sliding, window) = shapes(config), sliding_layers(config)
    whole = _padded(context * slots)
    windowed = min(whole, _padded(window * slots + _BATCH))
    tokens = (size.layers - sliding) * whole + sliding * windowed
    return 2 * size.key * bytes_each * tokens / 1e6


def _padded(tokens: int) -> int:
    return math.ceil(tokens / 256) * 256


def sliding_layers(config: Mapping[str, Any]) -> tuple[int, int]:
    """Return (how many layers look back over a window only, the window in tokens); (0, 0) where none does."""
    told = text_part(dict(config))
    window, every = _SLIDING.get(str(told.get("model_type")), (0, 0))
    window = int(told.get("sliding_window") or window)
    if kinds := told.get("layer_types"):
        return sum(kind == "sliding_attention" for kind in kinds), window
    if not every:
        return 0, 0  # Qwen's config names a window and does not use it
    layers = int(told["num_hidden_layers"])
    return layers - layers // every, window


def workspace_mb(config: Mapping[str, Any]) -> float:
    """Return llama.cpp's compute buffer in MB: the scores of one batch, 4 bytes each, which outweigh all else there."""
    size = shapes(config)
    return _BATCH * (size.vocabulary + size.hidden) * 4 / 1e6


def needs_mb(config: Mapping[str, Any], kind: str, context: int) -> float:
    """Return the memory that running a file takes, in MB: weights, cache and workspace."""
    return file_mb(config, kind) + kv_cache_mb(config, context) + workspace_mb(config)


def published_check() -> pd.DataFrame:
    """Hold the formulas against files other people published: estimated_gb, published_gb, off (share).

    The published "7B" is Qwen's: by the shapes Mistral 7B's Q4_K_M would be 4.37 GB, 8% away.
    """
    import pandas as pd

    rows = []
    for name, published in PUBLISHED_Q4_K_M_GB.items():
        estimated = file_mb(recorded_facts(name).config, "q4_k_m") / 1e3
        rows.append((name, round(estimated, 2), published, round(estimated / published - 1, 4)))
    return pd.DataFrame(rows, columns=["base", "estimated_gb", "published_gb", "off"]).set_index("base")


def fit_table(
    bases: Mapping[str, Mapping[str, Any]],
    kinds: Sequence[str] = ("f16", "q8_0", "q5_k_m", "q4_k_m"),
    context: int = 4096,
) -> pd.DataFrame:
    """Return one row a base and file: size, cache and need in GB, and a column a machine: "fits" or what is missing.

    `bases`: name to config.json. On a card every layer has to lie in its memory; `MACHINES` says what is kept free.
    """
    import pandas as pd

    rows = []
    for base, config in bases.items():
        for kind in kinds:
            size, cache = file_mb(config, kind) / 1e3, kv_cache_mb(config, context) / 1e3
            needs = needs_mb(config, kind, context) / 1e3
            row: dict[str, Any] = {"base": base, "file": kind, "size_gb": size, "kv_gb": cache, "needs_gb": needs}
            rows.append(row | {machine.name: _verdict(needs, machine) for machine in MACHINES})
    return pd.DataFrame(rows).set_index(["base", "file"]).round(2)


def _verdict(needs_gb: float, machine: Machine) -> str:
    short = needs_gb - machine.left_gb
    return "fits" if short <= 0 else f"no: {max(short, 0.1):.1f} GB too large"
