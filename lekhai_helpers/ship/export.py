"""Export: the adapter and the merged 16-bit weights, and by the same name the model card and the hub upload.

Called by notebook 08 and, for the kept model, by notebook 10:
``comparison_plan(path, settings)``, ``save_adapter(model, tokenizer, folder)``,
``save_merged_16bit(model, tokenizer, folder)``,
``write_text(folder / "README.md", model_card(settings, ledger, figures))``, ``push_plan(folder)``.

Disk and memory are reckoned before the first byte (`ship.budgets`), and every folder is written beside its final name
and renamed (`ship.atomic`), so an interruption leaves no half model behind and loses no earlier one.
"""

from __future__ import annotations

import contextlib
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lekhai_helpers.core.hardware import machine
from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.learn.model import unsloth_engine
from lekhai_helpers.prepare.bases import rounded_base
from lekhai_helpers.ship.atomic import clear_unfinished, new_folder
from lekhai_helpers.ship.budgets import begin_gguf_set, check_disk, four_bit_budget, gguf_budget, merged_budget
from lekhai_helpers.ship.card import model_card
from lekhai_helpers.ship.errors import ExportError
from lekhai_helpers.ship.four_bit import save_4bit
from lekhai_helpers.ship.hub import login_state, push, push_plan

__all__ = [
    "Comparison",
    "ExportError",
    "begin_gguf_set",
    "check_disk",
    "clear_unfinished",
    "comparison_form",
    "comparison_plan",
    "four_bit_budget",
    "gguf_budget",
    "login_state",
    "merged_budget",
    "model_card",
    "model_numbers",
    "push",
    "push_plan",
    "save_4bit",
    "save_adapter",
    "save_merged_16bit",
]


_GIB = 1024**3
# Beside its weights a model needs room to compute: a fifth for activations and the cache of what was read, and two
# GiB for the scores of one example, a number for each token and each entry of a dictionary of up to 260 000.
_ROOM_SHARE, _ROOM_GB = 1.2, 2.0


@dataclass(frozen=True)
class Comparison:
    """How base with adapter and the merged model are compared: in 32 bits, in 16, or not at all (`bits` 0).

    `prompts` answers are compared; `most_distance` (KL divergence, nats) and `least_same_next` (share of places) are
    what the two may differ by. `sentence` says why, and what is not measured.
    """

    bits: Literal[32, 16, 0]
    prompts: int
    most_distance: float
    least_same_next: float
    sentence: str


def comparison_plan(path: str | Path, settings: Settings) -> Comparison:
    """Return how the two forms of the model at `path` can be compared in the memory this machine has."""
    facts = machine()
    if settings.model.device == "cuda":
        return comparison_form(model_numbers(path, settings), facts["gpu_memory_gb"] or 0.0, "the card has")
    return comparison_form(model_numbers(path, settings), facts["ram_free_gb"], "this machine has free")


def comparison_form(numbers: int, memory_gb: float, whose: str = "there are") -> Comparison:
    """Return the finest comparison for a model of `numbers` parameters that fits into `memory_gb` GiB.

    `whose` begins the words that say how much memory there is.
    """
    wide, narrow = (_memory_gb(numbers, size) for size in (4, 2))
    here = f"{whose} {memory_gb:.1f} GB"
    if wide <= memory_gb:
        return Comparison(32, 4, 0.005, 0.95, f"Compared in 32 bits: that needs {wide:.1f} GB, and {here}.")
    if narrow <= memory_gb:
        # Two roundings stand between the forms; one of them, measured on the embedded base, was 0.009.
        sentence = (
            f"32 bits would need {wide:.1f} GB and {here}: compared in 16 bits ({narrow:.1f} GB) and on two prompts. "
            "Not measured: how much of the difference is 16-bit rounding."
        )
        return Comparison(16, 2, 0.05, 0.9, sentence)
    sentence = (
        f"Not compared: 16 bits would need {narrow:.1f} GB and {here}. Not measured: whether the merged model predicts "
        f"what base and adapter predict together. To measure it, run notebook 08 where {narrow:.0f} GB are free."
    )
    return Comparison(0, 0, math.inf, 0.0, sentence)


