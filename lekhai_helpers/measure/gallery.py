"""The error gallery: the worst outputs of a stage, and in words what is wrong with each. Taught in notebook 07.

``worst(rows, briefs)`` picks them by code, ``gallery_html`` shows them: the fault, and the line it stands in. Numbers
say how often something goes wrong; only reading says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import regex

from lekhai_helpers.core.bengali import normalize
from lekhai_helpers.prepare.contracts.ad_script import HEADER, check, parse_ad_script, raw_cells
from lekhai_helpers.prepare.contracts.grammar import LATIN_LABELS
from lekhai_helpers.prepare.dataset import Brief

if TYPE_CHECKING:
    from IPython.display import HTML

_FOREIGN = regex.compile(r"[[\p{L}\p{M}]--[\p{scx=Beng}]]+", regex.V1)
_ROW = regex.compile(r"row (\d+) ")
_LONGEST = 400  # characters of a text that are shown


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a text; `line` is where, empty where it is not in one line."""

    what: str
    line: str = ""


@dataclass(frozen=True)
class Exhibit:
    """One text of the gallery with all its faults."""

    brief_id: str
    seed: int
    text: str
    faults: list[Fault]


def faults(row: dict[str, Any], brief: Brief) -> list[Fault]:
    """Return everything that code can find wrong with one answer; `row` as `evaluation.write_scripts` returns it."""
    text = normalize(row["text"])
    lines = [line for line in text.split("\n") if line.strip()]
    found = [Fault(problem, _line_of(problem, lines)) for problem in check(text, brief.duration_seconds).problems]
    if brief.brand and brief.brand not in text:
        found.append(Fault(f"the brand {brief.brand} is not named"))
    found += _foreign(lines, brief)
    found += [
        Fault(f"the same row {times} times", f"| {' | '.join(cells)} |")
        for cells, times in Counter(parse_ad_script(text)[0].rows).items()
        if times > 1
    ]
    return found if row["stopped"] else [*found, Fault("cut by the limit: it did not end by itself", *lines[-1:])]


def _line_of(problem: str, lines: Sequence[str]) -> str:
    """Return the line a problem of the contract speaks of."""
    table = [line for line in lines if raw_cells(line) is not None]
    if "outside the table" in problem:
        return next(line for line in lines if raw_cells(line) is None)
    if "header" in problem:
        return table[0] if problem.startswith("the header") else "".join(table[1:2])
    number = _ROW.match(problem)
    if number is None:
        return ""
    ruled = set("".join(table[1:2])) <= set("|:- ")
    return table[int(number.group(1)) + ruled]


def _foreign(lines: Sequence[str], brief: Brief) -> list[Fault]:
    """Return the lines with letters of other scripts that neither the brief nor the labels brought in."""
    asked = f"{brief.prompt} {brief.brand} {brief.product} {' '.join(LATIN_LABELS)}"
    known = {word.lower() for word in _FOREIGN.findall(normalize(asked))}
    found = []
    for line in lines:
        cells = raw_cells(line)
        words = [] if cells and [cell.lower() for cell in cells] == HEADER else _FOREIGN.findall(line)
        leaked = list(dict.fromkeys(word for word in words if word.lower() not in known))
        found += [Fault(f"other scripts: {', '.join(leaked[:5])}", line)] if leaked else []
    return found


def worst(rows: Sequence[dict[str, Any]], briefs: Sequence[Brief], n: int = 5) -> list[Exhibit]:
    """Return the `n` worst texts: without any row first, then broken ones, then by the number of faults.

    Texts without a fault are never shown. Raises KeyError where a text answers a brief that is not in `briefs`.
    """
    by_id = {brief.id: brief for brief in briefs}
    judged = [(row, faults(row, by_id[row["brief_id"]])) for row in rows]
    faulty = [(row, found) for row, found in judged if found]
    faulty.sort(key=lambda pair: (not pair[0]["facts"].get("rows"), not pair[0]["ok"], len(pair[1])), reverse=True)
    return [Exhibit(row["brief_id"], row["seed"], row["text"], found) for row, found in faulty[:n]]


def gallery_html(exhibits: Sequence[Exhibit]) -> HTML:
    """Show the exhibits: what is wrong and in which line, then the text as it was written."""
    from IPython.display import HTML

    if not exhibits:
        return HTML("<p>No text has a fault that code can find.</p>")
    return HTML('<div lang="bn">' + "".join(map(_exhibit_html, exhibits)) + "</div>")


def _exhibit_html(exhibit: Exhibit) -> str:
    points = "".join(
        f"<li>{escape(fault.what)}{f'<br><code>{escape(fault.line[:160])}</code>' if fault.line else ''}</li>"
        for fault in exhibit.faults
    )
    text = escape(exhibit.text[:_LONGEST]) + (" …" if len(exhibit.text) > _LONGEST else "")
    return (
        f"<h4>{escape(exhibit.brief_id)}, seed {exhibit.seed}</h4><ul>{points}</ul>"
        f'<pre style="white-space:pre-wrap">{text or "(empty)"}</pre>'
    )
