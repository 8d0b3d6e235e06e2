"""Export: the adapter and the merged 16-bit weights, and by the same name the model card and the hub upload.

Called by notebook 08 and, for the kept model, by notebook 10:
``save_adapter(model, tokenizer, folder)``, ``save_merged_16bit(model, tokenizer, folder)``,
``write_text(folder / "README.md", model_card(settings, ledger, figures))``, ``push_plan(folder)``.

Every folder is written beside its final name and renamed, so an interruption leaves no half model behind.
"""

from __future__ import annotations

import contextlib
import io
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

from lekhai_helpers.ship.card import model_card
from lekhai_helpers.ship.errors import ExportError
from lekhai_helpers.ship.hub import login_state, push, push_plan

__all__ = [
    "ExportError",
    "check_disk",
    "login_state",
    "merged_disk_mb",
    "model_card",
    "push",
    "push_plan",
    "save_adapter",
    "save_merged_16bit",
]


def save_adapter(model, tokenizer, folder: Path) -> Path:
    """Write the LoRA adapter (a few MB) and its tokenizer to `folder`. Returns the folder.

    Only the trained adapter is written: after DPO the model also carries the frozen reference, which is not ours
    to ship. Raises ExportError where no adapter came out.
    """
    folder = Path(folder)
    with _beside(folder) as place:
        model.save_pretrained(str(place), selected_adapters=["default"])
        tokenizer.save_pretrained(str(place))
        # PEFT writes an empty model card that names the base by its path on this machine; ours takes its place.
        (place / "README.md").unlink(missing_ok=True)
        _check_files(place, "adapter_config.json", "adapter_model.safetensors", "tokenizer_config.json")
    return folder


def save_merged_16bit(model, tokenizer, folder: Path) -> Path:
    """Write base and adapter as one ordinary 16-bit model to `folder`. Returns the folder.

    Unsloth reads the base's 16-bit weights anew and adds the adapter to them, so a base held in 4 bits is not
    merged in its rounded form. Raises ExportError before writing where the disk is too small, and after it where
    the result is not whole or not 16-bit.
    """
    folder = Path(folder)
    if not getattr(model, "peft_config", None):
        raise ExportError("the model carries no adapter, so there is nothing to merge: load it with adapter=...")
    check_disk(merged_disk_mb(model), folder)
    with _beside(folder) as place:
        # Unsloth prints the base's path on this machine; it does not belong in a notebook that is shown around.
        with contextlib.redirect_stdout(io.StringIO()):
            model.save_pretrained_merged(str(place), tokenizer=tokenizer, save_method="merged_16bit")
        _check_files(place, "config.json", "generation_config.json", "tokenizer_config.json", "*.safetensors")
        _check_sixteen_bit(place)
    return folder


def merged_disk_mb(model) -> float:
    """Return the disk space, in MB, that `save_merged_16bit` needs: two bytes a number, and a tenth to spare.

    A base from a hub counts twice: Unsloth fetches its 16-bit weights first.
    """
    named = [(name, p) for name, p in model.named_parameters() if "lora_" not in name]
    numbers = sum(_numbers(parameter) for _, parameter in named)
    copies = 1 if Path(model.config._name_or_path).is_dir() else 2
    return numbers * 2 * copies * 1.1 / 1e6


def check_disk(need_mb: float, folder: Path) -> None:
    """Raise ExportError where the disk of `folder` has less than `need_mb` MB left."""
    existing = next(parent for parent in Path(folder).absolute().parents if parent.exists())
    free_mb = shutil.disk_usage(existing).free / 1e6
    if free_mb < need_mb:
        raise ExportError(
            f"{Path(folder).name} needs {need_mb:,.0f} MB on disk and {free_mb:,.0f} MB are free: delete old runs, "
            "or set LEKHAI_RUNS to a folder on a larger disk"
        )


def _numbers(parameter) -> int:
    """Return how many numbers a parameter stands for; a 4-bit one holds two in each byte."""
    state = getattr(parameter, "quant_state", None)
    return math.prod(state.shape if state is not None else parameter.shape)


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """Give a fresh folder to write to; it takes `folder`'s name only when the block ends without an error."""
    place = folder.with_name(f"{folder.name}.writing")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        yield place
        if folder.exists():
            shutil.rmtree(folder)
        place.rename(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


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
