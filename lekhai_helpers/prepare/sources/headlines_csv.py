"""Satirical headlines in a CSV file, one row each: cleaned of mark-up, links, bylines and copies.

Called as ``rows(path)``; taught in notebook 03. The file needs one column of headlines, named text, title or headline,
as the public collections of them have it; all other columns are passed over.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import regex

from lekhai_helpers.prepare.near_copies import near_copies
from lekhai_helpers.prepare.sources.ad_script_csv import rows as csv_rows
from lekhai_helpers.prepare.sources.base import DatasetError, Row
from lekhai_helpers.prepare.sources.reading import LeftOut, Reading, make_row

GROUP = "headline"
TEXT_COLUMNS = ("text", "title", "headline")
FEWEST_WORDS = 2
_OFTEN = 3  # headlines that end in the same name: then it is the paper's, not the joke's
_TAG = regex.compile(r"<[/!]?[a-zA-Z][^<>]*>|<!--.*?-->", regex.DOTALL)
_MARKDOWN_LINK = regex.compile(r"\[([^\[\]]+)\]\([^()\s]+\)")
_LINK = regex.compile(
    r"\(?(?:via:?\s*)?(?:(?:https?://|www\.)[^\s<>()]+|\b(?:[a-z0-9-]+\.)+[a-z]{2,6}/[^\s<>()]*)\)?", regex.IGNORECASE
)
# A writer is named in capitals; "by popular demand" and "by God" are part of the joke.
_NAME = r"(?!(?:Popular|Order|Request|Law|God|The|All|Far)\b)\p{Lu}[\p{L}\p{M}.'’-]*"
_BYLINE = regex.compile(
    rf"\s*(?:[|–—]|\s-)\s*[Bb][Yy]\s+{_NAME}[^|]*$|\s*\|\s*(?i:by)\s+[^|]+$|\n\s*(?i:by)\s+[^\n]+$"
    r"|\s*\(\s*(?i:by|via|posted by)\s[^()]*\)\s*$"
    rf"|(?<=[….!?])\s*[Bb][Yy]\s+{_NAME}(?:\s+{_NAME}){{1,2}}\s*$|^[Bb][Yy]\s+{_NAME}(?:\s+{_NAME}){{1,2}}\s*:(?=\s)"
)
_HASHTAGS = regex.compile(r"(?:\s+#[\p{L}\p{N}_]+)+\s*$")
_READ_MORE = regex.compile(r"\s*\(\s*(?:read|see|more|full)\b[^()]*\)\s*$", regex.IGNORECASE)
_LEADING_MARK = regex.compile(r"^\s*\[(?:meta|oc|video|pic|repost)[^\[\]]*\]\s*:?\s*", regex.IGNORECASE)
_TAIL = regex.compile(r"\s*(?:[|–—]|\s-\s)\s*([^|–—\[\]]{2,40})\s*$|\s*\[([^\[\]]{2,40})\]\s*$")
_COMMON = (
    "about after again against all also and any are back been before being but can could did does for from get had has "
    "have her here his how into its just like more most much new nobody not now off one only other our out over said "
    "says she should some still than that the their them then there they this those through too under until upon use "
    "was were what when where which while who why will with without would year years you your"
)
_LITTLE_WORDS = frozenset(_COMMON.split())
_WORD = regex.compile(r"\p{L}[\p{L}\p{M}'’-]{2,}")


def rows(path: Path) -> Iterator[Row]:
    """Yield the cleaned headlines of a CSV file. Raises DatasetError where it has no column of them."""
    yield from read(path).rows


def read(path: Path) -> Reading:
    """Return the cleaned headlines, and those left out: cut by a comma, empty once cleaned, too short, said before,
    nearly so.
    """
    path = Path(path)
    found = list(csv_rows(path))
    if not found:
        raise DatasetError(f"{path.name} has a header but no row under it")
    column = _text_column(path, list(found[0].cells))
    names = _paper_names([clean_headline(row.cells[column]) for row in found])
    reading, kept = Reading(), []
    seen: dict[str, int] = {}
    for row in found:
        text = clean_headline(row.cells[column], names)
        reason = _unfit(row, text, seen)
        if reason:
            reading.left_out.append(LeftOut(path.name, row.number, reason, row.cells[column].strip()))
        else:
            seen[text.casefold()] = row.number
            kept.append((row, text))
    copies = near_copies([text for _, text in kept])
    for place, (row, text) in enumerate(kept):
        if place in copies:
            reason = f"nearly the same as row {kept[copies[place][0]][0].number}"
            reading.left_out.append(LeftOut(path.name, row.number, reason, text))
        else:
            reading.rows.append(_headline_row(len(reading.rows) + 2, path, row, text))
    return reading


def _text_column(path: Path, columns: list[str]) -> str:
    by_name = {name.strip().lower(): name for name in columns}
    for name in TEXT_COLUMNS:
        if name in by_name:
            return by_name[name]
    raise DatasetError(
        f"{path.name} has no column of headlines: rename the one that holds them to {TEXT_COLUMNS[0]!r}. Columns "
        f"found: {', '.join(columns)}"
    )


def clean_headline(text: str, papers: frozenset[str] = frozenset()) -> str:
    """Return a headline as plain text; `papers` are the names of papers that may stand after it.

    Entities are read twice, since some collections escaped them twice ("&amp;amp;").
    """
    text = html.unescape(html.unescape(text))
    text = regex.sub(r"<br\s*/?>", "\n", text, flags=regex.IGNORECASE)
    text = _TAG.sub(" ", _MARKDOWN_LINK.sub(r"\1", text))
    for pattern in (_LINK, _READ_MORE, _BYLINE, _HASHTAGS, _LEADING_MARK):
        text = pattern.sub(" ", text).strip()
    tail = _TAIL.search(text)
    if tail and _name(tail) in papers:
        text = text[: tail.start()]
    return " ".join(text.split())


def _name(tail: regex.Match[str]) -> str:
    return " ".join((tail.group(1) or tail.group(2)).casefold().split())


def _paper_names(texts: list[str]) -> frozenset[str]:
    """Return what stands after so many headlines that it can only be a paper's name."""
    tails = Counter(_name(tail) for text in texts if (tail := _TAIL.search(text)))
    return frozenset(name for name, times in tails.items() if times >= _OFTEN)


def _unfit(row: Row, text: str, seen: dict[str, int]) -> str:
    if any(cell.strip() for cell in row.surplus):
        return "more cells than the header: is a comma in a cell without quotation marks?"
    if not text:
        return "nothing is left once links and mark-up are gone"
    if len(text.split()) < FEWEST_WORDS:
        return f"fewer than {FEWEST_WORDS} words"
    if text.casefold() in seen:
        return f"the same as row {seen[text.casefold()]}"
    return ""


def _headline_row(number: int, path: Path, row: Row, text: str) -> Row:
    name = f"{path.stem}-{row.number:05}"
    cells = {"id": name, "industry": GROUP, "file": path.name, "line": str(row.number)}
    return make_row(number, prompt_1=_request(text), script=text, **cells)


def _request(text: str) -> str:
    """Ask for the headline by its two longest words: a request without them would have a thousand right answers."""
    found = dict.fromkeys(word.lower() for word in _WORD.findall(text) if word.lower() not in _LITTLE_WORDS)
    longest = sorted(found, key=len, reverse=True)[:2]
    asked = [word for word in found if word in longest]
    return f"Write one headline for a satirical paper. It has to do with: {', '.join(asked) or 'today'}."
