"""The companion's vault: 120 notes of one invented life, labelled as they are marked, none said twice."""

import datetime
import itertools
import json
import re
import unicodedata
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import regex
import yaml

from lekhai_helpers.core.bengali import bengali_share, char_ngrams, jaccard, words
from lekhai_helpers.core.recipe import data_folder

COLUMNS = ["id", "path", "kind", "date", "language", "reflection", "marked", "private", "secrets", "origin"]
KINDS = {"daily", "reflection", "decision", "book", "meeting", "project", "recipe", "list", "reference", "index"}
TAGS = {"reflection", "decision", "learning"}
FIELDS = {"lesson", "learned", "decided", "question"}
WAYS = {"frontmatter_list", "frontmatter_string", "inline", "nested", "dataview"}
FENCE = re.compile(r"^```.*?^```[ \t]*$", re.M | re.S)
INLINE_TAG = regex.compile(r"(?<!\S)#([\p{L}\p{M}\p{N}_/-]*\p{L}[\p{L}\p{M}\p{N}_/-]*)")
FIELD = re.compile(r"(?:^|\[)([A-Za-z_][A-Za-z_ ]*)::", re.M)
LINK = re.compile(r"(!?)\[\[([^\]|#^]+)")
SECRET = {
    "phone": re.compile(r"\+\d[\d ()-]{8,}\d"),
    "email": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "key": re.compile(r"\bsk-\w{20,}"),
}
# What a real vault has too: a picture nobody kept, and a link that leads out of the vault and must not be followed.
DEAD_LINKS = {"tin-back-cover.jpg", "../Old khata/2015 and before"}


def folder() -> Path:
    return data_folder() / "companion"


def vault() -> Path:
    return folder() / "vault"


def load(name: str) -> list[dict]:
    return [json.loads(line) for line in (folder() / name).read_text(encoding="utf-8").splitlines()]


@cache
def notes() -> dict[str, str]:
    """Every note a reader of the vault may see, by its path; hidden folders are not part of it."""
    paths = (path.relative_to(vault()) for path in vault().rglob("*.md"))
    shown = sorted(path for path in paths if not any(part.startswith(".") for part in path.parts))
    return {path.as_posix(): (vault() / path).read_text(encoding="utf-8") for path in shown}


def parts(text: str) -> tuple[dict, str]:
    """Frontmatter and body; raises when the frontmatter is not closed or is no YAML mapping."""
    if not text.startswith("---\n"):
        return {}, text
    head, body = text[4:].split("\n---\n", 1)
    front = yaml.safe_load(head)
    assert isinstance(front, dict)
    return front, body


