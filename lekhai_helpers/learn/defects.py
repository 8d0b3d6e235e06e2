"""One planted defect in a good script: the worse side of a minority of the preference pairs. Taught in notebook 10."""

from __future__ import annotations

import random
from collections.abc import Callable

from lekhai_helpers.prepare.contracts.ad_script import AdScript, parse_ad_script


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


# Each returns every version of its defect; which of them keep the better side's length is found out afterwards.
DEFECTS: dict[str, Callable[[AdScript], list[str]]] = {
    "a row lost a cell": _cells_lost,
    "the ending is missing": _endings_lost,
    "a row is repeated": _rows_repeated,
    "the columns are swapped": _columns_swapped,
}


def plant_defect(
    text: str, dice: random.Random, fits: Callable[[str], bool] = lambda text: True
) -> tuple[str, str] | None:
    """Return `text` with one planted defect, and the defect's name; None where no version of any defect `fits`.

    In a film of three shots a missing row is a third of the text: such a version does not fit, and another defect is
    taken. Raises ValueError where `text` is no script.
    """
    script, problems = parse_ad_script(text)
    if problems or len(script.rows) < 2:
        raise ValueError(f"cannot plant a defect in a text that is no script: {'; '.join(problems) or 'too short'}")
    for name in dice.sample(sorted(DEFECTS), len(DEFECTS)):
        versions = [version for version in DEFECTS[name](script) if version != script.to_markdown() and fits(version)]
        if versions:
            return dice.choice(versions), name
    return None
