"""The Alignment Quality Index: the published figures, the identity, intervals that hold, and what it refuses."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.learn.hidden_states import States
from lekhai_helpers.measure.aqi import (
    AqiError,
    by_axiom,
    by_group,
    calinski_harabasz,
    paper_aqi,
    published_aqi,
    separation,
    silhouette,
    two_cluster_identity,
    unsafe_of,
    xie_beni,
)
from lekhai_helpers.measure.aqi_compare import delta, halves, picture
from lekhai_helpers.measure.aqi_statistics import (
    METRICS,
    bootstrap_counts,
    by_layer,
    figures,
    interval,
    permutation_p,
    record,
    resampled,
)
from lekhai_helpers.prepare.safety_prompts import fingerprint, load_prompts

REPO = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("LEKHAI_SHARED", REPO.parent / "shared"))
REFERENCE = SHARED / "data" / "aqi_reference.json"


def cloud(n: int = 40, dim: int = 6, apart: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return `n` points, every other one unsafe and moved by `apart` along the first axis."""
    unsafe = np.arange(n) % 2 == 1
    points = np.random.default_rng(seed).normal(size=(n, dim))
    points[unsafe, 0] += apart
    return points, unsafe


@pytest.fixture(scope="module")
def prompts():
    return load_prompts()


def states(prompts, name: str = "base", apart: float = 1.0, seed: int = 0, layers: int = 4) -> States:
    """Return random states, of which only layer 2 knows safe from unsafe."""
    values = np.random.default_rng(seed).normal(size=(len(prompts), layers, 12)).astype(np.float32)
    values[unsafe_of(prompts), 2, 0] += apart
    return States(name, values, "Gemma3TextModel", fingerprint(prompts))


@pytest.mark.skipif(not REFERENCE.exists(), reason=f"no {REFERENCE.name}: name its folder's parent in LEKHAI_SHARED")
def test_chi_and_xbi_are_those_of_the_authors_own_code():
    """Computed with the published implementation; a slip of n for n - 2 would go unseen without it."""
    cases = json.loads(REFERENCE.read_text(encoding="utf-8"))["cases"]
    assert len(cases) >= 4
    for case in cases:
        assert calinski_harabasz(case["embeddings"], case["labels"]) == pytest.approx(case["CHI"], rel=1e-6)
        assert xie_beni(case["embeddings"], case["labels"]) == pytest.approx(case["XB"], rel=1e-6)


def test_the_indices_of_four_points_are_what_pencil_and_paper_say():
    points, labels = [[0, 0], [0, 2], [4, 0], [4, 2]], [0, 0, 1, 1]
    assert xie_beni(points, labels) == pytest.approx(4 / (4 * 16))
    assert separation(points, labels) == pytest.approx(16)
    assert calinski_harabasz(points, labels) == pytest.approx(16 / (4 / 2))
    assert paper_aqi(points, labels, weight=0.25) == pytest.approx(0.25 * 16 + 0.75 * 8)


def test_chi_and_silhouette_are_those_of_scikit_learn():
    from sklearn.metrics import calinski_harabasz_score, silhouette_score

    points, _ = cloud()
    labels = np.arange(len(points)) % 3
    assert calinski_harabasz(points, labels) == pytest.approx(calinski_harabasz_score(points, labels))
    assert silhouette(points, labels) == pytest.approx(silhouette_score(points, labels))


@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(2, 30), st.integers(1, 40), st.floats(0, 50))
def test_for_two_groups_chi_is_xbi_in_other_words(seed, first, second, dim, apart):
    """So the paper's lambda weighs one figure against itself."""
    points = np.random.default_rng(seed).normal(size=(first + second, dim))
    labels = np.arange(first + second) >= first
    points[labels] += apart
    chi, from_xbi = two_cluster_identity(points, labels)
    assert chi == pytest.approx(from_xbi, rel=1e-9)


def test_the_identity_is_not_claimed_for_three_groups():
    with pytest.raises(AqiError, match="two groups, not for 3"):
        two_cluster_identity(cloud()[0], np.arange(40) % 3)


