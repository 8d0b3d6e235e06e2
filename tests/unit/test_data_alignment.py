"""The alignment data: the counts that were asked, every text its own, nothing in it that teaches harm."""

import itertools
import json
import re
import unicodedata
from collections import Counter

import pytest

from lekhai_helpers.core.bengali import bengali_share, char_ngrams, jaccard, words
from lekhai_helpers.core.recipe import Aqi, data_file, data_folder
from lekhai_helpers.prepare.safety_prompts import load_set

AREAS = ("self_harm", "violence", "hate", "privacy", "fraud", "drugs", "medical")
ANSWERS = ("Accepted Response", "Rejected Response")
WRITTEN = ("Prompt", "Instruction generated", *ANSWERS)
TOO_CLOSE = 0.20  # share of character 5-grams; the closest two prompts reach 0.16
ID = re.compile(r"align-(?P<area>[a-z_]+)-(?P<language>bn|en)-\d\d-(?P<side>safe|unsafe)")
# What a simple heuristic would look for; the labelled prompts must be able to mislead it in both directions.
TELLTALE = re.compile(
    r"kill|die|dying|bomb|shoot|murder|attack|explosi|poison|drug|suicid|overdos|steal|stole|hack|fake|hate|slur|weapon"
    r"|gun|knife|heroin|cannabis|addict|cutting|মার|মর|বিষ|ইয়াবা|জাল|আত্মহত্যা|খুন",
    re.IGNORECASE,
)


def load(name: str) -> list[dict]:
    raw = (data_folder() / "alignment" / f"{name}.jsonl").read_bytes()
    assert b"\r" not in raw and raw.endswith(b"\n")
    return [json.loads(line) for line in raw.decode("utf-8").splitlines()]


INSTRUCTIONS, LABELLED, SCENARIOS = load("instructions"), load("labelled"), load("scenarios")
EVERY = INSTRUCTIONS + LABELLED + SCENARIOS


def part_of_id(row: dict, name: str) -> str:
    return ID.fullmatch(row["id"])[name]


def prompt(row: dict) -> str:
    return row["Prompt"] if "Prompt" in row else row["prompt"]


def texts(row: dict) -> list[str]:
    return [row[name] for name in (*WRITTEN, "prompt", "why") if name in row]


def repeated(rows: list[dict]) -> list[str]:
    """Return sentences of six words or more that stand twice."""
    parts = (part for row in rows for text in texts(row) for part in re.split(r"(?<=[.!?।])[\"”)]*\s+|\n+", text))
    spoken = Counter(" ".join(words(part.lower())) for part in parts)
    return [text for text, count in spoken.items() if count > 1 and len(text.split()) >= 6]


def near_copies(named: dict[str, str], apart_from: frozenset[str] = frozenset()) -> list[tuple[str, str]]:
    """Return pairs that are too close, without pairs of which both are in `apart_from`."""
    grams = {name: char_ngrams(text) for name, text in named.items()}
    pairs = (pair for pair in itertools.combinations(grams, 2) if not apart_from.issuperset(pair))
    return [(a, b) for a, b in pairs if jaccard(grams[a], grams[b]) > TOO_CLOSE]


def contact_data(text: str) -> list[str]:
    """Return addresses, links and numbers that could belong to somebody; the public helplines have three digits."""
    return re.findall(r"\S+@\S+|https?://\S+|www\.\S+|[\d০-৯][\d০-৯ +-]{6,}[\d০-৯]", text)


def test_the_counts_are_the_ones_asked():
    sides = Counter((part_of_id(row, "side"), part_of_id(row, "language")) for row in INSTRUCTIONS)
    assert sides == {(side, lang): n for side in ("safe", "unsafe") for lang, n in (("en", 80), ("bn", 20))}
    areas = Counter((part_of_id(row, "area"), part_of_id(row, "side")) for row in INSTRUCTIONS)
    assert all(areas[area, "safe"] >= 10 and areas[area, "unsafe"] >= 14 for area in AREAS)
    assert {area for area, _ in areas} == {*AREAS, "everyday"} and not areas["everyday", "unsafe"]
    assert Counter(row["category"] for row in LABELLED) == dict.fromkeys(AREAS, 9) | {"none": 77}
    parts = Counter((row["side"], row["part"]) for row in SCENARIOS)
    assert parts == {(side, part): 6 for side in ("safe", "unsafe") for part in ("development", "heldout")}
    assert {row["category"] for row in SCENARIOS} == {*AREAS, "none"}
    assert {row["category"] for row in SCENARIOS if row["side"] == "unsafe"} == set(AREAS)


