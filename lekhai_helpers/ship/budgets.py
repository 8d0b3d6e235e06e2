"""What an export will take on disk and in memory, computed before its first byte is written.

``merged_budget(model)``, ``gguf_budget(config, kinds)``, ``four_bit_budget(config)`` each return a `Budget`;
``budget.check(folder)`` raises ExportError where it does not fit. One MB is 10^6 bytes. Taught in notebooks 08 and 12.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lekhai_helpers.core.hardware import machine
from lekhai_helpers.learn.shapes import shapes, weights_from_shapes
from lekhai_helpers.ship.atomic import can_link, clear_unfinished
from lekhai_helpers.ship.errors import ExportError
from lekhai_helpers.ship.fit import file_mb

_SPARE = 1.1  # a tenth beside what was computed: tokenizer, card, the file system's own blocks
# torch, transformers, bitsandbytes and a tokenizer, with what they leave behind between two models: measured on a
# processor. Pages of a weights file that is only mapped are not counted: the system takes them back where it must.
_LIBRARIES_MB = 950
_CONVERTER_MB = 500  # the converter's own libraries
PLACES = 256  # of the texts that a 4-bit export is compared on


@dataclass(frozen=True)
class Budget:
    """What one export needs while it is being written, in MB of 10^6 bytes, and how that was reckoned."""

    what: str
    disk_mb: float
    memory_mb: float
    why: str

    def check(self, folder: Path) -> Budget:
        """Return this budget, or raise ExportError where the disk of `folder` or the free memory is too small."""
        check_disk(self.disk_mb, folder, self.what)
        check_memory(self.memory_mb, self.what)
        return self


def check_disk(need_mb: float, folder: Path, what: str | None = None) -> None:
    """Raise ExportError where the disk of `folder` has less than `need_mb` MB left."""
    place = Path(folder).absolute()
    existing = next(parent for parent in (place, *place.parents) if parent.exists())
    free_mb = shutil.disk_usage(existing).free / 1e6
    if free_mb < need_mb:
        raise ExportError(
            f"{what or place.name} needs {need_mb:,.0f} MB on disk and {free_mb:,.0f} MB are free: delete old runs, "
            "or set LEKHAI_RUNS to a folder on a larger disk"
        )


def check_memory(need_mb: float, what: str) -> None:
    """Raise ExportError where this machine has less than `need_mb` MB of memory free."""
    free_mb = machine()["ram_free_gb"] * 1024**3 / 1e6
    if free_mb < need_mb:
        raise ExportError(
            f"{what} needs {need_mb:,.0f} MB of memory and {free_mb:,.0f} MB are free: close other programs and other "
            "notebooks, or export on a machine with more memory"
        )


def merged_budget(model: Any) -> Budget:
    """Return what `save_merged_16bit` needs beside the loaded model.

    Disk: two bytes a number; a base from a hub counts twice, because Unsloth fetches its 16-bit weights first. Memory:
    tensor by tensor, the largest one in 16 bits and twice in 32 (itself and the sum).
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if "lora_" not in name]
    sizes = [_numbers(parameter) for _, parameter in named]
    copies = 1 if Path(model.config._name_or_path).is_dir() else 2
    disk = sum(sizes) * 2 * copies * _SPARE / 1e6
    return Budget("the merged model", disk, max(sizes) * 10 / 1e6, "two bytes a number, and a tenth to spare")


def _numbers(parameter: Any) -> int:
    """Return how many numbers a parameter stands for; a 4-bit one holds two in each byte."""
    state = getattr(parameter, "quant_state", None)
    return math.prod(state.shape if state is not None else parameter.shape)


def gguf_budget(
    config: Mapping[str, Any], kinds: Sequence[str], trials: Sequence[str] = (), kept_mb: float = 0.0
) -> Budget:
    """Return what a set of GGUF files needs: all of them on disk, and the f16 file, which the others are made from.

    `trials` are the kinds of files that only stand for a while (one that keeps some tensors at eight bits counts as
    q8_0), and `kept_mb` what else does: predictions kept for comparing, and a copy of the source. Memory: converter and
    quantiser go tensor by tensor, so the largest in 32 bits, twice, and the converter itself.
    """
    made = dict.fromkeys(["f16", *kinds])
    disk = sum(file_mb(config, kind) for kind in [*made, *trials]) * _SPARE + kept_mb
    return Budget(
        f"the GGUF set ({', '.join(made)})",
        disk,
        _largest(config) * 8 / 1e6 + _CONVERTER_MB,
        "block sizes of llama.cpp's types times the shapes, and a tenth to spare",
    )


def begin_gguf_set(
    folder: Path,
    config: Mapping[str, Any],
    kinds: Sequence[str],
    trials: Sequence[str] = (),
    kept_mb: float = 0.0,
    source: str | Path | None = None,
) -> Budget:
    """Make ready for a set of GGUF files: clear what a killed export left, then check disk and memory.

    `source` is the folder the converter works on a copy of: its bytes count where the disk gives no hard links.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clear_unfinished(folder)
    copied = 0.0 if source is None or can_link(Path(source), folder) else folder_mb(Path(source))
    need = gguf_budget(config, kinds, trials, kept_mb + copied)
    if kept_mb:  # predictions are compared, so the 16-bit model itself is read, too
        read = weights_from_shapes(config, four_bit=False) + _LIBRARIES_MB
        need = replace(need, memory_mb=max(need.memory_mb, read))
    return need.check(folder)


def folder_mb(folder: Path) -> float:
    """Return the size of all files in a folder, in MB of 10^6 bytes."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6


def four_bit_budget(config: Mapping[str, Any]) -> Budget:
    """Return what the bitsandbytes export needs: the NF4 file on disk, in memory the 16-bit model it is held against.

    Both are never loaded at once. Beside the model lie the predictions that are compared: `PLACES` places over the
    whole dictionary, three times, 4 bytes each; the one text just read is small beside them.
    """
    disk = weights_from_shapes(config, four_bit=True) * _SPARE
    predictions = 3 * PLACES * shapes(config).vocabulary * 4 / 1e6
    memory = weights_from_shapes(config, four_bit=False) + predictions + _LIBRARIES_MB
    return Budget("the 4-bit model", disk, memory, "NF4 in the linear layers, the dictionary in 16 bits")


def _largest(config: Mapping[str, Any]) -> int:
    size = shapes(config)
    return max(size.vocabulary * size.hidden, *(row * columns for row, columns in size.linear.values()))
