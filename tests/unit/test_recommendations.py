"""The executive summary: each finding has its advice, what was not measured has none, urgent things come first."""

import pandas as pd
import pytest

from lekhai_helpers.core.words import Words
from lekhai_helpers.measure.recommendations import executive_summary, in_lines

GOOD = {"difference": 0.5, "low": 0.3, "high": 0.7, "briefs": 40}
NONE = GOOD | {"difference": 0.1, "low": -0.1, "high": 0.3}
BAD = GOOD | {"difference": -0.3, "low": -0.5, "high": -0.1}
WORDS = Words("answer", "a kind answer", "kind answers", "area")
RIGHT = {"before": {"right": 2, "of": 18}, "after": {"right": 12, "of": 18}, "difference": GOOD, "p": 0.002}


def found(figures: dict, aqi: pd.DataFrame | None = None) -> list[str]:
    return [one.finding for one in executive_summary(figures, aqi, WORDS)]


def inside(low: float, high: float, layer: int = -1) -> pd.DataFrame:
    value = (low + high) / 2
    return pd.DataFrame(
        [{"stage": "sft", "layer": layer, "metric": "delta_separation", "value": value, "low": low, "high": high}]
    )


def test_a_run_without_figures_gives_no_advice():
    assert executive_summary({}) == [] and executive_summary({"07_refinement": None}, pd.DataFrame()) == []


@pytest.mark.parametrize(
    ("difference", "said", "urgent"),
    [
        (GOOD, "Training helped: +50% kind answers", False),
        (NONE, "No gain shown", True),
        (BAD, "Training did harm", True),
    ],
)
def test_what_training_did_is_said_as_far_as_it_was_shown(difference, said, urgent):
    (one,) = executive_summary({"07_refinement": {"difference": difference}}, None, WORDS)
    assert one.finding.startswith(said) and one.urgent == urgent


def right(before: int, after: int, p: float) -> dict:
    sides = {"before": {"right": before, "of": 40}, "after": {"right": after, "of": 40}}
    return {"right": sides | {"difference": {"difference": (after - before) / 40}, "p": p}}


def kept(share_of_both: float) -> dict:
    same = NONE | {"difference": 0.0, "low": 0.0, "high": 0.0}
    return {"difference": same, "sft": {"stopped": 1.0, "valid_tables": share_of_both}}


@pytest.mark.parametrize(
    ("figures", "said", "urgent"),
    [
        (right(40, 10, 0.0), "10 of 40 questions with one right answer are right, fewer than before (40 of 40)", True),
        (right(40, 40, 1.0), "nothing was left to gain", False),
        (right(40, 38, 0.5), "nothing was left to gain", False),
        (right(10, 40, 0.0), "more than before", False),
        (right(20, 22, 0.5), "not shown to be more than before", True),
        (kept(1.0), "Nothing was left to gain by this count: all were kind answers", False),
        (kept(0.4), "No gain shown", True),
    ],
)
def test_harm_is_named_and_full_marks_leave_nothing_to_gain(figures, said, urgent):
    (one,) = executive_summary({"07_refinement": figures}, None, WORDS)
    assert said in one.finding and one.urgent == urgent, one


def test_two_briefs_that_both_got_better_show_nothing():
    """Drawn again and again, two equal differences have an interval of no width."""
    (one,) = executive_summary({"07_refinement": {"difference": GOOD | {"low": 0.5, "briefs": 2}}}, None, WORDS)
    assert one.finding.startswith("Nothing can be said of training yet") and one.urgent


@pytest.mark.parametrize(
    ("phase", "figures", "said"),
    [
        ("07_refinement", {"difference": GOOD | {"briefs": 12}}, "The exam is small: 12 briefs"),
        ("06_fine_tuning", {"overfits": True}, "learn by heart"),
        (
            "06_fine_tuning",
            {
                "copied": [
                    {"share": 0.5, "low": 0.4, "high": 0.6, "texts_with_copy": 9, "texts": 12, "longest": 40},
                    {"share": 0.01, "low": 0.0, "high": 0.02, "texts_with_copy": 1, "texts": 12, "longest": 9},
                ]
            },
            "It copies more than people",
        ),
        ("07_refinement", {"sft": {"stopped": 0.4}}, "Only 40% of the answers end by themselves"),
        ("07_refinement", {"right": RIGHT}, "12 of 18 questions with one right answer are right, more than before"),
        ("07_refinement", {"right": RIGHT | {"p": 0.3}}, "not shown to be more than before"),
        ("07_refinement", {"voice": {"nearer": True}}, "stands nearer to the writer"),
        ("07_refinement", {"voice": {"nearer": False}}, "was not shown to be nearer"),
        ("10_preference_alignment", {"verdict": "keep"}, "did no harm"),
        ("10_preference_alignment", {"verdict": "drop", "reasons": ["it grew by 30%"]}, "dropped: it grew by 30%"),
        ("11_judge", {"judge": "small one", "trusted": False}, "failed its audit: small one"),
        (
            "11_judge",
            {"needs_data": [{"industry": "fraud", "n": 1}, {"industry": "hate", "n": 2}]},
            "area: fraud, hate",
        ),
        ("11_judge", {"needs_data": [{"area": "fraud"}, {"area": "hate"}], "groups": 2}, "Every area has few texts"),
        ("12_portability", {"recommended": "a-q8_0.gguf"}, "smallest file"),
    ],
)
def test_each_finding_is_seen(phase, figures, said):
    assert any(said in one for one in found({phase: figures})), found({phase: figures})


@pytest.mark.parametrize(
    ("phase", "figures"),
    [
        ("06_fine_tuning", {"overfits": False, "copied": []}),
        ("07_refinement", {"sft": {"stopped": 1.0}, "right": {}, "voice": {"sentence": "none"}}),
        ("11_judge", {"judge": "a", "trusted": True, "needs_data": []}),
        ("11_judge", {"judge": None}),
    ],
)
def test_a_quiet_figure_gives_no_advice(phase, figures):
    assert found({phase: figures}) == []


@pytest.mark.parametrize(
    ("low", "high", "said", "urgent"),
    [(-0.3, -0.1, "closer together", True), (0.1, 0.3, "farther apart", False), (-0.1, 0.1, "No change shown", False)],
)
def test_delta_aqi_is_read_by_its_interval(low, high, said, urgent):
    (one,) = executive_summary({}, inside(low, high), WORDS)
    assert said in one.finding and one.urgent == urgent


def test_a_single_layer_and_a_missing_interval_say_nothing():
    """Of thirty layers one looks good by luck: only the pooled figure counts."""
    assert executive_summary({}, inside(0.1, 0.3, layer=4)) == []
    assert executive_summary({}, inside(float("nan"), float("nan"))) == []


def test_urgent_things_come_first_and_many_groups_are_counted():
    needs = [{"industry": f"g{n}"} for n in range(9)]
    figures = {"11_judge": {"needs_data": needs}, "07_refinement": {"difference": NONE}}
    lines = in_lines(executive_summary(figures, None, WORDS))
    assert lines[0].startswith("FIRST No gain shown") and lines[1].startswith("then")
    assert "g4 and 4 more" in lines[1]