def test_the_columns_are_the_documented_ones():
    assert all(set(row) == {"id", "origin", *WRITTEN} for row in INSTRUCTIONS)
    assert all(set(row) == {"id", "prompt", "category", "why", "origin"} for row in LABELLED)
    assert all(set(row) == {"id", "side", "category", "prompt", "part", "origin"} for row in SCENARIOS)
    assert [row["id"] for row in EVERY if any(value.strip() != value or not value for value in row.values())] == []
    assert {row["origin"] for row in EVERY} == {"LekhAI original"}


def test_ids_are_unique_and_texts_are_nfc():
    assert len({row["id"] for row in EVERY}) == len(EVERY) == 364
    assert all(unicodedata.is_normalized("NFC", json.dumps(row, ensure_ascii=False)) for row in EVERY)


def test_a_row_is_in_the_language_its_id_names():
    for row in INSTRUCTIONS:
        shares = [bengali_share(row[name]) for name in WRITTEN]
        if part_of_id(row, "language") == "bn":
            assert min(shares) > 0.9, row["id"]
        else:
            assert max(shares) < 0.2, row["id"]
    assert sum(bengali_share(row["prompt"]) > 0.5 for row in LABELLED) == 28


def test_no_sentence_stands_twice():
    assert repeated(EVERY) == []


def test_no_two_prompts_are_near_copies_also_not_of_the_prompts_of_the_index():
    """A training prompt that is nearly a prompt of the exam would make the aligned model look better than it is."""
    lines = data_file("aqi_prompts.jsonl").read_text(encoding="utf-8").splitlines()
    index = {row["id"]: row["prompt"] for row in map(json.loads, lines)}
    assert near_copies({row["id"]: prompt(row) for row in EVERY} | index, frozenset(index)) == []


def test_no_two_answers_are_near_copies_and_every_answer_opens_in_its_own_way():
    assert near_copies({row["id"]: row["Accepted Response"] for row in INSTRUCTIONS}) == []
    openings = Counter(tuple(words(row["Accepted Response"].lower())[:4]) for row in INSTRUCTIONS)
    assert [opening for opening, count in openings.items() if count > 1] == []


def test_answers_fit_the_loader_and_a_rejected_one_leaves_no_room_for_instructions():
    for row in INSTRUCTIONS:
        assert all(len(row[name]) <= 1_000 for name in ("Prompt", *ANSWERS)), row["id"]
        assert len(words(row["Accepted Response"])) >= 30, row["id"]
        assert len(words(row["Rejected Response"])) <= 25, row["id"]
        assert len(words(row["Instruction generated"])) <= 30, row["id"]


def test_nobodys_address_or_number_stands_in_it():
    assert [found for row in EVERY for text in texts(row) for found in contact_data(text)] == []


def test_whoever_is_in_danger_is_shown_to_somebody_who_can_help():
    """A refusal alone leaves a person who wants to die where they were."""
    helps = re.compile(
        r"call|phone|doctor|counsellor|teacher|warden|tell |bring help|hospital|clinics|ফোন|কল করুন|ডাক্তার|শিক্ষক", re.I
    )
    rows = [row for row in INSTRUCTIONS if row["id"].startswith("align-self_harm") and row["id"].endswith("unsafe")]
    assert [row["id"] for row in rows if not helps.search(row["Accepted Response"])] == []


def test_the_labelled_prompts_can_mislead_a_keyword_heuristic_in_both_directions():
    alarming = [row for row in LABELLED if TELLTALE.search(row["prompt"])]
    false_alarms = [row for row in alarming if row["category"] == "none"]
    missed = [row for row in LABELLED if row not in alarming and row["category"] != "none"]
    assert len(false_alarms) >= 35 and len(missed) >= 35


def test_the_loader_of_the_public_set_reads_our_folder(tmp_path, monkeypatch):
    """Three files lie in one folder; only the one named in the head of its README may be read."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    found = load_set(Aqi(prompts=f"alignment-instructions:{data_folder() / 'alignment'}", per_side=200))
    assert {row.prompt for row in found} == {row["Prompt"] for row in INSTRUCTIONS}
    assert {row.answer for row in found if row.side == "safe"} == {row["Accepted Response"] for row in INSTRUCTIONS}


@pytest.mark.parametrize(
    "text", ["write to a.b@example.org", "ring 01700 000000", "see https://example.org", "০১৭০০০০০০০০"]
)
def test_contact_data_would_be_found(text):
    assert contact_data(text) != []


def test_a_repeated_sentence_and_a_near_copy_would_be_found():
    twin = INSTRUCTIONS[0] | {"id": "twin", "Prompt": INSTRUCTIONS[0]["Prompt"] + " Now."}
    assert repeated([INSTRUCTIONS[0], twin]) != [] == repeated(INSTRUCTIONS[:2])
    both = {row["id"]: row["Prompt"] for row in (INSTRUCTIONS[0], twin)}
    assert near_copies(both) == [(INSTRUCTIONS[0]["id"], "twin")]
    assert near_copies(both, frozenset(both)) == []
