"""Two voices are told apart where they differ, and where they do not, nobody says so."""

import random
from functools import lru_cache

import pandas as pd
import pytest

from lekhai_helpers.core.recipe import data_file, resolve
from lekhai_helpers.measure.side_by_side import cost, side_by_side
from lekhai_helpers.measure.skeletons import distort
from lekhai_helpers.measure.style_test import FEWEST, style_test
from lekhai_helpers.prepare.dataset import load_table

TOPICS = ["river", "tin", "letter", "train", "press", "college", "cat", "stairs", "rent", "market", "storm", "lamp"]
HERS = (
    "I did not think of the {0} for a week; then, at four o'clock, I thought of nothing else.",
    "It was the {0}, of course. It is always the {0}!",
    "So I kept the {0}, and I lost the argument, which was the better of the two.",
    "Was I right? I do not know. I had the {0} in my hand, and a reason in the other.",
    "One can be fond of a {0}; one need not say so.",
)
THEIRS = (
    "There are several important factors to consider when thinking about the {0}.",
    "It is important to remember that everyone is different and that the {0} can be a challenge.",
    "Here are some tips that can help you with the {0} and with your feelings.",
    "You should consider the pros and cons of the {0} before you make a decision.",
    "In conclusion, the {0} is a personal choice, and you should do what is best for you.",
)


def wrote(voice: tuple[str, ...], seed: int) -> str:
    dice = random.Random(seed)
    return " ".join(dice.choice(voice).format(dice.choice(TOPICS)) for _ in range(9))


def answers(voice: tuple[str, ...], start: int, n: int = 14) -> dict[str, list[str]]:
    return {f"p{k}": [wrote(voice, start + k), wrote(voice, start + 50 + k)] for k in range(n)}


def shuffled(text: str) -> str:
    words = text.split()
    random.Random(7).shuffle(words)
    return " ".join(words)


WRITING = {f"w{k}": wrote(HERS, 1000 + k) for k in range(12)}


def test_a_tuned_voice_like_the_writers_is_told_apart_and_nearer():
    found = style_test(WRITING, answers(THEIRS, 0), answers(HERS, 200), rounds=59)
    assert found.distinguishable and found.known.shown and found.nearer and found.p <= 0.05
    assert found.sentence.startswith("The tuned voice can be told") and "is nearer to the writer" in found.sentence


def test_two_models_of_one_voice_are_not_told_apart():
    """A test that is fitted on what it judges finds a difference between any two samples."""
    hits = [
        style_test(WRITING, answers(THEIRS, 300 * k), answers(THEIRS, 300 * k + 150), rounds=19).distinguishable
        for k in range(3)
    ]
    assert sum(hits) <= 1


def test_a_change_away_from_the_writer_is_told_apart_and_not_called_nearer():
    terse = tuple(line.upper() for line in ("No. The {0}? No.", "Stop; the {0}; stop.", "Never, {0}, never."))
    found = style_test(WRITING, answers(HERS, 0), answers(terse, 200), rounds=59)
    assert found.distinguishable and not found.closer.shown


@lru_cache
def rows(recipe: str) -> list[str]:
    """The texts of a sample, without its JSON."""
    data = resolve(recipe, "cpu").data
    table, _ = load_table(data_file(data.file), data.prompts, data.source, data.contract)
    return [text for text in table["script"] if not text.startswith(("{", "["))]


@pytest.mark.parametrize(
    ("written", "nearer"),
    [
        (lambda k: shuffled(rows("tutor")[k]), False),
        (lambda k: "zq xk wv " * 30, False),
        (lambda k: rows("alignment")[k], False),
        (lambda k: rows("companion")[20 + k], True),
    ],
    ids=["the base shuffled", "noise", "somebody else", "the writer"],
)
def test_what_is_merely_unlike_the_base_is_not_called_nearer(written, nearer):
    """A classifier that knows writer and base alone took 95 to 100 of 100 of all these for the writer's."""
    writing = {f"w{k}": text for k, text in enumerate(rows("companion")[:18])}
    base, tuned = ({f"p{k}": [one(k)] for k in range(20)} for one in (lambda k: rows("tutor")[k], written))
    found = style_test(writing, base, tuned, rounds=0)
    assert found.known.shown and found.nearer == nearer, (found.closer, found.alike)
    assert ("was not shown to be nearer" in found.sentence) != nearer


