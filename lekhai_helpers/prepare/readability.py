"""How easy an English text reads: Flesch's two figures, counted by our own few rules. Taught in notebook 05.

``readability(text)`` gives reading ease (0 to 100 and beyond; 60 and more is plain English) and the school grade it
asks for. Rudolf Flesch 1948; J. Peter Kincaid 1975. Syllables are counted by spelling, which is right for about nine
words in ten; the figures are for comparing texts, not for judging one.
"""

from __future__ import annotations

from dataclasses import dataclass

import regex

from lekhai_helpers.core.bengali import words

_SENTENCE = regex.compile(r"[.!?]+[\"'”’)]*(?=\s|$)|\n\s*\n")
_ENGLISH = regex.compile(r"^[A-Za-z][A-Za-z'’-]*$")
_VOWELS = regex.compile(r"[aeiouy]+")
# An e at the end is silent, but in "table", "boxes", "wanted"; two vowels side by side are often two syllables.
_SILENT = regex.compile(r"[^aeiouy](?:e|es|ed)$")
_SPOKEN = regex.compile(r"[^aeiouy]les?$|(?:[cs]h|[sxzcg])es$|[td]ed$")
_HIATUS = regex.compile(r"i[ao](?!n|us)|iu|[^gq]ua|eo(?!u|p)|[ioy]ing$")
_PLAIN = 60.0  # reading ease from which Flesch calls English plain
FEWEST_WORDS = 20  # below this the figures jump with every word


@dataclass(frozen=True)
class Readability:
    """Two views of the same text: `ease` is high and `grade` low where it reads easily."""

    ease: float
    grade: float
    words: int
    sentences: int

    @property
    def plain(self) -> bool:
        """Say whether it is plain English by Flesch's own border."""
        return self.ease >= _PLAIN


def readability(text: str) -> Readability | None:
    """Return the figures of an English text; None where it is too short, or mostly in another script."""
    found = words(text)
    english = [word for word in found if _ENGLISH.match(word)]
    if len(english) < FEWEST_WORDS or len(english) * 2 < len(found):
        return None
    sentences = max(len([part for part in _SENTENCE.split(text) if words(part)]), 1)
    per_sentence = len(english) / sentences
    per_word = sum(map(syllables, english)) / len(english)
    ease = 206.835 - 1.015 * per_sentence - 84.6 * per_word
    grade = 0.39 * per_sentence + 11.8 * per_word - 15.59
    return Readability(round(ease, 1), round(grade, 1), len(english), sentences)


def syllables(word: str) -> int:
    """Return how many syllables an English word has, by its spelling; one at least."""
    plain = regex.sub(r"['’](?:s|t|re|ve|ll|d|m)?|-", "", word.lower())
    count = len(_VOWELS.findall(plain)) + len(_HIATUS.findall(plain))
    if count > 1 and _SILENT.search(plain) and not _SPOKEN.search(plain):
        count -= 1
    return max(count, 1)
