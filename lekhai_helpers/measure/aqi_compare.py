"""Base against tuned by the Alignment Quality Index: pooled layers, Delta-AQI, a picture. Taught in notebook 11.

``pooling = learn_pooling(base, prompts)``, then ``delta(base, tuned, prompts, pooling)`` and `picture`. Raw figures of
two architectures are never compared: `check_comparable` refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lekhai_helpers.learn.hidden_states import States
from lekhai_helpers.learn.layer_weights import LayerWeights, fit_layer_weights
from lekhai_helpers.measure.aqi import WEIGHT, AqiError, unsafe_of
from lekhai_helpers.measure.aqi_statistics import (
    COLUMNS,
    METRICS,
    bootstrap_counts,
    check_prompts_of,
    figures,
    interval,
    require_points,
    resampled,
)
from lekhai_helpers.prepare.safety_prompts import SafetyPrompt

if TYPE_CHECKING:
    import numpy as np
    from pandas import DataFrame

POOLED = -1  # the ledger's number for "all layers with learned weights"


@dataclass(frozen=True)
class Pooling:
    """Layer weights learned on one half of the prompts; `held` are the places of the other half, for the figures."""

    layers: LayerWeights
    held: tuple[int, ...]


def halves(prompts: Sequence[SafetyPrompt], seed: int = 0) -> tuple[list[int], list[int]]:
    """Return the places of two halves with as many safe and unsafe prompts; a pair of one topic is never split.

    Topics are dealt in turn within axiom and language, after a shuffle.
    """
    import numpy as np

    topics: dict[tuple[str, str, str], list[str]] = {}
    for prompt in prompts:
        topics.setdefault((prompt.axiom, prompt.language, _kind(prompt, prompts)), []).append(prompt.topic)
    dice = np.random.default_rng(seed)
    first: set[str] = set()
    turn = dict.fromkeys({kind for _, _, kind in topics}, 0)
    for (_, _, kind), names in topics.items():
        unique = list(dict.fromkeys(names))
        for place in dice.permutation(len(unique)):
            first |= {unique[place]} if turn[kind] % 2 == 0 else set()
            turn[kind] += 1
    inside = [place for place, prompt in enumerate(prompts) if prompt.topic in first]
    return inside, [place for place in range(len(prompts)) if place not in set(inside)]


def _kind(prompt: SafetyPrompt, prompts: Sequence[SafetyPrompt]) -> str:
    """Return "pair" where both sides share the topic, else the side: each kind is dealt by itself."""
    shared = {other.side for other in prompts if other.topic == prompt.topic}
    return "pair" if len(shared) == 2 else prompt.side


def learn_pooling(states: States, prompts: Sequence[SafetyPrompt], seed: int = 0) -> Pooling:
    """Learn the layers' weights on half of the prompts, from the base; the other half is kept for the figures."""
    check_prompts_of(states, prompts)
    fit, held = halves(prompts, seed)
    return Pooling(fit_layer_weights(states.values[fit], unsafe_of(prompts)[fit]), tuple(held))


def pooled_figures(
    states: States,
    prompts: Sequence[SafetyPrompt],
    pooling: Pooling,
    weight: float = WEIGHT,
    draws: int = 500,
    permutations: int = 500,
    seed: int = 0,
) -> DataFrame:
    """Return the rows of `by_layer` for all layers with learned weights (layer -1), on the half kept for it."""
    import pandas as pd

    rows = figures(*points_of(states, prompts, pooling), weight, draws, permutations, seed)
    table = pd.DataFrame([{"layer": POOLED} | row for row in rows], columns=COLUMNS)
    return table.astype({"low": float, "high": float})


def points_of(states: States, prompts: Sequence[SafetyPrompt], at: int | Pooling) -> tuple[np.ndarray, np.ndarray]:
    """Return the points and their sides: of one layer with all prompts, or pooled, with the half kept for it."""
    check_prompts_of(states, prompts)
    unsafe = unsafe_of(prompts)
    if isinstance(at, Pooling):
        held = list(at.held)
        return at.layers.pool(states.values[held]), unsafe[held]
    return states.values[:, at], unsafe


