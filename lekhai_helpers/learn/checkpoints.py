"""Which checkpoint a training may go on from: whole, and made with the same settings, rows and base."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lekhai_helpers.core.run_folder import write_text


def made_with(model, rows: Sequence[Any], settings_hash: str) -> str:
    """Return a sum over all that decides what a checkpoint holds: settings, rows and the frozen weights below."""
    import torch

    frozen = [p for name, p in model.named_parameters() if "lora_" not in name]
    weights = sum(float(p.detach().sum(dtype=torch.float64)) for p in frozen)
    return hashlib.sha256((settings_hash + json.dumps([*rows, weights], sort_keys=True)).encode()).hexdigest()


def checkpoint_to_continue(folder: Path, made_with: str, max_steps: int, resume: bool) -> str | None:
    """Return the newest whole checkpoint in `folder` from before the last step, or None for a new beginning.

    The Trainer continues whatever it is given, and from a checkpoint of the last step it goes one step too far.
    A broken checkpoint (a disk that was full, a Drive that was not done copying) is passed over, and the reader told.
    """
    note = folder / "made_with.txt"
    if folder.exists() and not (resume and note.exists() and note.read_text(encoding="utf-8") == made_with):
        shutil.rmtree(folder)
    write_text(note, made_with)
    found = {int(path.name.split("-")[1]): path for path in folder.glob("checkpoint-*")}
    for step in sorted((step for step in found if step < max_steps), reverse=True):
        broken = what_is_broken(found[step])
        if broken is None:
            print(f"going on from step {step}")
            return str(found[step])
        print(f"the checkpoint of step {step} is passed over: {broken}")
    return None


def what_is_broken(checkpoint: Path) -> str | None:
    """Say what is wrong with a checkpoint of the Trainer, or None where all of it can be read.

    The Trainer writes trainer_state.json last; the weights' file says itself how long it must be, and torch's files
    are zip archives whose directory stands at their end.
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
    for name in ("optimizer.pt", "scheduler.pt"):
        if not zipfile.is_zipfile(checkpoint / name):
            return f"{name} is missing or cut"
    # One file for one process, rng_state_0.pth and so on for several.
    if not any(zipfile.is_zipfile(path) for path in checkpoint.glob("rng_state*.pth")):
        return "the state of the dice (rng_state.pth) is missing or cut"
    return None
