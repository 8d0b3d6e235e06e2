"""The recommendation by rule, and what is read from a process and from a file's header."""

import os
import subprocess
from types import SimpleNamespace

import pytest

from lekhai_helpers.core import plots
from lekhai_helpers.ship import footprint
from lekhai_helpers.ship.choice import mending_verdict, only_marks, recommend, training_verdict
from lekhai_helpers.ship.errors import ExportError


def rows(**shares):
    sizes = {"f16": 246, "q8_0": 131, "q5_k_m": 100, "q4_k_m": 93}
    return [{"file": name, "size_mb": sizes[name], "valid_share": share} for name, share in shares.items()]


FILES = rows(f16=0.8, q8_0=0.8, q5_k_m=0.75, q4_k_m=0.5)


def test_the_smallest_file_that_still_does_its_job_is_recommended():
    best = recommend(FILES)
    assert best["file"] == "q5_k_m" and best["why"].startswith("q5_k_m is the smallest file that holds")
    assert "q4_k_m is smaller and writes 50% valid tables, under 70%" in best["why"]


def test_where_no_file_holds_it_is_said_and_the_whole_one_is_taken():
    best = recommend([row | {"passed": False} for row in FILES])
    assert best["file"] == "f16" and best["why"].startswith("no file holds: f16 is the whole one")


def test_a_file_that_writes_tables_but_predicts_something_else_is_not_recommended():
    """Twelve briefs are few: a file can write valid tables by luck and still have lost what it learned."""
    far = [row | {"distance": distance} for row, distance in zip(FILES, (0.0, 0.001, 0.3, 0.9), strict=True)]
    best = recommend(far)
    assert best["file"] == "q8_0" and "q5_k_m is smaller and is 0.30 nats a token away, over 0.1" in best["why"]
    assert recommend(far, distance=0.4)["file"] == "q5_k_m"


def test_the_recommendation_speaks_in_the_words_of_the_recipe():
    why = recommend(FILES, many="sound answers")["why"]
    assert "writes 50% sound answers, under 70%" in why and "the share of sound answers" in why and "table" not in why


def test_a_distance_that_was_not_measured_is_not_asked():
    assert recommend([row | {"distance": None} for row in FILES])["file"] == "q5_k_m"


def test_a_share_exactly_a_tenth_below_still_holds():
    """0.8 - 0.1 is a little more than 0.7 in floating point."""
    assert recommend(rows(f16=0.8, q8_0=0.7))["file"] == "q8_0"
    assert recommend(rows(f16=0.8, q8_0=0.7), tolerance=0.05)["file"] == "f16"


def test_where_nothing_smaller_holds_the_16_bit_file_is_recommended():
    assert recommend(rows(f16=0.8, q8_0=0.2, q4_k_m=0.1))["file"] == "f16"


def test_without_any_valid_table_the_distance_alone_decides():
    none = rows(f16=0.0, q8_0=0.0, q4_k_m=0.0)
    assert recommend([row | {"distance": d} for row, d in zip(none, (0, 0.01, 2.0), strict=True)])["file"] == "q8_0"


def test_the_rule_that_decided_is_named_with_what_the_others_would_have_taken():
    """ "Smallest that holds" does not say why: here the tables of every file hold, and only the distance does not."""
    same = rows(f16=0.9, q8_0=0.9, q5_k_m=0.9, q4_k_m=0.9)
    far = [row | {"distance": d} for row, d in zip(same, (0.0, 0.02, 0.3, 0.5), strict=True)]
    why = recommend(far)["why"]
    assert "the distance decided (the parity gate alone would take q4_k_m, the share of valid tables alone would" in why
    assert "the share of valid tables decided (" in recommend(FILES)["why"]
    worse = [far[0], far[1], far[2] | {"valid_share": 0.1}, far[3] | {"valid_share": 0.1, "passed": False}]
    assert "the share of valid tables and the distance decided (the parity gate alone" in recommend(worse)["why"]
    split = [far[0], far[1], far[2] | {"distance": 0.0, "valid_share": 0.1}, far[3]]
    assert "no rule decided alone (" in recommend(split)["why"]
    assert "decided" not in recommend(rows(f16=0.9, q4_k_m=0.9))["why"]


