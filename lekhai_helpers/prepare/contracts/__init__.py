"""Contracts: what a recipe's output must be. One verb, text in, verdict out. Taught in notebook 05."""

from lekhai_helpers.prepare.contracts.base import Contract, Verdict, get_contract

__all__ = ["Contract", "Verdict", "get_contract"]
