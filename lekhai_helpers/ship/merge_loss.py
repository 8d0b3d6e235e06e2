"""Why an adapter is never merged into 4-bit weights, in numbers from a real one. Taught in notebook 08.

``delta_survival(base, adapter)``: for each linear layer, how much of the adapter's change is left (a) merged into the
16-bit weights, (b) merged so and then quantised, (c) merged into weights that were 4-bit already and quantised again;
``survival_table(rows)`` has a line for each of the three.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lekhai_helpers.prepare.bases import rounded_base
from lekhai_helpers.prepare.merging import local_folder
from lekhai_helpers.ship.errors import ExportError

if TYPE_CHECKING:
    import pandas as pd

_BLOCK = 64  # numbers that share a scale in NF4


def delta_survival(base: str | Path, adapter: Path, layers: int | None = None) -> pd.DataFrame:
    """Return one row a linear module of the adapter, with what survives of its change. No model is loaded.

    With W the base's weights, D the adapter's change (scale * B A), H rounding to bfloat16 and Q rounding to NF4, the
    wanted weights are W + D. ``change``: size of D against W (Frobenius norms). ``survives_whole``: what is found of D
    in H(W + D) - W; ``survives_16bit``: in Q(H(W + D)) - Q(W); ``survives_4bit``: in Q(Q(W) + D) - Q(W); each as
    projection on D, 1 being all of it. ``error_whole``, ``error_16bit``, ``error_4bit``: distance of the three from
    W + D, against the size of D. Q(W) stands on the sixteen steps exactly, so a change smaller than half a step falls
    back to where it was; W lies anywhere between them, and there the same change tips the rounding as often as it
    should. `base` is a folder of 16-bit weights, or the hub id of one, which is fetched; `layers` looks at the first so
    many layers only.

    Raises ExportError where the adapter is none of LoRA or does not belong to the base, and where the base's weights
    were rounded before: then there is no W to compare with.
    """
    import pandas as pd

    pairs = _pairs(local_folder(base), Path(adapter), layers)
    rows = [_row(name, weight, change) for name, weight, change in pairs]
    return pd.DataFrame(rows).set_index("module")


def survival_sentence(table: pd.DataFrame) -> str:
    """Return the lesson of `delta_survival` in one sentence (medians over the modules)."""
    half = table.median(numeric_only=True)
    return (
        f"Of the adapter's change ({half['change']:.1%} of the weights) {half['survives_16bit']:.0%} is left when "
        f"it is merged in 16 bits and then rounded to 4, and {half['survives_4bit']:.0%} when it is merged into 4-bit "
        f"weights; the error is {half['error_16bit']:.1f} and {half['error_4bit']:.1f} times the change itself "
        f"(median of {len(table)} modules)."
    )


def survival_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return three lines, a way of merging each: what survives of the change, and the error (medians over modules)."""
    import pandas as pd

    half = table.median(numeric_only=True)
    ways = {
        "merged in 16 bits, not rounded": "whole",
        "merged in 16 bits, then rounded to 4": "16bit",
        "merged into 4-bit weights": "4bit",
    }
    rows = [
        {"way": way, "survives": half[f"survives_{key}"], "error": half[f"error_{key}"]} for way, key in ways.items()
    ]
    return pd.DataFrame(rows).set_index("way")


def _pairs(base: Path, adapter: Path, layers: int | None) -> Iterator[tuple[str, Any, Any]]:
    """Yield (module, W, D) in 32 bits, one module at a time: a 9B's matrices never lie in memory together."""
    from safetensors import safe_open

    scale, weights = _scale(adapter), _weight_files(base)
    if rounded := rounded_base(base):
        raise ExportError(rounded)
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as strips:
        names = [name for name in strips.keys() if name.endswith("lora_A.weight")]  # noqa: SIM118 (no mapping)
        for name in sorted(names, key=_place):
            if layers is not None and _place(name)[0] >= layers:
                continue
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            if f"{module}.weight" not in weights:
                raise ExportError(f"the adapter changes {module}, which {base.name} does not have: give its own base")
            with safe_open(weights[f"{module}.weight"], framework="pt") as tensors:
                weight = tensors.get_tensor(f"{module}.weight").float()
            down = strips.get_tensor(name).float()
            up = strips.get_tensor(name.replace("lora_A", "lora_B")).float()
            yield module, weight, scale * (up @ down)


def _place(name: str) -> tuple[int, str]:
    """Return (layer, name) of a tensor, so that layer 10 comes after layer 9."""
    layer = next((part for part in name.split(".") if part.isdigit()), "0")
    return int(layer), name


def _scale(adapter: Path) -> float:
    path = adapter / "adapter_config.json"
    if not path.exists():
        raise ExportError(f"{adapter.name} holds no adapter_config.json: give an adapter's folder (notebook 06)")
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA" or config.get("use_dora") or config.get("rank_pattern"):
        raise ExportError(f"{adapter.name} is no plain LoRA adapter, which this comparison is for")
    rank = config["r"]
    return config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)


def _weight_files(base: Path) -> dict[str, Path]:
    from safetensors import safe_open

    found: dict[str, Path] = {}
    for path in sorted(base.glob("*.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            found |= {name: path for name in tensors.keys()}  # noqa: SIM118 (no mapping)
    if not found:
        raise ExportError(f"{base.name} holds no weights: give the base's folder")
    return found


def _row(name: str, weight: Any, change: Any) -> dict[str, Any]:
    import torch

    size, wanted = float(change.norm()), weight + change
    rounded = _nf4(weight)
    whole = wanted.to(torch.bfloat16).float()  # merged in 16 bits, as an export does
    late, early = _nf4(whole), _nf4(rounded + change)

    def left(merged: Any, before: Any = rounded) -> float:
        return float(((merged - before) * change).sum()) / size**2

    return {
        "module": name,
        "change": size / float(weight.norm()),
        "survives_whole": left(whole, weight),
        "survives_16bit": left(late),
        "survives_4bit": left(early),
        "error_whole": float((whole - wanted).norm()) / size,
        "error_16bit": float((late - wanted).norm()) / size,
        "error_4bit": float((early - wanted).norm()) / size,
    }


def _nf4(weight: Any) -> Any:
    """Return the weights as NF4 holds them, in 32 bits again."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight.contiguous(), blocksize=_BLOCK, quant_type="nf4")
    return dequantize_4bit(packed, state)
