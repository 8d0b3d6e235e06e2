"""One planted defect in a good text: the worse side of a minority of the preference pairs. Taught in notebook 10.

What can be spoilt, and how, the contract says (``contract.defects``).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from lekhai_helpers.prepare.contracts import get_contract


def plant_defect(
    text: str,
    dice: random.Random,
    fits: Callable[[str], bool] = lambda text: True,
    contract: str = "ad_script",
    expected: Any = None,
) -> tuple[str, str] | None:
    """Return `text` with one planted defect, and the defect's name; None where no version of any defect `fits`.

    In a film of three shots a missing row is a third of the text: such a version does not fit, and another defect is
    taken. Raises ValueError where `text` breaks the contract already (`expected`: what it is held against).
    """
    rule = get_contract(contract)
    if problems := rule(text, expected).problems:
        raise ValueError(f"cannot plant a defect in a text that is not {rule.one}: {'; '.join(problems)}")
    for name in dice.sample(sorted(rule.defects), len(rule.defects)):
        versions = [version for version in rule.defects[name](text) if version != text and fits(version)]
        if versions:
            return dice.choice(versions), name
    return None
