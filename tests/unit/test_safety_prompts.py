"""The prompts of the Alignment Quality Index: whole, matched, ours; and two public sets read from a folder."""

import json
import unicodedata
from collections import Counter

import pytest

from lekhai_helpers.core.bengali import bengali_share, char_ngrams, jaccard, words
from lekhai_helpers.core.recipe import PROMPT_SETS, Aqi, data_file
from lekhai_helpers.prepare import safety_prompts
from lekhai_helpers.prepare.safety_prompts import (
    AXIOMS,
    PromptError,
    SafetyPrompt,
    fingerprint,
    load_alignment_instructions,
    load_litmus,
    load_prompts,
    load_set,
    overview,
)


@pytest.fixture(scope="module")
def prompts():
    return load_prompts()


def pairs(prompts) -> list[tuple[SafetyPrompt, SafetyPrompt]]:
    unsafe = {prompt.topic: prompt for prompt in prompts if prompt.side == "unsafe"}
    return [(prompt, unsafe[prompt.topic]) for prompt in prompts if prompt.side == "safe"]


def test_there_are_96_of_each_side_half_of_them_bengali(prompts):
    counts = Counter((prompt.side, prompt.language) for prompt in prompts)
    assert set(counts.values()) == {48} and len(prompts) == 192
    for prompt in prompts:
        share = bengali_share(prompt.prompt)
        assert share > 0.95 if prompt.language == "bn" else share == 0, prompt.id


def test_every_axiom_has_13_or_14_of_each_side_and_both_languages(prompts):
    sides = Counter((prompt.axiom, prompt.side) for prompt in prompts)
    assert {axiom for axiom, _ in sides} == set(AXIOMS) and set(sides.values()) <= {13, 14}
    assert set(Counter((p.axiom, p.side, p.language) for p in prompts).values()) <= {6, 7}


def test_every_prompt_is_ours_in_nfc_and_has_its_partner_on_the_other_side(prompts):
    assert {prompt.origin for prompt in prompts} == {"LekhAI original"}
    assert all(unicodedata.is_normalized("NFC", prompt.prompt) for prompt in prompts)
    for safe, unsafe in pairs(prompts):
        assert (safe.axiom, safe.language) == (unsafe.axiom, unsafe.language)


def test_a_pair_is_matched_in_length_so_that_length_alone_tells_nothing(prompts):
    """Were unsafe prompts longer, any model at all would seem to tell them apart."""
    for safe, unsafe in pairs(prompts):
        lengths = sorted(len(words(prompt.prompt)) for prompt in (safe, unsafe))
        assert lengths[1] / lengths[0] <= 1.35, safe.topic
    for language in ("bn", "en"):
        means = [
            sum(len(p.prompt) for p in prompts if (p.side, p.language) == (side, language))
            for side in ("safe", "unsafe")
        ]
        assert 0.97 < means[0] / means[1] < 1.03


def test_no_prompt_is_a_filled_template(prompts):
    """Two topics that share most of their letters are one sentence with another noun."""
    for side in ("safe", "unsafe"):
        grams = [(p.topic, char_ngrams(p.prompt)) for p in prompts if p.side == side]
        likest = max(jaccard(a, b) for i, (_, a) in enumerate(grams) for _, b in grams[:i])
        assert likest < 0.5
    openings = Counter(" ".join(prompt.prompt.split()[:3]) for prompt in prompts if prompt.side == "unsafe")
    assert max(openings.values()) <= 3


def test_a_smaller_set_keeps_pairs_whole_and_is_spread_over_languages_and_axioms(prompts):
    few = load_prompts(per_side=8)
    assert Counter((p.side, p.language) for p in few) == {(s, g): 4 for s in ("safe", "unsafe") for g in ("bn", "en")}
    assert len(pairs(few)) == 8 and len({p.axiom for p in few}) >= 4
    assert fingerprint(few) != fingerprint(prompts) and fingerprint(few) == fingerprint(load_prompts(per_side=8))
    with pytest.raises(PromptError, match="96 safe prompts, 97 were asked: lower aqi.per_side"):
        load_prompts(per_side=97)


def test_the_overview_counts_and_measures(prompts):
    table = overview(prompts)
    assert table["safe: prompts"].sum() == table["unsafe: prompts"].sum() == 96 and len(table) == 14


def line(**changes) -> str:
    whole = {"id": "a-safe", "axiom": "x", "side": "safe", "language": "en", "prompt": "Hi", "origin": "me"}
    return json.dumps({name: value for name, value in (whole | changes).items() if value is not None})


OTHER = {"id": "a-unsafe", "side": "unsafe", "prompt": "Ho"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{no json"], "line 1 is no JSON"),
        ([line(), line(**OTHER, origin=None)], "line 2 must have"),
        ([line(extra="?")], "line 1 must have"),
        (["[1, 2]"], "line 1 must have"),
        ([line(prompt=" ")], "prompt must be a text that is not empty"),
        ([line(prompt=7)], "prompt must be a text"),
        ([line()], "1 safe and 0 unsafe"),
        ([], "0 safe and 0 unsafe"),
        ([line(side="unsure"), line(**OTHER)], "neither safe nor unsafe"),
        ([line(), line(**OTHER | {"prompt": "Hi"})], "the prompt 'Hi' stands there twice"),
        ([line(), line(**OTHER | {"id": "a-safe"})], "the id 'a-safe' stands there twice"),
    ],
)
def test_a_faulty_file_is_named_with_its_line(tmp_path, lines, message):
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(PromptError, match=message):
        load_prompts(str(file))


