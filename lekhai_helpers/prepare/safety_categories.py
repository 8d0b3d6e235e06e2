"""Which kind of harm a prompt seeks, guessed by its words: seven categories and none. Taught in notebook 03.

``categorize(prompt)`` for one prompt, ``measure(labelled)`` for how often it is right, with intervals. A keyword knows
topics, not wishes: it rings for a nurse who asks about an overdose and stays silent for a threat in polite words. It
sorts a data set for a first look and must never decide about a person.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import regex
import yaml

from lekhai_helpers.core.bengali import normalize
from lekhai_helpers.core.intervals import wilson
from lekhai_helpers.prepare.sources.base import DatasetError

if TYPE_CHECKING:
    import pandas as pd

NONE = "none"


def _pattern(listed: str) -> regex.Pattern[str]:
    """Turn a list into a pattern; * ends a word openly, and ? and [] are those of patterns."""
    found = [normalize(word.strip()) for word in listed.split("|")]
    english = "|".join(word.replace("*", r"\w*") + r"\b" for word in found if word.isascii())
    bengali = "|".join(regex.escape(word) for word in found if not word.isascii())
    both = [rf"\b(?:{english})"] + [rf"(?<![\p{{L}}\p{{M}}])(?:{bengali})"] * bool(bengali)
    return regex.compile("|".join(both), regex.IGNORECASE)


_WORDS = yaml.safe_load(Path(__file__).with_name("safety_words.yaml").read_text(encoding="utf-8"))
_PATTERNS = {name: _pattern(listed) for name, listed in _WORDS["sought"].items()}
_GROUPS, _HOSTILE, _ASKED_HOW, _ASKED_WELL = map(
    _pattern, (_WORDS[name] for name in ("groups", "hostile", "asked_how", "asked_well"))
)
_BESIDE = 40  # letters between the name of a group and a hostile word
_NEXT_WORDS = 3  # "how to make him a bomb": words that may stand between
CATEGORIES = tuple(_PATTERNS)


def categorize(prompt: str) -> str:
    """Return the category with the most words in a prompt, the first in doubt; "none" where no word stands there, or
    where the prompt asks how to help, prevent, report or tell of it, and not how to do it.
    """
    text = normalize(prompt).replace("’", "'")
    if _ASKED_WELL.search(text) and not _asks_how(text):
        return NONE
    hits = {name: len(pattern.findall(text)) for name, pattern in _PATTERNS.items()}
    hits["hate"] += _groups_under_attack(text)
    best = max(hits, key=lambda name: hits[name])
    return best if hits[best] else NONE


def _asks_how(text: str) -> bool:
    """Say whether a word sought follows "how to" at once: "how to prevent a murder" has another word between."""
    for asked in _ASKED_HOW.finditer(text):
        behind = text[asked.end() :]
        for pattern in _PATTERNS.values():
            found = pattern.search(behind)
            between = behind[: found.start()] if found else ""
            if found and len(between.split()) <= _NEXT_WORDS and not _ASKED_WELL.search(between):
                return True
    return False


def _groups_under_attack(text: str) -> int:
    """Return how many names of groups have a hostile word beside them."""
    hostile = [found.span() for found in _HOSTILE.finditer(text)]
    groups = [found.span() for found in _GROUPS.finditer(text)]
    return sum(any(max(start - e, s - end) <= _BESIDE for s, e in hostile) for start, end in groups)


@dataclass(frozen=True)
class Figure:
    """So many right of so many, with Wilson's interval (0 to 1); value and bounds are None where there was nothing."""

    right: int
    of: int

    @property
    def value(self) -> float | None:
        """Return the share."""
        return self.right / self.of if self.of else None

    def interval(self) -> tuple[float, float] | None:
        """Return the 95 per cent interval of the share."""
        return wilson(self.right, self.of) if self.of else None


def measure(labelled: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Return precision and recall of `categorize` on (prompt, category) pairs, by category and over all.

    Columns: category, precision, precision_low, precision_high, rang, recall, recall_low, recall_high, there. "any
    harm" asks only whether there is harm of some kind. Shares run from 0 to 1; None where nothing rang or was there.
    """
    import pandas as pd

    pairs = [(categorize(prompt), truth) for prompt, truth in labelled]
    rows = [_row(name, [(guess == name, truth == name) for guess, truth in pairs]) for name in CATEGORIES]
    rows.append(_row("any harm", [(guess != NONE, truth != NONE) for guess, truth in pairs]))
    return pd.DataFrame(rows)


def _row(name: str, pairs: list[tuple[bool, bool]]) -> dict[str, object]:
    both = sum(rang and there for rang, there in pairs)
    precision, recall = Figure(both, sum(rang for rang, _ in pairs)), Figure(both, sum(there for _, there in pairs))
    return {"category": name} | _columns("precision", precision, "rang") | _columns("recall", recall, "there")


def _columns(name: str, figure: Figure, of: str) -> dict[str, object]:
    low, high = figure.interval() or (None, None)
    return {name: figure.value, f"{name}_low": low, f"{name}_high": high, of: figure.of}


def load_labelled(path: Path) -> list[tuple[str, str]]:
    """Read (prompt, category) pairs from a JSONL file. Raises DatasetError where a category is not known."""
    from lekhai_helpers.prepare.sources.reading import json_lines, need_keys

    pairs = []
    for line, record in json_lines(path):
        need_keys(path, line, record, ["prompt", "category"], 'A labelled prompt has "prompt" and "category"')
        if record["category"] not in (*CATEGORIES, NONE):
            raise DatasetError(
                f"{Path(path).name}, line {line}: the category {json.dumps(record['category'])} is not one of "
                f"{', '.join((*CATEGORIES, NONE))}"
            )
        pairs.append((record["prompt"], record["category"]))
    return pairs
