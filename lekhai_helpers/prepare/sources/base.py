"""The row every source yields, and the list of sources. A recipe names one of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path


class DatasetError(ValueError):
    """A file of examples that cannot be used as it is; the text says what is wrong and what to do next."""


@dataclass(frozen=True)
class Row:
    """One row as it stands in the file.

    ``number`` is the row as a spreadsheet shows it: the header is row 1. ``surplus`` holds cells beyond the
    header's columns, ``missing`` counts the cells the row lacks: both are reported, neither is dropped.
    """

    number: int
    cells: dict[str, str]
    surplus: list[str] = field(default_factory=list)
    missing: int = 0


Source = Callable[[Path], Iterator[Row]]

_SOURCES = {"ad_script_csv": "lekhai_helpers.prepare.sources.ad_script_csv"}


def get_source(name: str) -> Source:
    """Return the source a recipe names. Raises KeyError with the known names."""
    if name not in _SOURCES:
        raise KeyError(f"no source named {name!r}; known: {', '.join(sorted(_SOURCES))}")
    return import_module(_SOURCES[name]).rows
