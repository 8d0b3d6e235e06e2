"""Headlines, tool conversations and the folder of both: what is cleaned, what is left out, what is refused."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from lekhai_helpers.core.recipe import data_file
from lekhai_helpers.prepare.chat_jsonl import write_chat_jsonl
from lekhai_helpers.prepare.dataset import load_table, split, to_examples
from lekhai_helpers.prepare.near_copies import near_copies
from lekhai_helpers.prepare.sources import DatasetError, headlines_csv, tool_conversations, twainbot_folder

SHARED = Path(os.environ.get("LEKHAI_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "data" / "twainbot"
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"location": "Dhaka", "date": "today"}}}
TALK = [
    {"role": "user", "content": "Weather in Dhaka today?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "name": "get_weather", "content": '{"temperature_c": 31, "condition": "sunny"}'},
    {"role": "assistant", "content": "Sunny, 31 degrees."},
]


def talks(folder: Path, *messages, name: str = "talks.jsonl") -> Path:
    path = folder / name
    lines = [json.dumps({"id": f"t{n}", "kind": "direct", "messages": m}) for n, m in enumerate(messages)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def headlines(folder: Path, *texts: str, column: str = "text") -> Path:
    path = folder / "headlines.csv"
    quoted = ['"' + text.replace('"', '""') + '"' for text in texts]
    path.write_text("\n".join([column, *quoted]), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Library Hoped You&#8217;d Keep The Book", "Library Hoped You’d Keep The Book"),
        ("Fox &amp;amp; Friends Apologize", "Fox & Friends Apologize"),
        ("<p>Cat Completes <b>Plan</b></p>", "Cat Completes Plan"),
        ("Dog Barks https://example.org/dog?id=5&page=2", "Dog Barks"),
        ("Bakery Denies It www.example.org/crumbs", "Bakery Denies It"),
        ("Sandwich Arrives Late (via https://example.com/sandwich)", "Sandwich Arrives Late"),
        ('Parrot Says Nothing <a href="https://example.org/p">(read more)</a>', "Parrot Says Nothing"),
        ("[Man Lies Down](https://example.org/m)", "Man Lies Down"),
        ("Rickshaw Wins | By Our Road Correspondent", "Rickshaw Wins"),
        ("Long Week Confirmed - By Agnes Plum, Staff Writer", "Long Week Confirmed"),
        ("Poster Has Given Up<br/>By Harold Finch", "Poster Has Given Up"),
        ("Area Man Sits #news #funny", "Area Man Sits"),
        ("  Umbrella   Left\tOn Train ", "Umbrella Left On Train"),
        ("[Meta]: The Paper Is For Sale", "The Paper Is For Sale"),
        ("Home Owned By God To Be Auctioned", "Home Owned By God To Be Auctioned"),
        ("Report: Love < Money", "Report: Love < Money"),
        ("Man, 40, Still - Somehow - Standing", "Man, 40, Still - Somehow - Standing"),
        ("By John Smith: Local Man Walks", "Local Man Walks"),
        ("Local Man Walks… By Jane Doe", "Local Man Walks…"),
        ("Man Eats Hat theonion.com/man-eats-hat", "Man Eats Hat"),
        ("Amazon.com Buys Moon And/Or Sun", "Amazon.com Buys Moon And/Or Sun"),
        ("Encore - by popular demand of all", "Encore - by popular demand of all"),
        ("By Popular Demand: Nothing At All", "By Popular Demand: Nothing At All"),
        ("Rickshaw Wins | by our road correspondent", "Rickshaw Wins"),
    ],
)
def test_a_headline_is_cleaned_and_its_words_are_kept(raw, clean):
    assert headlines_csv.clean_headline(raw) == clean


def test_a_papers_name_is_known_by_standing_often(tmp_path):
    path = headlines(
        tmp_path, "Cow Votes - The Daily Spoon", "Hat Lost | The Daily Spoon", "Fog Sued - The Daily Spoon", "A - B War"
    )
    assert [row.cells["script"] for row in headlines_csv.rows(path)] == [
        "Cow Votes",
        "Hat Lost",
        "Fog Sued",
        "A - B War",
    ]


def test_what_is_no_headline_is_left_out_with_its_reason(tmp_path):
    path = headlines(
        tmp_path,
        "Town Council Votes To Table Discussion Of Table",
        "https://example.org/only-a-link",
        "Wow.",
        "town council votes to table discussion of table",
        "Town Council Votes To Table Discussions Of Table",
        "Moon Blamed For Everything",
    )
    reading = headlines_csv.read(path)
    assert [row.cells["script"] for row in reading.rows] == [
        "Town Council Votes To Table Discussion Of Table",
        "Moon Blamed For Everything",
    ]
    reasons = {one.line: one.reason for one in reading.left_out}
    assert reasons[3].startswith("nothing is left") and reasons[4].startswith("fewer than")
    assert reasons[5] == "the same as row 2" and reasons[6] == "nearly the same as row 2"
    assert sorted(reasons) == [3, 4, 5, 6]


def test_a_headline_cut_at_a_comma_is_left_out_and_told(tmp_path):
    path = tmp_path / "headlines.csv"
    path.write_text("id,text\n1,Area Man, 34, Dies Happy\n2,Moon Blamed\n3,Ox Elected,,\n", encoding="utf-8")
    reading = headlines_csv.read(path)
    assert [row.cells["script"] for row in reading.rows] == ["Moon Blamed", "Ox Elected"]
    assert [(one.line, one.reason.split(":")[0]) for one in reading.left_out] == [(2, "more cells than the header")]


def test_a_csv_with_other_columns_is_refused_with_the_columns_it_has(tmp_path):
    path = headlines(tmp_path, "Moon Blamed", column="zeile")
    with pytest.raises(DatasetError, match="no column of headlines.*'text'.*zeile"):
        headlines_csv.read(path)


def test_the_sample_gives_160_headlines():
    reading = headlines_csv.read(data_file("twainbot/headlines.csv"))
    assert len(reading.rows) == 160 and len(reading.left_out) == 6
    text = "\n".join(row.cells["script"] for row in reading.rows)
    assert not any(mark in text for mark in ("<", "http", "www.", "&amp;", "Weekly Shrug", "| By", "#"))


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the public list of headlines in {SHARED}")
def test_ten_thousand_real_headlines_come_out_clean():
    reading = headlines_csv.read(SHARED / "TheOnion_181217_184244.csv")
    assert len(reading.rows) + len(reading.left_out) == 10_000
    assert 8_500 < len(reading.rows) < 9_300
    text = "\n".join(row.cells["script"] for row in reading.rows)
    assert not any(mark in text for mark in ("http", "&amp;", "America's Finest News Source", "| ClickHole"))
    assert any("clickhole" in one.text.lower() for one in reading.left_out) or len(reading.left_out) > 700


def test_near_copies_find_what_a_full_comparison_finds():
    from lekhai_helpers.core.bengali import char_ngrams, jaccard

    words = ["river", "town", "mayor", "goat", "ferry", "bridge", "vote", "fog", "moon", "clock", "uncle", "boat"]
    texts = [" ".join(words[(n * k) % 12] for k in range(1, 9)) for n in range(1, 60)]
    grams = [char_ngrams(text.casefold()) for text in texts]
    kept, expected = [], set()
    for place, own in enumerate(grams):
        if any(jaccard(own, grams[other]) >= 0.7 for other in kept):
            expected.add(place)
        else:
            kept.append(place)
    assert set(near_copies(texts)) == expected and expected


def test_near_copies_refuse_a_share_that_is_none():
    with pytest.raises(ValueError, match="above 0"):
        near_copies(["a"], 0)


def test_each_answer_of_a_conversation_is_a_row_of_one_thread(tmp_path):
    rows = list(tool_conversations.rows(talks(tmp_path, TALK)))
    assert [row.cells["id"] for row in rows] == ["t0-1", "t0-2"]
    assert {row.cells["thread"] for row in rows} == {"t0"}
    assert rows[0].cells["script"].startswith('<tool_call>{"name": "get_weather"')
    assert json.loads(rows[0].cells["expected"])["expect"] == "call"
    last = json.loads(rows[1].cells["messages"])
    assert [message["role"] for message in last] == ["user", "assistant", "user", "assistant"]
    assert last[2]["content"].startswith("<tool_response>")
    assert json.loads(rows[1].cells["expected"])["replies"] == [{"temperature_c": 31, "condition": "sunny"}]


def changed(**arguments):
    call = {"type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    return [TALK[0], {"role": "assistant", "content": "", "tool_calls": [call]}]


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (
            [TALK[0], {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "get_stocks"}}]}],
            "line 1: there is no tool named 'get_stocks'; known: get_weather",
        ),
        (changed(date="today"), "line 1: get_weather: 'location' is a required property"),
        (changed(location="Dhaka", date="next week"), "line 1: get_weather: 'next week' does not match"),
        (changed(location="Dhaka", day="today"), "line 1: get_weather: Additional properties are not allowed"),
        ([TALK[0], TALK[2]], "a tool replies without having been called"),
        ([{"role": "wizard", "content": "hi"}], "the role wizard is not"),
        ([{"role": "assistant", "content": "hi"}], "begins with the user"),
        ("hello", "messages must be a list"),
        ([TALK[0] | {"content": ["hi"]}], "line 1: content must be a text"),
        ([TALK[0], {"role": "assistant", "tool_calls": ["get_weather"]}], "tool_calls a list of objects"),
        ([TALK[0], {"role": "assistant", "tool_calls": {"name": "get_weather"}}], "tool_calls a list of objects"),
    ],
)
def test_a_broken_conversation_is_refused_with_its_line(tmp_path, messages, said):
    with pytest.raises(DatasetError, match=said.replace("{", r"\{")):
        list(tool_conversations.rows(talks(tmp_path, messages)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"prompt": "Hi", "expect": "ask"}\n{"id": ', "line 2 is no JSON"),
        ("[1, 2]\n", "line 1 holds no object but list"),
        ('{"question": "Why?"}', "line 1 has no messages; it has question"),
        ('{"prompt": "Hi", "expect": "perhaps"}', "expect is 'perhaps'"),
        ('{"prompt": "  ", "expect": "call"}', "prompt must be a text that is not empty"),
        ("[" * 100_000, "line 1 holds brackets in brackets"),
        ("", "is empty"),
        ("\x00\x01\x02", "a binary file"),
    ],
)
def test_malformed_jsonl_is_refused_with_its_line(tmp_path, text, said):
    path = tmp_path / "talks.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=said):
        list(tool_conversations.rows(path))


def test_a_line_separator_inside_a_text_ends_no_line(tmp_path):
    path = tmp_path / "talks.jsonl"
    record = {
        "id": "a",
        "messages": [{"role": "user", "content": "Hi\u2028there"}, {"role": "assistant", "content": "Yes"}],
    }
    path.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
    assert len(list(tool_conversations.rows(path))) == 1


def test_the_whole_sample_is_read_and_every_row_keeps_the_contract():
    table, problems = load_table(data_file("twainbot"), ["prompt_1"], "twainbot_folder", "tool_call")
    assert problems == [] and table["usable"].all() and table["id"].is_unique
    counts = Counter(table["industry"])
    assert counts["headline"] == 160 and counts["book"] >= 25 and counts["direct"] >= 180
    assert not table["script"].str.contains("vibe").any()


def test_95_of_a_hundred_are_trained_on_and_no_conversation_is_parted():
    table, _ = load_table(data_file("twainbot"), ["prompt_1"], "twainbot_folder", "tool_call")
    table["split"] = split(table, 0.025, 0.025, 3407)
    assert 0.94 < (table["split"] == "train").mean() < 0.96
    assert (table.groupby("thread")["split"].nunique() == 1).all()


def test_a_flood_of_headlines_is_held_back_and_said(tmp_path):
    talks(tmp_path, TALK)
    headlines(
        tmp_path,
        *("Moon Blamed For Everything", "Ox Elected", "Poll: Nobody Answers Polls", "Fog Denies Rolling In"),
        *("Geese Renew Claim To Parking Lot", "Umbrella Begins New Life"),
    )
    reading = twainbot_folder.read(tmp_path)
    kinds = Counter(row.cells["industry"] for row in reading.rows)
    assert kinds == {"direct": 2, "headline": 2}
    assert sum("more headlines than" in one.reason for one in reading.left_out) == 4
    assert [row.number for row in reading.rows] == [2, 3, 4, 5]


def test_of_two_conversations_alike_one_is_learnt(tmp_path):
    again = [TALK[0] | {"content": "Weather in Dhaka today"}, *TALK[1:]]
    talks(tmp_path, TALK, again)
    reading = twainbot_folder.read(tmp_path)
    assert {row.cells["thread"] for row in reading.rows} == {"t0"}
    assert {one.reason for one in reading.left_out} == {"nearly the same as t0"}


def test_a_folder_with_nothing_in_it_is_refused(tmp_path):
    (tmp_path / "notes.md").write_text("hi", encoding="utf-8")
    with pytest.raises(DatasetError, match="neither a book"):
        twainbot_folder.read(tmp_path)
    with pytest.raises(DatasetError, match="is no folder"):
        twainbot_folder.read(tmp_path / "notes.md")


def test_examples_are_written_as_messages_and_as_text(tmp_path):
    class Tokenizer:
        def apply_chat_template(self, talk, tokenize):
            return "".join(f"<{m['role']}>{m['content']}" for m in talk)

    talks(tmp_path, TALK, name="a.jsonl")
    table, _ = load_table(tmp_path, ["prompt_1"], "twainbot_folder", "tool_call")
    examples = to_examples(table.assign(split="train"), ["prompt_1"], "You are kind.")
    write_chat_jsonl(examples, tmp_path / "out", Tokenizer())
    lines = (tmp_path / "out" / "train.text.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0])["text"].startswith(
        "<system>You are kind.<user>Weather in Dhaka today?<assistant><tool_call>"
    )
    talk = json.loads((tmp_path / "out" / "train.messages.jsonl").read_text(encoding="utf-8").splitlines()[1])
    assert [m["role"] for m in talk["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    assert (tmp_path / "out" / "test.messages.jsonl").read_text(encoding="utf-8") == ""