def test_a_step_towards_the_writer_is_seen_and_shuffled_words_count_less():
    half = {f"p{k}": [f"{wrote(THEIRS, 200 + k)[:300]} {wrote(HERS, 300 + k)[:300]}"] for k in range(14)}
    mixed = {name: [shuffled(text) for text in texts] for name, texts in half.items()}
    base = answers(THEIRS, 0)
    found, lost = style_test(WRITING, base, half, rounds=9), style_test(WRITING, base, mixed, rounds=9)
    assert found.nearer and lost.alike.value < found.alike.value


def test_texts_without_a_shared_word_or_mark_are_no_error():
    found = style_test(
        {f"w{k}": f"alpha beta gamma {k}" for k in range(6)}, *({f"p{k}": ["zq xk"] for k in range(6)},) * 2
    )
    assert not found.nearer


def test_a_writer_like_the_base_is_said_to_be_unknown():
    found = style_test(WRITING, answers(HERS, 0), answers(THEIRS, 200), rounds=59)
    assert not found.known.shown and "was not known from the base" in found.sentence


def test_too_little_is_an_error_that_says_how_much_is_needed():
    few = dict(list(WRITING.items())[: FEWEST - 1])
    with pytest.raises(ValueError, match="6 of each are needed"):
        style_test(few, answers(THEIRS, 0), answers(HERS, 0))
    with pytest.raises(ValueError, match="5 prompts"):
        style_test(WRITING, answers(THEIRS, 0, 5), answers(HERS, 0))


def test_the_order_of_prompts_changes_nothing():
    base, tuned = answers(THEIRS, 0), answers(HERS, 200)
    turned = {name: base[name] for name in reversed(base)}
    assert style_test(WRITING, base, tuned, rounds=9) == style_test(WRITING, turned, tuned, rounds=9)


def test_topics_and_figures_are_hidden_and_the_skeleton_stays():
    common = frozenset({"i", "had", "the", "don't"})
    assert distort("I had 35 Rivers, the tin!\nDon’t.", common) == "i had # * , the * ! ¶ don't ."


def responses() -> pd.DataFrame:
    rows = [
        (stage, name, 1, "decision", f"ask {name}", f"{stage} on {name}", tokens, seconds)
        for stage, tokens, seconds in (("base", 100, 2.0), ("sft", 60, 1.0))
        for name in ("d1", "d2")
    ]
    columns = ["stage", "brief_id", "seed", "industry", "prompt", "text", "tokens", "seconds"]
    return pd.DataFrame([*rows, ("sft", "d3", 1, "decision", "ask d3", "only", 5, 0.1)], columns=columns)


def test_answers_to_one_question_stand_side_by_side():
    table = side_by_side(responses())
    assert list(table["brief_id"]) == ["d1", "d2"], "what only one of them answered has no other side"
    first = table.iloc[0]
    assert (first["text_base"], first["text_sft"]) == ("base on d1", "sft on d1")
    assert (first["tokens_base"], first["seconds_sft"]) == (100, 1.0)


def test_what_answers_cost_is_told_by_stage():
    table = cost(responses())
    assert table.loc["base", "answers"] == 2 and table.loc["base", "tokens a second"] == 50
    assert table.loc["sft", "tokens (median)"] == 60


def test_a_stage_without_answers_is_named():
    with pytest.raises(ValueError, match="no answer of dpo.*base, sft"):
        side_by_side(responses(), second="dpo")
    with pytest.raises(ValueError, match="no question both"):
        one = responses()
        side_by_side(one[(one["stage"] == "base") | (one["brief_id"] == "d3")])
