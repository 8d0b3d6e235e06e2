"""TwainBot's sample data: counts, shapes, no text twice, and answers that say what the tool said."""

import csv
import html
import json
import os
import re
import unicodedata
from collections import Counter, defaultdict
from datetime import date, datetime
from itertools import combinations
from pathlib import Path

import pytest

from lekhai_helpers.core.bengali import char_ngrams, jaccard
from lekhai_helpers.core.recipe import data_file

FILES = ("book.txt", "headlines.csv", "tool_conversations.jsonl", "vibe_checks.jsonl")
KINDS = {"direct": 90, "missing": 50, "ambiguous": 30, "none": 50, "error": 30, "two": 30, "refusal": 20}
ORIGIN = "LekhAI original"
DAY = re.compile(r"today|tomorrow|\d{4}-\d\d-\d\d")
NUMBER = re.compile(r"(?<![\w.,])-?\d+(?:[.:]\d+)*")
MOST_ALIKE = {"headlines": 0.4, "conversations": 0.2, "prompts": 0.5}
SHARED = Path(os.environ.get("LEKHAI_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "data" / "twainbot"


def raw(name: str) -> str:
    return data_file(f"twainbot/{name}").read_bytes().decode("utf-8")


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in raw(name).splitlines()]


@pytest.fixture(scope="module")
def book() -> str:
    return raw("book.txt")


@pytest.fixture(scope="module")
def headlines() -> list[dict]:
    return list(csv.DictReader(raw("headlines.csv").splitlines(), strict=True))


@pytest.fixture(scope="module")
def conversations() -> list[dict]:
    return rows("tool_conversations.jsonl")


@pytest.fixture(scope="module")
def vibes() -> list[dict]:
    return rows("vibe_checks.jsonl")


def story(book: str) -> str:
    return book.split("\nCHAPTER I.\n")[1].split("\nTHE END\n")[0]


def said(row: dict, *roles: str) -> list[str]:
    return [m["content"] for m in row["messages"] if m["role"] in roles and m["content"]]


def calls(row: dict) -> list[dict]:
    return [call["function"] for m in row["messages"] for call in m.get("tool_calls", [])]


def numbers(text: str) -> set[str]:
    return {found.lstrip("-0") or "0" for found in NUMBER.findall(re.sub(r"(?<=\d),(?=\d)", "", text))}


def plain(headline: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html.unescape(headline)).split())


def sentences(text: str) -> list[str]:
    """Sentences of six words or more, folded so that case, quotes and line ends do not hide a repetition."""
    parts = re.split(r"[.!?]+[\"'”’)_]*\s+|\n\s*\n", " ".join(text.split(" ")))
    folded = (" ".join(re.findall(r"[^\W_]+(?:['’][^\W_]+)*", part.lower())) for part in parts)
    return [sentence for sentence in folded if sentence.count(" ") >= 5]


def twice(texts: list[str]) -> list[str]:
    return [s for s, n in Counter(s for text in texts for s in sentences(text)).items() if n > 1]


def too_alike(texts: dict[str, str], limit: float) -> list[tuple[str, str, float]]:
    grams = {name: char_ngrams(text.lower()) for name, text in texts.items()}
    pairs = ((a, b, jaccard(grams[a], grams[b])) for a, b in combinations(grams, 2))
    return [pair for pair in pairs if pair[2] > limit]


def invented(row: dict) -> set[str]:
    """Numbers of the answers which neither the user, the call nor the tool has said."""
    asked = [json.dumps(call["arguments"]) for call in calls(row)]
    known = set().union(*(numbers(text) for text in said(row, "user", "tool") + asked))
    return set().union(*(numbers(text) for text in said(row, "assistant"))) - known


@pytest.mark.parametrize("name", FILES)
def test_files_are_utf8_nfc_with_plain_line_ends(name):
    text = raw(name)
    assert unicodedata.is_normalized("NFC", text)
    assert "\r" not in text and not text.startswith("\ufeff") and text.endswith("\n")