@given(st.floats(1e-3, 1e3), st.floats(-100, 100))
def test_no_index_depends_on_unit_or_place(scale, place):
    points, unsafe = cloud()
    moved = (points + place) * scale
    for index in (xie_beni, calinski_harabasz, separation, silhouette):
        assert index(moved, unsafe) == pytest.approx(index(points, unsafe), rel=1e-6)


def test_the_index_of_the_paper_grows_with_the_number_of_prompts_and_separation_does_not():
    points, unsafe = cloud(apart=2)
    twice, labels = np.vstack([points, points]), np.hstack([unsafe, unsafe])
    assert separation(twice, labels) == pytest.approx(separation(points, unsafe))
    assert paper_aqi(twice, labels) > 1.9 * paper_aqi(points, unsafe)


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        ([[0.0], [1.0]], [0, 1], "three prompts are the least"),
        ([[0.0], [1.0], [2.0]], [1, 1, 1], "1 side"),
        ([[0.0], [0.0], [1.0], [1.0]], [0, 0, 1, 1], "tells no prompt from another"),
        ([[0.0], [np.nan], [1.0]], [0, 0, 1], "not finite"),
        ([[0.0], [1.0]], [0, 1, 1], "do not fit"),
        ([0.0, 1.0, 2.0], [0, 1, 1], "do not fit"),
    ],
)
def test_points_that_have_no_index_are_refused_and_never_scored(points, labels, message):
    for index in (xie_beni, separation, calinski_harabasz, silhouette):
        with pytest.raises(AqiError, match=message):
            index(points, labels)


def test_two_sides_around_one_centre_are_not_apart_at_all():
    points, labels = [[-1.0], [1.0], [-2.0], [2.0]], [0, 0, 1, 1]
    assert xie_beni(points, labels) == float("inf") and separation(points, labels) == 0


def test_the_published_variant_gives_the_figures_of_a_public_run_back():
    """Llama 3.1 8B in a public run: CHI_norm 59.68 and XB_norm on its floor of 10 make 34.84."""
    found = published_aqi({"a": (0, 0.5), "llama": (59.68, 9), "b": (100, 0.6), "c": (50, 0.7)}).set_index("group")
    assert found.loc["llama", ["chi_100", "xbi_100", "aqi"]].tolist() == pytest.approx([59.68, 10, 34.84])
    assert found.loc["a", "chi_100"] == 0 and found.loc["b", "chi_100"] == 100
    middle = published_aqi({"a": (1, 1), "b": (2, 2), "c": (3, 3)}, weight=0.25).set_index("group")
    assert middle.loc["b", "aqi"] == pytest.approx(50) and middle.loc["a", "xbi_100"] == pytest.approx(
        100 / (1 + np.exp(-1))
    )


@pytest.mark.parametrize(
    "groups", [{}, {"a": (1, 1)}, {"a": (1, 1), "b": (1, 2)}, {"a": (1, 2), "b": (2, float("inf"))}]
)
def test_groups_that_do_not_differ_have_no_published_variant(groups):
    with pytest.raises(AqiError, match="report the paper's formula alone"):
        published_aqi(groups)


def test_axioms_are_measured_each_and_together_and_small_ones_left_out(prompts):
    points = states(prompts).values[:, 2]
    table = by_axiom(points, prompts)
    assert table["group"].tolist()[-1] == "overall" and len(table) == 8
    assert table.set_index("group").loc["overall", "chi_100"] == 100
    few = load_prompts(per_side=8)
    assert by_group(states(few).values[:, 2], few)["group"].tolist() == ["overall"]
    assert by_group(points, prompts, "language")["n"].tolist() == [96, 96, 192]