def model_numbers(path: str | Path, settings: Settings) -> int:
    """Return how many numbers the model at `path` has, from its config.json alone: no weight is read or fetched."""
    unsloth_engine()  # before transformers, which it patches
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    revision = settings.model.revision if str(path) == settings.model.name else None
    config = AutoConfig.from_pretrained(path, revision=revision)
    with torch.device("meta"):  # shapes without numbers
        model = AutoModelForCausalLM.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


def _memory_gb(numbers: int, bytes_each: int) -> float:
    return numbers * bytes_each * _ROOM_SHARE / _GIB + _ROOM_GB


def save_adapter(model, tokenizer, folder: Path) -> Path:
    """Write the LoRA adapter (a few MB) and its tokenizer to `folder`. Returns the folder.

    Only the trained adapter is written: after DPO the model also carries the frozen reference, which is not ours
    to ship. Raises ExportError where no adapter came out.
    """
    folder = Path(folder)
    with new_folder(folder) as place:
        model.save_pretrained(str(place), selected_adapters=["default"])
        tokenizer.save_pretrained(str(place))
        # PEFT writes an empty model card that names the base by its path on this machine; ours takes its place.
        (place / "README.md").unlink(missing_ok=True)
        _check_files(place, "adapter_config.json", "adapter_model.safetensors", "tokenizer_config.json")
    return folder


def save_merged_16bit(model, tokenizer, folder: Path) -> Path:
    """Write base and adapter as one ordinary 16-bit model to `folder`. Returns the folder.

    Unsloth reads the base's 16-bit weights anew and adds the adapter to them, so a base held in 4 bits is not
    merged in its rounded form (`ship.merge_loss` shows what that would cost). Raises ExportError before writing where
    disk or memory is too small or the base's 16-bit weights are not to be had, and after it where the result is not
    whole or not 16-bit.
    """
    folder = Path(folder)
    if not getattr(model, "peft_config", None):
        raise ExportError("the model carries no adapter, so there is nothing to merge: load it with adapter=...")
    _check_base(model.config._name_or_path)
    merged_budget(model).check(folder)
    with new_folder(folder) as place:
        # Unsloth prints the base's path on this machine; it does not belong in a notebook that is shown around.
        with contextlib.redirect_stdout(io.StringIO()):
            model.save_pretrained_merged(str(place), tokenizer=tokenizer, save_method="merged_16bit")
        _check_files(place, "config.json", "generation_config.json", "tokenizer_config.json", "*.safetensors")
        _check_sixteen_bit(place)
    return folder


def _check_base(base: str) -> None:
    """Refuse a folder of rounded weights: Unsloth knows the 16-bit form of a repository, not that of a folder."""
    if Path(base).is_dir() and rounded_base(base):
        raise ExportError(
            f"the weights of {Path(base).name} were rounded before, so nothing can be merged into them: set model.name "
            "to the 16-bit repository or folder of the same model, and run again from notebook 01"
        )


def _check_files(folder: Path, *patterns: str) -> None:
    missing = [pattern for pattern in patterns if not any(folder.glob(pattern))]
    if missing:
        raise ExportError(
            f"the export lacks {', '.join(missing)} and was thrown away: run notebook 08 again, and if it lacks them "
            "again, run `lekhai doctor` (a library of another version may have written it)"
        )


def _check_sixteen_bit(folder: Path) -> None:
    from safetensors import safe_open

    sizes: dict[str, int] = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (no mapping: it cannot be iterated)
                part = tensors.get_slice(name)
                sizes[part.get_dtype()] = sizes.get(part.get_dtype(), 0) + math.prod(part.get_shape())
    wide = sum(count for kind, count in sizes.items() if kind not in ("BF16", "F16"))
    if wide > 0.01 * sum(sizes.values()):
        raise ExportError(
            f"the merged weights are {', '.join(sorted(sizes))}, not 16-bit: the merge keeps the type of the base's "
            "files, so save the base in bfloat16 (notebook 02) and export again"
        )