def test_the_checks_see_a_planted_fault(conversations):
    """A check that cannot fail says nothing."""
    line = "The river was out and nobody had the heart to say so."
    assert twice([line + " Quite.", "Well. " + line + " Indeed."])
    assert not twice([line, "Another thing altogether, he said."])
    assert too_alike({"a": line, "b": line.replace("heart", "face")}, 0.5)
    assert not too_alike({"a": line, "b": "Rain"}, 0.3)
    row = json.loads(json.dumps(next(r for r in conversations if r["kind"] == "direct")))
    assert not invented(row)
    row["messages"][-1]["content"] += " It is 99 degrees."
    assert invented(row) == {"99"}


def test_the_book_has_what_a_cleaner_must_take_away(book):
    assert len(re.findall(r"^\*\*\* START OF .* EBOOK .* \*\*\*$", book, re.M)) == 1
    assert len(re.findall(r"^\*\*\* END OF .* EBOOK .* \*\*\*$", book, re.M)) == 1
    assert book.index("*** START") < book.index("CONTENTS") < book.index("\nCHAPTER I.\n") < book.index("*** END")
    assert len(re.findall(r"^\[Illustration: ", book, re.M)) == 2
    assert book.split("*** START")[0].count("\n") > 10 and book.split("*** END")[1].count("\n") > 10
    assert "gutenberg" not in book.lower(), "the head is ours, not a copy of the archive's"


def test_contents_list_and_headings_agree(book):
    listed = re.findall(r"^CHAPTER ([IVX]+)\. +(\S.*)$", book, re.M)
    headed = re.findall(r"^CHAPTER ([IVX]+)\.\n(\S.*)$", book, re.M)
    assert listed == headed and len(headed) == 13


def test_the_story_is_about_nine_thousand_words_in_paragraphs_a_chunk_can_hold(book):
    assert 8_500 <= len(story(book).split()) <= 10_500
    lengths = [len(p.split()) for p in re.split(r"\n\s*\n", story(book)) if p.strip()]
    assert max(lengths) < 300, "chunks end on paragraph borders at 500 words at most"


def test_160_headlines_and_six_left_in_twice(headlines):
    assert list(headlines[0]) == ["id", "text", "origin"]
    assert len({row["id"] for row in headlines}) == len(headlines) == 166
    counts = Counter(row["text"] for row in headlines)
    assert len(counts) == 160 and sorted(counts.values())[-7:] == [1, 2, 2, 2, 2, 2, 2]
    assert len({plain(text).lower() for text in counts}) == 160, "two are the same once cleaned"
    assert {row["origin"] for row in headlines} == {ORIGIN}


@pytest.mark.parametrize(
    ("dirt", "least"),
    [
        (r"&(#\w+|[a-z]+);", 12),
        (r"</?[a-z]\w*[^>]*>", 10),
        (r"https?://|www\.", 8),
        (r"(\||-|–)\s*By |<br/>By |Weekly Shrug", 8),
    ],
)
def test_headlines_bring_work_for_the_cleaner(headlines, dirt, least):
    assert sum(bool(re.search(dirt, row["text"])) for row in headlines) >= least


def test_links_lead_nowhere(headlines):
    """Reserved names only: a made-up link must not point at somebody's real page."""
    hosts = re.findall(r"(?:https?://|www\.)([\w.-]+)", " ".join(row["text"] for row in headlines))
    assert hosts and all(re.fullmatch(r"example\.(org|com|net)", host) for host in hosts), hosts


def test_300_conversations_of_seven_kinds(conversations):
    assert Counter(row["kind"] for row in conversations) == KINDS
    assert len({row["id"] for row in conversations}) == 300
    assert all(list(row) == ["id", "kind", "messages", "origin"] and row["origin"] == ORIGIN for row in conversations)


