"""Which checkpoint a training may go on from: whole, and made with the same settings, rows and base."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.core.run_folder import write_text
from lekhai_helpers.learn.callbacks import patience_is_over

# What does not change the weights must not throw away a checkpoint.
_HARMLESS = {"tracker", "compare_lora", "checkpoint_minutes"}


def made_with(model, rows: Sequence[Any], settings: Settings) -> str:
    """Return a sum over all that decides what a checkpoint holds: settings, rows and the frozen weights below.

    Of the weights the first numbers of every tensor are taken, exactly: a sum over all of them would depend on the
    machine that adds them up.
    """
    import torch

    frozen = [p for name, p in model.named_parameters() if "lora_" not in name and p.is_floating_point()]
    weights = [p.detach().flatten()[:16].to(torch.float32).tolist() for p in frozen]
    chosen = [settings.hash("model", "lora", "seed"), settings.sft.model_dump(exclude=_HARMLESS)]
    return hashlib.sha256(json.dumps([chosen, *rows, weights], sort_keys=True).encode()).hexdigest()


def checkpoint_to_continue(folder: Path, made_with: str, settings: Settings, resume: bool) -> str | None:
    """Return the newest whole checkpoint in `folder` from before the end, or None for a new beginning.

    The Trainer continues whatever it is given, and from a checkpoint of the last step it goes one step too far.
    A broken checkpoint (a disk that was full, a Drive that was not done copying) is passed over, and the reader told.
    Checkpoints made with something else are put aside as ``<folder>.previous``.
    """
    note = folder / "made_with.txt"
    if folder.exists() and not (resume and note.exists() and note.read_text(encoding="utf-8") == made_with):
        _put_aside(folder, resume)
    write_text(note, made_with)
    found = {int(path.name.split("-")[1]): path for path in folder.glob("checkpoint-*")}
    for step in sorted(found, reverse=True):
        broken = what_is_broken(found[step], settings.sft.processes)
        if broken is not None:
            print(f"the checkpoint of step {step} is passed over: {broken}")
        elif not _is_the_end(found[step], step, settings):
            print(f"going on from step {step}")
            return str(found[step])
    return None


def _put_aside(folder: Path, resume: bool) -> None:
    """Keep what cannot be continued under another name, and say so; where nothing is to be continued, it goes."""
    if not resume or not any(folder.glob("checkpoint-*")):
        shutil.rmtree(folder)
        return
    previous = folder.with_name(f"{folder.name}.previous")
    shutil.rmtree(previous, ignore_errors=True)
    folder.rename(previous)
    print("the checkpoints here were made with other settings, rows or another base: put aside, beginning anew")


def _is_the_end(checkpoint: Path, step: int, settings: Settings) -> bool:
    history = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    return step >= settings.sft.max_steps or patience_is_over(history, settings.sft.patience)


def what_is_broken(checkpoint: Path, processes: int = 1) -> str | None:
    """Say what is wrong with a checkpoint of the Trainer, or None where all of it can be read.

    The Trainer writes trainer_state.json last; the weights' file says itself how long it must be, and torch's files
    are zip archives whose directory stands at their end. Every process has its own state of the dice.
    """
    from safetensors import SafetensorError, safe_open

    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "trainer_state.json is missing or cut"
    try:
        with safe_open(checkpoint / "adapter_model.safetensors", framework="numpy"):
            pass
    except (OSError, SafetensorError):
        return "adapter_model.safetensors is missing or cut"
    dice = ["rng_state.pth"] if processes == 1 else [f"rng_state_{number}.pth" for number in range(processes)]
    scaler = ["scaler.pt"] if (checkpoint / "scaler.pt").exists() else []  # only in float16
    for name in ("optimizer.pt", "scheduler.pt", *dice, *scaler):
        if not zipfile.is_zipfile(checkpoint / name):
            return f"{name} is missing or cut"
    return None
