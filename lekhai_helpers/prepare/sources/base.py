"""The row every source yields, and the list of sources. A recipe names one of them.

A source is a module with ``rows(path)``; one that says ``FOLDERS = True`` reads a whole folder as well. One whose
evaluation briefs look otherwise than its examples also has ``briefs(path)``: rows with the cells prompt, id, industry,
part, expected and messages, as far as there are any. One that leaves something out has ``read(path)``: a `Reading`.
One that says ``ONE_ROW_A_SCRIPT = True`` holds rows whose scripts are all different, whatever was asked.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType


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


Source = Callable[[Path], Iterable[Row]]

_SOURCES = {
    "alignment_jsonl": "lekhai_helpers.prepare.sources.alignment_jsonl",
    "tutor_jsonl": "lekhai_helpers.prepare.sources.tutor_jsonl",
    "twainbot_folder": "lekhai_helpers.prepare.sources.twainbot_folder",
    "tool_conversations": "lekhai_helpers.prepare.sources.tool_conversations",
    "headlines_csv": "lekhai_helpers.prepare.sources.headlines_csv",
    "reflections_jsonl": "lekhai_helpers.prepare.sources.reflections_jsonl",
    "gutenberg_text": "lekhai_helpers.prepare.sources.gutenberg_text",
    "ad_script_csv": "lekhai_helpers.prepare.sources.ad_script_csv",
    "briefs_jsonl": "lekhai_helpers.prepare.sources.briefs_jsonl",
}


def get_source(name: str) -> Source:
    """Return the source a recipe names. Raises KeyError with the known names."""
    return source_module(name).rows


def source_module(name: str) -> ModuleType:
    """Return the module of the source a recipe names. Raises KeyError with the known names."""
    if name not in _SOURCES:
        raise KeyError(f"no source named {name!r}; known: {', '.join(sorted(_SOURCES))}")
    return import_module(_SOURCES[name])


def reads_folders(name: str) -> bool:
    """Say whether a source reads a folder of files."""
    return getattr(source_module(name), "FOLDERS", False)


def one_row_a_script(name: str) -> bool:
    """Say whether two rows with the same script are one row twice, even where they ask otherwise."""
    return getattr(source_module(name), "ONE_ROW_A_SCRIPT", False)


def get_brief_source(name: str) -> Source:
    """Return what reads the evaluation briefs of a recipe: the source's own ``briefs``, else its ``rows``."""
    module = source_module(name)
    return getattr(module, "briefs", module.rows)