def test_every_call_matches_the_signature_and_is_answered_in_order(conversations):
    for row in conversations:
        waiting = []
        assert row["messages"][0]["role"] == "user" and row["messages"][-1]["role"] == "assistant"
        assert row["messages"][-1]["content"] and "tool_calls" not in row["messages"][-1], row["id"]
        for message in row["messages"]:
            if message["role"] == "tool":
                assert message["name"] == "get_weather"
                reply, asked = json.loads(message["content"]), waiting.pop(0)
                assert "error" in reply or {key: reply[key] for key in ("location", "date")} == asked, row["id"]
                continue
            assert not waiting, f"{row['id']}: a call without a reply"
            for call in message.get("tool_calls", []):
                assert call["type"] == "function" and call["function"]["name"] == "get_weather"
                arguments = call["function"]["arguments"]
                assert list(arguments) == ["location", "date"] and arguments["location"]
                assert DAY.fullmatch(arguments["date"]), row["id"]
                if arguments["date"][0].isdigit():
                    date.fromisoformat(arguments["date"])
                waiting.append(arguments)


def test_each_kind_keeps_its_shape(conversations):
    for row in conversations:
        made, kind, first = calls(row), row["kind"], row["messages"][1]
        replies = [json.loads(text) for text in said(row, "tool")]
        wanted = {"direct": {1}, "missing": {0, 1}, "ambiguous": {0, 1}, "none": {0}, "error": {1}, "two": {2}}
        assert len(made) in wanted.get(kind, {0}), row["id"]
        assert any("error" in reply for reply in replies) == (kind == "error"), row["id"]
        if kind in ("missing", "ambiguous"):
            assert "tool_calls" not in first, f"{row['id']} calls before it asks"
            assert "?" in first["content"], f"{row['id']} does not ask"
    assert sum(bool(calls(row)) for row in conversations if row["kind"] == "missing") == 25
    together = [row for row in conversations if any(len(m.get("tool_calls", [])) == 2 for m in row["messages"])]
    assert 15 <= len(together) <= 25 and {row["kind"] for row in together} == {"two"}


def test_a_place_or_day_in_a_call_was_said_by_the_user(conversations):
    for row in conversations:
        text = " ".join(said(row, "user", "assistant")).lower()
        for call in calls(row):
            for word in re.findall(r"\w+", call["arguments"]["location"].lower()):
                assert word in text or row["id"] == "tool-error-025", (row["id"], word)
            if call["arguments"]["date"][0].isdigit():
                year = call["arguments"]["date"][:4]
                assert any(year in t for t in said(row, "user")), f"{row['id']}: the year is the model's own"


def test_weekdays_that_users_name_are_right(conversations):
    found = 0
    for row in conversations:
        for day, named in re.findall(r"(\w+day) (\d{1,2} \w+ \d{4})", " ".join(said(row, "user"))):
            assert datetime.strptime(named, "%d %B %Y").strftime("%A") == day, row["id"]
            found += 1
    assert found >= 2


def test_the_answer_uses_the_tools_reply_and_invents_no_number(conversations):
    free = {"none", "refusal"}
    for row in conversations:
        if row["kind"] in free:
            continue
        answers = " ".join(said(row, "assistant"))
        for reply in map(json.loads, said(row, "tool")):
            if "temperature_c" in reply:
                value = str(reply["temperature_c"])
                assert re.search(rf"(?<![\d-]){re.escape(value)}(?![\d:])", answers), (row["id"], value)
        assert not invented(row), (row["id"], invented(row))


def test_a_failed_call_yields_no_weather(conversations):
    for row in conversations:
        if row["kind"] == "error":
            assert "degrees" not in row["messages"][-1]["content"], row["id"]


