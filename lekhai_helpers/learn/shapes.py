"""The sizes of a model from its config.json alone, and what its weights take. Used by `learn.memory` before loading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# NF4: 4 bits a number, and 0.127 bits for the scales, which are themselves rounded (Dettmers et al. 2023, QLoRA §3).
_NF4_BYTES = (4 + 0.127) / 8


@dataclass(frozen=True)
class Shapes:
    """The sizes of a decoder with a gated MLP, as its config.json gives them."""

    hidden: int
    layers: int
    query: int  # heads * head_dim
    key: int  # key-value heads * head_dim
    inner: int
    vocabulary: int
    tied: bool

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """The linear modules of one layer: name to (in, out)."""
        hidden, inner = self.hidden, self.inner
        attention = {"q_proj": (hidden, self.query), "k_proj": (hidden, self.key), "v_proj": (hidden, self.key)}
        attention["o_proj"] = (self.query, hidden)
        return attention | {"gate_proj": (hidden, inner), "up_proj": (hidden, inner), "down_proj": (inner, hidden)}


def read_config(path: str | Path, revision: str | None = None) -> dict[str, Any]:
    """Return a model's config.json, of a folder or a hub id, with the library's defaults filled in."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(path, revision=revision).to_dict()


def shapes(config: Mapping[str, Any]) -> Shapes:
    """Return the sizes in a config. Raises ValueError where one is missing or the design is another one."""
    told = {**config, **(config.get("text_config") or {})}
    if told.get("num_experts") or told.get("num_local_experts"):
        raise ValueError("a mixture of experts cannot be estimated: these formulas count one MLP in each layer")
    try:
        hidden, heads = int(told["hidden_size"]), int(told["num_attention_heads"])
        layers, inner = int(told["num_hidden_layers"]), int(told["intermediate_size"])
        vocabulary = int(told["vocab_size"])
    except KeyError as error:
        raise ValueError(f"config.json has no {error}, without which memory cannot be estimated") from None
    width = told.get("head_dim") or hidden // heads
    # Gemma shares dictionary and output layer, and its config.json does not say so.
    tied = told.get("tie_word_embeddings", str(told.get("model_type", "")).startswith("gemma"))
    key_heads = told.get("num_key_value_heads") or heads
    return Shapes(hidden, layers, heads * width, key_heads * width, inner, vocabulary, bool(tied))


def weights_from_shapes(config: Mapping[str, Any], four_bit: bool) -> float:
    """Return the MB of a model's weights: 16 bits, or NF4 with the dictionary left in 16 bits.

    Norms and biases, under a thousandth of it, are not counted.
    """
    size = shapes(config)
    layers = size.layers * sum(rows * columns for rows, columns in size.linear.values())
    dictionary = size.vocabulary * size.hidden * (1 if size.tied else 2)
    return (layers * (_NF4_BYTES if four_bit else 2) + dictionary * 2) / 1e6
