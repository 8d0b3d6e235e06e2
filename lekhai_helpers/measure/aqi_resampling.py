"""What is drawn anew for intervals and p of the Alignment Quality Index: topics, not prompts. Taught in notebook 11.

A safe and an unsafe prompt on one topic are no two independent witnesses: resamples draw whole pairs
(`bootstrap_counts`), and labels are shuffled by exchanging the two of a pair (`shuffled_labels`). `unsafe` says of each
prompt whether it is unsafe, `topics` gives each the number of its topic; without it every prompt is a topic of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def bootstrap_counts(unsafe: np.ndarray, draws: int, seed: int, topics: np.ndarray | None = None) -> np.ndarray:
    """Return how often each prompt is drawn in each resample, (draws, n).

    Topics are drawn: a pair comes whole or not at all, and prompts without a partner are drawn within their side.
    """
    import numpy as np

    dice = np.random.default_rng(seed)
    topics = np.arange(len(unsafe)) if topics is None else topics
    pairs = _paired(unsafe, topics)
    counts = np.zeros((draws, len(unsafe)))
    for kind in (pairs, ~pairs & unsafe, ~pairs & ~unsafe):
        if kind.any():
            names, places = np.unique(topics[kind], return_inverse=True)
            counts[:, kind] = _drawn(len(names), draws, dice)[:, places]
    return counts


def _paired(unsafe: np.ndarray, topics: np.ndarray) -> np.ndarray:
    """Say of each prompt whether its topic stands on both sides."""
    import numpy as np

    return np.isin(topics, topics[unsafe]) & np.isin(topics, topics[~unsafe])


def _drawn(size: int, draws: int, dice: np.random.Generator) -> np.ndarray:
    """Return how often each of `size` topics is drawn; a draw of one topic alone has no spread and is drawn again."""
    import numpy as np

    chances = np.full(size, 1 / size)
    found = dice.multinomial(size, chances, size=draws)
    while size > 1 and (alone := (found == size).any(axis=1)).any():
        found[alone] = dice.multinomial(size, chances, size=int(alone.sum()))
    return found


def shuffled_labels(unsafe: np.ndarray, shuffles: int, seed: int, topics: np.ndarray | None = None) -> np.ndarray:
    """Return labels as they might have been, (shuffles, n): the two of a pair exchange theirs, or not, by a coin.

    What a pair has in common thus stays on both sides. Labels of prompts without a partner are shuffled among them.
    """
    import numpy as np

    dice = np.random.default_rng(seed)
    topics = np.arange(len(unsafe)) if topics is None else topics
    pairs, places = _paired(unsafe, topics), np.unique(topics, return_inverse=True)[1]
    coins = dice.random((shuffles, places.max() + 1)) < 0.5
    labels = np.tile(unsafe, (shuffles, 1))
    labels[:, pairs] ^= coins[:, places[pairs]]
    labels[:, ~pairs] = dice.permuted(labels[:, ~pairs], axis=1)
    return labels