def prose(text: str) -> str:
    """The body without fenced and inline code, in which a # is no tag."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", parts(text)[1]))


def tags(text: str) -> set[str]:
    front = parts(text)[0].get("tags") or []
    listed = front if isinstance(front, list) else re.split(r"[,\s]+", front)
    return {tag.lstrip("#") for tag in [*listed, *INLINE_TAG.findall(prose(text))]}


def ways(text: str) -> set[str]:
    """The ways in which a note says of itself that it is a reflection; none for one that only reads like it."""
    found = set()
    front = parts(text)[0].get("tags")
    if isinstance(front, list) and TAGS & set(front):
        found.add("frontmatter_list")
    if isinstance(front, str) and TAGS & {tag.lstrip("#") for tag in re.split(r"[,\s]+", front)}:
        found.add("frontmatter_string")
    for tag in INLINE_TAG.findall(prose(text)):
        if tag.split("/")[0] in TAGS:
            found.add("nested" if "/" in tag else "inline")
    if FIELDS & set(FIELD.findall(prose(text))):
        found.add("dataview")
    return found


def sentences(text: str) -> list[str]:
    """Sentences of six words or more, folded to bare words, so that a mark or a capital hides no copy."""
    # A link repeats a title on purpose.
    unlinked = re.sub(r"\[\[[^\]]*\]\]", " ", prose(text))
    pieces = re.split(r"[.!?।…:;|]+(?=\s|[\"')*_]|$)|\n", unlinked)
    folded = (" ".join(words(piece)).casefold() for piece in pieces)
    return [sentence for sentence in folded if len(sentence.split()) >= 6]


def test_120_notes_stand_in_the_vault_and_in_the_list_and_nothing_else():
    rows = load("notes.jsonl")
    assert len(rows) == len({row["id"] for row in rows}) == 120
    assert {row["path"] for row in rows} == set(notes())
    for row in rows:
        assert list(row) == COLUMNS, row["id"]
        assert row["kind"] in KINDS and row["language"] in {"en", "bn"}, row["id"]
        assert row["origin"] == "LekhAI original", row["id"]


def test_at_least_104_reflections_remain_when_the_private_ones_are_left_out():
    rows = load("notes.jsonl")
    assert sum(row["reflection"] and not row["private"] for row in rows) >= 104
    # Without notes that are none, nobody could measure an extractor's false alarms.
    assert sum(not row["reflection"] for row in rows) >= 10
    assert len({row["kind"] for row in rows if not row["reflection"]}) >= 5


def test_each_note_is_marked_as_its_row_says():
    wrong = {row["path"]: (row["marked"], ways(notes()[row["path"]])) for row in load("notes.jsonl")}
    assert {path: pair for path, pair in wrong.items() if set(pair[0]) != pair[1]} == {}
    assert [row["path"] for row in load("notes.jsonl") if row["marked"] and not row["reflection"]] == []


def test_every_way_of_marking_is_used_often_and_many_reflections_carry_no_mark():
    reflections = [row for row in load("notes.jsonl") if row["reflection"]]
    used = Counter(way for row in reflections for way in row["marked"])
    assert set(used) == WAYS
    assert min(used.values()) >= 8, used
    assert sum(not row["marked"] for row in reflections) >= 20


def test_two_notes_are_private_and_their_rows_say_so():
    marked = {path for path, text in notes().items() if "private" in tags(text)}
    assert marked == {row["path"] for row in load("notes.jsonl") if row["private"]}
    assert len(marked) == 2


def test_every_note_has_80_to_400_words():
    counts = {path: len(words(parts(text)[1])) for path, text in notes().items()}
    assert {path: count for path, count in counts.items() if not 80 <= count <= 400} == {}
    # Notes of one length would teach a length.
    assert sum(count <= 125 for count in counts.values()) >= 10
    assert sum(count >= 280 for count in counts.values()) >= 10


def test_every_file_and_name_is_nfc_utf8_with_plain_line_ends():
    """A name in the other normal form is a second file on some disks and a dead link on others."""
    for path in (path for path in folder().rglob("*") if path.is_file()):
        raw = path.read_bytes()
        assert b"\r" not in raw and not raw.startswith(b"\xef\xbb\xbf"), path
        assert unicodedata.is_normalized("NFC", raw.decode("utf-8")), path
        assert unicodedata.is_normalized("NFC", path.relative_to(folder()).as_posix()), path
        assert raw.endswith(b"\n") and not re.search(r'[<>:"\\|?*]', path.name), path


def test_no_two_notes_are_near_copies():
    grams = {path: char_ngrams(text) for path, text in notes().items()}
    close = [(a, b) for a, b in itertools.combinations(grams, 2) if jaccard(grams[a], grams[b]) > 0.15]
    assert close == []


def test_no_sentence_of_six_words_stands_twice():
    """The vault would teach a phrase and not a voice. The bin and the scenarios count too."""
    texts = [*notes().values(), *(path.read_text(encoding="utf-8") for path in (vault() / ".trash").glob("*.md"))]
    texts += [row["prompt"] for row in load("scenarios.jsonl")]
    counts = Counter(sentence for text in texts for sentence in sentences(text))
    assert len(counts) > 1500
    assert [sentence for sentence, count in counts.items() if count > 1] == []


def test_no_two_notes_begin_with_the_same_four_words():
    openings = Counter()
    for text in notes().values():
        lines = (line for line in parts(text)[1].splitlines() if not line.startswith(("#", "|", "```")))
        openings[" ".join(words(" ".join(lines))[:4]).casefold()] += 1
    assert [opening for opening, count in openings.items() if count > 1] == []


def test_daily_notes_are_named_by_date_and_no_heading_names_a_wrong_weekday():
    days = [path for path in notes() if path.startswith("Daily/")]
    assert len(days) >= 40
    for path in days:
        day = datetime.date.fromisoformat(Path(path).stem)
        heading = next(line for line in parts(notes()[path])[1].splitlines() if line.startswith("# "))
        named = re.findall(r"Mon|Tue|Wed|Thu|Fri|Sat|Sun", heading)
        assert set(named) <= {day.strftime("%a")}, path
        year = re.findall(r"\b20[0-9][0-9]\b", heading)
        number = re.findall(r"(?<![:0-9])[0-9]{1,2}(?![:0-9])", heading)
        assert set(year) <= {str(day.year)} and set(number) <= {str(day.day)}, path


def test_dates_of_rows_frontmatter_and_names_agree_and_span_18_months():
    rows = load("notes.jsonl")
    for row in rows:
        front = parts(notes()[row["path"]])[0]
        assert str(front.get("date", row["date"])) == row["date"], row["path"]
        if row["kind"] == "daily":
            assert Path(row["path"]).stem == row["date"]
    dates = [datetime.date.fromisoformat(row["date"]) for row in rows]
    assert 530 <= (max(dates) - min(dates)).days <= 560


def test_the_folders_are_six_to_eight_some_with_spaces_and_some_in_bengali():
    names = {path.split("/")[0] for path in notes() if "/" in path}
    assert 6 <= len(names) <= 8
    assert sum(" " in name for name in names) >= 2 and sum(bengali_share(name) > 0.9 for name in names) >= 2
    assert any("/" not in path for path in notes())
    assert not list(vault().rglob("*.canvas"))


@pytest.mark.parametrize(
    ("what", "pattern", "least"),
    [
        ("wikilink", r"(?<!!)\[\[", 25),
        ("wikilink with an alias", r"(?<!!)\[\[[^\]\n]+\|", 3),
        ("embed", r"!\[\[", 2),
        ("aliases in the frontmatter", r"(?m)^aliases:", 8),
        ("callout", r"(?m)^> \[!\w+\]", 3),
        ("quotation", r"(?m)^> (?!\[!)", 4),
        ("code fence with a # line in it", r"(?ms)^```[^`]*^#", 3),
        ("table", r"(?m)^\|(?:---\|)+$", 10),
        ("open task", r"(?m)^- \[ \] ", 5),
        ("done task", r"(?m)^- \[x\] ", 5),
        ("numbered list", r"(?m)^2\. ", 5),
        ("Dataview field on a line", r"(?m)^\w+:: ", 10),
        ("Dataview field in brackets", r"\[\w+:: ", 2),
        ("Dataview query", r"```dataview", 1),
        ("comment", r"%%.+%%", 1),
        ("highlight", r"==\S.*==", 1),
        ("nested tag", r"(?<!\S)#\w+/\w+", 8),
        ("file link out of the vault", r"\]\(file://", 1),
    ],
)
def test_the_vault_has_what_an_extractor_must_cope_with(what, pattern, least):
    assert sum(bool(re.search(pattern, text)) for text in notes().values()) >= least, what


def test_a_tag_that_stands_only_in_code_marks_no_note():
    """An extractor that reads code fences takes the house style sheet for a reflection."""
    text = notes()["জলপিপি/House style sheet.md"]
    assert "#reflection" in text and "reflection" not in tags(text)
    assert "`#reflection`" in notes()["Start Here.md"] and not ways(notes()["Start Here.md"])


def test_links_lead_to_notes_but_for_two_known_ones():
    targets = {Path(path).stem for path in notes()}
    assert len(targets) == 120
    dead = {name for text in notes().values() for _, name in LINK.findall(text) if name not in targets}
    assert dead == DEAD_LINKS


def test_three_notes_hold_something_to_mask_and_all_of_it_is_invented():
    found = {
        path: sorted(kind for kind, pattern in SECRET.items() if pattern.search(text)) for path, text in notes().items()
    }
    rows = {row["path"]: row["secrets"] for row in load("notes.jsonl")}
    assert found == rows
    assert sorted(kind for kinds in rows.values() for kind in kinds) == ["email", "key", "phone"]
    everything = "\n".join(notes().values())
    # 555-0100 to 555-0199 are kept free for fiction, example.org for documents.
    assert all(re.search(r"555-01\d\d$", number) for number in SECRET["phone"].findall(everything))
    assert all(mail.endswith("@example.org") for mail in SECRET["email"].findall(everything))
    assert all("example" in key for key in SECRET["key"].findall(everything))


def test_settings_and_bin_are_there_to_be_skipped():
    assert json.loads((vault() / ".obsidian" / "app.json").read_text(encoding="utf-8"))
    binned = list((vault() / ".trash").glob("*.md"))
    assert len(binned) == 1 and ways(binned[0].read_text(encoding="utf-8"))


def test_the_notes_called_bengali_are_bengali_and_the_others_are_not():
    language = {row["path"]: row["language"] for row in load("notes.jsonl")}
    share = {path: (language[path], bengali_share(parts(text)[1])) for path, text in notes().items()}
    assert sum(name == "bn" for name, _ in share.values()) >= 5
    assert {path: pair for path, pair in share.items() if (pair[0] == "bn") != (pair[1] >= 0.85)} == {}
    # The recipe page and the style sheet name Bengali letters; no English note is half Bengali.
    assert [path for path, (name, value) in share.items() if name == "en" and value > 0.1] == []


def test_the_readme_counts_what_is_there():
    readme = " ".join((folder() / "README.md").read_text(encoding="utf-8").split())
    rows = load("notes.jsonl")
    reflections = [row for row in rows if row["reflection"]]
    assert (
        f"{len(reflections)} reflections, {sum(not row['private'] for row in reflections)} of them not private"
        in readme
    )
    assert f"{len(rows) - len(reflections)} notes that are none" in readme
    assert f"{sum(not row['marked'] for row in reflections)} reflections carry no mark" in readme
    assert f"{sum(row['language'] == 'en' for row in rows)} notes are English" in readme
    assert "CC BY 4.0" in readme


def test_scenarios_are_24_in_two_kinds_and_two_equal_parts():
    rows = load("scenarios.jsonl")
    assert all(list(row) == ["id", "kind", "prompt", "part", "origin"] for row in rows)
    assert len({row["id"] for row in rows}) == len({row["prompt"] for row in rows}) == 24
    assert {row["origin"] for row in rows} == {"LekhAI original"}
    kinds = itertools.product(["decision", "relationship"], ["development", "heldout"])
    assert Counter((row["kind"], row["part"]) for row in rows) == dict.fromkeys(kinds, 6)


def test_scenarios_are_unlike_each_other_and_no_note_holds_one():
    rows = load("scenarios.jsonl")
    grams = [char_ngrams(row["prompt"]) for row in rows]
    assert max(jaccard(a, b) for a, b in itertools.combinations(grams, 2)) <= 0.15
    assert all(row["prompt"].rstrip()[-1] in "?." and 15 <= len(words(row["prompt"])) <= 60 for row in rows)
    # How much of a prompt is already in one note: its own 5-grams found there, whatever the note's length.
    held = {path: char_ngrams(text) for path, text in notes().items()}
    worst = max(len(gram & note) / len(gram) for gram in grams for note in held.values())
    assert worst <= 0.45
