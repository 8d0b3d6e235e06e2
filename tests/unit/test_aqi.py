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
    published_variant,
    separation,
    silhouette,
    topics_of,
    two_cluster_identity,
    unsafe_of,
    xie_beni,
)
from lekhai_helpers.measure.aqi_compare import delta, learn_pooling, picture, points_of, pooled_figures, split
from lekhai_helpers.measure.aqi_resampling import bootstrap_counts, shuffled_labels
from lekhai_helpers.measure.aqi_statistics import (
    METRICS,
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


def paired_cloud(pairs: int, dim: int, apart: float, topic: float, seed: int) -> tuple[np.ndarray, ...]:
    """Return points of pairs that share `topic` times a vector of their own, their sides and their topics."""
    dice = np.random.default_rng(seed)
    shared = dice.normal(size=(pairs, dim)) * topic
    points = np.concatenate([shared, shared]) + dice.normal(size=(2 * pairs, dim))
    unsafe = np.arange(2 * pairs) >= pairs
    points[unsafe, 0] += apart
    return points, unsafe, np.tile(np.arange(pairs), 2)


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


# Llama 3.1 8B, LITMUS, 200 prompts of each axiom and side: CHI and XB as printed, and what the authors' code made of
# them (kapilw25/multi_agent_alignment_drift, outputs/phase1_baseline_aqi/Llama3_8B, four decimals).
PUBLIC_RUN = {
    "Civility & Tolerance": (668.0163, 0.1489, 87.7896, 58.0107, 72.9002),
    "Duty & Accountability": (714.1372, 0.1393, 100.0, 60.7711, 80.3856),
    "Empathy & Helpfulness": (563.4249, 0.1766, 60.0992, 49.8533, 54.9762),
    "Information Seeking": (425.5685, 0.2338, 23.6019, 33.4763, 28.5391),
    "Justice & Rights": (336.4202, 0.2958, 0.0, 19.4019, 9.7009),
    "Well-being & Peace": (582.8472, 0.1707, 65.2412, 51.6037, 58.4225),
    "Wisdom & Knowledge": (566.5888, 0.1756, 60.9368, 50.1467, 55.5417),
    "overall": (561.8440, 1.2450, 59.6806, 10.0, 34.8403),
}


def test_the_published_variant_gives_a_public_run_back_from_its_raw_figures():
    """All eight rows, within what rounding XB to four decimals leaves open: a slip in any step would show."""
    found = published_aqi({name: row[:2] for name, row in PUBLIC_RUN.items()}).set_index("group")
    for name, (*_, chi, xbi, aqi) in PUBLIC_RUN.items():
        assert found.loc[name, "chi_100"] == pytest.approx(chi, abs=1e-3)
        assert found.loc[name, ["xbi_100", "aqi"]].tolist() == pytest.approx([xbi, aqi], abs=0.02)


def test_the_weight_of_the_published_variant_is_the_share_of_chi():
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
    few = load_prompts(per_side=8)
    assert by_group(states(few).values[:, 2], few)["group"].tolist() == ["overall"]
    assert by_group(points, prompts, "language")["n"].tolist() == [96, 96, 192]


def test_the_published_variant_is_said_in_words_and_so_is_that_it_cannot_be_had(prompts):
    """On eight prompts a side no axiom has three of each: the notebook must go on and say so."""
    table, told = published_variant(states(prompts).values[:, 2], prompts)
    best = table.iloc[:-1].sort_values("aqi").iloc[-1]
    assert (
        len(table) == 8 and f"highest axiom {best['group']} {best['aqi']:.1f}" in told and "without its t-SNE" in told
    )
    chi = table.iloc[:-1]["chi"]
    assert f"from {chi.min():.2f} to {chi.max():.2f}, where labels by chance give about 1" in told
    few = load_prompts(per_side=8)
    table, told = published_variant(states(few).values[:, 2], few)
    assert table.empty and told.startswith("published variant not computed") and "take more prompts" in told


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


@pytest.mark.parametrize(
    ("pairs", "dim", "apart", "topic"), [(8, 5, 1.5, 0), (30, 5, 1.5, 0), (30, 5, 1.5, 2), (30, 50, 3, 1)]
)
def test_the_interval_covers_what_draws_of_as_many_prompts_give_on_average(pairs, dim, apart, topic):
    """An interval that holds 95 of 100 gives fewer than 88 once in hundreds of simulations."""

    def of(points, unsafe, counts):
        return resampled(points, unsafe, counts)["separation"]

    whole = np.ones((1, 2 * pairs))
    mean = np.mean([of(*paired_cloud(pairs, dim, apart, topic, seed)[:2], whole)[0] for seed in range(300)])
    hits = 0
    for seed in range(100):
        points, unsafe, topics = paired_cloud(pairs, dim, apart, topic, 1000 + seed)
        drawn = of(points, unsafe, bootstrap_counts(unsafe, 150, seed, topics))
        low, high = interval(of(points, unsafe, whole)[0], drawn)
        hits += low <= mean <= high
    assert hits >= 88


def test_pairs_are_drawn_whole_and_prompts_without_a_partner_within_their_side():
    unsafe = np.array([0, 1, 0, 1, 0, 1, 0, 0, 1, 1], dtype=bool)
    topics = np.array([0, 0, 1, 1, 2, 2, 3, 4, 5, 6])
    counts = bootstrap_counts(unsafe, 200, 0, topics)
    assert (counts[:, 0:6:2] == counts[:, 1:6:2]).all() and (counts[:, :6].sum(axis=1) == 6).all()
    assert (counts[:, 6:8].sum(axis=1) == 2).all() and (counts[:, 8:].sum(axis=1) == 2).all()
    assert not (counts[:, :6] == 3).any(), "three copies of one pair have no spread and no index"


def test_labels_change_places_within_pairs_only():
    unsafe = np.array([0, 1, 0, 1, 0, 0, 1], dtype=bool)
    labels = shuffled_labels(unsafe, 300, 0, np.array([0, 0, 1, 1, 2, 3, 4]))
    assert (labels[:, 0] != labels[:, 1]).all() and (labels[:, 2] != labels[:, 3]).all()
    assert (labels[:, 4:].sum(axis=1) == 1).all()
    assert 0.4 < labels[:, 0].mean() < 0.6 and len(np.unique(labels[:, 4:], axis=0)) == 3


def test_what_a_pair_has_in_common_hides_no_difference():
    """Topics lie farther apart than the sides: without pairs the same difference is lost in them."""
    points, unsafe, topics = paired_cloud(30, 5, 1.5, 4, 0)
    assert permutation_p(points, unsafe, 199, topics=topics) <= 0.01 < 0.2 < permutation_p(points, unsafe, 199)

    def width(topics):
        drawn = resampled(points, unsafe, bootstrap_counts(unsafe, 300, 0, topics))["separation"]
        return np.subtract(*interval(0, drawn)[::-1])

    assert width(topics) < 0.5 * width(None)


def test_p_by_pairs_is_evenly_spread_where_the_sides_are_alike():
    null = []
    for seed in range(80):
        points, unsafe, topics = paired_cloud(15, 3, 0, 2, seed)
        null.append(permutation_p(points, unsafe, 99, seed, topics))
    assert 0.4 < np.mean(null) < 0.6 and sum(p <= 0.05 for p in null) <= 10


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


def test_weights_are_learned_on_a_third_and_64_and_64_prompts_carry_the_figures(prompts):
    """Halves left 48 of each side for the headline figure, fewer than anyone asked for."""
    learn, measure = split(prompts, seed=5)
    assert sorted(learn + measure) == list(range(192))
    assert {prompts[i].topic for i in learn}.isdisjoint(prompts[i].topic for i in measure)
    for part, a_side in ((learn, 32), (measure, 64)):
        assert [sum(prompts[i].side == side for i in part) for side in ("safe", "unsafe")] == [a_side, a_side]
        assert abs(sum(prompts[i].language == "bn" for i in part) - a_side) <= 6
        assert len({prompts[i].axiom for i in part}) == 7
    assert split(prompts, seed=6)[0] != learn
    few = load_prompts(per_side=8)
    assert [len(part) for part in split(few)] == [6, 10]


def test_prompts_without_partners_are_split_with_both_sides_too(prompts):
    single = [replace(prompt, id=f"litmus-{number}") for number, prompt in enumerate(prompts)]
    parts = split(single)
    assert [sum(single[i].side == "safe" for i in part) for part in parts] == [32, 64]
    assert [len(part) for part in parts] == [64, 128]


def test_all_figures_of_prompts_in_pairs_are_taken_by_pairs(prompts):
    """The loaders know the pairs; a figure that forgot to pass them on would be the one without topics."""
    pooling = learn_pooling(states(prompts), prompts)
    kept = [prompts[i] for i in pooling.held]
    points = pooling.layers.pool(states(prompts).values[list(pooling.held)])
    by_pairs = figures(points, unsafe_of(kept), draws=40, permutations=40, topics=topics_of(kept))
    found = pooled_figures(states(prompts), prompts, pooling, draws=40, permutations=40)
    assert found["low"].tolist()[:4] == pytest.approx([row["low"] for row in by_pairs][:4])
    assert set(found["n"]) == {128} and np.bincount(topics_of(kept)).tolist() == [2] * 64
    assert found["value"].tolist() == pytest.approx([row["value"] for row in by_pairs])
    change = delta(states(prompts), states(prompts, "sft", seed=1), prompts, pooling, draws=40).set_index("metric")
    counts = bootstrap_counts(unsafe_of(kept), 40, 0, topics_of(kept))
    drawn = [
        resampled(points_of(states(prompts, seed=seed), prompts, pooling)[0], unsafe_of(kept), counts)["separation"]
        for seed in (0, 1)
    ]
    low, high = interval(change.loc["separation", "value"], drawn[1] - drawn[0])
    assert change.loc["separation", ["low", "high"]].tolist() == pytest.approx([low, high])


def test_the_layers_of_prompts_in_pairs_are_tested_by_pairs(prompts):
    """The topics lie far apart here: with labels shuffled over all of them nothing is found."""
    topics = topics_of(prompts)
    shared = np.random.default_rng(3).normal(size=(topics.max() + 1, 1, 12)).astype(np.float32)
    base = states(prompts, apart=1)
    base = replace(base, values=base.values + 8 * shared[topics])
    rows = by_layer(base, prompts, [2], draws=40, permutations=99).set_index("metric")
    assert rows.loc["permutation_p", "value"] == pytest.approx(0.01)
    assert permutation_p(base.values[:, 2], unsafe_of(prompts), 99) > 0.2
    assert rows.loc["separation", "high"] < 2 * rows.loc["separation", "value"]


def test_too_few_prompts_have_no_interval_rather_than_one_of_no_width(prompts):
    few = load_prompts(per_side=4)
    with pytest.raises(AqiError, match="4 safe and 4 unsafe prompts: 5 of each side are the least"):
        by_layer(states(few), few, draws=5, permutations=5)


def test_a_model_compared_with_itself_shows_no_difference(prompts):
    same = states(prompts)
    found = delta(same, replace(same, name="sft"), prompts, at=2, draws=50)
    assert (found[["value", "low", "high"]] == 0).all(axis=None)
    assert found["sentence"][0].startswith("separation (1/XBI): no difference shown between base and sft (+0, ")
    assert found["sentence"].str.contains("n = 192 prompts").all() and found["sentence"].is_unique


def test_a_model_whose_sides_lie_farther_apart_is_said_to_and_the_other_way_round(prompts):
    base, tuned = states(prompts, apart=1), states(prompts, "sft", apart=4)
    up = delta(base, tuned, prompts, at=2, draws=200).set_index("metric")
    assert (up["low"] > 0).all() and "farther apart in sft than in base" in up.loc["separation", "sentence"]
    for metric, name in zip(METRICS, ("separation", "silhouette", "Calinski", "AQI by the paper"), strict=True):
        assert up.loc[metric, "sentence"].startswith(name), "a sentence without its figure's name may be read for any"
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
