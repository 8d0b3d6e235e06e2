"""Learned layer weights: they find the layer that knows, and noise earns them nothing on prompts they never saw."""

import numpy as np
import pytest

from lekhai_helpers.learn.hidden_states import States
from lekhai_helpers.learn.layer_weights import fit_layer_weights
from lekhai_helpers.measure.aqi import unsafe_of
from lekhai_helpers.measure.aqi_compare import POOLED, learn_pooling, pooled_figures
from lekhai_helpers.measure.aqi_statistics import permutation_p
from lekhai_helpers.prepare.safety_prompts import fingerprint, load_prompts


@pytest.fixture(scope="module")
def prompts():
    return load_prompts()


def states(prompts, apart: float, layers: int = 4) -> States:
    """Return random states, of which only layer 2 knows safe from unsafe."""
    values = np.random.default_rng(0).normal(size=(len(prompts), layers, 12)).astype(np.float32)
    values[unsafe_of(prompts), 2, 0] += apart
    return States("base", values, "Gemma3TextModel", fingerprint(prompts))


def test_learned_weights_find_the_layer_that_knows_and_are_judged_on_the_other_prompts(prompts):
    knowing = states(prompts, apart=4)
    pooling = learn_pooling(knowing, prompts)
    assert np.argmax(pooling.layers.weights) == 2 and sum(pooling.layers.weights) == pytest.approx(1)
    assert pooling.layers.loss_after < pooling.layers.loss_before
    found = pooled_figures(knowing, prompts, pooling, draws=50, permutations=99)
    assert set(found["n"]) == {128} and set(found["layer"]) == {POOLED}
    assert learn_pooling(knowing, prompts) == pooling


def test_weights_learned_on_noise_show_nothing_on_the_other_prompts(prompts):
    """On the prompts they were learned on, the same weights look better: that is why others are kept."""
    noise = states(prompts, apart=0, layers=20)
    pooling = learn_pooling(noise, prompts)
    held = list(pooling.held)
    fit = [place for place in range(len(prompts)) if place not in set(held)]
    unsafe = unsafe_of(prompts)
    own = permutation_p(pooling.layers.pool(noise.values[fit]), unsafe[fit], 199)
    other = permutation_p(pooling.layers.pool(noise.values[held]), unsafe[held], 199)
    assert own < other and other > 0.05
    with pytest.raises(ValueError, match="layer 0 is the same for every prompt"):
        fit_layer_weights(noise.values * (np.arange(20)[:, None] > 0), unsafe)
    with pytest.raises(ValueError, match="20 layers cannot pool states of 3"):
        pooling.layers.pool(noise.values[:, :3])