def test_no_conversation_is_another_with_words_swapped(conversations):
    texts = {row["id"]: " ".join(said(row, "user", "assistant")) for row in conversations}
    assert not too_alike(texts, MOST_ALIKE["conversations"])
    openings = Counter(" ".join(said(row, "user")[0].lower().split()[:3]) for row in conversations)
    assert openings.most_common(1)[0][1] <= 8, openings.most_common(3)
    answers = Counter(" ".join(row["messages"][-1]["content"].lower().split()[:2]) for row in conversations)
    assert answers.most_common(1)[0][1] <= 6, answers.most_common(3)


def test_no_headline_is_another_with_words_swapped(headlines):
    assert not too_alike({text: plain(text) for text in {row["text"] for row in headlines}}, MOST_ALIKE["headlines"])


def test_no_sentence_stands_twice_in_any_file(book, headlines, conversations, vibes):
    texts = [book.split("*** START")[1].split("*** END")[0]]
    texts += [plain(text) for text in {row["text"] for row in headlines}]
    texts += [text for row in conversations for text in said(row, "user", "assistant")]
    texts += [row["prompt"] for row in vibes]
    assert not twice(texts)


def test_32_vibe_checks_half_of_each_kind_held_out(vibes):
    assert Counter((row["kind"], row["part"]) for row in vibes) == {
        (kind, part): 4 for kind in ("persona", "joke", "tool", "combined") for part in ("development", "heldout")
    }
    assert len({row["id"] for row in vibes}) == len({row["prompt"] for row in vibes}) == 32
    for row in vibes:
        assert list(row) == ["id", "kind", "prompt", "expect", "arguments", "part", "origin"]
        assert row["expect"] in ("call", "no_call", "ask", None) and row["origin"] == ORIGIN
        assert (row["arguments"] is not None) == (row["expect"] == "call"), row["id"]
        if row["arguments"]:
            assert list(row["arguments"]) == ["location", "date"] and DAY.fullmatch(row["arguments"]["date"])
        assert row["expect"] == "no_call" or row["kind"] in ("tool", "combined"), row["id"]
    for part in ("development", "heldout"):
        assert {"call", "no_call", "ask"} <= {row["expect"] for row in vibes if row["part"] == part}


def test_vibe_checks_are_not_in_training(vibes, conversations, headlines):
    taught = [char_ngrams(text.lower()) for row in conversations for text in said(row, "user")]
    taught += [char_ngrams(plain(row["text"]).lower()) for row in headlines]
    for row in vibes:
        asked = char_ngrams(row["prompt"].lower())
        assert max(jaccard(asked, other) for other in taught) < MOST_ALIKE["prompts"], row["id"]
    places = {call["arguments"]["location"].split(",")[0] for row in conversations for call in calls(row)}
    assert not places & {row["arguments"]["location"].split(",")[0] for row in vibes if row["arguments"]}


def test_nothing_is_copied_from_the_public_texts(book, headlines):
    """No eight words in a row of the old books, no headline near one of the satirical paper's."""
    if not SHARED.is_dir():
        pytest.skip("the public texts are not in ../shared/data/twainbot (or under LEKHAI_SHARED)")

    def runs(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"[a-z']+", text.lower())
        return set(zip(*(words[i:] for i in range(8)), strict=False))

    for path in SHARED.glob("pg*.txt"):
        assert not runs(book) & runs(path.read_text(encoding="utf-8-sig")), path.name
    holders, sizes = defaultdict(list), []
    with next(SHARED.glob("TheOnion*.csv")).open(encoding="utf-8", newline="") as handle:
        for number, title in enumerate({row["title"].lower() for row in csv.DictReader(handle)}):
            grams = char_ngrams(title)
            sizes.append(len(grams))
            for gram in grams:
                holders[gram].append(number)
    for row in headlines:
        mine = char_ngrams(plain(row["text"]).lower())
        common = Counter(number for gram in mine for number in holders[gram])
        nearest = max((n / (len(mine) + sizes[number] - n) for number, n in common.items()), default=0.0)
        assert nearest < 0.35, row["text"]
