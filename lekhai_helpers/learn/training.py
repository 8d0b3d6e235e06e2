"""Supervised fine-tuning: one `train_sft` for every profile, Unsloth's path. Taught in notebooks 02 and 06."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.recipe import Settings, Sft
from lekhai_helpers.core.run_folder import write_text
from lekhai_helpers.learn.model import unsloth_engine

Example = dict[str, Any]


class TrainingError(RuntimeError):
    """The training went wrong in a way that more steps will not mend; the text says what to change."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training left: losses by step, the step that was kept, tokens a second."""

    train_loss: list[tuple[int, float]]
    validation_loss: list[tuple[int, float]]
    kept_step: int
    steps: int
    seconds: float
    tokens_per_second: float

    @property
    def overfitting(self) -> str:
        """Say in words what the two losses say together."""
        if len(self.validation_loss) < 2:
            return "The validation loss was measured once only, so nothing can be said about overfitting."
        best_step, best = min(self.validation_loss, key=lambda pair: pair[1])
        last_step, last = self.validation_loss[-1]
        if last <= best * 1.01:
            return f"The validation loss was still falling or level at step {last_step}: no sign of overfitting."
        falling = self.train_loss[-1][1] < self.train_loss[0][1]
        return (
            f"The validation loss was lowest at step {best_step} ({best:.2f}) and rose to {last:.2f} by step "
            f"{last_step}{', while the training loss fell: the model began to learn by heart' if falling else ''}. "
            f"The weights of step {self.kept_step} are kept."
        )


def train_sft(
    model,
    tokenizer,
    train: Sequence[Example],
    validation: Sequence[Example],
    settings: Settings,
    folder: Path,
    *,
    ledger: Ledger | None = None,
    phase: str = "06_fine_tuning",
    live_plot: bool = False,
    resume: bool = True,
) -> TrainingResult:
    """Train the LoRA of `model` on prompt/completion messages; only the completion's tokens are learned.

    Checkpoints go to ``folder``; with `resume` the newest one there is continued, if it was made with the same
    settings, rows and base. Afterwards `model` holds the weights of the lowest validation loss or the last ones, as
    ``sft.keep`` says. Raises TrainingError where the gradient was not finite three times in a row.
    """
    unsloth_engine()
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    sft = settings.sft
    config = SFTConfig(
        output_dir=str(folder),
        max_steps=sft.max_steps,
        per_device_train_batch_size=sft.batch_size,
        per_device_eval_batch_size=sft.batch_size,
        gradient_accumulation_steps=sft.gradient_accumulation,
        gradient_checkpointing=settings.model.device != "cpu",
        learning_rate=sft.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(sft.warmup_share * sft.max_steps),
        weight_decay=sft.weight_decay,
        max_length=settings.model.max_seq_length,
        train_sampling_strategy="group_by_length",
        eval_strategy="steps",
        eval_steps=sft.eval_every,
        save_strategy="steps",
        save_steps=sft.eval_every,
        save_total_limit=2,
        load_best_model_at_end=sft.keep == "best",
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=max(1, sft.max_steps // 20),
        report_to="none",
        disable_tqdm=True,
        seed=settings.seed,
        data_seed=settings.seed,
    )
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        args=config,
        train_dataset=Dataset.from_list(_messages(train)),
        eval_dataset=Dataset.from_list(_messages(validation)),
        callbacks=progress_callbacks(ledger, phase, live_plot),
    )
    _print_one_way(trainer)
    last = _checkpoint_to_continue(folder, _made_with(model, train, validation, settings), sft.max_steps, resume)
    if ledger is not None and last is None:
        ledger.clear_metrics(phase)
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=last)
    return _result(trainer, time.monotonic() - began)


def _made_with(model, train: Sequence[Example], validation: Sequence[Example], settings: Settings) -> str:
    """Return a sum over all that decides what a checkpoint holds: settings, rows and the frozen weights below."""
    import torch

    frozen = [p for name, p in model.named_parameters() if "lora_" not in name]
    weights = sum(float(p.detach().sum(dtype=torch.float64)) for p in frozen)
    rows = json.dumps([_messages(train), _messages(validation), weights], sort_keys=True)
    return hashlib.sha256((settings.hash("model", "lora", "sft", "seed") + rows).encode()).hexdigest()


def _checkpoint_to_continue(folder: Path, made_with: str, max_steps: int, resume: bool) -> str | None:
    """Return the newest whole checkpoint in `folder` from before the last step, or None for a new beginning.

    The Trainer continues whatever it is given, and from a checkpoint of the last step it goes one step too far.
    """
    note = folder / "made_with.txt"
    if folder.exists() and not (resume and note.exists() and note.read_text(encoding="utf-8") == made_with):
        shutil.rmtree(folder)
    write_text(note, made_with)
    # The Trainer writes this file last.
    whole = {
        int(state.parent.name.split("-")[1]): state.parent for state in folder.glob("checkpoint-*/trainer_state.json")
    }
    step = max((step for step in whole if step < max_steps), default=None)
    return str(whole[step]) if step is not None else None


