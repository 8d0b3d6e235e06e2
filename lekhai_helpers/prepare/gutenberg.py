"""Old e-books made readable: the licence, the contents, headings and pictures taken off, the chapters left.

``book = read_book(path)`` gives title, author and chapters of paragraphs; ``chunks(paragraphs)`` cuts a chapter into
pieces of 200 to 500 words on paragraph borders. Called by the source gutenberg_text; taught in notebook 03.

Thirty years of volunteers spelled the borders of the licence in many ways; the patterns below know those of the
archive's own pages, of its oldest files ("small print") and of archives that copy its shape.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import regex

from lekhai_helpers.prepare.sources.base import DatasetError
from lekhai_helpers.prepare.sources.reading import read_text

_TEXT = r"(?:E-?BOOK|E-?TEXT)S?"
_START = regex.compile(
    rf"^[ \t]*\*{{2,3}}[ \t]*START OF (?:THE|THIS)\b[^*]*?\b{_TEXT}\b[^*]*\*{{3}}[^\n]*$"
    r"|^[^\n]*\*[ \t]*END[ \t]*\*?[ \t]*THE SMALL PRINT[^\n]*$",
    regex.IGNORECASE | regex.MULTILINE,
)
_END = regex.compile(
    rf"^[ \t]*\*{{2,3}}[ \t]*END OF (?:THE|THIS)\b[^*]*?\b{_TEXT}\b"
    rf"|^[ \t]*\**[ \t]*(?:The[ \t]+)?End of (?:(?:the|this)[ \t]+)?Project[ \t]+Gutenberg\b"
    r"|^[ \t]*\*{3}[ \t]*START:[ \t]*FULL LICENSE",
    regex.IGNORECASE | regex.MULTILINE,
)
_LICENCE = regex.compile(r"\bProject Gutenberg\b|\bFULL LICENSE\b", regex.IGNORECASE)
_CREDIT = regex.compile(
    r"^(?:Produced|Prepared|Transcribed|Scanned|Digitized|Typed)\b.{0,40}\bby\b"
    rf"|^(?:This\s+)?(?:Project\s+Gutenberg\s+)?{_TEXT}\b.{{0,20}}\b(?:was\s+)?(?:prepared|produced|typed|scanned)\s+by\b"
    r"|^(?:Credits?|HTML version|Proofread(?:ing)?)\b.{0,20}\bby\b|^Transcriber'?s?.?s? notes?\b",
    regex.IGNORECASE | regex.DOTALL,
)
_BRACKETS = regex.compile(
    r"\[(?:Illustration|Frontispiece|Footnote|Transcri\w+|Picture|Map|Sidenote|Blank|Music|End of trans\w*)\b"
    r"(?:[^\[\]]|\[[^\[\]]*\])*\]",
    regex.IGNORECASE,
)
_PAGE = regex.compile(r"\{\d{1,4}\}|\[(?:Pg|Page|p\.)\s*\d{1,4}\]", regex.IGNORECASE)
_NOTE_MARK = regex.compile(r"\[(?:\d{1,3}|[A-Z*†])\]")
_EMPHASIS = regex.compile(r"(?<![\p{L}\p{N}])([_=])(?=\S)(.+?)(?<=\S)\1(?![\p{L}\p{N}])", regex.DOTALL)
_ONES = "ONE|TWO|THREE|FOUR|FIVE|SIX|SEVEN|EIGHT|NINE|TEN|ELEVEN|TWELVE"
_NUMERAL = rf"(?:[IVXLC]+|\d{{1,3}}|(?:THE\s+)?(?:LAST|FIRST|SECOND|THIRD|[A-Z-]*(?:TEEN|TY|TH|{_ONES})))"
_CHAPTER = regex.compile(
    rf"^(?:CHAPTER|CHAP\.?|BOOK|PART|LETTER|SECTION|VOLUME|CANTO|ACT|SCENE)\s+{_NUMERAL}\b\.?", regex.IGNORECASE
)
_BARE_NUMERAL = regex.compile(r"^[IVXLC]+\.?$")
_FRONT = regex.compile(
    r"^(?:TABLE OF )?CONTENTS\b|^(?:LIST OF )?ILLUSTRATIONS\b|^LIST OF (?:PLATES|FIGURES)", regex.IGNORECASE
)
_BACK = regex.compile(
    r"^(?:THE END\b|FINIS\b|(?:GENERAL )?INDEX\b|BIBLIOGRAPHY\b|(?:FOOT|END)?NOTES\b|TRANSCRIBER)", regex.IGNORECASE
)
_ASIDE = regex.compile(r"^(?:INTRODUCTION|EDITOR'?S (?:NOTE|PREFACE)|PUBLISHER'?S NOTE)\b", regex.IGNORECASE)
_LISTED = regex.compile(r"(?:\s{2,}|\.{3,}\s*|\s\.\s)(?:\d{1,4}|[ivxlc]+|_?Frontispiece_?)O?$")
_SENTENCE_END = regex.compile(r"(?<=[.!?][\"'”’)_]{0,2})\s+(?=[\"'“‘(_]?\p{Lu})")
SHORTEST, LONGEST = 200, 500  # words of a chunk
_PROSE = 25  # words from which a paragraph at the front of a book is text and not title page


@dataclass(frozen=True)
class Chapter:
    """One chapter: its heading ("" before the first), its paragraphs, the line of the file where it begins."""

    title: str
    line: int
    paragraphs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Book:
    """A book without its wrapping. `title` and `author` are those of the head, "" where it names none."""

    title: str
    author: str
    chapters: list[Chapter]


def read_book(path: Path) -> Book:
    """Read a plain-text e-book. Raises DatasetError where the licence cannot be told from the text, or none is left."""
    text = read_text(path)
    head, body, line = cut_licence(text, Path(path).name)
    chapters = _chapters(body, line)
    if not chapters:
        raise DatasetError(f"{Path(path).name} holds no paragraph of running text: is it the plain-text edition?")
    return Book(_field("Title", head), _field("Author", head), chapters)


def cut_licence(text: str, name: str = "the book") -> tuple[str, str, int]:
    """Return (head, text between the licence's marks, line where that begins). Without any mark all of it is text.

    Raises DatasetError where one border is there without the other and the licence would stay in.
    """
    starts = [mark for mark in _START.finditer(text)]
    first = starts[-1].end() if starts else 0
    end = _END.search(text, first)
    body = text[first : end.start() if end else len(text)]
    if _LICENCE.search(body):
        missing = "end" if starts else "start"
        raise DatasetError(
            f"{name}: the {missing} of the archive's licence was not found, so that it would be learnt as text. Is the "
            "file whole? Download it again, or cut the licence off by hand"
        )
    return text[:first], body, text.count("\n", 0, first) + 1


def _field(name: str, head: str) -> str:
    found = regex.search(rf"^{name}:\s*(.+)$", head, regex.MULTILINE)
    return found.group(1).strip() if found else ""


def _chapters(body: str, line: int) -> list[Chapter]:
    """Cut the text at its headings; lists, pictures, notes and what stands after the end go."""
    chapters, current, skip, after_heading = [], Chapter("", line), False, True
    blocks = _blocks(body, line)
    for place, (at, block, gap) in enumerate(blocks):
        first = block.split("\n")[0].strip()
        after_heading = _is_heading(block, gap > 1 or after_heading or bool(_BACK.match(first)))
        if place > len(blocks) * 0.6 and _BACK.match(first) and after_heading:
            break
        if after_heading:
            skip = _is_skipped(first)
            if current.paragraphs:
                chapters.append(current)
            joined = current.title if not current.paragraphs and _CHAPTER.match(current.title) else ""
            current = Chapter(_heading(joined, block), at)
        elif not skip and _is_text(block, started=bool(current.paragraphs or chapters or current.title)):
            current.paragraphs.append(_joined(block))
    return [*chapters, current] if current.paragraphs else chapters


def _is_skipped(heading: str) -> bool:
    """Lists are no text, and an editor's introduction is not the author's voice."""
    return bool(_FRONT.match(heading) or _ASIDE.match(heading))


def _heading(before: str, block: str) -> str:
    """Return a heading as one line; "I" above "ANCESTRY" is one heading of two blocks."""
    own = " ".join(_EMPHASIS.sub(r"\2", block).split())
    return f"{before} {own}".strip()


def _blocks(body: str, line: int) -> list[tuple[int, str, int]]:
    """Return (line, block, blank lines before it) for every run of lines, marks of the page taken off."""

    def blank(found: regex.Match[str]) -> str:
        return "\n" * found.group().count("\n")  # so that later lines keep their number

    cleaned = _PAGE.sub("", _BRACKETS.sub(blank, body))
    blocks: list[tuple[int, str, int]] = []
    at = end = line
    for run in regex.split(r"((?:^[^\S\n]*\n)+)", cleaned, flags=regex.MULTILINE):
        if run.strip():
            blocks.append((at, run.rstrip("\n"), at - end))
            end = at + run.rstrip("\n").count("\n") + 1
        at += run.count("\n")
    return blocks


def _is_heading(block: str, apart: bool) -> bool:
    """A chapter's number, a numeral alone, or up to four short lines all in capitals that stand `apart`: a sign in
    capitals inside the story is text.
    """
    lines = [line.strip() for line in block.split("\n")]
    if len(lines) > 4 or len(block.split()) > 25:
        return False
    if _CHAPTER.match(lines[0]):
        return not _LISTED.search(block) and len([line for line in lines if _CHAPTER.match(line)]) == 1
    letters = [char for char in block if char.isalpha()]
    shouted = bool(letters) and all(char.isupper() for char in letters)
    quoted = lines[0].startswith(('"', "“", "'", "‘"))
    return bool(_BARE_NUMERAL.match(lines[0])) or (shouted and apart and not quoted and not block.startswith("    "))


def _is_text(block: str, started: bool) -> bool:
    """Say whether a block is running text: no list, note or credit; at the front of a book no title page either."""
    lines = block.split("\n")
    if _CREDIT.match(block.strip()) or not regex.search(r"\p{L}", block) or regex.match(r"^\s*\[\d+\]", block):
        return False
    listed = sum(bool(_LISTED.search(line.rstrip()) or _CHAPTER.match(line.strip())) for line in lines)
    if listed * 2 >= len(lines) and listed:
        return False
    if sum(line.lstrip().startswith(("+", "|")) for line in lines) * 2 > len(lines):  # a table drawn with signs
        return False
    set_off = all(line.startswith("  ") for line in lines)
    if set_off and (len(lines) == 1 or any(regex.search(r"\S {3,}\S", line) for line in lines)):
        return False
    return started or (len(block.split()) >= _PROSE and not set_off)


def _joined(block: str) -> str:
    """Return a block as one paragraph: line ends of the page become spaces, verse keeps its own."""
    plain = _EMPHASIS.sub(r"\2", _NOTE_MARK.sub("", block))
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
