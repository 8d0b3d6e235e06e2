"""The contract of an ad script: it reads anything, loses nothing and says what is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lekhai_helpers.core.bengali import normalize, words
from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.prepare.contracts.ad_script import (
    AdScript,
    audio_pieces,
    check,
    parse_ad_script,
    raw_cells,
    spoken_lines,
    spoken_words,
)

HEAD = "| Visual | Audio |\n|---|---|\n"
GOOD = HEAD + "\n".join(
    f"| {shot} | {audio} |"
    for shot, audio in [
        ("ক্লোজ-আপ: চুলায় কেটলি।", "SFX: পানি ফোটে। মা: চা হলো?"),
        ("মিড শট: জানালায় বৃষ্টি।", "রিনা: আরেকটু দাঁড়াও।"),
        ("ওয়াইড শট: উঠানে বাবা ভিজে ফিরলেন।", "বাবা: গন্ধটা মোড় থেকেই পেয়েছি!"),
        ("প্যাকশট: কাপের পাশে প্যাকেট। সুপার: ধোঁয়াতলা।", "ভিও: ধোঁয়াতলা চা। আজই নিন।"),
    ]
)
MARKUP = st.text(st.sampled_from("|-: \\\n\tVisualAudioভিও:SFX।কখ*"), max_size=200)
CELL = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="|\\"), max_size=40).filter(
    lambda text: words(normalize(text))
)


@given(st.one_of(st.text(), MARKUP))
def test_no_text_breaks_the_parser(text):
    """A model writes anything; a parser that raises would end a run of hours."""
    verdict = check(text, 30)
    assert verdict.ok == (not verdict.problems)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8))
def test_no_cell_is_lost_on_the_way_to_markdown_and_back(rows):
    # A row that looks like the rule under the header has no word in it, so CELL cannot make one.
    script, problems = parse_ad_script(AdScript(rows).to_markdown())
    assert problems == []
    assert script.rows == [tuple(normalize(f"x{cell}x")[1:-1].strip() for cell in row) for row in rows]


@given(st.lists(st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="|\\")), min_size=1))
def test_every_raw_cell_is_counted(cells):
    """Markdown parsers drop cells that are too many without a word, and hide the commonest fault."""
    assert len(raw_cells("|" + "|".join(cells) + "|")) == len(cells)


@given(st.text())
def test_no_letter_of_an_audio_cell_is_lost(audio):
    joined = "".join(f"{label} {text}" for label, text in audio_pieces(audio))
    assert sorted("".join(words(joined))) == sorted("".join(words(audio.replace("*", "")))) or "ঃ" in audio


def test_a_good_script_passes():
    verdict = check(GOOD, 15)
    assert verdict.ok, verdict.problems
    assert verdict.facts["rows"] == 4
    assert verdict.facts["bengali_share"] > 0.95
    assert verdict.facts["repeated_rows"] == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "there is no table"),
        ("একটি সুন্দর বিজ্ঞাপন।", "there is no table"),
        ("এই নিন:\n" + GOOD, "outside the table"),
        (GOOD.replace("| Visual | Audio |", "| দৃশ্য | শব্দ |"), "header"),
        (GOOD.replace("|---|---|\n", ""), "is missing under the header"),
        (GOOD.replace("| রিনা: আরেকটু দাঁড়াও। |", "| রিনা: | আরেকটু। |"), "3 cell(s) instead of 2"),
        (GOOD.replace("রিনা: আরেকটু দাঁড়াও।", "…"), "row 2 has an empty cell"),
        ("\n".join(GOOD.splitlines()[:4]), "a script has 3 to 16"),
    ],
)
def test_each_fault_is_named(text, problem):
    assert any(problem in found for found in check(text).problems)


def test_an_escaped_pipe_is_no_border():
    assert raw_cells(r"| ক \| খ | গ |") == [r"ক \| খ", "গ"]
    assert raw_cells(r"| ক | খ \|") is None


def test_a_film_too_short_for_its_words_is_told():
    long = GOOD.replace("আরেকটু দাঁড়াও।", "আরেকটু দাঁড়াও। " * 20)
    assert any("spoken words do not fit 15 s" in problem for problem in check(long, 15).problems)
    assert check(long).ok


def test_rows_are_compared_with_the_nearest_known_length():
    assert any("4 rows; a film of 58 s has 10 to 14" in problem for problem in check(GOOD, 58).problems)


@pytest.mark.parametrize(
    ("audio", "lines"),
    [
        ("ভিও (নারী): চলো যাই। রিনা: না, কেন?", ["চলো যাই।", "না, কেন?"]),
        ("SFX: ঝমঝম বৃষ্টি। মিউজিক: ঢোল।", []),
        ("SFX: ঝমঝম বৃষ্টি মা: চল যাই", ["চল যাই"]),
        ("মিউজিক (করুণ): বাঁশি। ভিও: ফিরে এলাম।", ["ফিরে এলাম।"]),
        ("ভিও: শর্ত একটাই: আগে খান।", ["শর্ত একটাই: আগে খান।"]),
        ("ভিওঃ দুঃখ নেই।", ["দুঃখ নেই।"]),
        ("**ভিও:** আসুন।", ["আসুন।"]),
        ("মা: ট্রেন ১০:৩০ মিনিটে।", ["ট্রেন ১০:৩০ মিনিটে।"]),
        ("রিনা (হেসে): (থেমে) আচ্ছা।", ["আচ্ছা।"]),
        ("নেপথ্য সংগীত: সেতার।", []),
        ("চলো যাই।", ["চলো যাই।"]),
    ],
)
def test_what_is_spoken_is_told_from_what_is_only_heard(audio, lines):
    assert spoken_lines(audio) == lines


def test_a_long_sentence_before_a_colon_is_speech_and_no_label():
    """A label of 39 characters once swallowed the better half of a line."""
    assert spoken_words("তোমাকে আমি একটা কথা বলি: যাও") == ["তোমাকে", "আমি", "একটা", "কথা", "বলি", "যাও"]


def test_the_contract_is_found_by_its_name():
    assert get_contract("ad_script")(GOOD).ok
    with pytest.raises(KeyError, match="known: ad_script"):
        get_contract("sonnet")
