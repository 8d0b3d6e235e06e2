"""The verdict every contract returns, and the list of contracts. Code decides here, never a judge."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """What a contract says about one text.

    ``problems`` names every broken rule in plain words; ``facts`` holds what was counted on the way
    (rows, words, share of Bengali letters), also when the text is broken.
    """

    ok: bool
    problems: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


Contract = Callable[[str], Verdict]

_CONTRACTS = {"ad_script": "lekhai_helpers.prepare.contracts.ad_script"}


def get_contract(name: str) -> Contract:
    """Return the contract a recipe names. Raises KeyError with the known names."""
    if name not in _CONTRACTS:
        raise KeyError(f"no contract named {name!r}; known: {', '.join(sorted(_CONTRACTS))}")
    return import_module(_CONTRACTS[name]).check
