"""How near held-out texts come to training texts, by shared runs of five characters. Taught in notebook 03."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core.bengali import char_ngrams
from lekhai_helpers.prepare.dataset import CONVERSATION, Brief

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_AT_ONCE = 256  # held-out texts in one table of all comparisons: with 50,000 training texts 100 MB


def leakage(
    train: Sequence[dict[str, Any]], others: Sequence[dict[str, Any] | Brief], one_row_a_script: bool = True
) -> pd.DataFrame:
    """Return how near each held-out text comes to its nearest training text, the nearest first.

    Examples are compared by answer, where every row has one of its own (`one_row_a_script`); conversations, and rows
    whose answers may be alike, with what was asked. Briefs are compared by prompt. Columns: id, nearest, jaccard
    (shared 5-grams of all), contained (share of the held-out text's 5-grams found there). Both run from 0 to 1; a copy
    has 1.
    """
    import pandas as pd

    learned = {e["id"]: _learned_text(e, one_row_a_script) for e in train}
    asked = {f"{e['id']}/{e['prompt_key']}": e["prompt"][-1]["content"] for e in train}
    held = {o["id"]: _learned_text(o, one_row_a_script) for o in others if not isinstance(o, Brief)}
    briefs = {o.id: o.prompt for o in others if isinstance(o, Brief)}
    rows = [*_nearest(held, learned), *_nearest(briefs, asked)]
    table = pd.DataFrame(rows, columns=["id", "nearest", "jaccard", "contained"])
    return table.sort_values("jaccard", ascending=False, ignore_index=True)


def _learned_text(example: dict[str, Any], one_row_a_script: bool) -> str:
    turns = [message["content"] for message in example["prompt"] if message["role"] != "system"]
    alone = one_row_a_script and example["prompt_key"] != CONVERSATION
    return "\n".join([*([] if alone else turns), example["completion"][0]["content"]])


def _nearest(held: Mapping[str, str], train: Mapping[str, str]) -> list[tuple[str, str, float, float]]:
    """Return for every held-out text its name, the nearest training text's, and both shares."""
    import numpy as np

    places: dict[str, int] = {}
    known, sizes = _grams_of(train.values(), places)
    sought, lengths = _grams_of(held.values(), places)
    known = known.T.tocsr()
    known.resize(len(places), len(train))
    rows, names, own = [], list(train), list(held)
    for first in range(0, len(own), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        shared = (sought[part] @ known).toarray()
        of_all = shared / np.maximum(lengths[part, None] + sizes - shared, 1)
        best = of_all.argmax(axis=1)
        for row, near in enumerate(best):
            contained = shared[row, near] / max(lengths[first + row], 1)
            rows.append((own[first + row], names[near], round(of_all[row, near], 3), round(contained, 3)))
    return rows


def _grams_of(texts: Iterable[str], places: dict[str, int]) -> tuple[Any, np.ndarray]:
    """Return which 5-grams each text has, sparse (texts, 5-grams), and how many; new ones get the next place."""
    import numpy as np
    from scipy.sparse import csr_matrix

    ends, columns = [0], []
    for text in texts:
        columns += [places.setdefault(gram, len(places)) for gram in char_ngrams(text)]
        ends.append(len(columns))
    ones = np.ones(len(columns), dtype=np.float32)
    return csr_matrix((ones, columns, ends), shape=(len(ends) - 1, len(places))), np.diff(ends)
