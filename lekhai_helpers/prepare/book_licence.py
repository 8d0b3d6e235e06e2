"""The borders of an old e-book: where the archive's licence ends and the story begins, and where it begins again.

``head, body, line = cut_licence(text)``; called by prepare.gutenberg, taught in notebook 03. Thirty years of volunteers
spelled the borders in many ways; the patterns below know those of the archive's own pages, of its oldest files ("small
print") and of archives that copy its shape.
"""

from __future__ import annotations

import regex

from lekhai_helpers.prepare.sources.base import DatasetError

ETEXT = r"(?:E-?BOOK|E-?TEXT)S?"
_MORE = r"\n(?=[^\n]*\S)[^\n]*"  # one further line of the same paragraph
# A mark may break into three lines, and some never close it: then its first line is all of it.
_START = regex.compile(
    rf"^[ \t]*\*{{2,3}}[ \t]*START OF\b[^\n]*?\b{ETEXT}\b(?:[^\n]*(?:{_MORE}){{0,2}}?\*{{3}}[ \t]*$|[^\n]*$)"
    r"|^[^\n]*\*[ \t]*END[ \t]*\*?[ \t]*THE SMALL PRINT[^\n]*$",
    regex.IGNORECASE | regex.MULTILINE,
)
_END = regex.compile(
    rf"^[ \t]*\*{{2,3}}[ \t]*END OF\b[^\n]*?(?:{_MORE})??\b{ETEXT}\b"
    rf"|^[ \t]*\**[ \t]*(?:The[ \t]+)?End of (?:(?:the|this)[ \t]+)?(?:Project[ \t]+Gutenberg|{ETEXT})\b"
    r"|^[ \t]*\*{3}[ \t]*START:[ \t]*FULL LICENSE",
    regex.IGNORECASE | regex.MULTILINE,
)
ARCHIVE = regex.compile(r"\bProject\s+Gutenberg\b|\bFULL LICENSE\b", regex.IGNORECASE)
# What stands in the licence and in no story: then one of its borders has a spelling that is not known.
_LEGAL = regex.compile(
    rf"\bTHE SMALL PRINT\b|\bFULL LICENSE\b|\bLIMITED WARRANTY\b|\b(?i:Literary\s+Archive\s+Foundation)\b"
    rf"|(?i:\b{ETEXT}\b(?:(?!\n\s*\n).){{0,400}}\bdonations?\b|\bdonations?\b(?:(?!\n\s*\n).){{0,400}}\b{ETEXT}\b)",
    regex.DOTALL,
)


def cut_licence(text: str, name: str = "the book") -> tuple[str, str, int]:
    """Return (head, text between the licence's marks, line where that begins). Without any mark all of it is text.

    Between both marks the archive may still be named, by those who prepared the text. Raises DatasetError where one
    border is missing or not known and the licence would stay in.
    """
    starts = [mark.end() for mark in _START.finditer(text)]
    first = starts[-1] if starts else 0
    end = _END.search(text, first)
    body = text[first : end.start() if end else len(text)]
    whole = bool(starts) and end is not None
    if _LEGAL.search(body) or (ARCHIVE.search(body) and not whole):
        missing = "end" if starts else "start"
        raise DatasetError(
            f"{name}: the {missing} of the archive's licence was not found, so that it would be learnt as text. Is the "
            "file whole? Download it again, or cut the licence off by hand"
        )
    return text[:first], body, text.count("\n", 0, first) + 1
