"""What a training takes, from config.json alone. Part of `learn.memory`, where it is imported from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.learn.shapes import Shapes, shapes, weights_from_shapes

if TYPE_CHECKING:
    import pandas as pd

Phase = Literal["sft", "dpo"]

# Adam keeps two values a number: 4 bytes each, or 1 in 8 bits with a scale a block of 256 (Dettmers et al. 2022).
_ADAM_BYTES = {"cpu": 8.0, "cuda": 2 * (1 + 4 / 256)}
# An allowance, no formula: the card's context, workspaces and the allocator's slack; beside a processor the libraries.
_FIXED_MB = {"cpu": 900.0, "cuda": 600.0}


@dataclass(frozen=True)
class MemoryEstimate:
    """What the training of the longest row at the full batch will hold at once, in MB."""

    weights: float
    lora: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    fixed: float
    longest: int  # tokens of the row it is for
    rows: int  # rows that are in memory at once
    phase: Phase
    config: Mapping[str, Any] = field(repr=False)
    settings: Settings = field(repr=False)

    @property
    def total(self) -> float:
        """All parts together, in MB."""
        return self.torch + self.fixed

    @property
    def torch(self) -> float:
        """What a measured peak can be held against: all but the fixed allowance, in MB."""
        step = self.gradients + self.optimizer + self.activations + self.logits
        return self.weights + self.lora + step

    def table(self) -> pd.DataFrame:
        """Return part, MB and what it is, largest first, with the total below."""
        import pandas as pd

        rows = sorted(((name, getattr(self, name), why) for name, why in _PARTS.items()), key=lambda row: -row[1])
        rows.append(("total", self.total, f"longest row {self.longest} tokens, {self.rows} at once"))
        return pd.DataFrame(rows, columns=["part", "MB", "what it is"]).set_index("part").round({"MB": 1})


_PARTS = {
    "weights": "the frozen model",
    "lora": "the numbers that are trained, in 32 bits",
    "gradients": "one for each trained number",
    "optimizer": "Adam's two running averages of each gradient",
    "activations": "what the forward pass keeps for the backward pass",
    "logits": "a score for every word of the dictionary, at every token",
    "fixed": "an allowance for libraries, workspaces and slack",
}


def estimate(config: Mapping[str, Any], settings: Settings, longest: int, phase: Phase = "sft") -> MemoryEstimate:
    """Return what training takes, from the shapes alone; `longest` is the longest row in tokens.

    In the preference training (`phase` "dpo") both sides of a pair are in the batch, so twice ``dpo.batch_size`` rows,
    and the strips lie there twice, trained and frozen. Not counted: the logits of the frozen copy, which stand for a
    moment beside the others.

    Held against published peaks it is good to about a quarter. On a card layers are computed again in the backward
    pass (Chen et al. 2016), so only each layer's input is kept and one layer's inside; on a processor everything is
    kept. Raises ValueError as `shapes` does, and for a LoRA module that is none of the seven linear ones.
    """
    size, device = shapes(config), settings.model.device
    row = min(longest, settings.model.max_seq_length)
    rows = settings.sft.batch_size if phase == "sft" else 2 * settings.dpo.batch_size
    tokens = row * rows
    trained = _lora_numbers(size, settings.lora.r, settings.lora.target_modules)
    return MemoryEstimate(
        weights=weights_from_shapes(config, settings.model.load_in_4bit),
        lora=trained * (4 if phase == "sft" else 8) / 1e6,
        gradients=trained * 4 / 1e6,
        optimizer=trained * _ADAM_BYTES[device] / 1e6,
        activations=tokens * _activation_bytes(size, settings) / 1e6,
        logits=tokens * size.vocabulary * _LOGIT_BYTES[device] / 1e6,
        fixed=_FIXED_MB[device],
        longest=row,
        rows=rows,
        phase=phase,
        config=config,
        settings=settings,
    )


def _lora_numbers(size: Shapes, rank: int, modules: Sequence[str]) -> int:
    """Count LoRA's numbers: rank * (in + out) a module (Hu et al. 2021)."""
    unknown = [name for name in modules if name not in size.linear]
    if unknown:
        raise ValueError(f"lora.target_modules names {', '.join(unknown)}; known: {', '.join(size.linear)}")
    return size.layers * sum(rank * sum(size.linear[name]) for name in modules)


# A card computes the loss in 32 bits; a processor's plain loss holds the logits in 16 bits, in 32 bits, and their
# log-probabilities in 32 bits.
_LOGIT_BYTES = {"cpu": 10, "cuda": 4}


def _activation_bytes(size: Shapes, settings: Settings) -> float:
    """Return the bytes a token leaves behind in the forward pass.

    Counted tensor by tensor as Korthikanti et al. 2022 do ("Reducing activation recomputation", §4.1), for a gated
    MLP, shared key-value heads and attention that stores no matrix of scores: per layer the inputs of both norms,
    attention and MLP (4 hidden), queries and attention's output, keys and values, the four inner tensors of the MLP,
    2 bytes each.
    """
    inside = 2 * (4 * size.hidden + 2 * size.query + 2 * size.key + 4 * size.inner)
    if settings.model.device == "cuda":
        return 2 * size.hidden * size.layers + inside
    return (inside + _extra_on_cpu(size, settings)) * size.layers


def _extra_on_cpu(size: Shapes, settings: Settings) -> float:
    """Return what a layer keeps beside that without fused kernels: norms in 32 bits, LoRA's copies of its inputs."""
    norms = 4 * (2 + 4 + 4) * size.hidden
    inputs = sum(4 * size.linear[name][0] for name in settings.lora.target_modules)
    return norms + inputs
