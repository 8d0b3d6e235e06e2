"""What is done with a model's reading of a text, without any model: repetition found, readings kept."""

import math

import pytest

from lekhai_helpers.learn.likelihood import Kept, Reading, fingerprint


def test_a_text_that_repeats_itself_is_judged_by_its_first_round_only():
    """A loop of the same line was the likeliest text of all, and so the most "fluent"."""
    once, again = (-4.0, -4.0, -4.0, -4.0, -4.0), (-0.01,) * 20
    loop = Reading((1, 2, 3, 4, 5) * 5, once + again)
    assert loop.fresh() == [True] * 8 + [False] * 17
    assert loop.repeated_share == pytest.approx(17 / 25)
    assert loop.fresh_mean == pytest.approx((5 * -4.0 + 3 * -0.01) / 8)
    assert sum(loop.logprobs) / 25 > -1 > loop.fresh_mean


def test_a_text_without_repetition_is_all_fresh():
    reading = Reading(tuple(range(10)), (-2.0,) * 10)
    assert reading.repeated_share == 0.0 and reading.fresh_mean == -2.0


def test_an_empty_text_has_no_mean():
    assert math.isnan(Reading((), ()).fresh_mean) and Reading((), ()).repeated_share == 0.0


class Model:
    """Counts what it is asked; breaks off after `calls` calls."""

    def __init__(self, calls=99):
        self.asked, self.calls = [], calls

    def __call__(self, texts):
        if not self.calls:
            raise RuntimeError("out of memory")
        self.calls -= 1
        self.asked += texts
        return [Reading(tuple(map(ord, text)), (-1.5,) * len(text)) for text in texts]


def test_a_second_run_reads_only_what_the_first_did_not_finish(tmp_path):
    texts = [f"লেখা {n}" for n in range(5)]
    with pytest.raises(RuntimeError):
        Kept(Model(calls=1), tmp_path, "base", step=2)(texts)
    model = Model()
    found = Kept(model, tmp_path, "base", step=2)(texts)
    assert model.asked == texts[2:]
    assert found == Model()(texts)


def test_the_same_text_twice_is_read_once_and_answered_twice(tmp_path):
    model = Model()
    found = Kept(model, tmp_path, "base")(["ক", "খ", "ক"])
    assert model.asked == ["ক", "খ"] and found[0] == found[2] != found[1]


def test_another_model_does_not_find_the_first_ones_readings(tmp_path):
    Kept(Model(), tmp_path, "base")(["ক"])
    other = Model()
    Kept(other, tmp_path, "another base")(["ক"])
    assert other.asked == ["ক"]


@pytest.mark.parametrize(
    "left", ["", "{", "null", "[]", "{}", '{"ids": [1], "logprobs": []}', '{"ids": 1, "logprobs": 1}']
)
def test_a_damaged_file_counts_as_missing(tmp_path, left):
    """A disk that was full left half a file, and every later run ended there."""
    before = Kept(Model(), tmp_path, "base")(["ক"])
    next(tmp_path.iterdir()).write_text(left, encoding="utf-8")
    model = Model()
    assert Kept(model, tmp_path, "base")(["ক"]) == before and model.asked == ["ক"]
    assert Kept(Model(calls=0), tmp_path, "base")(["ক"]) == before


def test_a_models_fingerprint_changes_with_its_weights(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"one")
    before = fingerprint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert fingerprint(tmp_path) != before
