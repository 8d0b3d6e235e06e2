"""What a contract is, the verdict it returns, and the list of contracts. Code decides here, never a judge.

A contract says what a recipe's answers must be, and lends the words and the counts by which notebooks, plots and the
report speak of them: none of them asks which recipe is running.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from lekhai_helpers.prepare.contracts.grammar import Grammar
    from lekhai_helpers.prepare.dataset import Brief
    from lekhai_helpers.prepare.row_checks import RowProblem


@dataclass(frozen=True)
class Verdict:
    """What a contract says about one text.

    ``problems`` names every broken rule in plain words; ``facts`` holds what was counted on the way
    (rows, words, share of Bengali letters), also when the text is broken. Three kinds of facts are known to the
    figures of a stage: ``rows`` (how many parts could be read), ``repeated_rows``, and every name that ends in
    ``_share`` (0 to 1, told only of texts with rows, where a contract counts rows).
    """

    ok: bool
    problems: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Share:
    """How much of what was looked for is there (0 to 1), and what is missing, in words.

    ``void``: what is missing is so much the point that nothing else can make up for it.
    """

    value: float
    missing: tuple[str, ...]
    void: bool = False


def expected_of(cell: str) -> Any:
    """Return what a row or brief holds its answer against: its cell ``expected``, which is JSON; None where empty."""
    return json.loads(cell) if cell else None


@dataclass(frozen=True)
class Contract:
    """What one recipe's answers must be, how they are shown, and what code can count about them.

    check     ``check(text, expected=None)``: the verdict; `expected` as `expected_of` reads it from a row or brief
              (for ad_script the seconds of the film)
    one, many what a text that keeps it is called, as in "answers that are ...": "a valid table", "valid tables"
    show      how a text is shown to a reader: a table, or the text itself
    count     ``count(text, brief)``: what code counts, each from 0 to 1, None where there is nothing to count;
              the first is the contract itself
    defects   what can be spoilt on purpose: ``defects[name](text)`` gives every version with one such fault, none
              where the text has nothing to spoil; the rejected sides of preference pairs are made of them
    grammar   ``grammar(prompt)``: the contract as rules a decoder can obey; None where there is none

    The rest is for contracts that know more, and has a plain stand-in:
    rule      one or two sentences for a reader: what keeps the contract
    header    the words of a line that every text has and nobody wrote, such as a table's header
    decides   ``decides(text, brief)``: facts that settle which of two texts is better, the first that differs first;
              without it `count` does
    faults    ``faults(text, brief)``: (what is wrong, the line it stands in); without it the problems of `check`
    strict    ``strict(table)``: advice on the checked rows of a whole table, beyond what breaks one; without it, rows
              that nearly copy each other
    tools     what the model may call, as functions in JSON (`prepare.tools`); none for most
    rubric    a judge's criteria that code can measure: ``rubric[name](text, brief, common)``, where `common` are the
              beginnings of words that many briefs have; without it "structure" is the mean of `count`
    right     which of `count` says that the one right answer was given, where a brief has one; "" where none ever has
    """

    name: str
    check: Callable[..., Verdict]
    one: str
    many: str
    show: Callable[[str], pd.DataFrame | str]
    count: Callable[[str, Brief], dict[str, float | bool | None]]
    defects: Mapping[str, Callable[[str], list[str]]]
    grammar: Callable[[str], Grammar] | None = None
    rule: str = ""
    header: str = ""
    decides: Callable[[str, Brief], dict[str, float | bool | None]] | None = None
    faults: Callable[[str, Brief], list[tuple[str, str]]] | None = None
    strict: Callable[[pd.DataFrame], list[RowProblem]] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    rubric: Mapping[str, Callable[[str, Brief, frozenset[str]], Share | None]] = field(default_factory=dict)
    right: str = ""

    def __call__(self, text: str, expected: Any = None) -> Verdict:
        """Return the verdict on one text."""
        return self.check(text, expected)


# Every module holds one CONTRACT.
_CONTRACTS = {
    "ad_script": "lekhai_helpers.prepare.contracts.ad_script_contract",
    "persona": "lekhai_helpers.prepare.contracts.persona",
    "refusal": "lekhai_helpers.prepare.contracts.refusal",
    "tool_call": "lekhai_helpers.prepare.contracts.tool_call",
    "tutor_json": "lekhai_helpers.prepare.contracts.tutor_json",
}


def known_contracts() -> list[str]:
    """Return the names of all contracts."""
    return sorted(_CONTRACTS)


def get_contract(name: str) -> Contract:
    """Return the contract a recipe names. Raises KeyError with the known names."""
    if name not in _CONTRACTS:
        raise KeyError(f"no contract named {name!r}; known: {', '.join(sorted(_CONTRACTS))}")
    return import_module(_CONTRACTS[name]).CONTRACT