def test_a_file_that_the_gate_did_not_pass_is_not_recommended():
    best = recommend([*FILES[:2], FILES[2] | {"passed": False}, FILES[3]])
    assert best["file"] == "q8_0" and "q5_k_m is smaller and is not passed by the parity gate" in best["why"]


def test_an_interval_that_holds_the_limit_is_called_the_edge():
    """Eight scripts put 0.107 nats anywhere from 0.08 to 0.13: the rule decides, but others might turn it."""
    distances = [(0.0, None, None), (0.02, 0.01, 0.03), (0.107, 0.08, 0.13), (0.3, 0.2, 0.4)]
    names = ("distance", "distance_low", "distance_high")
    near = [row | dict(zip(names, d, strict=True)) for row, d in zip(FILES, distances, strict=True)]
    best = recommend(near)
    assert best["file"] == "q8_0" and best["why"].endswith(
        "q5_k_m is on the edge: 0.080 to 0.130 nats (95%) holds the limit 0.1"
    )
    assert best["why"].count("on the edge") == 1


# --- the lesson of the smallest file


@pytest.mark.parametrize(
    ("size", "distance", "said"),
    [
        (100, 0.10, "is no larger and no farther: take that."),
        (110, 0.13, "is larger and farther: the mended file is worth it."),
        (100, 0.13, "is smaller but farther: choose"),
        (110, 0.10, "is nearer but larger: choose"),
    ],
)
def test_a_mended_file_is_held_against_the_next_larger_kind(size, distance, said):
    """102 MB of mending were once praised beside a 100 MB file that was nearer as it came."""
    trials = [
        {"trial": "q4_k_m as it is", "size_mb": 93, "distance": 0.23},
        {"trial": "mended", "size_mb": 102, "distance": 0.12},
    ]
    verdict = mending_verdict({"trial": "q5_k_m", "size_mb": size, "distance": distance}, trials)
    assert said in verdict and "mended brings it from 0.230 to 0.120 nats" in verdict


def test_a_remedy_that_mends_nothing_is_told():
    trials = [{"trial": name, "size_mb": 93, "distance": d} for name, d in (("as it is", 0.2), ("worse", 0.3))]
    assert mending_verdict({"trial": "q5_k_m", "size_mb": 100, "distance": 0.1}, trials).endswith("take q5_k_m.")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [(0.54, 0.21, "no sign that training made"), (0.1, 0.2, "may help"), (0.2, 0.21, "about the same")],
)
def test_whether_gentler_training_could_help_is_read_from_the_model_before_it(before, after, said):
    assert said in training_verdict("q4_k_m", before, after)


def test_texts_of_marks_alone_are_counted():
    assert only_marks(["| | | | |", "", "| ছবি | ভিও |", "---|---"]) == 3


def test_a_file_that_is_no_gguf_is_named(tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\0" * 40)
    with pytest.raises(ExportError, match=r"broken\.gguf has no readable GGUF header"):
        footprint.gguf_config(broken)


def test_a_process_is_weighed_without_the_files_it_maps():
    assert 5 < footprint.own_memory_mb(os.getpid()) < 4000


@pytest.mark.parametrize(("told", "held"), [("11, 300\n77, 500\n77, 24", 549.5), ("11, 300", None), ("[N/A]", None)])
def test_the_cards_memory_is_that_of_the_process_alone(monkeypatch, told, held):
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=told))
    assert footprint.gpu_memory_mb(77) == held


def test_without_a_card_there_is_no_figure(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert footprint.gpu_memory_mb(77) is None


@pytest.mark.parametrize("panels", [1, 2])
def test_the_chart_names_every_file_and_rings_the_recommended(panels):
    import pandas as pd

    table = pd.DataFrame(FILES).assign(tokens_per_second=[60, 90, 100, float("nan")])
    if panels == 2:
        table["distance"] = [0, 0.01, 0.04, None]
    figure = plots.quality_size_speed(table, recommended="q5_k_m")
    assert len(figure.axes) == panels
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == 4 and labels[2] == "q5_k_m: 100 MB, 100 tokens/s"
    assert labels[3] == "q4_k_m: 93 MB, speed not measured"
    assert "q5_k_m" in figure.get_suptitle() and len(figure.axes[0].collections) == 5
