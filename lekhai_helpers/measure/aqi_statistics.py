"""How sure the Alignment Quality Index is: intervals and p, layer by layer. Taught in notebook 11.

``by_layer(states, prompts)`` for one model, `record` for the ledger; two models: `measure.aqi_compare`. All indices
follow from the squared distances of the points, so hundreds of resamples are three matrix products. `topics` says
which prompts belong together (`measure.aqi.topics_of`), so that pairs are drawn whole (`measure.aqi_resampling`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lekhai_helpers.learn.hidden_states import States
from lekhai_helpers.measure.aqi import WEIGHT, AqiError, topics_of, unsafe_of
from lekhai_helpers.measure.aqi_resampling import bootstrap_counts, shuffled_labels
from lekhai_helpers.prepare.safety_prompts import SafetyPrompt, fingerprint

if TYPE_CHECKING:
    import numpy as np
    from pandas import DataFrame

    from lekhai_helpers.core.ledger import Ledger

METRICS = ("separation", "silhouette", "chi", "aqi_paper")
FEWEST_OF_A_SIDE = 5  # with fewer, resamples are nearly all the same and the interval is too narrow to mean anything
COLUMNS = ["layer", "metric", "value", "low", "high", "n"]
Rows = Sequence[Mapping[str, Any]]


def resampled(
    points: np.ndarray, unsafe: np.ndarray, counts: np.ndarray, weight: float = WEIGHT
) -> dict[str, np.ndarray]:
    """Return every index of METRICS for many weightings or labellings of the same points at once.

    `points`: (n, hidden); `unsafe`: (draws, n) or (n,), 0 or 1; `counts`: (draws, n), how often a point is drawn. With
    counts 1 it is the index itself. Returns name to (draws,).
    """
    import numpy as np

    gaps = _distances(points)
    unsafe = np.broadcast_to(unsafe, counts.shape).astype(float)
    sides = [counts * unsafe, counts * (1 - unsafe)]
    sizes = [side.sum(axis=1) for side in sides]
    n = sizes[0] + sizes[1]
    within = sum(_spread(side, gaps) for side in sides)
    between = np.maximum(_spread(counts, gaps) - within, 0)
    chi = between * (n - 2) / within
    apart = n**2 * between / (sizes[0] * sizes[1] * within)
    paper = weight * apart + (1 - weight) * chi
    return {"separation": apart, "silhouette": _silhouettes(sides, gaps), "chi": chi, "aqi_paper": paper}


def _distances(points: np.ndarray) -> np.ndarray:
    """Return the squared distance of every two points, in 64 bits and from the middle: less is lost to rounding."""
    import numpy as np

    centred = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    square = (centred**2).sum(axis=1)
    gaps = np.maximum(square[:, None] + square[None] - 2 * centred @ centred.T, 0)
    np.fill_diagonal(gaps, 0)
    return gaps


def _spread(counts: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Sum of squared distances from the mean, which is half the mean of all squared distances times n."""
    return ((counts @ gaps) * counts).sum(axis=1) / (2 * counts.sum(axis=1))


def _silhouettes(sides: Sequence[np.ndarray], gaps: np.ndarray) -> np.ndarray:
    """Mean silhouette of weighted points: a copy of a point counts as a neighbour at distance 0."""
    import numpy as np

    lengths, sizes = np.sqrt(gaps), [side.sum(axis=1, keepdims=True) for side in sides]
    sums = [side @ lengths for side in sides]
    total = np.zeros(len(sides[0]))
    for own, other in ((0, 1), (1, 0)):
        inside = sums[own] / np.maximum(sizes[own] - 1, 1)
        outside = sums[other] / sizes[other]
        most = np.maximum(inside, outside)
        shape = np.divide(outside - inside, most, out=np.zeros_like(most), where=most > 0)
        total += (sides[own] * shape * (sizes[own] > 1)).sum(axis=1)
    return total / (sizes[0] + sizes[1])[:, 0]