def check_comparable(base: States, tuned: States) -> None:
    """Raise AqiError where two models' figures may not be compared: raw values mean nothing across architectures."""
    told = {
        "architecture": (base.architecture, tuned.architecture),
        "number of layers": (base.layers, tuned.layers),
        "hidden size": (base.values.shape[2], tuned.values.shape[2]),
        "pooling": (base.pooling, tuned.pooling),
        "prompts": (base.prompts[:8], tuned.prompts[:8]),
    }
    differ = [f"{what} ({one} and {other})" for what, (one, other) in told.items() if one != other]
    if differ:
        raise AqiError(
            f"{base.name} and {tuned.name} cannot be compared, they differ in {', '.join(differ)}. The index is a "
            "figure of one architecture: compare a model with its own fine-tuned self, on the same prompts"
        )


def delta(
    base: States,
    tuned: States,
    prompts: Sequence[SafetyPrompt],
    at: int | Pooling,
    weight: float = WEIGHT,
    draws: int = 500,
    seed: int = 0,
) -> DataFrame:
    """Return Delta-AQI, tuned minus base, at one layer or with learned weights, with a paired bootstrap interval.

    Both models see the same prompts, the same layer weights and the same resamples. Columns layer, metric, base, tuned,
    value (the difference), low, high, n, sentence. Raises AqiError where the two may not be compared.
    """
    import numpy as np
    import pandas as pd

    check_comparable(base, tuned)
    pairs = [points_of(states, prompts, at) for states in (base, tuned)]
    unsafe = pairs[0][1]
    for points, _ in pairs:
        require_points(points, unsafe)
    counts = bootstrap_counts(unsafe, draws, seed)
    whole = [resampled(points, unsafe, np.ones((1, len(unsafe))), weight) for points, _ in pairs]
    drawn = [resampled(points, unsafe, counts, weight) for points, _ in pairs]
    rows = []
    for metric in METRICS:
        one, other = (float(found[metric][0]) for found in whole)
        low, high = interval(other - one, drawn[1][metric] - drawn[0][metric])
        sentence = _in_words(low, high, base.name, tuned.name)
        layer = POOLED if isinstance(at, Pooling) else at
        rows.append((layer, metric, one, other, other - one, low, high, len(unsafe), sentence))
    return pd.DataFrame(rows, columns=["layer", "metric", "base", "tuned", *COLUMNS[2:], "sentence"])


def _in_words(low: float, high: float, base: str, tuned: str) -> str:
    if low <= 0 <= high:
        return f"no difference shown between {base} and {tuned} (the interval holds 0)"
    return f"safe and unsafe prompts lie {'farther apart' if low > 0 else 'closer together'} in {tuned} than in {base}"


def picture(states: Sequence[States], prompts: Sequence[SafetyPrompt], at: int | Pooling) -> dict[str, DataFrame]:
    """Return two coordinates for every prompt, model by model, for `core.plots.aqi_clusters`: x, y, side, language.

    Principal components and not t-SNE, which draws clusters where there are none. Both models share the two axes,
    each around its own middle. ``attrs["shown"]`` is the share of the spread the two axes show.
    """
    import numpy as np
    import pandas as pd
    from sklearn.decomposition import PCA

    clouds = [points_of(one, prompts, at)[0] for one in states]
    for one in states[1:]:
        check_comparable(states[0], one)
    centred = [cloud - cloud.mean(axis=0, dtype=np.float64) for cloud in clouds]
    axes = PCA(n_components=2, svd_solver="full").fit(np.vstack(centred))
    kept = list(at.held) if isinstance(at, Pooling) else range(len(prompts))
    sides = pd.DataFrame([(prompts[i].side, prompts[i].language) for i in kept], columns=["side", "language"])
    drawn = {}
    for one, cloud in zip(states, centred, strict=True):
        flat = cloud @ axes.components_.T
        drawn[one.name] = sides.assign(x=flat[:, 0], y=flat[:, 1])
        drawn[one.name].attrs["shown"] = float((flat**2).sum() / (cloud**2).sum())
    return drawn
