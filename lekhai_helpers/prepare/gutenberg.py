"""Old e-books made readable: the licence, the contents, headings and pictures taken off, the chapters left.

``book = read_book(path)`` gives title, author and chapters of paragraphs; ``chunks(paragraphs)`` cuts a chapter into
pieces of 200 to 500 words on paragraph borders. Called by the source gutenberg_text; taught in notebook 03.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import regex

from lekhai_helpers.prepare.book_headings import (
    ASIDE,
    BACK,
    CHAPTER,
    EMPHASIS,
    FRONT,
    ends_contents,
    is_heading,
    is_text,
    plain_lines,
)
from lekhai_helpers.prepare.book_licence import ARCHIVE, cut_licence
from lekhai_helpers.prepare.sources.base import DatasetError
from lekhai_helpers.prepare.sources.reading import read_text

_BRACKETS = regex.compile(
    r"\[(?:(?:Illustration|Plate|Frontispiece|Footnote|Transcri\w+|Picture|Map|Sidenote|Blank|Music|End of trans\w*)\b"
    r"|Ill(?:us(?:tr)?)?\.)(?:[^\[\]]|\[[^\[\]]*\])*\]|^[ \t]*\(Illustration\b[^()]*\)[ \t]*$",
    regex.IGNORECASE | regex.MULTILINE,
)
_PAGE = regex.compile(r"\{\d{1,4}\}|\[(?:Pg|Page|p\.)\s*\d{1,4}\]", regex.IGNORECASE)
_NOTE_MARK = regex.compile(r"\[(?:\d{1,3}|[A-Z*†])\]")
_SENTENCE_END = regex.compile(r"(?<=[.!?][\"'”’)_]{0,2})\s+(?=[\"'“‘(_]?\p{Lu})")
SHORTEST, LONGEST = 200, 500  # words of a chunk
Block = tuple[int, str, int]  # line, lines of text, blank lines before it
_LONGEST_NOTE = 150  # words of a paragraph that speaks of the archive; more are no note


@dataclass(frozen=True)
class Chapter:
    """One chapter: its heading ("" before the first), its paragraphs, the line of the file where it begins."""

    title: str
    line: int
    paragraphs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Book:
    """A book without its wrapping. `title` and `author` are those of the head, "" where it names none; `notes` are the
    paragraphs about the archive that stood between the licence's marks, each with its line.
    """

    title: str
    author: str
    chapters: list[Chapter]
    notes: list[tuple[int, str]] = field(default_factory=list)


def read_book(path: Path) -> Book:
    """Read a plain-text e-book. Raises DatasetError where the licence cannot be told from the text, or none is left."""
    text = read_text(path)
    head, body, line = cut_licence(text, Path(path).name)
    blocks, notes = _without_notes(_blocks(body, line), Path(path).name)
    chapters = _chapters(blocks, line)
    if not chapters:
        raise DatasetError(f"{Path(path).name} holds no paragraph of running text: is it the plain-text edition?")
    return Book(_field("Title", head), _field("Author", head), chapters, notes)


def _field(name: str, head: str) -> str:
    found = regex.search(rf"^{name}:\s*(.+)$", head, regex.MULTILINE)
    return found.group(1).strip() if found else ""


def _without_notes(blocks: list[Block], name: str) -> tuple[list[Block], list[tuple[int, str]]]:
    """Part the story from what volunteers say of the archive. Raises DatasetError where one paragraph holds both."""
    notes = [(at, _joined(block)) for at, block, _ in blocks if ARCHIVE.search(block)]
    for at, text in notes:
        if word_count(text) > _LONGEST_NOTE:
            raise DatasetError(f"{name}, line {at}: a long paragraph speaks of the archive; cut what is no story")
    return [one for one in blocks if not ARCHIVE.search(one[1])], notes


def _chapters(blocks: list[Block], line: int) -> list[Chapter]:
    """Cut the text at its headings; lists, pictures, notes and what stands after the end go."""
    chapters, current, skip, after_heading = [], Chapter("", line), False, True
    for place, (at, block, gap) in enumerate(blocks):
        first = plain_lines(block)[0]
        after_heading = is_heading(block, gap > 1 or after_heading or bool(BACK.match(first)))
        if place > len(blocks) * 0.6 and BACK.match(first) and after_heading:
            break
        if skip and ends_contents(current.title, block):
            skip, current = False, Chapter("", at)
        if after_heading:
            skip = _is_skipped(first)
            if current.paragraphs:
                chapters.append(current)
            joined = current.title if not current.paragraphs and CHAPTER.match(current.title) else ""
            current = Chapter(_heading(joined, block), at)
        elif not skip and is_text(block, started=bool(current.paragraphs or chapters or current.title)):
            current.paragraphs.append(_joined(block))
    return [*chapters, current] if current.paragraphs else chapters


def _is_skipped(heading: str) -> bool:
    """Lists are no text, and an editor's introduction is not the author's voice."""
    return bool(FRONT.match(heading) or ASIDE.match(heading))


def _heading(before: str, block: str) -> str:
    """Return a heading as one line; "I" above "ANCESTRY" is one heading of two blocks."""
    own = " ".join(EMPHASIS.sub(r"\2", block).split())
    return f"{before} {own}".strip()


def _blocks(body: str, line: int) -> list[Block]:
    """Return (line, block, blank lines before it) for every run of lines, marks of the page taken off."""

    def blank(found: regex.Match[str]) -> str:
        return "\n" * found.group().count("\n")  # so that later lines keep their number

    cleaned = _PAGE.sub("", _BRACKETS.sub(blank, body))
    blocks: list[Block] = []
    at = end = line
    for run in regex.split(r"((?:^[^\S\n]*\n)+)", cleaned, flags=regex.MULTILINE):
        if run.strip():
            blocks.append((at, run.rstrip("\n"), at - end))
            end = at + run.rstrip("\n").count("\n") + 1
        at += run.count("\n")
    return blocks


def _joined(block: str) -> str:
    """Return a block as one paragraph: line ends of the page become spaces, verse keeps its own."""
    plain = EMPHASIS.sub(r"\2", _NOTE_MARK.sub("", block))
    lines = [" ".join(line.split()) for line in plain.split("\n")]
    verse = all(line.startswith("  ") for line in block.split("\n"))
    return ("\n" if verse else " ").join(line for line in lines if line)


def word_count(text: str) -> int:
    """Return the words of a text, counted at its spaces."""
    return len(text.split())


def chunks(paragraphs: list[str], shortest: int = SHORTEST, longest: int = LONGEST) -> list[list[str]]:
    """Cut a chapter into runs of whole paragraphs of `shortest` to `longest` words each, as even as they go.

    A paragraph is cut, at the end of a sentence, only where no cut between paragraphs would do. A chapter shorter
    than `shortest` comes back as no chunk at all.
    """
    units = list(paragraphs)
    if sum(map(word_count, units)) < shortest:
        return []
    while (cuts := _best_cuts([word_count(unit) for unit in units], shortest, longest)) is None:
        place = max(range(len(units)), key=lambda index: word_count(units[index]))
        units[place : place + 1] = _halves(units[place])
    return [units[start:end] for start, end in cuts]


def _best_cuts(lengths: list[int], shortest: int, longest: int) -> list[tuple[int, int]] | None:
    """Return the cuts that keep every piece nearest to the middle of the two bounds; None where none keep them."""
    middle = (shortest + longest) / 2
    best: list[tuple[float, list[tuple[int, int]]] | None] = [(0.0, [])] + [None] * len(lengths)
    for end in range(1, len(lengths) + 1):
        words = 0
        for start in range(end - 1, -1, -1):
            words += lengths[start]
            before = best[start]
            if words > longest:
                break
            if words >= shortest and before is not None:
                cost = before[0] + (words - middle) ** 2
                if best[end] is None or cost < best[end][0]:  # type: ignore[index]
                    best[end] = (cost, [*before[1], (start, end)])
    found = best[-1]
    return found[1] if found else None


def _halves(paragraph: str) -> list[str]:
    """Cut a paragraph at the sentence end nearest its middle, else at the space nearest it."""
    middle = len(paragraph) / 2
    borders = [found.span() for found in _SENTENCE_END.finditer(paragraph)] or [
        found.span() for found in regex.finditer(r"\s+", paragraph)
    ]
    start, end = min(borders, key=lambda span: abs(span[0] - middle))
    return [paragraph[:start], paragraph[end:]]
