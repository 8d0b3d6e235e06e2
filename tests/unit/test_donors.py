"""The training text of the two donors (notebook 02): complete, Bengali, and every piece its own."""

import itertools
import json
import unicodedata
from collections import Counter

import pytest

from lekhai_helpers.core.bengali import bengali_share, char_ngrams, jaccard, words
from lekhai_helpers.core.recipe import data_folder

FIELDS = {"bengali_ad_prose": ["text"], "outlines": ["brief", "outline"]}
NUMBERS = "১২৩৪৫"


def load(name: str) -> list[dict]:
    lines = (data_folder() / "donors" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def whole(name: str, row: dict) -> str:
    return "\n".join(row[field] for field in FIELDS[name])


@pytest.fixture(params=sorted(FIELDS))
def name(request):
    return request.param


def test_there_are_48_rows_of_which_12_are_held_out(name):
    rows = load(name)
    assert Counter(row["split"] for row in rows) == {"train": 36, "heldout": 12}
    assert len({row["id"] for row in rows}) == 48
    assert all(set(row) == {"id", "split", *FIELDS[name]} for row in rows)


def test_every_text_is_nfc_and_bengali(name):
    for row in load(name):
        text = whole(name, row)
        assert unicodedata.is_normalized("NFC", text), row["id"]
        assert bengali_share(text) >= 0.85, row["id"]


def test_no_two_texts_are_near_copies(name):
    """A held-out text that is nearly a training text would make a donor look better than it is."""
    grams = {row["id"]: char_ngrams(whole(name, row)) for row in load(name)}
    close = [(a, b) for a, b in itertools.combinations(grams, 2) if jaccard(grams[a], grams[b]) > 0.35]
    assert close == []


def test_every_paragraph_has_40_to_70_words_and_an_opening_of_its_own():
    texts = [row["text"] for row in load("bengali_ad_prose")]
    assert [text for text in texts if not 40 <= len(words(text)) <= 70] == []
    assert len({words(text)[0] for text in texts}) == 48


def test_every_outline_has_four_or_five_numbered_short_steps():
    for row in load("outlines"):
        steps = row["outline"].split("\n")
        assert len(steps) in (4, 5), row["id"]
        assert [step[:3] for step in steps] == [f"{number}. " for number in NUMBERS[: len(steps)]], row["id"]
        assert all(len(words(step)) - 1 < 12 for step in steps), row["id"]


def test_no_step_is_used_twice():
    steps = [step for row in load("outlines") for step in row["outline"].split("\n")]
    assert len(set(steps)) == len(steps)
