"""Contracts: what a recipe's output must be. One verb, text in, verdict out. Taught in notebook 05.

A contract may have a grammar too, by which a decoder keeps it while it writes: notebook 07.
"""

from collections.abc import Callable
from importlib import import_module

from lekhai_helpers.prepare.contracts.base import Contract, Verdict, get_contract
from lekhai_helpers.prepare.contracts.grammar import Grammar

__all__ = ["Contract", "Grammar", "Verdict", "get_contract", "get_grammar"]

_GRAMMARS = {"ad_script": ("lekhai_helpers.prepare.contracts.grammar", "ad_script_grammar")}


def get_grammar(name: str) -> Callable[[str], Grammar]:
    """Return what makes a contract's grammar out of the text of a brief. Raises KeyError with the known names."""
    if name not in _GRAMMARS:
        raise KeyError(f"the contract {name!r} has no grammar; those with one: {', '.join(sorted(_GRAMMARS))}")
    module, function = _GRAMMARS[name]
    return getattr(import_module(module), function)
