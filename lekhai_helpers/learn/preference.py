"""Preference alignment of the fine-tuned model: DPO, KTO or ORPO. Taught in notebook 10.

``check_method(settings)`` before anything is loaded, then ``align(model, tokenizer, pairs, settings, folder, ledger)``.

DPO: Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model".
KTO: Ethayarajh et al. 2024, "Model Alignment as Prospect Theoretic Optimization". ORPO: Hong et al. 2024,
"Monolithic Preference Optimization without Reference Model".
"""

from __future__ import annotations

import importlib.util
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.learn.callbacks import progress_callbacks
from lekhai_helpers.learn.model import unsloth_engine
from lekhai_helpers.learn.pairs import Pair, PreferenceError, check_pairs, whole_length
from lekhai_helpers.learn.thumbs import Thumb, check_thumbs, interleaved
from lekhai_helpers.learn.training import print_one_way

PHASE = "10_preference_alignment"


def check_method(settings: Settings) -> None:
    """Raise PreferenceError where the settings of dpo contradict each other, or the method is not installed.

    A setting that somebody set and that would be passed over in silence is a contradiction as well. One is passed
    over: ``dpo.sft_weight``, which every profile sets, is used by dpo only; kto has no term of imitation, and orpo's
    own has a fixed weight. Asked before anything is loaded.
    """
    dpo = settings.dpo
    if dpo.method == "kto" and not dpo.thumbs:
        raise PreferenceError("dpo.method=kto learns from a curator's thumbs: set dpo.thumbs to their JSONL file")
    if dpo.method != "kto" and dpo.thumbs:
        raise PreferenceError(f"dpo.thumbs is read by kto only: set dpo.method=kto, or drop it for {dpo.method}")
    if dpo.method == "kto" and dpo.batch_size < 2:
        raise PreferenceError("kto compares the rows of a batch with each other: set dpo.batch_size to 2 or more")
    if dpo.method != "dpo" and dpo.loss != "sigmoid":
        raise PreferenceError(f"dpo.loss={dpo.loss} is a loss of dpo; {dpo.method} has its own: drop it")
    if dpo.loss == "robust" and dpo.label_smoothing == 0:
        raise PreferenceError("dpo.loss=robust is told how many pairs are the wrong way: set dpo.label_smoothing=0.1")
    if dpo.loss != "robust" and dpo.label_smoothing > 0:
        raise PreferenceError("dpo.label_smoothing is used by dpo.loss=robust only: set the one or drop the other")
    if dpo.method == "orpo" and not has_orpo():
        raise PreferenceError("the installed trl has no ORPO: set dpo.method=dpo, or run `bash colab_setup.sh`")


def has_orpo() -> bool:
    """Say whether the installed trl carries ORPO. Looked up in its folder: trl must not be imported before Unsloth."""
    spec = importlib.util.find_spec("trl")
    folders = list(spec.submodule_search_locations or []) if spec else []
    return any((Path(folder) / "experimental" / "orpo" / "orpo_trainer.py").exists() for folder in folders)


def check_material(
    material: Sequence[Pair] | Sequence[Thumb], tokenizer, max_length: int, loss: str = "sigmoid"
) -> list[dict[str, Any]]:
    """Return one row with the lengths for every pair or thumb; see `check_pairs` and `check_thumbs` for what raises."""
    thumbs = [row for row in material if isinstance(row, Thumb)]
    if thumbs:
        return check_thumbs(thumbs, tokenizer, max_length)
    return check_pairs([row for row in material if isinstance(row, Pair)], tokenizer, max_length, loss)


