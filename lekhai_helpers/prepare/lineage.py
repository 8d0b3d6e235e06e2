"""Who the candidates of a merge are: parent, common base, name and licence of each. Notebook 02.

A donor made here and one from a hub may meet in one merge, so everything is decided donor by donor.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lekhai_helpers.core.recipe import Donor
from lekhai_helpers.prepare.bases import Base
from lekhai_helpers.prepare.model_facts import MergeError, ModelFacts, read_facts, read_licence
from lekhai_helpers.prepare.preflight import common_ancestor, merged_licence

NOT_SAID = "see its model card"  # what `bases` says of a model whose card it does not read


def made_here(donor: Donor) -> bool:
    """Say whether a donor is trained in this notebook, not taken ready."""
    return donor.name == "made-here"


def donor_facts(donor: Donor, model: str, base: Base) -> ModelFacts:
    """Return a donor's facts: a ready one's own; one made here is a child of the base, under the base's licence."""
    if not made_here(donor):
        return read_facts(model)
    return read_facts(model, licence=_licence_of(base), parent=base.title)


def _licence_of(base: Base) -> str:
    try:
        return read_licence(base.path) or base.licence
    except MergeError:  # its weights are in the hub's cache and its card is not: nothing more can be said
        return base.licence


def common_base(first: ModelFacts, second: ModelFacts, base: Base) -> str | None:
    """Return the folder or hub id of the donors' nearest common ancestor, or None where none is known."""
    ancestor = common_ancestor(first, second)
    return base.path if ancestor == base.title else ancestor


def as_candidate(path: str | Path, title: str, licence: str | None) -> Base:
    """Return a candidate for the base of the fine-tuning."""
    return Base(str(path), title, licence or NOT_SAID, f"The base of the fine-tuning is: {title}.")


def donor_candidate(role: str, donor: Donor, path: str, facts: ModelFacts, base: Base) -> Base:
    """Return a donor as a candidate: a ready one under its own name and licence, one made here as the base's child."""
    return as_candidate(path, f"{base.title}, {role}" if made_here(donor) else facts.name, facts.licence)


def blend_candidate(path: Path, t: float, donors: Sequence[Donor], facts: Sequence[ModelFacts], base: Base) -> Base:
    """Return a merge as a candidate: named after both donors, under both licences (see `merged_licence`)."""
    names = [base.title if made_here(donor) else each.name for donor, each in zip(donors, facts, strict=True)]
    title = f"{' and '.join(dict.fromkeys(names))}, merged at t = {t:g}"
    return as_candidate(path, title, merged_licence(*(each.licence for each in facts)))