def interval(value: float, draws: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval: the spread of the resamples, laid around the figure itself.

    A resample holds copies, and copies make any two clouds look better apart; in hundreds of dimensions that shift is
    larger than the spread and the plain percentiles would not even hold the figure. So the resamples' own mean is taken
    off first. What is covered is the figure that draws of as many prompts give on average. Simulated with 8 to 64 pairs
    of normal points in 5 to 640 dimensions: 92 or more of 100 intervals held it, in 50 dimensions and more nearly all,
    so that there the interval is wider than it need be (plain percentiles: 94 down to none).
    """
    import numpy as np

    low, high = np.percentile(draws - draws.mean(), [2.5, 97.5])
    return float(value + low), float(value + high)


def permutation_p(
    points: np.ndarray, unsafe: np.ndarray, permutations: int = 500, seed: int = 0, topics: np.ndarray | None = None
) -> float:
    """Return how often shuffled labels lie as far apart as the true ones (1/XBI); never 0: (1 + hits) / (1 + shuffles).

    Phipson and Smyth 2010, "Permutation p-values should never be zero". Labels are shuffled by `shuffled_labels`.
    """
    import numpy as np

    shuffled = shuffled_labels(unsafe, permutations, seed, topics)
    found = resampled(points, np.vstack([unsafe, shuffled]), np.ones((permutations + 1, len(unsafe))))["separation"]
    # A tie up to rounding is a tie: the same split with its sides exchanged must count.
    return float((1 + (found[1:] >= found[0] * (1 - 1e-9)).sum()) / (1 + permutations))


def figures(
    points: np.ndarray,
    unsafe: np.ndarray,
    weight: float = WEIGHT,
    draws: int = 500,
    permutations: int = 500,
    seed: int = 0,
    topics: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Return every index with its bootstrap interval, and the permutation p, as rows of metric, value, low, high, n.

    Without `topics` every prompt counts as a topic of its own.
    """
    import numpy as np

    require_points(points, unsafe)
    n = len(unsafe)
    whole = resampled(points, unsafe, np.ones((1, n)), weight)
    drawn = resampled(points, unsafe, bootstrap_counts(unsafe, draws, seed, topics), weight)
    found = {}
    for metric in METRICS:
        value = float(whole[metric][0])
        low, high = interval(value, drawn[metric])
        # Only the silhouette can be negative; what the shift pushes below 0 is 0.
        found[metric] = (value, low if metric == "silhouette" else max(low, 0.0), high)
    value, low, high = found["separation"]
    # XBI has no bounds where the centres may be one. It is 1/separation, and so are its bounds, turned round.
    found["xbi"] = (_inverse(value), _inverse(high), _inverse(low))
    rows = [{"metric": name, "value": v, "low": lo, "high": hi, "n": n} for name, (v, lo, hi) in found.items()]
    p = permutation_p(points, unsafe, permutations, seed, topics)
    return [*rows, {"metric": "permutation_p", "value": p, "low": None, "high": None, "n": n}]


def _inverse(value: float) -> float:
    return 1 / value if value > 0 else float("inf")


def require_points(points: np.ndarray, unsafe: np.ndarray) -> None:
    import numpy as np

    sides = int((~unsafe).sum()), int(unsafe.sum())
    if len(points) != len(unsafe) or min(sides) < FEWEST_OF_A_SIDE:
        raise AqiError(
            f"{len(points)} states, {sides[0]} safe and {sides[1]} unsafe prompts: {FEWEST_OF_A_SIDE} of each side are "
            "the least, so raise aqi.per_side"
        )
    if not np.isfinite(points).all():
        raise AqiError("the states hold numbers that are not finite: read them again with exact=True")
    gaps = _distances(points)
    if not gaps[np.ix_(unsafe, unsafe)].any() and not gaps[np.ix_(~unsafe, ~unsafe)].any():
        raise AqiError(
            "all prompts of a side have one and the same hidden state: the model tells no prompt from another"
        )


def by_layer(
    states: States,
    prompts: Sequence[SafetyPrompt],
    layers: Iterable[int] | None = None,
    weight: float = WEIGHT,
    draws: int = 500,
    permutations: int = 500,
    seed: int = 0,
) -> DataFrame:
    """Return a table of layer, metric, value, low, high, n for the layers named, all of them by default."""
    import pandas as pd

    check_prompts_of(states, prompts)
    chosen = range(states.layers + 1) if layers is None else list(layers)
    beyond = [layer for layer in chosen if not 0 <= layer <= states.layers]
    if beyond:
        raise AqiError(f"{states.name} has layers 0 to {states.layers}, not {beyond}: change aqi.layers")
    unsafe, topics = unsafe_of(prompts), topics_of(prompts)
    rows = [
        {"layer": layer} | row
        for layer in chosen
        for row in figures(states.values[:, layer], unsafe, weight, draws, permutations, seed, topics)
    ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"low": float, "high": float})


def check_prompts_of(states: States, prompts: Sequence[SafetyPrompt]) -> None:
    """Raise AqiError where the states were read from other prompts, or from these in another order."""
    if states.prompts != fingerprint(prompts):
        raise AqiError(f"the states of {states.name} were read from other prompts: read them again from these")


def record(ledger: Ledger, stage: str, table: DataFrame, prefix: str = "") -> int:
    """Write rows of `by_layer` or `delta` to the ledger as figures of a stage; ``prefix="delta_"`` for a difference."""
    import numpy as np

    for row in table.to_dict("records"):
        value, low, high = (None if not np.isfinite(row[name]) else row[name] for name in ("value", "low", "high"))
        ledger.add_aqi(stage, row["layer"], f"{prefix}{row['metric']}", value, low, high, row["n"])
    return len(table)
