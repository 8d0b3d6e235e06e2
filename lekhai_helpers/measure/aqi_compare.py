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
from lekhai_helpers.measure.aqi import WEIGHT, AqiError, topics_of, unsafe_of
from lekhai_helpers.measure.aqi_resampling import bootstrap_counts
from lekhai_helpers.measure.aqi_statistics import (
    COLUMNS,
    METRICS,
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
ONE_OF = 3  # one topic of so many teaches the weights: of 96 and 96 prompts, 64 and 64 carry the figures
NAMES = {
    "separation": "separation (1/XBI)",
    "silhouette": "silhouette",
    "chi": "Calinski-Harabasz",
    "aqi_paper": "AQI by the paper's formula",
}


@dataclass(frozen=True)
class Pooling:
    """Layer weights learned on a third of the prompts; `held` are the places of the others, for the figures."""

    layers: LayerWeights
    held: tuple[int, ...]


def split(prompts: Sequence[SafetyPrompt], seed: int = 0) -> tuple[list[int], list[int]]:
    """Return the places of a third of the prompts, to learn from, and of the others, to measure on.

    Both parts have as many safe as unsafe prompts, and a pair of one topic is never split: topics are shuffled within
    axiom and language and dealt in turn, pairs and prompts without a partner each by themselves.
    """
    import numpy as np

    sides: dict[str, set[str]] = {}
    for prompt in prompts:
        sides.setdefault(prompt.topic, set()).add(prompt.side)
    hands: dict[tuple[str, ...], list[str]] = {}
    for prompt in prompts:
        kind: str = "pair" if len(sides[prompt.topic]) == 2 else prompt.side
        hands.setdefault((kind, prompt.axiom, prompt.language), []).append(prompt.topic)
    dice = np.random.default_rng(seed)
    dealt: dict[str, list[str]] = {"pair": [], "safe": [], "unsafe": []}
    for (kind, *_), names in hands.items():
        dealt[kind] += dice.permutation(list(dict.fromkeys(names))).tolist()
    learned = {name for names in dealt.values() for name in names[::ONE_OF]}
    places = range(len(prompts))
    return [i for i in places if prompts[i].topic in learned], [i for i in places if prompts[i].topic not in learned]


def learn_pooling(states: States, prompts: Sequence[SafetyPrompt], seed: int = 0) -> Pooling:
    """Learn the layers' weights on a third of the prompts, from the base; the others are kept for the figures."""
    check_prompts_of(states, prompts)
    fit, held = split(prompts, seed)
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
    """Return the rows of `by_layer` for all layers with learned weights (layer -1), on the prompts kept for it."""
    import pandas as pd

    points, unsafe = points_of(states, prompts, pooling)
    rows = figures(points, unsafe, weight, draws, permutations, seed, topics_of(_kept(prompts, pooling)))
    table = pd.DataFrame([{"layer": POOLED} | row for row in rows], columns=COLUMNS)
    return table.astype({"low": float, "high": float})


def points_of(states: States, prompts: Sequence[SafetyPrompt], at: int | Pooling) -> tuple[np.ndarray, np.ndarray]:
    """Return the points and their sides: of one layer with all prompts, or pooled, with those kept for it."""
    check_prompts_of(states, prompts)
    unsafe = unsafe_of(_kept(prompts, at))
    if isinstance(at, Pooling):
        return at.layers.pool(states.values[list(at.held)]), unsafe
    return states.values[:, at], unsafe


def _kept(prompts: Sequence[SafetyPrompt], at: int | Pooling) -> list[SafetyPrompt]:
    return [prompts[place] for place in at.held] if isinstance(at, Pooling) else list(prompts)


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

    Both models see the same prompts, the same layer weights and the same resamples of topics. Columns layer, metric,
    base, tuned, value (the difference), low, high, n, sentence; the first row, separation, is the one to lead with: it
    has no unit and does not grow with n. Raises AqiError where the two may not be compared.
    """
    import numpy as np
    import pandas as pd

    check_comparable(base, tuned)
    pairs = [points_of(states, prompts, at) for states in (base, tuned)]
    unsafe = pairs[0][1]
    for points, _ in pairs:
        require_points(points, unsafe)
    counts = bootstrap_counts(unsafe, draws, seed, topics_of(_kept(prompts, at)))
    whole = [resampled(points, unsafe, np.ones((1, len(unsafe))), weight) for points, _ in pairs]
    drawn = [resampled(points, unsafe, counts, weight) for points, _ in pairs]
    rows = []
    for metric in METRICS:
        one, other = (float(found[metric][0]) for found in whole)
        low, high = interval(other - one, drawn[1][metric] - drawn[0][metric])
        told = f"{other - one:+.3g}, {low:+.3g} to {high:+.3g}, n = {len(unsafe)} prompts"
        sentence = f"{NAMES[metric]}: {_in_words(low, high, base.name, tuned.name)} ({told})"
        layer = POOLED if isinstance(at, Pooling) else at
        rows.append((layer, metric, one, other, other - one, low, high, len(unsafe), sentence))
    return pd.DataFrame(rows, columns=["layer", "metric", "base", "tuned", *COLUMNS[2:], "sentence"])


def _in_words(low: float, high: float, base: str, tuned: str) -> str:
    if low <= 0 <= high:
        return f"no difference shown between {base} and {tuned}"
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
    sides = pd.DataFrame([(one.side, one.language) for one in _kept(prompts, at)], columns=["side", "language"])
    drawn = {}
    for one, cloud in zip(states, centred, strict=True):
        flat = cloud @ axes.components_.T
        drawn[one.name] = sides.assign(x=flat[:, 0], y=flat[:, 1])
        drawn[one.name].attrs["shown"] = float((flat**2).sum() / (cloud**2).sum())
    return drawn
