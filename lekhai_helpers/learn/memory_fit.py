"""Does a training fit, and which one setting to change where it does not. Part of `learn.memory`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lekhai_helpers.core.hardware import machine
from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.learn.memory_estimate import MemoryEstimate, estimate

RESERVE = 0.15  # of the estimate, kept free
_GIB = 1024**3 / 1e6  # in MB


class DoesNotFit(RuntimeError):
    """The step on the longest row took more memory than there is; the text names one setting to change."""


@dataclass(frozen=True)
class Change:
    """One setting to change so that the training fits. `fits` is False where no single change is enough."""

    setting: str
    before: Any
    after: Any
    saves_mb: float
    fits: bool
    overrides: dict[str, Any]
    need: str
    remedy: str

    @property
    def sentence(self) -> str:
        """Say what is needed, what is free, and what to change."""
        return f"{self.need} {self.remedy}"


def fit(estimated: MemoryEstimate, available_mb: float) -> Change | None:
    """Return None where it should fit, else the one change that should make it fit and gives up least.

    15% are kept in reserve, because the estimate is only good to about a quarter: None is a good hope, no promise,
    and the probe of notebook 06 measures. Tried in this order, each in its smallest step that is enough: a smaller
    batch with more accumulation (the same arithmetic, slower), shorter rows (some are left out, at most down to half),
    4-bit weights, a smaller rank. Where none is enough, the one that saves most, with ``fits`` False. The preference
    training has no accumulation, and its rank is that of the strips it is given.
    """
    return None if estimated.total * (1 + RESERVE) <= available_mb else _smallest_change(estimated, available_mb)


def _smallest_change(estimated: MemoryEstimate, available_mb: float, reserve: float = RESERVE) -> Change:
    tried = [_change(estimated, option, available_mb, reserve) for option in _options(estimated)]
    enough = [change for change in tried if change.fits]
    return enough[0] if enough else max([*tried, _smaller_base(estimated, available_mb)], key=lambda c: c.saves_mb)


def _options(estimated: MemoryEstimate) -> Iterator[dict[str, Any]]:
    """Yield overrides, the most harmless first; the first key of each is the setting it is named by."""
    settings = estimated.settings
    yield from _smaller_batches(estimated)
    top = (estimated.longest - 1) // 64 * 64
    for shorter in range(top, max(estimated.longest // 2, 64) - 1, -64):
        yield {"model.max_seq_length": shorter}
    if not settings.model.load_in_4bit:
        yield {"model.load_in_4bit": True}
    rank = settings.lora.r
    while rank > 4 and estimated.phase == "sft":
        rank //= 2
        yield {"lora.r": rank}


def _smaller_batches(estimated: MemoryEstimate) -> Iterator[dict[str, Any]]:
    sft, dpo = estimated.settings.sft, estimated.settings.dpo
    if estimated.phase == "dpo":
        least = 2 if dpo.method == "kto" else 1  # kto compares the rows of a batch with each other
        yield from ({"dpo.batch_size": smaller} for smaller in range(dpo.batch_size - 1, least - 1, -1))
        return
    for smaller in range(sft.batch_size - 1, 0, -1):
        if sft.batch_size % smaller == 0:
            steps = sft.gradient_accumulation * sft.batch_size // smaller
            yield {"sft.batch_size": smaller, "sft.gradient_accumulation": steps}


def _smaller_base(estimated: MemoryEstimate, available_mb: float) -> Change:
    """Return the last resort, where every setting is as small as it goes already."""
    need = _need(estimated, available_mb)
    words = "No setting is left to lower, and that is not enough: take a smaller base, or a larger machine."
    return Change("model.name", estimated.settings.model.name, "a smaller base", 0.0, False, {}, need, words)


def _need(estimated: MemoryEstimate, available_mb: float) -> str:
    reserved = f"with {RESERVE:.0%} in reserve {estimated.total * (1 + RESERVE):.0f} MB"
    return f"The training needs about {estimated.total:.0f} MB, {reserved}, and {available_mb:.0f} MB are free."


def _change(estimated: MemoryEstimate, overrides: dict[str, Any], available_mb: float, reserve: float) -> Change:
    settings = with_overrides(estimated.settings, overrides)
    after = estimate(estimated.config, settings, estimated.longest, estimated.phase)
    name, saves = next(iter(overrides)), estimated.total - after.total
    before, chosen = estimated.settings.flat()[name], overrides[name]
    remedy = f"{name} from {before} to {chosen} saves {saves:.0f} MB: set OVERRIDES = {overrides}"
    short = ". By the estimate that alone is not enough: take a smaller base, or a machine with more memory"
    fits = after.total * (1 + reserve) <= available_mb
    words = f"{remedy}{'' if fits else short}."
    return Change(name, before, chosen, saves, fits, overrides, _need(estimated, available_mb), words)


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


def check_probe(expected: MemoryEstimate, measured_mb: float, free: float) -> None:
    """Raise DoesNotFit where the measured step takes more than there was, and name one change with its saving.

    `measured_mb` is what `probe` returned, `free` what `free_mb` said before the model was loaded, both in MB. On a
    processor nothing fails when memory runs out: the machine only ends the program, so this has to be asked.
    """
    held = measured_mb + expected.fixed
    if held <= free:
        return
    # The estimate was wrong by as much as the measurement says, and so are its savings; that known, no reserve.
    change = _smallest_change(expected, free * expected.total / held, reserve=0)
    took = f"took {measured_mb:.0f} MB, {expected.fixed:.0f} MB are allowed for the rest, and {free:.0f} MB were free"
    raise DoesNotFit(f"{_step(expected)} {took}. {change.remedy}")


def out_of_memory(expected: MemoryEstimate, available_mb: float) -> DoesNotFit:
    """Return the error for a step that ran out of a card's memory, with one change and its saving.

    `available_mb` is what this process could hold at most, the weights included.
    """
    change = _smallest_change(expected, min(available_mb, expected.total))
    return DoesNotFit(f"{_step(expected)} ran out of the card's memory. {change.remedy}")


def _step(expected: MemoryEstimate) -> str:
    return f"one step on the longest row ({expected.longest} tokens, {expected.rows} at once)"
