"""Supervised fine-tuning: one `train_sft` for every profile, Unsloth's path. Taught in notebook 06."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.recipe import Settings, Sft
from lekhai_helpers.learn.callbacks import TrainingError, patience_is_over, progress_callbacks, save_every, stop_early
from lekhai_helpers.learn.checkpoints import checkpoint_to_continue, made_with
from lekhai_helpers.learn.model import unsloth_engine
from lekhai_helpers.learn.packing import rows_kept_apart, turned_off
from lekhai_helpers.learn.sampling import by_length

Example = dict[str, Any]
# A score looks at the model in the middle of a training and returns a share, 0 to 1; higher is better.
Score = Callable[[Any, Any], float]


@dataclass(frozen=True)
class TrainingResult:
    """What a training left: losses by step, the step that was kept, tokens a second.

    ``valid_answers`` is what the score said by step, empty where none was given; ``planned`` the steps the settings
    ask for, more than ``steps`` where it was stopped early; ``validation_before`` the validation loss of the model as
    it was before the first step, in nats per token; ``out_of_patience`` whether ``sft.patience`` was used up.
    """

    train_loss: list[tuple[int, float]]
    validation_loss: list[tuple[int, float]]
    kept_step: int
    steps: int
    seconds: float
    tokens_per_second: float
    valid_answers: list[tuple[int, float]]
    planned: int
    validation_before: float
    out_of_patience: bool = False

    @property
    def overfits(self) -> bool:
        """Say whether the validation loss rose by more than 1% above its lowest while the training loss fell."""
        best, last = min(loss for _, loss in self.validation_loss), self.validation_loss[-1][1]
        return last > best * 1.01 and self.train_loss[-1][1] < self.train_loss[0][1]

    @property
    def overfitting(self) -> str:
        """Say in words what the two losses say together."""
        if len(self.validation_loss) < 2:
            return "The validation loss was measured once only, so nothing can be said about overfitting."
        best_step, best = min(self.validation_loss, key=lambda pair: pair[1])
        last_step, last = self.validation_loss[-1]
        if last <= best * 1.01:
            return f"The validation loss was still falling or level at step {last_step}: no sign of overfitting."
        by_heart = ", while the training loss fell: the model began to learn by heart" if self.overfits else ""
        return (
            f"The validation loss was lowest at step {best_step} ({best:.2f}) and rose to {last:.2f} by step "
            f"{last_step}{by_heart}. The weights of step {self.kept_step} are kept."
        )

    @property
    def validation_gap(self) -> float:
        """Validation loss minus training loss at the step that was kept, in nats per token."""
        return _nearest(self.validation_loss, self.kept_step) - _nearest(self.train_loss, self.kept_step)


def _nearest(losses: Sequence[tuple[int, float]], step: int) -> float:
    return min(losses, key=lambda pair: abs(pair[0] - step))[1]


def train_sft(
    model,
    tokenizer,
    train: Sequence[Example],
    validation: Sequence[Example],
    settings: Settings,
    folder: Path,
    *,
    max_length: int | None = None,
    score: Score | None = None,
    ledger: Ledger | None = None,
    phase: str = "06_fine_tuning",
    live_plot: bool = False,
    resume: bool = True,
) -> TrainingResult:
    """Train the LoRA of `model` on prompt/completion messages; only the completion's tokens are learned.

    Checkpoints go to ``folder``, at every look at the validation rows and after ``sft.checkpoint_minutes``; with
    `resume` the newest whole one there is continued, if it was made with the same settings, rows and base.
    Afterwards `model` holds the weights that ``sft.keep`` names. `max_length` is in tokens, ``model.max_seq_length``
    without it; no row may be longer. Raises TrainingError where the settings cannot be carried out or the gradient
    was not finite three times in a row.
    """
    unsloth_engine().for_training(model)
    from datasets import Dataset

    _check_settings(model, tokenizer, settings.sft, score)
    train, validation = messages_of(train), messages_of(validation)
    callbacks = [*progress_callbacks(ledger, phase, live_plot), save_every(settings.sft.checkpoint_minutes)]
    trainer = _trainer_class(settings, score)(
        model=model,
        processing_class=tokenizer,
        args=_config(settings, folder, max_length or settings.model.max_seq_length),
        train_dataset=Dataset.from_list(train),
        eval_dataset=Dataset.from_list(validation),
        callbacks=callbacks + ([stop_early(settings.sft.patience)] if settings.sft.patience else []),
    )
    print_one_way(trainer)
    # Of several processes the first decides, and the others find its decision.
    with trainer.accelerator.main_process_first():
        last = checkpoint_to_continue(folder, made_with(model, [train, validation], settings), settings, resume)
    if ledger is not None and last is None:
        ledger.clear_metrics(phase)
    trainer.args.eval_on_start = last is None  # after a resume it stands in the history already
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=last)
    return _result(trainer, time.monotonic() - began, settings.sft.patience)


def _check_settings(model, tokenizer, sft: Sft, score: Score | None) -> None:
    if sft.keep == "contract" and score is None:
        raise TrainingError("sft.keep is contract, but no score was given to tell good answers from bad")
    if sft.packing:
        apart, why = rows_kept_apart(model, tokenizer)
        if not apart:
            raise TrainingError(f"sft.packing would mix the rows: {why}; set sft.packing=false")
        if why := turned_off():
            raise TrainingError(why)


def _config(settings: Settings, folder: Path, max_length: int):
    from trl import SFTConfig

    sft = settings.sft
    if sft.tracker == "tensorboard":
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder.with_name("tensorboard"))
    return SFTConfig(
        output_dir=str(folder),
        max_steps=sft.max_steps,
        per_device_train_batch_size=sft.batch_size,
        per_device_eval_batch_size=sft.batch_size,
        gradient_accumulation_steps=sft.gradient_accumulation,
        gradient_checkpointing=settings.model.device != "cpu",
        # The optimiser that `learn.memory` reckons with: two bytes a trained number on a card, eight elsewhere.
        optim="adamw_8bit" if settings.model.device == "cuda" else "adamw_torch",
        learning_rate=sft.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(sft.warmup_share * sft.max_steps),
        weight_decay=sft.weight_decay,
        max_length=max_length,
        packing=sft.packing,
        eval_strategy="steps",
        eval_steps=sft.eval_every,
        save_strategy="steps",
        save_steps=sft.eval_every,
        save_total_limit=2,
        load_best_model_at_end=sft.keep != "last",
        metric_for_best_model="eval_choice" if sft.keep == "contract" else "eval_loss",
        greater_is_better=sft.keep == "contract",
        logging_steps=max(1, sft.max_steps // 20),
        report_to=sft.tracker,
        disable_tqdm=True,
        seed=settings.seed,
        data_seed=settings.seed,
    )


def _trainer_class(settings: Settings, score: Score | None):
    """Return TRL's SFTTrainer with our order of the rows, which also takes the score at every look."""
    import torch
    from trl import SFTTrainer

    class Trainer(SFTTrainer):
        def _get_train_sampler(self, train_dataset=None):
            lengths = [len(ids) for ids in (train_dataset or self.train_dataset)["input_ids"]]
            return by_length(lengths, effective_batch(settings.sft), settings.seed)

        def evaluate(self, *args, **kwargs):
            metrics = super().evaluate(*args, **kwargs)
            if score is None or self.state.global_step == 0:
                return metrics
            # Writing answers throws dice; without their own the training would go on differently than without it.
            with torch.random.fork_rng():
                value = score(self.model, self.processing_class)
            unsloth_engine().for_training(self.model)
            self.log({"eval_valid_answers": value})
            # Of equally many valid answers the later look decides; it never outweighs one answer.
            return metrics | {"eval_valid_answers": value, "eval_choice": value + 1e-7 * self.state.global_step}

    return Trainer


