"""What is no running text in an old book: headings of chapters, tables of contents, lists, notes, credits.

``is_heading(block, apart)``, ``is_text(block, started)``; called by prepare.gutenberg on paragraphs, which are told
apart by their form alone.
"""

from __future__ import annotations

import regex

from lekhai_helpers.prepare.book_licence import ETEXT

_CREDIT = regex.compile(
    r"^(?:Produced|Prepared|Transcribed|Scanned|Digitized|Typed)\b.{0,40}\bby\b"
    rf"|^(?:This\s+)?(?:Project\s+Gutenberg\s+)?{ETEXT}\b.{{0,20}}\b(?:was\s+)?(?:prepared|produced|typed|scanned)\s+by\b"
    r"|^(?:Credits?|HTML version|Proofread(?:ing)?)\b.{0,20}\bby\b|^Transcriber'?s?.?s? notes?\b",
    regex.IGNORECASE | regex.DOTALL,
)
EMPHASIS = regex.compile(r"(?<![\p{L}\p{N}])([_=])(?=\S)(.+?)(?<=\S)\1(?![\p{L}\p{N}])", regex.DOTALL)
_ONES = "ONE|TWO|THREE|FOUR|FIVE|SIX|SEVEN|EIGHT|NINE|TEN|ELEVEN|TWELVE"
_NUMERAL = rf"(?:[IVXLC]+|\d{{1,3}}|(?i:(?:THE\s+)?(?:LAST|FIRST|SECOND|THIRD|[A-Z-]*(?:TEEN|TY|TH|{_ONES}))))"
# The line ends after the number, or a sign follows: "Letter I wrote him was short." is a sentence. After the word
# CHAPTER a title may follow without any sign, but begins in capitals.
CHAPTER = regex.compile(
    rf"^(?:(?i:CHAPTER|CHAP\.?|STAVE)\s+{_NUMERAL}\b(?=\.?\s+[\"“'‘]?\p{{Lu}})"
    rf"|(?i:CHAPTER|CHAP\.?|STAVE|BOOK|PART|LETTER|SECTION|VOLUME|CANTO|ACT|SCENE)\s+{_NUMERAL}\b"
    r"(?=\s*$|\s*[.:\[(—–-]|\s{2,}))\.?"
)
_BARE_NUMERAL = regex.compile(r"^[IVXLC]+\.?$")
_NUMBERED = regex.compile(r"^(?:[IVX]|[IVXLC]{2,})\.\s+[\"“'‘]?\p{Lu}")
FRONT = regex.compile(
    r"^(?:TABLE OF )?CONTENTS\b|^(?:LIST OF )?ILLUSTRATIONS\b|^LIST OF (?:PLATES|FIGURES)", regex.IGNORECASE
)
_FRONT_ALONE = regex.compile(
    r"^(?:(?:TABLE OF )?CONTENTS|(?:LIST OF )?ILLUSTRATIONS|LIST OF (?:PLATES|FIGURES))[.:]?$", regex.IGNORECASE
)
BACK = regex.compile(
    r"^(?:THE END\b|FINIS\b|(?:GENERAL )?INDEX\b|BIBLIOGRAPHY\b|(?:FOOT|END)?NOTES\b|TRANSCRIBER)", regex.IGNORECASE
)
ASIDE = regex.compile(r"^(?:INTRODUCTION|EDITOR'?S (?:NOTE|PREFACE)|PUBLISHER'?S NOTE)\b", regex.IGNORECASE)
_LISTED = regex.compile(r"(?:\s{2,}|\.{3,}\s*|\s\.\s)(?:\d{1,4}|[ivxlc]+|_?Frontispiece_?)O?$")
_CLOSED = regex.compile(r"[.!?][\"'”’)]*$")
_PROSE = 25  # words from which a paragraph at the front of a book is text and not title page


def plain_lines(block: str) -> list[str]:
    """Return the lines of a block without their marks of emphasis and the spaces around them."""
    return [line.strip() for line in EMPHASIS.sub(r"\2", block).split("\n")]


def is_heading(block: str, apart: bool) -> bool:
    """A chapter's number, with or without its title, the word "Contents", or up to four short lines all in capitals
    that stand `apart`: a sign in capitals inside the story is text.
    """
    lines = plain_lines(block)
    if len(lines) > 4 or len(block.split()) > 25:
        return False
    if CHAPTER.match(lines[0]):
        return not _LISTED.search(block) and len([line for line in lines if CHAPTER.match(line)]) == 1
    indented = block.startswith("    ")
    if _BARE_NUMERAL.match(lines[0]) or _FRONT_ALONE.match(lines[0]):
        return True
    if len(lines) == 1 and _NUMBERED.match(lines[0]) and not indented and not _LISTED.search(block):
        return apart or not _CLOSED.search(lines[0])
    letters = [char for char in block if char.isalpha()]
    shouted = bool(letters) and all(char.isupper() for char in letters)
    return shouted and apart and not indented and not lines[0].startswith(('"', "“", "'", "‘"))


def is_text(block: str, started: bool) -> bool:
    """Say whether a block is running text: no list, note or credit; at the front of a book no title page either."""
    lines = block.split("\n")
    if _CREDIT.match(block.strip()) or not regex.search(r"\p{L}", block) or regex.match(r"^\s*\[\d+\]", block):
        return False
    if _FRONT_ALONE.match(plain_lines(block)[0]):
        return False
    listed = sum(bool(_LISTED.search(line.rstrip()) or CHAPTER.match(line.strip())) for line in lines)
    if listed * 2 >= len(lines) and listed:
        return False
    if sum(line.lstrip().startswith(("+", "|")) for line in lines) * 2 > len(lines):  # a table drawn with signs
        return False
    set_off = all(line.startswith("  ") for line in lines)
    if set_off and (len(lines) == 1 or any(regex.search(r"\S {3,}\S", line) for line in lines)):
        return False
    return started or (len(block.split()) >= _PROSE and not set_off)


def ends_contents(heading: str, block: str) -> bool:
    """Say whether a block under the heading "Contents" can be no item of them: a long paragraph of whole sentences.

    A list of illustrations has such paragraphs itself; there only the next heading ends it.
    """
    lines, words = plain_lines(block), len(block.split())
    if "CONTENTS" not in heading.upper() or not FRONT.match(heading) or block.startswith(" "):
        return False
    titles = CHAPTER.match(lines[0]) or _NUMBERED.match(lines[0]) or block.count("—") + block.count("--") > words / 12
    closed = [line for line in lines if _CLOSED.search(line)]
    return words >= 2 * _PROSE and lines[-1] in closed and not titles and (len(lines) == 1 or len(closed) < len(lines))