def align(
    model,
    tokenizer,
    material: Sequence[Pair] | Sequence[Thumb],
    settings: Settings,
    folder: Path,
    ledger: Ledger | None = None,
    max_length: int | None = None,
) -> list[dict[str, Any]]:
    """Align `model` (the SFT model with its adapter) with ``settings.dpo.method``; `material` is pairs, thumbs for kto.

    For dpo and kto the frozen copy of the adapter as it is now is the reference; orpo needs none. A term of plain
    imitation of the better side is added by ``dpo.sft_weight`` for dpo; orpo brings its own, kto has none, and both
    pass that setting over. Returns the log, a dict a step. Raises PreferenceError for settings or rows that cannot be
    used, before the first step.
    """
    check_method(settings)
    limit = max_length or settings.model.max_seq_length
    _refuse_cut_sides(tokenizer, material, limit)
    unsloth_engine().for_training(model)

    trainer = _TRAINERS[settings.dpo.method](
        model, tokenizer, material, settings, folder, limit, progress_callbacks(ledger, PHASE, False)
    )
    print_one_way(trainer)
    if ledger is not None:
        ledger.clear_metrics(PHASE)
    began = time.monotonic()
    trainer.train()
    print(f"{len(material)} rows, {settings.dpo.max_steps} steps in {time.monotonic() - began:.0f} s")
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def _refuse_cut_sides(tokenizer, material: Sequence[Pair] | Sequence[Thumb], limit: int) -> None:
    """The trainers cut without a word, and a side without its end teaches never to stop."""
    for row in material:
        sides = (row.chosen, row.rejected) if isinstance(row, Pair) else (row.completion,)
        longest = max(whole_length(tokenizer, row.prompt, side) for side in sides)
        if longest > limit:
            raise PreferenceError(
                f"row {row.example}: {longest} tokens would be cut at {limit}: raise model.max_seq_length"
            )


def _common(settings: Settings, folder: Path, limit: int) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "max_steps": settings.dpo.max_steps,
        "per_device_train_batch_size": settings.dpo.batch_size,
        "gradient_checkpointing": settings.model.device != "cpu",
        # As in the fine-tuning, and as `learn.memory` reckons.
        "optim": "adamw_8bit" if settings.model.device == "cuda" else "adamw_torch",
        "learning_rate": settings.dpo.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": math.ceil(0.1 * settings.dpo.max_steps),
        "beta": settings.dpo.beta,
        "max_length": limit,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": settings.seed,
        "data_seed": settings.seed,
    }


def _dpo_trainer(model, tokenizer, pairs: Sequence[Pair], settings: Settings, folder: Path, limit: int, callbacks):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    dpo = settings.dpo
    weighted = dpo.sft_weight > 0
    config = DPOConfig(
        **_common(settings, folder, limit),
        # The SFT term keeps the chosen side likely while the margin grows.
        loss_type=[dpo.loss, "sft"] if weighted else [dpo.loss],
        loss_weights=[1.0, dpo.sft_weight] if weighted else None,
        label_smoothing=dpo.label_smoothing,
    )
    rows = Dataset.from_list(_paired_rows(pairs))
    return DPOTrainer(model=model, processing_class=tokenizer, args=config, train_dataset=rows, callbacks=callbacks)


def _kto_trainer(model, tokenizer, thumbs: Sequence[Thumb], settings: Settings, folder: Path, limit: int, callbacks):
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    ups = sum(thumb.label for thumb in thumbs)
    downs = len(thumbs) - ups
    if not ups or not downs or len(thumbs) < settings.dpo.batch_size:
        raise PreferenceError(f"kto needs both thumbs and at least one batch of them; here are {ups} up, {downs} down")
    config = KTOConfig(
        **_common(settings, folder, limit),
        # The rarer thumb weighs more, so that both weigh the same altogether (equation 8 of the paper).
        desirable_weight=max(1.0, downs / ups),
        undesirable_weight=max(1.0, ups / downs),
        dataloader_drop_last=True,  # a last batch of one row has no other to be compared with
    )
    rows = [
        {
            "prompt": thumb.prompt,
            "completion": [{"role": "assistant", "content": thumb.completion}],
            "label": thumb.label,
        }
        for thumb in interleaved(thumbs, settings.seed)
    ]
    table = Dataset.from_list(rows)
    return KTOTrainer(model=model, processing_class=tokenizer, args=config, train_dataset=table, callbacks=callbacks)


def _orpo_trainer(model, tokenizer, pairs: Sequence[Pair], settings: Settings, folder: Path, limit: int, callbacks):
    # trl warns that ORPO lies among what may change; check_method finds out when it is gone.
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from datasets import Dataset
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    config = ORPOConfig(**_common(settings, folder, limit), remove_unused_columns=False)
    rows = Dataset.from_list(_paired_rows(pairs))
    return ORPOTrainer(model=model, processing_class=tokenizer, args=config, train_dataset=rows, callbacks=callbacks)


def _paired_rows(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    return [
        {
            "prompt": pair.prompt,
            "chosen": [{"role": "assistant", "content": pair.chosen}],
            "rejected": [{"role": "assistant", "content": pair.rejected}],
        }
        for pair in pairs
    ]


_TRAINERS: dict[str, Callable[..., Any]] = {"dpo": _dpo_trainer, "kto": _kto_trainer, "orpo": _orpo_trainer}
