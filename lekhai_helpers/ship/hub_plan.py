"""What of a folder goes to a hub, and what stays here: the list a dry run prints and a push sends. See `ship.hub`."""

from __future__ import annotations

import json
import os
from fnmatch import fnmatch
from pathlib import Path

from lekhai_helpers.ship.errors import ExportError
from lekhai_helpers.ship.secret_scan import find_secret

# Never sent: what only training needs, copies of other models, and anything that smells of a secret.
LEFT_OUT_FILES = (
    *("optimizer*", "scheduler*", "scaler*", "rng_state*", "training_args.bin", "trainer_state.json"),
    *("*.env", "*.key", "*.pem", "*.p12", "id_rsa*", "secrets*", "credentials*", "*.db", "*.lock", "*.writing"),
)
LEFT_OUT_FOLDERS = ("ref", "checkpoint-*", "__pycache__", "*.writing", "*.partial", "*.previous")
# Configs name the model they came from by its path on this machine; only the last part of it is sent.
_PATHS_IN = {"adapter_config.json": "base_model_name_or_path", "config.json": "_name_or_path"}


def push_plan(folder: Path) -> list[tuple[str, float]]:
    """Return what `push` would send, as (path inside the folder, size in MB), sorted by path.

    Raises ExportError where the folder holds nothing to send, a file looks as if it held a secret, or a link leads
    out of the folder.
    """
    folder = Path(folder)
    plan = []
    for inside in _inside(folder):
        if _left_out(inside):
            continue
        path = folder / inside
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ExportError(f"{inside} is a link to a file outside {folder.name}: replace it by a copy, or delete it")
        if found := find_secret(path):
            raise ExportError(f"{inside} seems to hold {found}: take it out, and revoke it where it is from")
        plan.append((inside.as_posix(), path.stat().st_size / 1e6))
    if not plan:
        raise ExportError(f"{folder.name} holds nothing that should be sent: run notebook 08 first")
    return plan


def kept_here(folder: Path) -> list[str]:
    """Return the files of a folder that `push` leaves out, sorted by path."""
    return [inside.as_posix() for inside in _inside(Path(folder)) if _left_out(inside)]


def content(folder: Path, path: str) -> str | bytes:
    """Return what is sent for one file: its path, or its bytes where a path of this machine had to be taken out."""
    key = _PATHS_IN.get(Path(path).name)
    if key is None:
        return str(folder / path)
    config = json.loads((folder / path).read_text(encoding="utf-8"))
    named = str(config.get(key) or "")
    if not os.path.isabs(named):
        return str(folder / path)
    return json.dumps(config | {key: Path(named).name}, indent=2, ensure_ascii=False).encode()


def _inside(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ExportError(f"there is no folder {folder.name} to send: run notebook 08 first")
    return [path.relative_to(folder) for path in sorted(folder.rglob("*")) if not path.is_dir()]


def _left_out(inside: Path) -> bool:
    *folders, name = [part.lower() for part in inside.parts]
    hidden = any(part.startswith(".") for part in [*folders, name])
    return (
        hidden
        or any(fnmatch(part, pattern) for part in folders for pattern in LEFT_OUT_FOLDERS)
        or any(fnmatch(name, pattern) for pattern in LEFT_OUT_FILES)
    )