def write_csv(folder, header: list[str], rows: list[list[str]]) -> str:
    import csv

    folder.mkdir()
    with (folder / "train.csv").open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])
    return str(folder)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


LITMUS_COLUMNS = ["axiom", "safety_label", "source_dataset", "input", "target"]


def litmus_rows(n: int = 6) -> list[list[str]]:
    return [[AXIOMS[i % 3], side, "s", f"{side} {i}", ""] for i in range(n) for side in ("safe", "unsafe")]


def test_litmus_is_read_from_a_folder_spread_over_axioms_and_the_same_for_a_seed(tmp_path):
    rows = [*litmus_rows(), [AXIOMS[0], "safe", "s", "long " * 300, ""], [AXIOMS[0], "safe", "s", "", ""]]
    folder = write_csv(tmp_path / "litmus", LITMUS_COLUMNS, rows)
    found = load_litmus(folder, per_side=3, seed=1)
    assert Counter(p.side for p in found) == {"safe": 3, "unsafe": 3}
    assert {p.axiom for p in found if p.side == "safe"} == set(AXIOMS[:3])
    assert found == load_litmus(folder, per_side=3, seed=1) != load_litmus(folder, per_side=3, seed=2)
    with pytest.raises(PromptError, match="has 6 safe prompts"):
        load_litmus(folder, per_side=7)


def test_another_label_or_a_missing_column_is_named(tmp_path):
    odd = write_csv(tmp_path / "odd", LITMUS_COLUMNS, [*litmus_rows(), [AXIOMS[0], "maybe", "s", "x", ""]])
    with pytest.raises(PromptError, match="row 12: safety_label is 'maybe'"):
        load_litmus(odd, per_side=2)
    with pytest.raises(PromptError, match="has no column Prompt, Accepted Response"):
        load_alignment_instructions(odd, per_side=2)


def test_alignment_instructions_give_each_prompt_twice_with_its_two_answers(tmp_path):
    header = ["Instruction generated", "Prompt", "Accepted Response", "Rejected Response"]
    rows = [["be kind", f"question {i}", f"good {i}", f"bad {i}"] for i in range(5)] + [["", "question 9", "", "bad"]]
    found = load_alignment_instructions(write_csv(tmp_path / "set", header, rows), per_side=5)
    assert len(found) == 10
    for safe, unsafe in pairs(found):
        assert safe.prompt == unsafe.prompt and safe.answer[:4] == "good" and unsafe.answer[:3] == "bad"


def test_a_recipe_names_the_set_our_own_another_file_or_a_public_one_in_a_folder(tmp_path, prompts):
    assert load_set(Aqi()) == load_prompts(per_side=96) and set(load_set(Aqi())) == set(prompts)
    own = tmp_path / "mine.jsonl"
    own.write_bytes(data_file("aqi_prompts.jsonl").read_bytes())
    assert load_set(Aqi(prompts=str(own), per_side=8)) == load_prompts(per_side=8)
    litmus = write_csv(tmp_path / "litmus", LITMUS_COLUMNS, litmus_rows(9))
    assert load_set(Aqi(prompts=f"litmus:{litmus}", per_side=8), seed=3) == load_litmus(litmus, 8, 3)
    header = ["Prompt", "Accepted Response", "Rejected Response"]
    answers = write_csv(tmp_path / "answers", header, [[f"q {i}", f"good {i}", f"bad {i}"] for i in range(9)])
    found = load_set(Aqi(prompts=f"alignment-instructions:{answers}", per_side=8))
    assert Counter(prompt.side for prompt in found) == {"safe": 8, "unsafe": 8} and found[0].answer


def test_a_set_named_alone_is_looked_for_on_its_hub_and_an_unknown_name_is_answered_with_the_known_ones(monkeypatch):
    asked = []
    monkeypatch.setattr(safety_prompts, "_read_set", lambda where, columns: asked.append(where) or [])
    for name in PROMPT_SETS:
        with pytest.raises(PromptError, match="has 0 safe prompts"):
            load_set(Aqi(prompts=name))
    assert set(safety_prompts.PUBLIC_SETS) == set(PROMPT_SETS)
    assert asked == [safety_prompts.LITMUS, safety_prompts.ALIGNMENT_INSTRUCTIONS]
    with pytest.raises(PromptError, match="litmuss was not found.* one of: litmus, alignment-instructions"):
        load_set(Aqi(prompts="litmuss"))


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PromptError, match="no-such-folder cannot be read"):
        load_set(Aqi(prompts=f"litmus:{tmp_path / 'no-such-folder'}"))


def test_a_set_that_cannot_be_reached_says_what_to_do():
    with pytest.raises(PromptError, match="download its files into a folder and name that folder"):
        load_litmus("nobody/no-such-set", per_side=2)


def test_the_file_lies_in_the_data_folder_and_the_names_of_the_public_sets_are_known():
    assert data_file("aqi_prompts.jsonl").read_bytes().count(b"\n") == 192
    assert (safety_prompts.LITMUS, safety_prompts.ALIGNMENT_INSTRUCTIONS) == (
        "hasnat79/litmus",
        "Vaibhaav/alignment-instructions",
    )
