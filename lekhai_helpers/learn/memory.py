"""Will the training fit? An estimate from config.json before anything is loaded, and one measured step.

``estimated = estimate(read_config(path), settings, longest)``, ``fit(estimated, free_mb(settings.model.device))``,
``probe(model, tokenizer, ids, settings)``. One MB is 10^6 bytes. Taught in notebooks 04 and 06.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core.hardware import machine
from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.learn.memory_probe import DoesNotFit, probe
from lekhai_helpers.learn.shapes import Shapes, read_config, shapes, weights_from_shapes

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Change", "DoesNotFit", "MemoryEstimate", "compare", "estimate", "fit", "free_mb", "probe", "read_config"]
__all__ += ["Shapes", "not_measured", "shapes", "weights_from_shapes", "with_overrides"]

_GIB = 1024**3 / 1e6  # in MB
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
        rows.append(("total", self.total, f"longest row {self.longest} tokens, {self.settings.sft.batch_size} at once"))
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


@dataclass(frozen=True)
class Change:
    """One setting to change so that the training fits. `fits` is False where no single change is enough."""

    setting: str
    before: Any
    after: Any
    saves_mb: float
    fits: bool
    overrides: dict[str, Any]
    sentence: str


def estimate(config: Mapping[str, Any], settings: Settings, longest: int) -> MemoryEstimate:
    """Return what training takes, from the shapes alone; `longest` is the longest row in tokens.

    On a card layers are computed again in the backward pass (Chen et al. 2016), so only each layer's input is kept
    and one layer's inside; on a processor everything is kept. Raises ValueError as `shapes` does, and for a LoRA
    module that is none of the seven linear ones.
    """
    size, device = shapes(config), settings.model.device
    row = min(longest, settings.model.max_seq_length)
    tokens = row * settings.sft.batch_size
    trained = _lora_numbers(size, settings.lora.r, settings.lora.target_modules)
    return MemoryEstimate(
        weights=weights_from_shapes(config, settings.model.load_in_4bit),
        lora=trained * 4 / 1e6,
        gradients=trained * 4 / 1e6,
        optimizer=trained * _ADAM_BYTES[device] / 1e6,
        activations=tokens * _activation_bytes(size, settings) / 1e6,
        logits=tokens * size.vocabulary * _LOGIT_BYTES[device] / 1e6,
        fixed=_FIXED_MB[device],
        longest=row,
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


def fit(estimated: MemoryEstimate, available_mb: float) -> Change | None:
    """Return None where it fits, else the one change that makes it fit and gives up least.

    Tried in this order, each in its smallest step that is enough: a smaller batch with more accumulation (the same
    arithmetic, slower), shorter rows (some are left out, at most down to half), 4-bit weights, a smaller rank. Where
    none is enough, the one that saves most, with ``fits`` False.
    """
    if estimated.total <= available_mb:
        return None
    tried = [_change(estimated, option, available_mb) for option in _options(estimated)]
    enough = [change for change in tried if change.fits]
    return enough[0] if enough else max([*tried, _smaller_base(estimated, available_mb)], key=lambda c: c.saves_mb)


def _options(estimated: MemoryEstimate) -> Iterator[dict[str, Any]]:
    """Yield overrides, the most harmless first; the first key of each is the setting it is named by."""
    settings = estimated.settings
    batch, steps = settings.sft.batch_size, settings.sft.gradient_accumulation
    for smaller in range(batch - 1, 0, -1):
        if batch % smaller == 0:
            yield {"sft.batch_size": smaller, "sft.gradient_accumulation": steps * batch // smaller}
    top = (estimated.longest - 1) // 64 * 64
    for shorter in range(top, max(estimated.longest // 2, 64) - 1, -64):
        yield {"model.max_seq_length": shorter}
    if not settings.model.load_in_4bit:
        yield {"model.load_in_4bit": True}
    rank = settings.lora.r
    while rank > 4:
        rank //= 2
        yield {"lora.r": rank}


def _smaller_base(estimated: MemoryEstimate, available_mb: float) -> Change:
    """Return the last resort, where every setting is as small as it goes already."""
    need = f"The training needs about {estimated.total:.0f} MB and {available_mb:.0f} MB are free."
    words = f"{need} No setting is left to lower, and that is not enough: take a smaller base, or a larger machine."
    return Change("model.name", estimated.settings.model.name, "a smaller base", 0.0, False, {}, words)


def _change(estimated: MemoryEstimate, overrides: dict[str, Any], available_mb: float) -> Change:
    settings = with_overrides(estimated.settings, overrides)
    after = estimate(estimated.config, settings, estimated.longest).total
    name, saves = next(iter(overrides)), estimated.total - after
    before, chosen = estimated.settings.flat()[name], overrides[name]
    need = f"The training needs about {estimated.total:.0f} MB and {available_mb:.0f} MB are free."
    remedy = f"{name} from {before} to {chosen} saves {saves:.0f} MB: set OVERRIDES = {overrides}"
    short = ". That alone is not enough: take a smaller base, or a machine with more memory"
    fits = after <= available_mb
    words = f"{need} {remedy}{'' if fits else short}."
    return Change(name, before, chosen, saves, fits, overrides, words)


def with_overrides(settings: Settings, overrides: Mapping[str, Any]) -> Settings:
    """Return a copy of the settings with dotted keys ("sft.batch_size") changed."""
    for key, value in overrides.items():
        section, name = key.split(".")
        changed = getattr(settings, section).model_copy(update={name: value})
        settings = settings.model_copy(update={section: changed})
    return settings


def free_mb(device: str) -> float:
    """Return the memory a model can still take, in MB: the card's free memory, or this machine's."""
    if device == "cuda":
        import torch

        return torch.cuda.mem_get_info()[0] / 1e6
    return machine()["ram_free_gb"] * _GIB


def not_measured(needs_mb: float, free: float) -> str:
    """Return what stands in a table where a model was not loaded because it would not fit."""
    return f"not measured: needs {needs_mb / 1000:.1f} GB, {free / 1000:.1f} GB free"


def compare(estimated: MemoryEstimate, measured_mb: float) -> dict[str, float]:
    """Return both figures for the manifest, in MB, and the measured one as a share of the estimate."""
    share = measured_mb / estimated.torch
    figures = {"estimated_mb": estimated.torch, "measured_mb": measured_mb, "measured_share": share}
    return {name: round(value, 2) for name, value in figures.items()}
