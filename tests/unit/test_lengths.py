"""The length of training is chosen from what was measured, and a row is learned whole or not at all."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lekhai_helpers.prepare.lengths import (
    choose_max_length,
    cut_table,
    leave_out,
    load_longest,
    load_max_length,
    measure_lengths,
    save_max_length,
)
from lekhai_helpers.prepare.sources import DatasetError

MANY = st.lists(st.integers(1, 5000), min_size=1, max_size=300)


def example(name, split="train"):
    return {"id": name, "split": split, "prompt_key": "prompt_1", "prompt": [], "completion": []}


@pytest.mark.parametrize(
    ("lengths", "chosen"),
    [([100] * 99 + [900], 128), ([100] * 98 + [900] * 2, 960), ([64], 64), ([65], 128), ([3000], 1024)],
)
def test_the_99th_percentile_is_rounded_up_and_never_above_the_cap(lengths, chosen):
    assert choose_max_length(lengths, cap=1024) == chosen


@given(MANY, st.integers(64, 4096))
def test_at_most_one_row_in_a_hundred_is_longer_unless_the_cap_says_so(lengths, cap):
    chosen = choose_max_length(lengths, cap)
    assert chosen == cap or (chosen < cap and chosen % 64 == 0)
    assert chosen == cap or sum(length > chosen for length in lengths) <= len(lengths) / 100


@given(MANY)
def test_no_step_less_would_have_held_them(lengths):
    chosen = choose_max_length(lengths, cap=10_000)
    assert sum(length > chosen - 64 for length in lengths) > len(lengths) / 100


def test_nothing_measured_is_refused():
    with pytest.raises(ValueError, match="at least one example"):
        choose_max_length([], cap=1024)


@pytest.mark.parametrize("percentile", [0, -1, 101])
def test_a_percentile_that_is_none_is_refused(percentile):
    with pytest.raises(ValueError, match="percentile is"):
        choose_max_length([10], 1024, percentile)


def test_the_table_shows_what_each_choice_would_cut():
    table = cut_table([100] * 98 + [200, 1000], cap=2048)
    assert table.loc[90].tolist() == [128, 2, 0.02, 72 + 872]
    assert table.loc[99].tolist() == [256, 1, 0.01, 744]
    assert table.loc[100].tolist() == [1024, 0, 0, 0]


def test_a_row_that_is_too_long_is_left_out_whole_and_named():
    """A cut row has no end token in it, and the model learns not to stop."""
    examples = [example("a"), example("b"), example("c", "validation"), example("d", "test")]
    lengths = {"a/prompt_1": 10, "b/prompt_1": 99, "c/prompt_1": 99, "d/prompt_1": 99}
    stay, left_out = leave_out(examples, lengths, 64)
    assert [e["id"] for e in stay] == ["a", "d"]
    assert left_out == ["b/prompt_1", "c/prompt_1"]


def test_a_row_of_exactly_the_length_stays():
    assert leave_out([example("a")], {"a/prompt_1": 64}, 64)[1] == []


def test_lengths_are_those_of_the_whole_rendered_example():
    class Tokenizer:
        chat_template = "any"

        def apply_chat_template(self, messages, **options):
            assert options["add_generation_prompt"] is False
            return {"input_ids": list("".join(m["content"] for m in messages))}

    row = example("a") | {"prompt": [{"content": "abc"}], "completion": [{"content": "de"}]}
    assert measure_lengths([row], Tokenizer()) == {"a/prompt_1": 5}


def test_the_choice_is_written_beside_the_rows_and_read_again(tmp_path):
    path = save_max_length(tmp_path, 448, 401, ["r7/prompt_2"])
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written == {"max_length": 448, "longest": 401, "left_out": ["r7/prompt_2"]}
    assert (load_max_length(tmp_path), load_longest(tmp_path)) == (448, 401)


def test_a_dataset_without_the_choice_names_the_remedy(tmp_path):
    for load in (load_max_length, load_longest):
        with pytest.raises(DatasetError, match="run notebook 03 again"):
            load(tmp_path)


def test_a_choice_of_before_the_longest_row_was_kept_names_the_remedy(tmp_path):
    (tmp_path / "max_length.json").write_text('{"max_length": 448, "left_out": []}', encoding="utf-8")
    assert load_max_length(tmp_path) == 448
    with pytest.raises(DatasetError, match="says longest None.*run notebook 03 again"):
        load_longest(tmp_path)


def test_a_choice_that_is_no_length_is_refused(tmp_path):
    save_max_length(tmp_path, 0, 0, [])
    for load in (load_max_length, load_longest):
        with pytest.raises(DatasetError, match="no number of tokens"):
            load(tmp_path)
