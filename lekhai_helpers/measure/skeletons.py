"""A text without its topics: the common words and the marks as they stand, a star for every other word.

"Text distortion" (Stamatatos 2017): what is left of a text is how somebody writes, not what about. Used by
`measure.style_test`: ``common = common_words(hers, theirs)``, then ``distort(text, common)``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import regex

COMMON = 150  # words that are shown; the function words of a language are about as many
WINDOW = 100  # words taught at a time, so that a long text does not stand out by its length
STAR = "*"
_TOKEN = regex.compile(r"[\p{L}\p{M}\u200c\u200d]+(?:['’-][\p{L}\p{M}]+)*|\p{N}+|[^\s\p{L}\p{M}\p{N}]|\n+")
_WORD = regex.compile(r"[\p{L}\p{M}]")


def distort(text: str, common: frozenset[str]) -> str:
    """Return the text's skeleton: common words and marks as they are, a star for other words, # for figures."""
    return skeleton(tokens(text), common)


@lru_cache(maxsize=4096)
def tokens(text: str) -> tuple[str, ...]:
    """Return words, figures, marks and line ends; kept, because each text is taught from some hundred times."""
    return tuple(_TOKEN.findall(text))


def _mask(token: str, common: frozenset[str]) -> str:
    if token.isnumeric():
        return "#"
    if not _WORD.match(token):
        return token if token.strip() else "¶"
    folded = token.casefold().replace("’", "'")
    return folded if folded in common else STAR


def common_words(yes: Sequence[str], no: Sequence[str]) -> frozenset[str]:
    """Return the words that both sides use most: a word of one side only would be a topic, or a name."""
    shares = [_frequencies(texts) for texts in (yes, no)]
    both = {word: min(share[word] for share in shares) for word in shares[0].keys() & shares[1].keys()}
    return frozenset(sorted(both, key=lambda word: (-both[word], word))[:COMMON])


def _frequencies(texts: Sequence[str]) -> dict[str, float]:
    folded = (token.casefold().replace("’", "'") for text in texts for token in tokens(text))
    counts = Counter(token for token in folded if _WORD.match(token))
    return {word: count / sum(counts.values()) for word, count in counts.items()}


def skeleton(found: Sequence[str], common: frozenset[str]) -> str:
    """Return the tokens as `distort` shows them, a space between two."""
    return " ".join(_mask(token, common) for token in found)


def windows(texts: Sequence[str]) -> list[tuple[str, ...]]:
    """Return each text in pieces of about WINDOW words; what remains goes with the last piece if it is short."""
    pieces = []
    for text in texts:
        found = tokens(text)
        count = max(round(len(found) / WINDOW), 1)
        size = max(-(-len(found) // count), 1)
        pieces += [found[start : start + size] for start in range(0, max(len(found), 1), size)]
    return pieces