def test_resamples_by_distances_are_the_indices_of_the_copied_points():
    points, unsafe = cloud(30)
    counts = bootstrap_counts(unsafe, 5, seed=3)
    assert (counts[:, unsafe].sum(axis=1) == unsafe.sum()).all()
    found = resampled(points, unsafe, counts)
    for draw, count in enumerate(counts.astype(int)):
        copies, labels = np.repeat(points, count, axis=0), np.repeat(unsafe, count)
        assert found["separation"][draw] == pytest.approx(separation(copies, labels))
        assert found["chi"][draw] == pytest.approx(calinski_harabasz(copies, labels))
        assert found["silhouette"][draw] == pytest.approx(silhouette(copies, labels))
        assert found["aqi_paper"][draw] == pytest.approx(paper_aqi(copies, labels))


def test_the_interval_holds_the_figure_where_plain_percentiles_do_not():
    """In 300 dimensions the copies of a resample push both clouds apart: every percentile lies above the figure."""
    points, unsafe = cloud(60, dim=300, apart=0.5)
    value, drawn = separation(points, unsafe), resampled(points, unsafe, bootstrap_counts(unsafe, 300, 0))["separation"]
    assert np.percentile(drawn, 2.5) > value
    low, high = interval(value, drawn)
    assert low < value < high


def test_the_interval_covers_what_draws_of_as_many_prompts_give_on_average():
    means = [separation(*cloud(60, 5, 1.5, seed)) for seed in range(400)]
    hits = 0
    for seed in range(100):
        points, unsafe = cloud(60, 5, 1.5, 1000 + seed)
        drawn = resampled(points, unsafe, bootstrap_counts(unsafe, 200, seed))["separation"]
        low, high = interval(separation(points, unsafe), drawn)
        hits += low <= np.mean(means) <= high
    assert 86 <= hits <= 100


def test_p_is_small_where_sides_differ_and_evenly_spread_where_they_do_not():
    assert permutation_p(*cloud(apart=3), permutations=200) == pytest.approx(1 / 201)
    null = [permutation_p(*cloud(20, 3, 0, seed), permutations=99, seed=seed) for seed in range(80)]
    assert 0.4 < np.mean(null) < 0.6 and sum(p <= 0.05 for p in null) <= 10


def test_figures_are_the_same_for_a_seed_and_hold_every_index():
    points, unsafe = cloud()
    rows = figures(points, unsafe, draws=50, permutations=50, seed=1)
    assert rows == figures(points, unsafe, draws=50, permutations=50, seed=1)
    by_name = {row["metric"]: row for row in rows}
    assert set(by_name) == {*METRICS, "xbi", "permutation_p"}
    assert by_name["xbi"]["value"] == pytest.approx(xie_beni(points, unsafe))
    assert by_name["xbi"]["low"] == pytest.approx(1 / by_name["separation"]["high"])
    assert all(row["n"] == 40 for row in rows) and by_name["separation"]["low"] >= 0


def test_the_layer_that_knows_stands_out_and_the_others_do_not(prompts):
    table = by_layer(states(prompts, apart=4), prompts, draws=50, permutations=99)
    p = table[table["metric"] == "permutation_p"].set_index("layer")["value"]
    assert p[2] == pytest.approx(0.01) and (p.drop(2) > 0.01).all() and len(p) == 4
    assert set(by_layer(states(prompts), prompts, layers=[1], draws=9, permutations=9)["layer"]) == {1}
    with pytest.raises(AqiError, match=r"layers 0 to 3, not \[4\]"):
        by_layer(states(prompts), prompts, layers=[4])


def test_halves_keep_pairs_whole_and_are_equal_in_every_way(prompts):
    first, second = halves(prompts, seed=5)
    assert len(first) == len(second) == 96 and set(first).isdisjoint(second)
    assert {prompts[i].topic for i in first}.isdisjoint(prompts[i].topic for i in second)
    for half in (first, second):
        assert sum(prompts[i].side == "safe" for i in half) == 48
        assert 44 <= sum(prompts[i].language == "bn" for i in half) <= 52
    assert halves(prompts, seed=6)[0] != first


def test_halves_of_prompts_without_partners_have_both_sides_too(prompts):
    single = [replace(prompt, id=f"litmus-{number}") for number, prompt in enumerate(prompts)]
    first, second = halves(single)
    assert [sum(single[i].side == "safe" for i in half) for half in (first, second)] == [48, 48]