def effective_batch(sft: Sft) -> int:
    """Return how many examples one step of the optimiser sees."""
    return sft.batch_size * sft.gradient_accumulation * sft.processes


def print_one_way(trainer) -> None:
    """Drop the trainer's own printer: with it every figure would stand twice in the notebook."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def messages_of(examples: Sequence[Example]) -> list[Example]:
    """Return what the trainer reads of each example: its prompt and its completion."""
    return [{"prompt": example["prompt"], "completion": example["completion"]} for example in examples]


def _result(trainer, seconds: float, patience: int | None) -> TrainingResult:
    log = trainer.state.log_history
    # After a resume the trainer counts its tokens from 0 again, as this clock does.
    tokens = float(next((entry["num_tokens"] for entry in reversed(log) if "num_tokens" in entry), 0))
    before, *validation = _series(log, "eval_loss")
    loaded_best = trainer.args.load_best_model_at_end and trainer.state.best_global_step
    return TrainingResult(
        train_loss=_series(log, "loss"),
        validation_loss=validation,
        kept_step=trainer.state.best_global_step if loaded_best else trainer.state.global_step,
        steps=trainer.state.global_step,
        seconds=round(seconds, 1),
        tokens_per_second=round(tokens / seconds, 1) if seconds else 0.0,
        valid_answers=_series(log, "eval_valid_answers"),
        planned=trainer.state.max_steps,
        validation_before=before[1],
        out_of_patience=patience_is_over(log, patience),
    )


def _series(log: Sequence[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    return [(entry["step"], float(entry[name])) for entry in log if name in entry]