def short_lora_training(model, tokenizer, rows: Sequence[Example | str], settings: Settings, steps: int, folder: Path):
    """Train the LoRA of `model` for a few steps on plain texts or prompt/completion rows (the donors of notebook 02).

    Returns the losses as (step, loss).
    """
    unsloth_engine()
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    # A paragraph is a whole document, from BOS to EOS; messages get theirs from the template.
    bos, eos = tokenizer.bos_token or "", tokenizer.eos_token
    table = [{"text": f"{bos}{row}{eos}"} if isinstance(row, str) else _messages([row])[0] for row in rows]
    config = SFTConfig(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=settings.merge.batch_size,
        learning_rate=settings.merge.learning_rate,
        gradient_checkpointing=settings.model.device != "cpu",
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(0.1 * steps),
        max_length=settings.model.max_seq_length,
        logging_steps=max(1, steps // 5),
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=settings.seed,
        data_seed=settings.seed,
    )
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        args=config,
        train_dataset=Dataset.from_list(table),
        callbacks=progress_callbacks(None, "", False),
    )
    _print_one_way(trainer)
    trainer.train()
    return [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]


def effective_batch(sft: Sft) -> int:
    """Return how many examples one step of the optimiser sees."""
    return sft.batch_size * sft.gradient_accumulation


def progress_callbacks(ledger: Ledger | None, phase: str, live_plot: bool) -> list:
    """Return the callbacks of a training: plain lines, the ledger, the check of the gradient, the live plot."""
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        """Write each logged step to the ledger as it comes, and one plain line for the reader."""

        def __init__(self) -> None:
            self.began = time.monotonic()
            self.broken = 0

        def on_log(self, args, state, control, logs=None, **kwargs):
            values = numbers_in(logs or {})
            if ledger is not None:
                finite = {key: value for key, value in values.items() if math.isfinite(value)}
                ledger.log_metrics(phase, state.global_step, finite)
            self._stop_on_broken_gradient(values)
            shown = {key: values[key] for key in _SHOWN if key in values}
            if shown:
                words = ", ".join(f"{_SHOWN[key]} {value:.3f}" for key, value in shown.items())
                print(f"step {state.global_step:>4} of {state.max_steps}: {words}", flush=True)

        def _stop_on_broken_gradient(self, values: dict[str, float]) -> None:
            if "grad_norm" not in values:
                return
            self.broken = 0 if math.isfinite(values["grad_norm"]) else self.broken + 1
            if self.broken >= 3:
                raise TrainingError(
                    "the gradient was not finite three times in a row: lower sft.learning_rate, "
                    "or train in bfloat16 or float32 instead of float16"
                )

    class LivePlot(TrainerCallback):
        """Redraw the curve in the notebook while a person looks on."""

        def on_log(self, args, state, control, **kwargs):
            from IPython.display import clear_output, display

            from lekhai_helpers.core.plots import loss_curves

            if ledger is not None:
                clear_output(wait=True)
                display(loss_curves(ledger.metrics(phase)))

    return [Progress(), LivePlot()] if live_plot else [Progress()]


_SHOWN = {
    "loss": "loss",
    "eval_loss": "validation loss",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
}


def _print_one_way(trainer) -> None:
    """Drop the trainer's own printer: with it every figure would stand twice in the notebook."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def numbers_in(entry: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of one log entry; the Trainer writes some of them as text."""
    found = {}
    for key, value in entry.items():
        with contextlib.suppress(TypeError, ValueError):
            found[key] = float(value)
    return found


def _messages(examples: Sequence[Example]) -> list[Example]:
    return [{"prompt": example["prompt"], "completion": example["completion"]} for example in examples]


def _result(trainer, seconds: float) -> TrainingResult:
    log = trainer.state.log_history
    validation = [(entry["step"], float(entry["eval_loss"])) for entry in log if "eval_loss" in entry]
    tokens = max((float(entry["num_tokens"]) for entry in log if "num_tokens" in entry), default=0.0)
    loaded_best = trainer.args.load_best_model_at_end and trainer.state.best_global_step
    kept = trainer.state.best_global_step if loaded_best else trainer.state.global_step
    return TrainingResult(
        train_loss=[(entry["step"], float(entry["loss"])) for entry in log if "loss" in entry],
        validation_loss=validation,
        kept_step=kept,
        steps=trainer.state.global_step,
        seconds=round(seconds, 1),
        tokens_per_second=round(tokens / seconds, 1) if seconds else 0.0,
    )
