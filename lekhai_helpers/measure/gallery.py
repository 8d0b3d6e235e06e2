"""The error gallery: the worst outputs of a stage, and in words what is wrong with each. Taught in notebook 07.

``worst(rows, briefs, contract=...)`` picks them by code, ``gallery_html`` shows them: the fault, and the line it stands
in. Numbers say how often something goes wrong; only reading says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core.bengali import normalize
from lekhai_helpers.prepare.contracts import Contract, expected_of, get_contract
from lekhai_helpers.prepare.dataset import Brief

if TYPE_CHECKING:
    from IPython.display import HTML

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


def faults(row: dict[str, Any], brief: Brief, contract: str = "ad_script") -> list[Fault]:
    """Return everything that code can find wrong with one answer; `row` as `evaluation.write_scripts` returns it."""
    rule, text = get_contract(contract), normalize(row["text"])
    found = [Fault(*one) for one in (rule.faults or partial(_problems, rule))(text, brief)]
    lines = [line for line in text.split("\n") if line.strip()]
    return found if row["stopped"] else [*found, Fault("cut by the limit: it did not end by itself", *lines[-1:])]


def _problems(rule: Contract, text: str, brief: Brief) -> list[tuple[str, str]]:
    """Return what the contract says of a text, and what it counted as missing."""
    broken = [(problem, "") for problem in rule(text, expected_of(brief.expected)).problems]
    lacks = [name for name, value in list(rule.count(text, brief).items())[1:] if value is False]
    return [*broken, *((f"{name.replace('_', ' ')}: no", "") for name in lacks)]


def worst(
    rows: Sequence[dict[str, Any]], briefs: Sequence[Brief], n: int = 5, contract: str = "ad_script"
) -> list[Exhibit]:
    """Return the `n` worst texts: without any row first, then broken ones, then by the number of faults.

    Texts without a fault are never shown. Raises KeyError where a text answers a brief that is not in `briefs`.
    """
    by_id = {brief.id: brief for brief in briefs}
    judged = [(row, faults(row, by_id[row["brief_id"]], contract)) for row in rows]
    faulty = [(row, found) for row, found in judged if found]
    faulty.sort(key=lambda pair: (pair[0]["facts"].get("rows") == 0, not pair[0]["ok"], len(pair[1])), reverse=True)
    return [Exhibit(row["brief_id"], row["seed"], row["text"], found) for row, found in faulty[:n]]


def gallery_html(exhibits: Sequence[Exhibit], language: str = "bn") -> HTML:
    """Show the exhibits, texts in `language`: what is wrong and in which line, then the text as it was written."""
    from IPython.display import HTML

    if not exhibits:
        return HTML("<p>No text has a fault that code can find.</p>")
    return HTML(f'<div lang="{escape(language)}">' + "".join(map(_exhibit_html, exhibits)) + "</div>")


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
