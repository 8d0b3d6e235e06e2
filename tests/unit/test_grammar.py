"""The grammar of an ad script: every gold script is within it, and nothing within it breaks the contract."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from lekhai_helpers.core.recipe import data_file, resolve
from lekhai_helpers.prepare.contracts import get_contract, get_grammar
from lekhai_helpers.prepare.contracts.ad_script import audio_pieces, spoken_words
from lekhai_helpers.prepare.contracts.grammar import (
    HEADER,
    LATIN_LABELS,
    MAX_CELL,
    Alt,
    Chars,
    Repeat,
    Rule,
    Seq,
    ad_script_grammar,
    cell,
    latin_words,
    to_gbnf,
    to_regex,
)
from lekhai_helpers.prepare.dataset import load_briefs, load_table

SETTINGS = resolve("lekhai", "cpu")
GOLD = load_table(Path(data_file(SETTINGS.data.file)))[0].to_dict("records")
ROW = "\n| ক্লোজ-আপ: চুলায় কেটলি। | SFX: পানি ফোটে। মা: চা হলো? |"


class Bytes:
    """A tokenizer whose tokens are the 256 bytes: what it accepts does not depend on how a text is cut."""

    eos_token_id, bos_token_id, special_token_ids = 256, None, [256]
    tokens = [*(bytes([number]) for number in range(256)), b"<eos>"]

    def __call__(self, text):
        return list(text if isinstance(text, bytes) else text.encode())


BYTES = LLTokenizer(TokenizerWrapper(Bytes()))


def refused_at(text: str, asked: str = "") -> str | None:
    """Return the rest of the text from the first letter that is refused, "" where it may not end, None if taken."""
    matcher = LLMatcher(BYTES, LLMatcher.grammar_from_lark(ad_script_grammar(asked).lark))
    ids = list(text.encode())
    taken = matcher.try_consume_tokens(ids)
    if taken == len(ids) and matcher.is_accepting():
        return None
    return text[len(bytes(ids[:taken]).decode("utf-8", "ignore")) :]


def texts_of(rule: Rule) -> st.SearchStrategy[str]:
    """Return texts drawn from a rule, short ones first."""
    match rule:
        case str():
            return st.just(rule)
        case Chars(ranges):
            return st.sampled_from([chr(code) for a, b in ranges for code in range(a, b + 1)])
        case Seq(parts):
            return st.tuples(*map(texts_of, parts)).map("".join)
        case Alt(parts):
            return st.one_of(*map(texts_of, parts))
        case Repeat(part, least, most):
            return st.lists(texts_of(part), min_size=least, max_size=min(most, 12)).map("".join)


CELLS = texts_of(cell(ad_script_grammar("spoken English course").words))
TABLES = st.lists(st.tuples(CELLS, CELLS), min_size=3, max_size=16).map(
    lambda rows: HEADER + "".join(f"\n|{visual}|{audio}|" for visual, audio in rows)
)


@pytest.mark.parametrize("row", GOLD, ids=lambda row: row["id"])
def test_every_gold_script_is_within_the_grammar_of_its_own_brief(row):
    assert refused_at(row["script"], f"{row['prompt_1']} {row['brand']} {row['product']}") is None


@settings(max_examples=150, deadline=None)
@given(TABLES)
def test_what_the_grammar_allows_keeps_the_contract_and_llguidance_reads_the_same_rules(table):
    verdict = get_contract("ad_script")(table)
    assert verdict.problems == []
    assert refused_at(table, "spoken English course") is None


@pytest.mark.parametrize(
    ("table", "rest"),
    [
        (HEADER + ROW * 2, ""),
        (HEADER + ROW * 17, ROW),
        (HEADER + ROW * 3 + " কথা |", " কথা |"),
        (HEADER + "\n| ছবি | কথা | আরও |", " আরও |"),
        (HEADER + "\n|  | কথা |", " | কথা |"),
        (HEADER + "\n| ... | কথা |", "| কথা |"),
        (HEADER + "\n| ১০ | কথা |", "| কথা |"),
        (HEADER + "\n| ছবি\n", "\n"),
        (HEADER + r"\n| ছবি \| আরও | কথা |", r"\n| ছবি \| আরও | কথা |"),
        (HEADER + "\n| हिन्दी | কথা |", "हिन्दी | কথা |"),
        (HEADER + "\n| একটা sunny দিন | কথা |", "sunny দিন | কথা |"),
        (HEADER + "\n| একটা S দিন | কথা |", " দিন | কথা |"),
        (HEADER + "\n| SFXVO | কথা |", "VO | কথা |"),
        (HEADER + "\n| কSFX | কথা |", "SFX | কথা |"),
        (HEADER.replace("|---|---|", "|---|---|---|"), "---|"),
        ("আচ্ছা, " + HEADER, "আচ্ছা, " + HEADER),
        (HEADER + ROW * 3 + "\nধন্যবাদ", "ধন্যবাদ"),
    ],
)
def test_what_breaks_a_script_is_refused_where_it_stands(table, rest):
    assert refused_at(table) == rest


def test_the_latin_words_of_the_brief_are_allowed_and_no_others():
    table = HEADER + "\n| সুপার: EnglishOn, spoken কোর্স | ভিও: online-এর “course” |" + ROW * 2
    asked = "EnglishOn নামে spoken course, online-এ, ৩০ সেকেন্ড"
    assert refused_at(table, asked) is None
    assert refused_at(table) == "EnglishOn, spoken কোর্স | ভিও: online-এর “course” |" + ROW * 2
    assert refused_at(table.replace("spoken", "spook"), asked).startswith("ok কোর্স")


def test_words_in_latin_letters_are_found_as_they_are_written():
    asked = "Coca-Cola আর 7UP নিয়ে ad, must. online-এর জন্য ৩০s, 5 টাকা, Nestlé, AT&T, হিন্দি हिन्दी"
    assert latin_words(asked) == ["Coca-Cola", "7UP", "ad", "must", "online", "৩০s", "Nestlé", "AT&T"]
    assert latin_words("a" * 30) == []


def test_every_latin_word_of_a_brief_can_be_written():
    for brief in load_briefs(data_file(SETTINGS.evaluation.briefs), part=None):
        for word in latin_words(f"{brief.prompt} {brief.brand} {brief.product}"):
            asked = f"{brief.prompt} {brief.brand} {brief.product}"
            assert refused_at(f"{HEADER}\n| {word} | ভিও: {word}, ক |" + ROW * 2, asked) is None


@pytest.mark.parametrize("label", LATIN_LABELS)
def test_every_label_of_the_grammar_is_one_the_contract_knows(label):
    assert audio_pieces(f"{label}: ঢং ঢং।")[0][0] == label
    assert bool(spoken_words(f"{label}: ঢং ঢং।")) == (label in ("VO", "V.O.", "JINGLE"))


def test_a_joiner_is_allowed_between_letters_where_it_decides_the_conjunct():
    assert refused_at(HEADER + "\n| র\u200d্যাব | উদ্\u200cযাপন |" + ROW * 2) is None
    assert refused_at(HEADER + "\n| \u200dক | ক |" + ROW * 2) is not None


def test_a_cell_ends_at_last():
    longest = "ক" * (MAX_CELL + 1)
    assert refused_at(HEADER + f"\n| {longest} | ক |" + ROW * 2) is None
    assert refused_at(HEADER + f"\n| {longest}ক | ক |" + ROW * 2) == "ক | ক |" + ROW * 2
    gold = [part for row in GOLD for line in row["script"].split("\n") for part in line.split("|")]
    assert max(map(len, gold)) < MAX_CELL * 0.9


def test_both_languages_say_the_same_cell():
    """llama.cpp reads code points and llguidance a regular expression: the same ranges, repeats and words in both."""
    rule = cell(("V.O.", "ad"))
    lark, gbnf = to_regex(rule), to_gbnf(rule)
    codes = [
        [int(code, 16) for code in re.findall(pattern, text)]
        for pattern, text in ((r"(?<=[\[\-}])\\x\{([0-9A-F]+)\}(?=[\\\-\]])", lark), (r"\\u([0-9A-F]{4})", gbnf))
    ]
    assert set(codes[0]) == set(codes[1]) and len(codes[1]) > 100
    assert re.findall(r"\{\d+,\d+\}", lark) == re.findall(r"\{\d+,\d+\}", gbnf)
    assert '("V.O." | "ad")' in gbnf and r"V\x{2E}O\x{2E}|ad" in lark


def test_a_contract_without_a_grammar_is_told():
    assert get_grammar("ad_script") is ad_script_grammar
    with pytest.raises(KeyError, match="'tool_call' has no grammar; those with one: ad_script"):
        get_grammar("tool_call")
