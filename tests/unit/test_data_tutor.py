"""The tutor's data: the counts that were asked, every text its own, every answer in the form its contract demands."""

import itertools
import json
import re
import unicodedata
from collections import Counter

import pytest

from lekhai_helpers.core.bengali import char_ngrams, jaccard, words
from lekhai_helpers.core.recipe import data_folder

COLUMNS = {"id", "task", "subject", "level", "instruction", "input", "origin"}
SCIENCES = ("mathematics", "physics", "chemistry", "biology", "geography")
SUBJECTS = (*SCIENCES, "history", "english", "computing", "economics", "music_and_art")
LABELS = ("lecture", "exercise", "explanation", "story", "off_topic")
TOO_CLOSE = 0.25  # share of character 5-grams; the closest two rows of this file reach 0.15
LONGEST_SENTENCE = 45  # words, in an explanation for school children


def load(name: str) -> list[dict]:
    raw = (data_folder() / "tutor" / f"{name}.jsonl").read_bytes()
    assert b"\r" not in raw and raw.endswith(b"\n")
    return [json.loads(line) for line in raw.decode("utf-8").splitlines()]


TRAIN, EVALUATION = load("tutor"), load("evaluation")
EVERY = TRAIN + EVALUATION


def answer(row: dict) -> str | None:
    return row["output"] if "output" in row else row["expected"]


def texts(row: dict) -> list[str]:
    """Return what was written, without the keys and numbers of JSON answers."""
    found = [row["instruction"], row["input"]]
    if row["task"] == "tutoring" and answer(row):
        found.append(answer(row))
    if row["task"] == "path" and answer(row):
        found += [step[key] for step in json.loads(answer(row)) for key in ("title", "goal")]
    return found


def sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])[\"”)*]*\s+|\n+", text) if part.strip()]


def repeated(rows: list[dict]) -> list[str]:
    """Return sentences of six words or more that stand twice."""
    spoken = (" ".join(words(part.lower())) for row in rows for text in texts(row) for part in sentences(text))
    return [text for text, count in Counter(spoken).items() if count > 1 and len(text.split()) >= 6]


def near_copies(rows: list[dict]) -> list[tuple[str, str]]:
    grams = {row["id"]: char_ngrams(" ".join(texts(row))) for row in rows}
    return [(a, b) for a, b in itertools.combinations(grams, 2) if jaccard(grams[a], grams[b]) > TOO_CLOSE]


def judgement_faults(text: str) -> list[str]:
    found = json.loads(text)
    if set(found) != {"classification", "engagement_score", "educational_value"}:
        return [f"keys {sorted(found)}"]
    scores = (found["engagement_score"], found["educational_value"])
    faults = [] if found["classification"] in LABELS else [f"label {found['classification']!r}"]
    return faults + [f"score {score!r}" for score in scores if type(score) is not int or not 1 <= score <= 10]


def path_faults(text: str) -> list[str]:
    steps = json.loads(text)
    faults = [] if 4 <= len(steps) <= 7 else [f"{len(steps)} steps"]
    if any(set(step) != {"level", "title", "goal", "minutes"} for step in steps):
        return [*faults, "keys"]
    if [step["level"] for step in steps] != list(range(1, len(steps) + 1)):
        faults.append("levels out of order")
    empty = [step["level"] for step in steps if not (step["title"].strip() and step["goal"].strip())]
    faults += [f"empty text at {level}" for level in empty]
    return faults + [f"{step['minutes']} minutes" for step in steps if not 5 <= step["minutes"] <= 120]


def explanation_faults(text: str) -> list[str]:
    faults = [] if 60 <= len(words(text)) <= 160 else [f"{len(words(text))} words"]
    if text.count("?") != 1 or "?" not in text.split("\n\n")[-1]:
        faults.append("not exactly one question, in the last paragraph")
    return faults + [part for part in sentences(text) if len(words(part)) > LONGEST_SENTENCE]


FAULTS = {"tutoring": explanation_faults, "classification": judgement_faults, "path": path_faults}


