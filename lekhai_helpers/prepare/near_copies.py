"""Texts that say the same with a word changed: found by shared 5-grams of characters. Taught in notebook 03.

``near_copies(texts)`` compares every text with the ones before it, but only with those that share a rare 5-gram, so
that ten thousand headlines take half a minute. It knows letters, not meanings: a paraphrase is no copy to it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from lekhai_helpers.core.bengali import char_ngrams, jaccard

ALIKE = 0.7  # share of 5-grams from which two texts count as one


def near_copies(texts: Sequence[str], alike: float = ALIKE) -> dict[int, tuple[int, float]]:
    """Return, for every text that nearly repeats an earlier one, that one's place and the share of 5-grams (0 to 1).

    Upper and lower case count as the same. A text that repeats a copy is held against the first of them. Raises
    ValueError where `alike` is not between 0 and 1.
    """
    if not 0 < alike <= 1:
        raise ValueError(f"alike is {alike}: give a share of 5-grams above 0 and up to 1")
    grams = [char_ngrams(text.casefold()) for text in texts]
    known = Counter(gram for own in grams for gram in own)
    index: dict[str, list[int]] = defaultdict(list)
    found: dict[int, tuple[int, float]] = {}
    for place, own in enumerate(grams):
        rare = _rarest(own, known, alike)
        candidates = {other for gram in rare for other in index[gram]}
        best = max(((jaccard(own, grams[other]), -other) for other in candidates), default=(0.0, 0))
        if best[0] >= alike:
            found[place] = (-best[1], best[0])
            continue
        for gram in rare:
            index[gram].append(place)
    return found


def _rarest(grams: set[str], known: Counter[str], alike: float) -> list[str]:
    """Return so many of the rarest that two sets alike enough must share one (prefix filtering, Chaudhuri 2006)."""
    enough = len(grams) - int(alike * len(grams) - 1e-9) + 1
    return sorted(grams, key=lambda gram: (known[gram], gram))[:enough]