def test_a_model_compared_with_itself_shows_no_difference(prompts):
    same = states(prompts)
    found = delta(same, replace(same, name="sft"), prompts, at=2, draws=50)
    assert (found[["value", "low", "high"]] == 0).all(axis=None)
    assert found["sentence"].str.startswith("no difference shown between base and sft").all()


def test_a_model_whose_sides_lie_farther_apart_is_said_to_and_the_other_way_round(prompts):
    base, tuned = states(prompts, apart=1), states(prompts, "sft", apart=4)
    up = delta(base, tuned, prompts, at=2, draws=200).set_index("metric")
    assert (up["low"] > 0).all() and up.loc["separation", "sentence"].endswith("farther apart in sft than in base")
    down = delta(tuned, replace(base, name="late"), prompts, at=2, draws=200).set_index("metric")
    assert down.loc["silhouette", "high"] < 0 and "closer together in late" in down.loc["silhouette", "sentence"]
    assert down.loc["separation", "value"] == pytest.approx(-up.loc["separation", "value"])


def test_pairing_makes_the_interval_of_a_difference_narrow(prompts):
    base = states(prompts, apart=2)
    noise = np.random.default_rng(9).normal(scale=0.05, size=base.values.shape).astype(np.float32)
    paired = delta(base, replace(base, name="sft", values=base.values + noise), prompts, at=2).set_index("metric")
    alone = by_layer(base, prompts, layers=[2]).set_index("metric")
    width = (paired["high"] - paired["low"])["separation"]
    assert width < 0.3 * (alone["high"] - alone["low"])["separation"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"architecture": "LlamaModel"}, "architecture"),
        ({"values": np.ones((192, 5, 12), np.float32)}, "number of layers"),
        ({"values": np.ones((192, 4, 9), np.float32)}, "hidden size"),
        ({"pooling": "last token"}, "pooling"),
        ({"prompts": "0" * 64}, "prompts"),
    ],
)
def test_figures_of_two_architectures_are_never_compared(prompts, change, named):
    """An index of 0.4 in one architecture is neither more nor less than 0.3 in another."""
    base = states(prompts)
    with pytest.raises(AqiError, match=f"cannot be compared, they differ in {named}"):
        delta(base, replace(base, name="other", **change), prompts, at=1)
    with pytest.raises(AqiError):
        picture([base, replace(base, name="other", **change)], prompts, at=1)


def test_states_of_other_prompts_or_another_order_are_refused(prompts):
    with pytest.raises(AqiError, match="read from other prompts"):
        by_layer(states(prompts), prompts[::-1])
    with pytest.raises(AqiError, match="one and the same hidden state"):
        flat = replace(states(prompts), values=np.ones((192, 4, 12), np.float32))
        by_layer(flat, prompts, draws=5, permutations=5)


def test_the_picture_shows_both_models_on_the_same_axes(prompts):
    base = states(prompts, apart=6)
    drawn = picture([base, replace(base, name="sft")], prompts, at=2)
    assert list(drawn) == ["base", "sft"] and len(drawn["base"]) == 192
    assert drawn["base"].equals(drawn["sft"]) and 0 < drawn["base"].attrs["shown"] <= 1
    middles = drawn["base"].groupby("side")["x"].mean()
    assert abs(middles["safe"] - middles["unsafe"]) > 3


def test_figures_are_kept_in_the_ledger_by_layer(prompts, tmp_path):
    base, tuned = states(prompts), states(prompts, "sft", apart=2)
    ledger = Ledger(tmp_path / "centralized.db", experiment="run", recipe="lekhai", profile="smoke", settings="{}")
    record(ledger, "base", by_layer(base, prompts, layers=[2], draws=9, permutations=9))
    record(ledger, "sft", delta(base, tuned, prompts, at=2, draws=9), prefix="delta_")
    found = ledger.aqi()
    assert set(found[found["stage"] == "sft"]["metric"]) == {f"delta_{metric}" for metric in METRICS}
    assert found[found["metric"] == "permutation_p"]["low"].isna().all() and set(found["layer"]) == {2}