def test_the_counts_are_the_ones_asked():
    assert Counter(row["task"] for row in TRAIN) == {"tutoring": 70, "classification": 30, "path": 20}
    assert Counter(row["subject"] for row in TRAIN) == dict.fromkeys(SUBJECTS, 12)
    per_part = Counter((row["task"], row["part"]) for row in EVALUATION)
    asked = {"tutoring": 7, "classification": 9, "path": 4}
    assert per_part == {(task, part): n for task, n in asked.items() for part in ("development", "heldout")}


def test_the_columns_are_the_documented_ones():
    assert all(set(row) == COLUMNS | {"output"} for row in TRAIN)
    assert all(set(row) == COLUMNS | {"expected", "part"} for row in EVALUATION)
    for row in EVERY:
        assert row["level"] in ("primary", "middle", "secondary") and row["subject"] in SUBJECTS, row["id"]
        assert row["origin"] == "LekhAI original", row["id"]
        assert all(row[name].strip() == row[name] != "" for name in ("id", "instruction", "input")), row["id"]


def test_ids_are_unique_and_texts_are_nfc():
    assert len({row["id"] for row in EVERY}) == len(EVERY) == 160
    assert all(unicodedata.is_normalized("NFC", json.dumps(row, ensure_ascii=False)) for row in EVERY)


def test_every_answer_has_the_form_of_its_task():
    found = {row["id"]: FAULTS[row["task"]](answer(row)) for row in EVERY if answer(row) is not None}
    assert {name: faults for name, faults in found.items() if faults} == {}
    assert all(row["output"] for row in TRAIN)
    assert all((row["expected"] is not None) == (row["task"] == "classification") for row in EVALUATION)


def test_every_label_is_there_and_no_score_can_be_guessed():
    """A tutor that learned one favourite label or one favourite score would look better than it is."""
    labels = Counter(json.loads(row["output"])["classification"] for row in TRAIN if row["task"] == "classification")
    assert labels == dict.fromkeys(LABELS, 6)
    asked = [json.loads(row["expected"]) for row in EVALUATION if row["expected"]]
    assert {label["classification"] for label in asked} == set(LABELS)
    assert max(Counter(label["educational_value"] for label in asked).values()) <= 6


def test_explanations_differ_in_length_and_opening():
    said = [row["output"] for row in TRAIN if row["task"] == "tutoring"]
    lengths = sorted(len(words(text)) for text in said)
    assert lengths[0] < 85 and lengths[-1] > 140
    assert len({tuple(words(text.lower())[:3]) for text in said}) == len(said)


def test_no_sentence_stands_twice():
    assert repeated(EVERY) == []


def test_no_two_rows_are_near_copies():
    """A prompt of the exam that is nearly a training row would make the tutor look better than it is."""
    assert near_copies(EVERY) == []


def test_the_checks_see_a_repeated_sentence_and_a_near_copy():
    twin = TRAIN[0] | {"id": "twin", "input": TRAIN[0]["input"] + " Please."}
    assert repeated([TRAIN[0], twin]) != []
    assert near_copies([TRAIN[0], twin]) == [(TRAIN[0]["id"], "twin")]
    assert repeated(TRAIN[:2]) == near_copies(TRAIN[:2]) == []


@pytest.mark.parametrize(
    ("task", "text", "fault"),
    [
        ("tutoring", "Too short, isn't it?", "words"),
        ("tutoring", "word " * 30 + ". " + "word " * 40 + ".", "question"),
        ("tutoring", "word " * 70 + "?", "word word"),
        ("classification", '{"classification": "poem", "engagement_score": 3, "educational_value": 3}', "poem"),
        ("classification", '{"classification": "story", "engagement_score": 11, "educational_value": 3}', "11"),
        ("classification", '{"classification": "story", "engagement_score": 3.5, "educational_value": 3}', "3.5"),
        ("classification", '{"classification": "story"}', "keys"),
        ("path", "[]", "0 steps"),
        ("path", '[{"level": 2, "title": "a", "goal": "b", "minutes": 20}]', "order"),
        ("path", '[{"level": 1, "title": "a", "goal": " ", "minutes": 20}]', "empty"),
        ("path", '[{"level": 1, "title": "a", "goal": "b", "minutes": 900}]', "900"),
    ],
)
def test_a_faulty_answer_is_named(task, text, fault):
    assert any(fault in found for found in FAULTS[task](text))
