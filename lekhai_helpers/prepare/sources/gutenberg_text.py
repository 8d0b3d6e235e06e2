"""Old books in plain text, one row a piece of 200 to 500 words: what a model learns a voice from.

Called as ``rows(path)`` for one book; taught in notebook 03. The request of a row is what leads to the piece: the
chapter's name for its first one, the last sentence before it for the others. A chapter's pieces are one thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import regex

from lekhai_helpers.prepare.gutenberg import SHORTEST, Chapter, chunks, read_book, word_count
from lekhai_helpers.prepare.sources.base import Row
from lekhai_helpers.prepare.sources.reading import LeftOut, Reading, make_row

GROUP = "book"
# Several wordings, so that the model learns the voice and not one request.
_OPENINGS = (
    "Begin a chapter called {}, in your own voice.",
    "Tell me the story of {}, the way you would tell it.",
    "Start where you like, but let it be about {}.",
)
_GOING_ON = (
    "Go on from here: {}",
    "And what happened then? You had just said: {}",
    "Carry on in the same voice after this sentence: {}",
)
# Old books print words that are insults today; a model that writes for people should not learn them from us.
_SLUR = regex.compile(r"\bn[i1]gg(?:er|ah?)s?\w*|\b[Ii]njuns?\b|\bdark(?:y|ies|ey)s?\b", regex.IGNORECASE)
_SENTENCES = regex.compile(r"(?<=[.!?][\"'”’)]{0,2})\s+")
_LONGEST_LEAD = 40  # words of the sentence that a request quotes


def rows(path: Path) -> Iterator[Row]:
    """Yield a book's pieces. Raises DatasetError where it is no text, or its licence cannot be told from it."""
    yield from read(path).rows


def read(path: Path) -> Reading:
    """Return a book's pieces, and the chapters and pieces that were left out, each with its reason."""
    path = Path(path)
    book, reading = read_book(path), Reading()
    reading.left_out.extend(LeftOut(path.name, line, "speaks of the archive", text) for line, text in book.notes)
    for place, chapter in enumerate(book.chapters, start=1):
        _add_chapter(reading, path, place, chapter)
    return reading


def _add_chapter(reading: Reading, path: Path, place: int, chapter: Chapter) -> None:
    pieces = chunks(chapter.paragraphs)
    if not pieces:
        words = sum(map(word_count, chapter.paragraphs))
        reason = f"a part of {words} words; a piece has at least {SHORTEST}"
        reading.left_out.append(LeftOut(path.name, chapter.line, reason, chapter.paragraphs[0]))
    thread = f"{path.stem}-{place:02}"
    before = ""
    for number, piece in enumerate(pieces, start=1):
        text = "\n\n".join(piece)
        name = f"{thread}-{number:02}"
        if _SLUR.search(text) or _SLUR.search(before):
            reading.left_out.append(LeftOut(path.name, chapter.line, "holds an insult of its time", text))
        else:
            cells = {"id": name, "thread": thread, "industry": GROUP, "file": path.name, "line": str(chapter.line)}
            asked = _request(name, chapter.title, before)
            reading.rows.append(make_row(len(reading.rows) + 2, prompt_1=asked, script=text, **cells))
        before = _last_sentence(piece[-1])


def _request(name: str, title: str, before: str) -> str:
    """Ask for the piece by the sentence before it, or by the chapter's name; the id chooses the wording."""
    dice = int(hashlib.sha256(name.encode()).hexdigest(), 16)
    if before:
        return _GOING_ON[dice % len(_GOING_ON)].format(f'"{before}"')
    named = regex.sub(r"^(?:CHAPTER|CHAP\.?)?\s*(?:[IVXLC]+|\d+)\.?\s+(?=\S)", "", title)
    about = f'"{named}"' if named else "what you remember first"
    return _OPENINGS[dice % len(_OPENINGS)].format(about)


def _last_sentence(paragraph: str) -> str:
    last = _SENTENCES.split(paragraph)[-1].split()
    return " ".join(last[-_LONGEST_LEAD:]).strip("\"“”'‘’ ")
