"""Old e-books: whatever way the licence is spelled, none of it is learnt, and no sentence of the story is lost."""

import os
from pathlib import Path

import pytest

from lekhai_helpers.core.recipe import data_file
from lekhai_helpers.prepare.book_licence import cut_licence
from lekhai_helpers.prepare.gutenberg import LONGEST, SHORTEST, chunks, read_book, word_count
from lekhai_helpers.prepare.sources import DatasetError
from lekhai_helpers.prepare.sources import gutenberg_text as source

SHARED = Path(os.environ.get("LEKHAI_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "data" / "twainbot"
STORY = (
    "It rained all day, and the river came up to look at us over the edge of the bank, as an aunt looks in at a door."
)
LEGAL = "This eBook is for the use of anyone anywhere under the terms of the Project Gutenberg License."


def book(start: str, end: str, inside: str = STORY) -> str:
    return f"The Project Gutenberg eBook\n\n{LEGAL}\n\nTitle: Rain\n\n{start}\n\n\n{inside}\n\n\n{end}\n\n{LEGAL}\n"


def written(folder: Path, text: str, name: str = "book.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "start",
    [
        "*** START OF THE PROJECT GUTENBERG EBOOK RAIN ***",
        "*** START OF THIS PROJECT GUTENBERG EBOOK RAIN ***",
        "***START OF THE PROJECT GUTENBERG EBOOK RAIN***",
        "*** START OF THE PROJECT GUTENBERG EBOOK A LONG\nTITLE OF TWO LINES ***",
        "*** START OF THE PROJECT GUTENBERG E-TEXT RAIN ***",
        "***START OF PROJECT GUTENBERG EBOOK RAIN***",
        "*** START OF THE PROJECT GUTENBERG EBOOK R*A*I*N ***",
        "*** START OF THE PROJECT GUTENBERG EBOOK RAIN",
        "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*",
        "*END THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.03.08.92*END*",
        "*** START OF THIS LANTERN SHELF EBOOK RAIN ***",
    ],
)
@pytest.mark.parametrize(
    "end",
    [
        "*** END OF THE PROJECT GUTENBERG EBOOK RAIN ***",
        "*** END OF THIS PROJECT GUTENBERG EBOOK RAIN ***",
        "***END OF THE PROJECT GUTENBERG EBOOK RAIN***",
        "End of the Project Gutenberg EBook of Rain, by Nobody",
        "End of Project Gutenberg's Rain, by Nobody",
        "The End of Project Gutenberg Etext Rain",
        "End of this Project Gutenberg Etext of Rain",
        "End of this Etext of Rain by Nobody",
    ],
)
def test_every_spelling_of_the_borders_is_known(start, end):
    head, text, _ = cut_licence(book(start, end))
    assert text.strip() == STORY
    assert "Title: Rain" in head


@pytest.mark.parametrize(
    ("start", "end", "missing"),
    [
        ("*** START OF THE PROJECT GUTENBERG EBOOK RAIN ***", "", "end"),
        ("", "*** END OF THE PROJECT GUTENBERG EBOOK RAIN ***", "start"),
    ],
)
def test_half_a_licence_is_an_error_and_not_a_text(start, end, missing):
    """A download that broke off would teach the licence's words."""
    with pytest.raises(DatasetError, match=f"the {missing} of the archive's licence"):
        cut_licence(book(start, end), "rain.txt")


def test_a_start_that_is_never_closed_ends_with_its_line():
    """A scene break hundreds of lines later was taken for its end, and half the book was gone."""
    text = book("*** START OF THE PROJECT GUTENBERG EBOOK RAIN", "*** END OF THE PROJECT GUTENBERG EBOOK RAIN ***")
    body = cut_licence(text.replace(STORY, f"{STORY}\n\n***\n\nIt dried."))[1]
    assert body.split() == f"{STORY} *** It dried.".split()


@pytest.mark.parametrize("tail", ["Thus ends the etext. Please send donations for more etexts.", "THE SMALL PRINT!"])
def test_a_licence_behind_an_end_that_is_not_known_is_refused(tail):
    inside = f"{STORY}\n\n{tail}"
    with pytest.raises(DatasetError, match="the end of the archive's licence"):
        cut_licence(f"*** START OF THIS PROJECT GUTENBERG EBOOK RAIN ***\n\n{inside}\n\nEnd of this Etext of Rain\n")


def test_what_the_volunteers_say_of_the_archive_goes_and_is_told(tmp_path):
    """Both marks are there, so that nothing of the licence is left: a credit is no reason to refuse the book."""
    credit = "E-text prepared by Jane and the Project\nGutenberg Online Distributed Proofreading Team"
    note = "Note: Project Gutenberg also has an HTML version of this file."
    inside = f"{credit}\n\n{note}\n\nCHAPTER I\n\n" + "\n\n".join([STORY] * 10)
    text = book("*** START OF THIS PROJECT GUTENBERG EBOOK RAIN ***", "End of Project Gutenberg's Rain", inside)
    reading = source.read(written(tmp_path, text))
    assert [one.reason for one in reading.left_out] == ["speaks of the archive"] * 2
    assert [one.line for one in reading.left_out] == [10, 13]
    assert len(reading.rows) == 1 and "Gutenberg" not in reading.rows[0].cells["script"]


def test_a_paragraph_of_story_and_archive_together_is_refused(tmp_path):
    inside = f"Made for Project Gutenberg.\n{STORY * 9}"
    text = book("*** START OF THIS PROJECT GUTENBERG EBOOK RAIN ***", "End of Project Gutenberg's Rain", inside)
    with pytest.raises(DatasetError, match="line 10: a long paragraph speaks of the archive"):
        read_book(written(tmp_path, text))


def paragraphs_and_titles(folder: Path, text: str) -> tuple[list[str], list[str]]:
    chapters = read_book(written(folder, text)).chapters
    return [text for chapter in chapters for text in chapter.paragraphs], [chapter.title for chapter in chapters]


@pytest.mark.parametrize(
    "heading",
    [
        *("II. The Adventure of the Door", "Stave Two", "=CHAPTER II=", "_Chapter II_", "Chapter II: The Door"),
        *("Chapter Two The Door", "CHAPTER II THE DOOR", "Letter II.", "PART TWO—The Door", "Chapter the Second"),
    ],
)
def test_a_heading_in_any_dress_is_one(tmp_path, heading):
    found, titles = paragraphs_and_titles(tmp_path, f"CHAPTER I\n\n{STORY}\n\n{heading}\n\n{STORY}\n")
    assert found == [STORY, STORY] and titles == ["CHAPTER I", heading.strip("=_")]


@pytest.mark.parametrize(
    "sentence",
    ["Letter I wrote him was short.", "Act three was the best of it.", "Part of me wanted to go.", "I. was his mark,"],
)
def test_a_sentence_that_begins_like_a_heading_is_none(tmp_path, sentence):
    found, titles = paragraphs_and_titles(tmp_path, f"CHAPTER I\n\n{STORY}\n\n{sentence}\n\n{STORY}\n")
    assert found == [STORY, sentence, STORY] and len(titles) == 1


@pytest.mark.parametrize("picture", ["[Ill.: A raft]", "[Plate II.]", "(Illustration: A raft)", "[Illus. of a raft]"])
def test_pictures_in_any_brackets_go(tmp_path, picture):
    assert paragraphs_and_titles(tmp_path, f"{STORY}\n\n{picture}\n\n{STORY} (Ill.)\n")[0] == [STORY, f"{STORY} (Ill.)"]


@pytest.mark.parametrize("word", ["Contents", "CONTENTS", "Table of Contents", "Contents:"])
@pytest.mark.parametrize("apart", ["\n\n", "\n"])
def test_a_list_of_contents_is_no_text_and_ends_where_the_story_begins(tmp_path, word, apart):
    """Titles without numbers are no headings: without an end to the list the whole book would be skipped."""
    listed = "\n".join(f"The Story of the {n} Good Boys Who Sailed" for n in ("First", "Next", "Third", "Last", "Best"))
    story = " ".join([STORY] * 3)
    text = f"{word}{apart}{listed}\n\n\nThe Story of the First Good Boys Who Sailed\n\n{story}\n"
    assert paragraphs_and_titles(tmp_path, text)[0] == [story]


def test_a_text_without_any_border_is_all_story():
    assert cut_licence(STORY)[1] == STORY


def test_what_is_no_story_goes_and_what_is_stays(tmp_path):
    inside = f"""Produced by one clerk and a lamp

RAIN

_by_ Nobody


CONTENTS

I. The Bank ......... 1
II. The Door          17


CHAPTER I.
The Bank


[Illustration: A river

with a blank line in the caption]

{STORY}

  [3] A note of the editor.

She _said_ so.[3] "Why, Jim?"

LADIES AND CHILDREN NOT ADMITTED.

"There," says he.{{12}}


II

THE DOOR


{STORY.replace("rained", "snowed")}


THE END


INDEX

Bank, 1
"""
    found = read_book(written(tmp_path, inside))
    assert [chapter.title for chapter in found.chapters] == ["CHAPTER I. The Bank", "THE DOOR"]
    bank = found.chapters[0].paragraphs
    assert bank == [
        STORY,
        'She said so. "Why, Jim?"',
        "LADIES AND CHILDREN NOT ADMITTED.",
        '"There," says he.',
    ]


def test_chunks_lie_within_their_bounds_and_lose_nothing():
    paragraphs = [f"Word{n} " * (20 + 37 * n % 170) for n in range(40)]
    pieces = chunks([text.strip() for text in paragraphs])
    assert all(SHORTEST <= sum(map(word_count, piece)) <= LONGEST for piece in pieces)
    assert [text for piece in pieces for text in piece] == [text.strip() for text in paragraphs]


def test_a_paragraph_too_long_is_cut_at_a_sentence():
    long = " ".join(f"This is sentence number {n} of a very long paragraph." for n in range(120))
    pieces = chunks([long])
    assert all(SHORTEST <= sum(map(word_count, piece)) <= LONGEST for piece in pieces)
    assert all(text.endswith(".") for piece in pieces for text in piece)
    assert " ".join(text for piece in pieces for text in piece) == long


def test_a_text_without_any_sentence_end_is_cut_all_the_same():
    pieces = chunks(["word " * 1_400])
    assert all(SHORTEST <= sum(map(word_count, piece)) <= LONGEST for piece in pieces)


def test_a_chapter_too_short_gives_no_chunk():
    assert chunks([STORY]) == []


def test_our_own_book_gives_thirteen_chapters():
    found = read_book(data_file("twainbot/book.txt"))
    numbered = [chapter for chapter in found.chapters if chapter.title.startswith("CHAPTER")]
    assert (found.title, found.author, len(numbered)) == ("The Town That Kept Its Wharf", "Eben Crane", 13)
    reading = source.read(data_file("twainbot/book.txt"))
    text = " ".join(row.cells["script"] for row in reading.rows)
    assert 8_500 < word_count(text) < 10_500
    assert not any(mark in text for mark in ("CHAPTER", "[Illustration", "Lantern Shelf", "CONTENTS"))
    assert {row.cells["industry"] for row in reading.rows} == {"book"}


def test_a_request_leads_to_its_piece():
    rows = source.read(data_file("twainbot/book.txt")).rows
    first, second = rows[0].cells, rows[1].cells
    assert "I Am Introduced, and the Town Also" in first["prompt_1"]
    assert first["thread"] == second["thread"]
    last = first["script"].split(". ")[-1].strip('."')
    assert last[-20:] in second["prompt_1"]


def test_a_piece_with_an_insult_of_its_time_is_left_out_and_told(tmp_path):
    clean = " ".join([STORY] * 10)
    path = written(tmp_path, f"CHAPTER I.\n\n\n{clean}\n\n\nCHAPTER II.\n\n\n{clean} They shot at Injuns.\n")
    reading = source.read(path)
    assert len(reading.rows) == 1
    assert [one.reason for one in reading.left_out] == ["holds an insult of its time"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 something", "a zip archive"),
        (b"%PDF-1.4 something", "a PDF"),
        (b"text\x00\x01\x02 more", "a binary file"),
        (b"A, B, C", "holds no paragraph"),
    ],
)
def test_what_is_no_book_is_refused_in_words(tmp_path, data, said):
    path = tmp_path / "book.txt"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=said):
        source.read(path)


