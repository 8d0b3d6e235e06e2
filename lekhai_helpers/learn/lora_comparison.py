"""How many LoRA strips, and where? Rank 8, 16 and 32 on all linear layers, and rank 16 on attention only.

``compare_lora(...)`` trains each for a few steps from the same seed; ``recorded()`` gives the table of one measured
run, so that a chain need not spend the minutes. Asked for by ``sft.compare_lora=true``. Taught in notebook 06.
LoRA: Hu et al. 2021; why all linear layers: Dettmers et al. 2023 (QLoRA), section 4.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core.hardware import machine
from lekhai_helpers.core.recipe import Settings, resolve
from lekhai_helpers.core.run_folder import write_json
from lekhai_helpers.core.words import Words
from lekhai_helpers.learn.model import attach_lora, count_parameters, device_memory_mb, load_model, release_memory
from lekhai_helpers.learn.training import Example, Score, train_sft
from lekhai_helpers.prepare.contracts import words_of

if TYPE_CHECKING:
    from pandas import DataFrame

RECORD = Path(__file__).with_name("lora_comparison.json")
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
LOOKS = 4  # how often each variant looks at the validation rows


class LoraComparisonError(RuntimeError):
    """There is no comparison to show, or none can be made; the text names the remedy."""


@dataclass(frozen=True)
class Variant:
    """One way to lay LoRA strips on a model."""

    name: str
    r: int
    modules: tuple[str, ...]


VARIANTS = (
    Variant("rank 8, all linear layers", 8, ATTENTION + MLP),
    Variant("rank 16, all linear layers", 16, ATTENTION + MLP),
    Variant("rank 32, all linear layers", 32, ATTENTION + MLP),
    Variant("rank 16, attention only", 16, ATTENTION),
)


def compare_lora(
    base_path: str | Path,
    train: Sequence[Example],
    validation: Sequence[Example],
    settings: Settings,
    steps: int,
    folder: Path,
    score: Score | None = None,
    *,
    max_length: int | None = None,
    variants: Sequence[Variant] = VARIANTS,
) -> list[dict[str, Any]]:
    """Train every variant for `steps` steps on the same rows in the same order, and return one row for each.

    Each begins with the base as it is and the same seed. A row holds the variant's name, `trained` (how many numbers),
    `adapter_mb` (10^6 bytes), `train_loss` (the last logged), `validation_lowest` and `validation_last` (nats per
    token), `tokens_per_second` and `minutes` of the training, `peak_memory_mb` (of the card, or of this whole process;
    None where the system cannot say it for one variant alone), and with a `score` its `valid_share`. One run with
    one seed says nothing about small differences. Raises LoraComparisonError for less than two steps.
    """
    if steps < 2:
        raise LoraComparisonError(f"{steps} step(s) show no course of the loss: compare over at least 2")
    rows = []
    for number, variant in enumerate(variants, start=1):
        print(f"{number} of {len(variants)}: {variant.name}", flush=True)
        own = variant_settings(settings, variant, steps)
        rows.append(_train_one(base_path, train, validation, own, variant, Path(folder), score, max_length))
    return rows


def variant_settings(settings: Settings, variant: Variant, steps: int) -> Settings:
    """Return the settings a variant is trained with: only the strips differ between variants.

    Alpha keeps the recipe's ratio to the rank, because the strips are heard alpha/r loud: with one alpha for all, a
    higher rank would also be a quieter one.
    """
    alpha = max(1, round(variant.r * settings.lora.alpha / settings.lora.r))
    lora = {"r": variant.r, "alpha": alpha, "target_modules": list(variant.modules)}
    # Nothing that ends a variant early, or trains it in other processes, may differ between them.
    sft = {"max_steps": steps, "eval_every": max(1, steps // LOOKS), "keep": "last", "patience": None}
    sft |= {"tracker": "none", "processes": 1, "compare_lora": False}
    sections = {
        "lora": settings.lora.model_copy(update=lora),
        "sft": settings.sft.model_copy(update=sft),
    }
    return settings.model_copy(update=sections)


def _train_one(
    base_path: str | Path,
    train: Sequence[Example],
    validation: Sequence[Example],
    settings: Settings,
    variant: Variant,
    folder: Path,
    score: Score | None,
    max_length: int | None,
) -> dict[str, Any]:
    place = folder / variant.name.replace(",", "").replace(" ", "-")
    release_memory()  # what the variant before held must not count for this one
    forgotten = _forget_peak_memory()
    model, tokenizer = load_model(base_path, settings)
    model = attach_lora(model, settings.lora, settings.seed)
    result = train_sft(model, tokenizer, train, validation, settings, place, max_length=max_length, resume=False)
    peak = round(device_memory_mb(peak=True)) if forgotten else None
    validated = [loss for _, loss in result.validation_loss]
    row = {
        "variant": variant.name,
        "trained": count_parameters(model)["trained"],
        "adapter_mb": round(_trained_bytes(model) / 1e6, 2),
        "train_loss": round(result.train_loss[-1][1], 4),
        "validation_lowest": round(min(validated), 4),
        "validation_last": round(validated[-1], 4),
        "tokens_per_second": result.tokens_per_second,
        "minutes": round(result.seconds / 60, 2),
        "peak_memory_mb": peak,
    } | ({"valid_share": round(score(model, tokenizer), 4)} if score else {})
    del model, tokenizer
    release_memory()
    shutil.rmtree(place, ignore_errors=True)
    return row


def _trained_bytes(model) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)


def _forget_peak_memory() -> bool:
    """Set the high-water mark of memory back to now; False where the system has no such switch.

    Linux: the mark VmHWM is set back by writing 5 to clear_refs (proc_pid_clear_refs(5)).
    """
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def make_note(settings: Settings, steps: int, train: Sequence[Any], validation: Sequence[Any]) -> dict[str, Any]:
    """Return what a reader must know of a measured comparison: machine, profile, day, settings."""
    facts = machine()
    return {
        "machine": facts["gpu"] or f"{facts['cores']} cores of {facts['cpu']}, {facts['ram_gb']:.0f} GB of memory",
        "recipe": settings.recipe,
        "profile": settings.profile,
        "date": datetime.now(UTC).date().isoformat(),
        "base": Path(settings.model.name).name,
        "steps": steps,
        "batch": settings.sft.batch_size * settings.sft.gradient_accumulation,
        "learning_rate": settings.sft.learning_rate,
        "alpha_by_rank": settings.lora.alpha / settings.lora.r,
        "seed": settings.seed,
        "train_examples": len(train),
        "validation_examples": len(validation),
    }


def note_in_words(note: Mapping[str, Any]) -> str:
    """Return the note of a record as one sentence."""
    return (
        f"Measured with the recipe {note['recipe']} on {note['date']} on {note['machine']}, profile {note['profile']}, "
        f"base {note['base']}: "
        f"each variant {note['steps']} steps of {note['batch']} examples at learning rate {note['learning_rate']:g}, "
        f"seed {note['seed']}, {note['train_examples']} training and {note['validation_examples']} validation examples."
    )


def note_words(note: Mapping[str, Any]) -> Words:
    """Return the words of the recipe a record was measured with: its valid share is of that recipe's texts."""
    return words_of(resolve(note["recipe"], note["profile"]))


def save_record(rows: Sequence[Mapping[str, Any]], note: Mapping[str, Any], path: Path | None = None) -> Path:
    """Write a measured comparison as the one that is shown where none is made."""
    if not rows:
        raise LoraComparisonError("there is no row to record: run compare_lora first")
    return write_json(path or RECORD, {"note": dict(note), "rows": [dict(row) for row in rows]})


def recorded(path: Path | None = None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rows and the note of the recorded comparison. Raises LoraComparisonError where there is none."""
    file = path or RECORD
    if not file.exists():
        raise LoraComparisonError("no comparison is recorded: set sft.compare_lora=true to make one (some minutes)")
    found = json.loads(file.read_text(encoding="utf-8"))
    return found["rows"], found["note"]


def table(rows: Sequence[Mapping[str, Any]]) -> DataFrame:
    """Return the comparison as a table with one line a variant, numbers as they were measured."""
    import pandas as pd

    return pd.DataFrame([dict(row) for row in rows]).set_index("variant")
