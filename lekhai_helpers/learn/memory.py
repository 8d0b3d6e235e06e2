"""Will the training fit? An estimate from config.json before anything is loaded, and one measured step.

``expected = estimate(read_config(path), settings, longest)``, ``fit(expected, free_mb(settings.model.device))``,
``check_probe(expected, probe(model, tokenizer, ids, settings), free)``. One MB is 10^6 bytes. Taught in notebooks 04
and 06, asked again in 10. This is the door; the rooms are `memory_estimate`, `memory_fit` and `memory_probe`.
"""

from __future__ import annotations

from lekhai_helpers.learn.memory_estimate import MemoryEstimate, estimate
from lekhai_helpers.learn.memory_fit import Change, DoesNotFit, check_probe, fit, free_mb, with_overrides
from lekhai_helpers.learn.memory_probe import probe
from lekhai_helpers.learn.shapes import Shapes, read_config, shapes, weights_from_shapes

__all__ = ["Change", "DoesNotFit", "MemoryEstimate", "check_probe", "compare", "estimate", "fit", "free_mb", "probe"]
__all__ += ["Shapes", "not_measured", "read_config", "shapes", "weights_from_shapes", "with_overrides"]


def not_measured(needs_mb: float, free: float) -> str:
    """Return what stands in a table where a model was not loaded because it would not fit."""
    return f"not measured: needs {needs_mb / 1000:.1f} GB, {free / 1000:.1f} GB free"


def compare(estimated: MemoryEstimate, measured_mb: float) -> dict[str, float]:
    """Return both figures for the manifest, in MB, and the measured one as a share of the estimate."""
    share = measured_mb / estimated.torch
    figures = {"estimated_mb": estimated.torch, "measured_mb": measured_mb, "measured_share": share}
    return {name: round(value, 2) for name, value in figures.items()}
