"""Contracts: what a recipe's output must be. One verb, text in, verdict out. Taught in notebook 05.

A contract may have a grammar too, by which a decoder keeps it while it writes: notebook 07.
"""

from collections.abc import Callable

from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.core.words import Words
from lekhai_helpers.prepare.contracts.base import Contract, Share, Verdict, expected_of, get_contract, known_contracts
from lekhai_helpers.prepare.contracts.grammar import Grammar

__all__ = [
    "Contract",
    "Grammar",
    "Share",
    "Verdict",
    "expected_of",
    "get_contract",
    "get_grammar",
    "known_contracts",
    "words_of",
]


def words_of(settings: Settings) -> Words:
    """Return the words of a recipe, for plots, verdicts and the report."""
    contract = get_contract(settings.data.contract)
    return Words(settings.data.unit, contract.one, contract.many, settings.data.group)


def get_grammar(name: str) -> Callable[[str], Grammar]:
    """Return what makes a contract's grammar out of the text of a brief. Raises KeyError with the known names."""
    grammar = get_contract(name).grammar if name in known_contracts() else None
    if grammar is None:
        having = [other for other in known_contracts() if get_contract(other).grammar is not None]
        raise KeyError(f"the contract {name!r} has no grammar; those with one: {', '.join(having)}")
    return grammar
