"""What code finds in an ad script for structure and adherence, as shares from 0 to 1 with what is missing in words.

Reached through the contract's ``rubric``; a judge (`measure.likelihood_judge`) places the shares among the gold
scripts. Taught in notebook 11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lekhai_helpers.core.bengali import normalize, stems, words
from lekhai_helpers.prepare.contracts.ad_script import MAX_WORDS_PER_SECOND, check, parse_ad_script
from lekhai_helpers.prepare.contracts.ad_script_counts import counted
from lekhai_helpers.prepare.contracts.base import Share

if TYPE_CHECKING:
    from lekhai_helpers.prepare.dataset import Brief

BENGALI_FLOOR = 0.85  # of the letters, as the data card asks of every script


def structure(text: str, brief: Brief, common: frozenset[str] = frozenset()) -> Share:
    """Return the share of checks on the script's build that hold. An idea or a turn is nothing code can see.

    `common` is passed over: the build does not depend on the words of the briefs.
    """
    facts = counted(text, brief)
    has_rows = facts["rows"] > 0
    checks = {
        "a valid table": facts["valid_table"],
        "shots that fit the film's length": has_rows and facts["rows_fit"],
        "words that fit the film's length": has_rows and _speakable(text, brief.duration_seconds),
        "no shot twice": has_rows and facts["repeated_rows"] == 0,
        "a call to action in the last shot": facts["call_to_action"],
        "at least 85% Bengali letters": facts["bengali_share"] >= BENGALI_FLOOR,
    }
    if brief.brand:
        checks["the brand"] = facts["brand_named"]
    missing = tuple(name for name, holds in checks.items() if not holds)
    return Share(1 - len(missing) / len(checks), missing)


def _speakable(text: str, seconds: int | None) -> bool:
    return seconds is None or check(text).facts["spoken_words"] <= seconds * MAX_WORDS_PER_SECOND


def adherence(text: str, brief: Brief, common: frozenset[str] = frozenset()) -> Share | None:
    """Return the mean of what of the brief is met: brand, product, length and its other words; None if it names none.

    `common`: beginnings of words that stand in many briefs and so ask for nothing of this film. A script without the
    brand is void: an advertisement for nobody is none.
    """
    cells, facts = _cells(text), counted(text, brief)
    parts: dict[str, float] = {}
    if brief.brand:
        parts["the brand"] = float(facts["brand_named"])
    if product := stems(brief.product):
        parts["the product"] = _found(product, cells)
    if brief.duration_seconds is not None:
        fits = facts["rows"] > 0 and facts["rows_fit"] and _speakable(text, brief.duration_seconds)
        parts["the length"] = float(fits)
    if wishes := stems(brief.prompt) - stems(f"{brief.brand} {brief.product}") - common:
        parts["the brief's other words"] = _found(wishes, cells)
    if not parts:
        return None
    missing = tuple(f"{name} ({share:.0%})" if share else name for name, share in parts.items() if share < 1)
    return Share(sum(parts.values()) / len(parts), missing, void=parts.get("the brand") == 0)


def _cells(text: str) -> str:
    rows = parse_ad_script(text)[0].rows
    return "\n".join(cell for row in rows for cell in row) if rows else normalize(text.replace("|", " "))


def _found(wanted: set[str], text: str) -> float:
    """Return the share of `wanted` beginnings that some word of `text` begins with."""
    there = [word.casefold() for word in words(normalize(text))]
    return sum(any(word.startswith(stem) for word in there) for stem in wanted) / len(wanted)