def test_a_book_in_an_old_encoding_is_read(tmp_path):
    path = tmp_path / "book.txt"
    path.write_bytes((STORY.replace("rained", "caf\u00e9 \u2019twas") + "\r\n").encode("cp1252"))
    assert "caf\u00e9 \u2019twas" in read_book(path).chapters[0].paragraphs[0]


real = pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the two public books in {SHARED}")


@real
@pytest.mark.parametrize(
    ("name", "chapters", "rows"),
    [("pg76-huckleberry-finn.txt", 43, (200, 320)), ("pg20203-autobiography-of-benjamin-franklin.txt", 19, (160, 200))],
)
def test_real_books_come_out_clean(name, chapters, rows):
    found, reading = read_book(SHARED / name), source.read(SHARED / name)
    whole = [chapter for chapter in found.chapters if chunks(chapter.paragraphs)]
    assert len(whole) >= chapters
    assert rows[0] <= len(reading.rows) <= rows[1]
    for row in reading.rows:
        text = row.cells["script"]
        assert SHORTEST <= word_count(text) <= LONGEST
        for mark in ("Gutenberg", "[Illustration", "Distributed Proofreading", "CHAPTER ", "[1]", "+--"):
            assert mark not in text, (row.cells["id"], mark)
    text = " ".join(row.cells["script"] for row in reading.rows)
    assert not any(mark in text for mark in ("HENRY HOLT", "BIBLIOGRAPHY", "www."))


@real
def test_the_first_and_last_words_of_a_real_book_are_there():
    chapters = [c for c in read_book(SHARED / "pg76-huckleberry-finn.txt").chapters if c.title.startswith("CHAPTER")]
    assert chapters[0].paragraphs[0].startswith("YOU don't know about me")
    assert chapters[-1].paragraphs[-1].endswith("I been there before.")
