"""What code can count about an ad script beside its brief, so that no judge has to be asked.

Reached through the contract: ``get_contract("ad_script").count(text, brief)``. Taught in notebook 11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import regex

from lekhai_helpers.prepare.contracts.ad_script import ROWS_BY_SECONDS, check, parse_ad_script, spoken_lines

if TYPE_CHECKING:
    from lekhai_helpers.prepare.dataset import Brief

# The honorific imperative (আসুন, কিনুন, পাঠান, উঠবেন না) or where to get it (পাবেন). দিন is also "day" and নিন
# follows it, and খান is a name, so these three count only where a sentence ends. A question to the viewer (তুলবেন?)
# calls as well.
_CALL = regex.compile(
    r"(?<![\p{L}\p{M}])(?:[\p{L}\p{M}]*(?:ুন|পাবেন)|[\p{L}\p{M}]+বেন না"
    r"|(?:পাঠান|নামান|করান|পরান|যান|জানান|চালান|বানান|খাওয়ান|দাঁড়ান|শোনান|বসান|লাগান|লেখান|শেখান)"
    r"|(?<!সারা |প্রতি |এক )(?:[নদ]িন|খান)(?=\s*(?:[।!?]|$))"
    r"|[\p{L}\p{M}]+বেন(?=\s*\?))"
    r"(?![\p{L}\p{M}])"
)


def counted(text: str, brief: Brief) -> dict[str, Any]:
    """Return what needs no judge. Shares run from 0 to 1; the rest are True, False or counts.

    Keys: valid_table, rows, rows_fit (the film's length; True where the brief names none), brand_named,
    bengali_share, repeated_rows, call_to_action (in the last row), problems.
    """
    verdict = check(text)
    rows = parse_ad_script(text)[0].rows
    return {
        "valid_table": verdict.ok,
        "rows": len(rows),
        "rows_fit": _rows_fit(len(rows), brief.duration_seconds),
        "brand_named": bool(brief.brand) and brief.brand in text,
        "bengali_share": verdict.facts["bengali_share"],
        "repeated_rows": verdict.facts["repeated_rows"],
        "call_to_action": bool(rows) and bool(_CALL.search(" ".join(spoken_lines(rows[-1][1])))),
        "problems": verdict.problems,
    }


def _rows_fit(rows: int, seconds: int | None) -> bool:
    if seconds is None:
        return True
    fewest, most = ROWS_BY_SECONDS[min(ROWS_BY_SECONDS, key=lambda known: abs(known - seconds))]
    return fewest <= rows <= most


def count(text: str, brief: Brief) -> dict[str, float | bool | None]:
    """Return the six countable criteria, each from 0 to 1."""
    facts = counted(text, brief)
    found = {name: facts[name] for name in ("valid_table", "rows_fit", "brand_named", "bengali_share")}
    return found | {"no_repeated_rows": facts["repeated_rows"] == 0, "call_to_action": facts["call_to_action"]}


def decides(text: str, brief: Brief) -> dict[str, float | bool | None]:
    """Return the facts by which one of two scripts is better, the weightiest first.

    Valid for the film's length, a valid table at all, the brand named, no row twice, the share of Bengali letters.
    """
    facts = counted(text, brief)
    return {
        "valid for its length": check(text, brief.duration_seconds).ok,
        "valid table": facts["valid_table"],
        "brand named": facts["brand_named"],
        "no repeated rows": facts["rows"] > 0 and facts["repeated_rows"] == 0,
        "Bengali share": facts["bengali_share"],
    }
