"""What is wrong with an ad script and where, and what can be spoilt in a good one on purpose.

Reached through the contract's ``faults`` (the error gallery of notebook 07) and ``defects`` (the worse sides of
notebook 10's pairs).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import regex

from lekhai_helpers.core.bengali import normalize
from lekhai_helpers.prepare.contracts.ad_script import HEADER, AdScript, check, parse_ad_script, raw_cells
from lekhai_helpers.prepare.contracts.grammar import LATIN_LABELS

if TYPE_CHECKING:
    from lekhai_helpers.prepare.dataset import Brief

_FOREIGN = regex.compile(r"[[\p{L}\p{M}]--[\p{scx=Beng}]]+", regex.V1)
_ROW = regex.compile(r"row (\d+) ")

Found = list[tuple[str, str]]


def faults(text: str, brief: Brief) -> Found:
    """Return everything code can find wrong with a script: (what, the line it stands in or "")."""
    text = normalize(text)
    lines = [line for line in text.split("\n") if line.strip()]
    found = [(problem, _line_of(problem, lines)) for problem in check(text, brief.duration_seconds).problems]
    if brief.brand and brief.brand not in text:
        found.append((f"the brand {brief.brand} is not named", ""))
    found += _foreign(lines, brief)
    rows = Counter(parse_ad_script(text)[0].rows).items()
    return found + [(f"the same row {times} times", f"| {' | '.join(cells)} |") for cells, times in rows if times > 1]


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


def _foreign(lines: Sequence[str], brief: Brief) -> Found:
    """Return the lines with letters of other scripts that neither the brief nor the labels brought in."""
    asked = f"{brief.prompt} {brief.brand} {brief.product} {' '.join(LATIN_LABELS)}"
    known = {word.lower() for word in _FOREIGN.findall(normalize(asked))}
    found: Found = []
    for line in lines:
        cells = raw_cells(line)
        words = [] if cells and [cell.lower() for cell in cells] == HEADER else _FOREIGN.findall(line)
        leaked = list(dict.fromkeys(word for word in words if word.lower() not in known))
        found += [(f"other scripts: {', '.join(leaked[:5])}", line)] if leaked else []
    return found


def _cells_lost(script: AdScript) -> list[str]:
    """Break the table: one row loses its second cell."""
    lines = script.to_markdown().split("\n")
    broken = [f"| {visual} |" for visual, _ in script.rows]
    return ["\n".join([*lines[: n + 2], broken[n], *lines[n + 3 :]]) for n in range(len(broken))]


def _endings_lost(script: AdScript) -> list[str]:
    """Lose the pack shot: the last row, with brand, tagline and call to action, is gone."""
    return [AdScript(script.rows[:-1]).to_markdown()]


def _rows_repeated(script: AdScript) -> list[str]:
    """Loop: a row stands again where the next one should be."""
    rows = script.rows
    return [AdScript([*rows[: n + 1], rows[n], *rows[n + 2 :]]).to_markdown() for n in range(len(rows) - 1)]


def _columns_swapped(script: AdScript) -> list[str]:
    """Put what is heard under Visual and what is seen under Audio."""
    return [AdScript([(audio, visual) for visual, audio in script.rows]).to_markdown()]


def _of_text(versions: Callable[[AdScript], list[str]]) -> Callable[[str], list[str]]:
    return lambda text: versions(parse_ad_script(text)[0])


# Each returns every version of its defect; which of them keep the better side's length is found out afterwards.
DEFECTS: dict[str, Callable[[str], list[str]]] = {
    "a row lost a cell": _of_text(_cells_lost),
    "the ending is missing": _of_text(_endings_lost),
    "a row is repeated": _of_text(_rows_repeated),
    "the columns are swapped": _of_text(_columns_swapped),
}
