"""What watches a training: plain lines, the ledger, the live plot, the gradient, the clock. See `learn.training`."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.learn.model import device_memory_mb

BROKEN_IN_A_ROW = 3

# Names in the log, and how the reader sees them.
_SHOWN = {
    "loss": "loss {:.3f}",
    "eval_loss": "validation loss {:.3f}",
    "eval_valid_answers": "valid answers {:.0%}",
    "rewards/margins": "margin {:.3f}",
    "rewards/accuracies": "accuracy {:.3f}",
    "tokens_per_second": "{:.0f} tokens/s",
    "memory_mb": "{:,.0f} MB",
}


class TrainingError(RuntimeError):
    """The training went wrong in a way that more steps will not mend; the text says what to change."""


def progress_callbacks(ledger: Ledger | None, phase: str, live_plot: bool) -> list:
    """Return the callbacks of a training: plain lines, the ledger, the check of the gradient, the live plot.

    Every logged training step carries two figures of our own: ``tokens_per_second`` (the time of the steps alone, no
    evaluation, no writing of checkpoints) and ``memory_mb`` (the most held so far, see `device_memory_mb`).
    """
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        """Write each logged step to the ledger as it comes, and one plain line for the reader."""

        def __init__(self) -> None:
            self.speed = _Speed()

        def on_step_begin(self, args, state, control, **kwargs):
            self.speed.step_begins()

        def on_step_end(self, args, state, control, **kwargs):
            self.speed.step_ends()

        def on_log(self, args, state, control, logs=None, **kwargs):
            if not state.is_world_process_zero:
                return
            values = numbers_in(logs or {})
            if "loss" in values:
                values |= self.speed.since_last(values.get("num_tokens")) | {"memory_mb": device_memory_mb(peak=True)}
            if ledger is not None:
                finite = {key: value for key, value in values.items() if math.isfinite(value)}
                ledger.log_metrics(phase, state.global_step, finite)
            words = ", ".join(words.format(values[key]) for key, words in _SHOWN.items() if key in values)
            if words:
                print(f"step {state.global_step:>4} of {state.max_steps}: {words}", flush=True)

    class LivePlot(TrainerCallback):
        """Redraw the curves in the notebook while a person looks on."""

        def on_log(self, args, state, control, **kwargs):
            from IPython.display import clear_output, display

            from lekhai_helpers.core.plots import loss_curves

            if ledger is not None and state.is_world_process_zero:
                clear_output(wait=True)
                display(loss_curves(ledger.metrics(phase)))

    return [Progress(), stop_on_broken_gradient(), *([LivePlot()] if live_plot else [])]


class _Speed:
    """Tokens a second over the optimiser's steps since the last log."""

    def __init__(self) -> None:
        self.seconds, self.began = 0.0, 0.0
        self.tokens: float | None = None

    def step_begins(self) -> None:
        self.began = time.monotonic()

    def step_ends(self) -> None:
        self.seconds += time.monotonic() - self.began

    def since_last(self, tokens: float | None) -> dict[str, float]:
        """Return the speed, or nothing where the trainer counts no tokens; after a resume the first log has none."""
        before, seconds = self.tokens, self.seconds
        self.tokens, self.seconds = tokens, 0.0
        if tokens is None or before is None or seconds == 0 or tokens < before:
            return {}
        return {"tokens_per_second": (tokens - before) / seconds}


def stop_on_broken_gradient():
    """Return a callback that stops a training whose gradient was not finite three steps in a row.

    It raises TrainingError. In float16 the first steps are passed over: there the scaler finds its scale by overflow.
    """
    import torch
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        broken = 0

        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            if args.fp16 and state.global_step < 8:
                return
            # One answer for all gradients: a card is asked once a step, not once a tensor.
            finite = bool(
                torch.stack([p.grad.isfinite().all() for p in model.parameters() if p.grad is not None]).all()
            )
            self.broken = 0 if finite else self.broken + 1
            if self.broken >= BROKEN_IN_A_ROW:
                raise TrainingError(
                    f"the gradient was not finite three times in a row, at step {state.global_step + 1}: lower "
                    "sft.learning_rate, or train in bfloat16 or float32 instead of float16"
                )

    return Watch()


def stop_early(patience: int):
    """Return a callback that ends the training after `patience` looks without a lower validation loss.

    It reads the history that a checkpoint carries, so a resume goes on counting.
    """
    from transformers import TrainerCallback

    class StopEarly(TrainerCallback):
        def on_evaluate(self, args, state, control, **kwargs):
            if patience_is_over(state.log_history, patience):
                control.should_training_stop = True

    return StopEarly()


def patience_is_over(log_history: Sequence[Mapping[str, Any]], patience: int | None) -> bool:
    """Say whether the last `patience` looks at the validation rows were all no better than the best before them."""
    losses = [float(entry["eval_loss"]) for entry in log_history if "eval_loss" in entry]
    return patience is not None and len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])


def save_every(minutes: float):
    """Return a callback that asks for a checkpoint where the last one is older than `minutes`."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            self.saved = time.monotonic()

        def on_step_end(self, args, state, control, **kwargs):
            control.should_save = control.should_save or time.monotonic() - self.saved >= 60 * minutes

        def on_save(self, args, state, control, **kwargs):
            self.saved = time.monotonic()

    return Clock()


def numbers_in(entry: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of one log entry; the Trainer writes some of them as text."""
    found = {}
    for key, value in entry.items():
        with contextlib.suppress(TypeError, ValueError):
            found[key] = float(value)
    return found
