"""What code finds in a text for a judge's criteria, as shares from 0 to 1 with what is missing in words.

Used by `likelihood_judge`, which places the shares among the gold texts. What the criteria look for the contract says
(``contract.rubric``). Taught in notebook 11.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from lekhai_helpers.core.bengali import normalize, stems
from lekhai_helpers.prepare.contracts import Contract, Share, get_contract
from lekhai_helpers.prepare.dataset import Brief

COMMON_SHARE = 0.1  # a word in more briefs than this belongs to the form of a brief, not to its wishes

Measure = Callable[[str, Brief, frozenset[str]], Share | None]


def cells_text(text: str, contract: str = "ad_script") -> str:
    """Return what a text says, without the table around it; a text that is shown as no table comes back whole."""
    shown = get_contract(contract).show(text)
    if isinstance(shown, str):
        return normalize(shown.replace("|", " "))
    return "\n".join(str(cell) for row in shown.itertuples(index=False) for cell in row)


def rubric_of_contract(contract: Contract) -> Mapping[str, Measure]:
    """Return what the contract can measure for a judge; the mean of its counts where it names nothing else."""
    return contract.rubric or {"structure": lambda text, brief, common: counted_share(contract, text, brief)}


def counted_share(contract: Contract, text: str, brief: Brief) -> Share:
    """Return the mean of what the contract counts in a text, and the names of what is not whole."""
    counts = {name: float(value) for name, value in contract.count(text, brief).items() if value is not None}
    missing = tuple(
        f"{name.replace('_', ' ')} ({value:.0%})" if value else name.replace("_", " ")
        for name, value in counts.items()
        if value < 1
    )
    return Share(sum(counts.values()) / len(counts) if counts else 0.0, missing)


def common_stems(prompts: Iterable[str]) -> frozenset[str]:
    """Return the beginnings that stand in more than a tenth of the prompts, and in more than one: film, write."""
    asked = [stems(prompt) for prompt in prompts]
    counts = Counter(stem for found in asked for stem in found)
    return frozenset(stem for stem, count in counts.items() if count > max(1, COMMON_SHARE * len(asked)))
