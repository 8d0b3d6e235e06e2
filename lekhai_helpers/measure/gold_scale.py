"""A raw figure on a scale from 1 to 10, by where it stands among the scripts people wrote. Taught in notebook 11.

``scale = gold_scale(values_of_the_gold_scripts, unit=1.0)``, then ``scale.score(value)`` and ``scale.words(value,
"less likely", "more likely")``. A log-likelihood of -3.1 says nothing by itself; "less likely than nine of ten scripts
that people wrote" does.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from lekhai_helpers.core.words import plural

MIN_GOLD = 5  # fewer scripts are no scale
OUTSIDE = 3.0  # the best score of a text that stands outside all gold; 1 is the worst
INSIDE = 4.0  # the least score of a text inside


@dataclass(frozen=True)
class GoldScale:
    """The figures of the gold texts, sorted. `unit` is the distance beyond them that takes the score from 3 to 1,
    `named` what such a text is called.

    One-sided, more is better. With `both_ends` the middle is best and too much counts as badly as too little.
    """

    values: tuple[float, ...]
    unit: float
    both_ends: bool = False
    named: str = "script"

    def place(self, value: float) -> float:
        """Return the share of gold below `value` (0 to 1); those equal to it count half."""
        below, upto = bisect_left(self.values, value), bisect_right(self.values, value)
        return (below + upto) / 2 / len(self.values)

    def distance(self, value: float) -> float:
        """Return how far outside all gold `value` stands, in units; 0 inside, or above where more is better."""
        above = max(0.0, value - self.values[-1]) if self.both_ends else 0.0
        return max(0.0, self.values[0] - value, above) / self.unit

    def score(self, value: float) -> float:
        """Return 1 to 10: 4 to 10 inside the gold, by its quantiles, and below 3 outside, by distance.

        One-sided, the middle of the gold is 7: as good as people's scripts are. Raises ValueError for NaN.
        """
        if math.isnan(value):
            raise ValueError("no figure, so no score: leave the criterion out")
        if far := self.distance(value):
            return round(OUTSIDE - (OUTSIDE - 1) * min(far, 1.0), 2)
        place = self.place(value)
        share = 1 - abs(2 * place - 1) if self.both_ends else place
        return round(INSIDE + (10 - INSIDE) * share, 2)

    def words(self, value: float, less: str, more: str) -> str:
        """Return the place in words: "less likely than 92% of the gold scripts"."""
        place = self.place(value)
        if value < self.values[0]:
            return f"{less} than every gold {self.named}"
        if value > self.values[-1]:
            return f"{more} than every gold {self.named}"
        if self.values[0] == self.values[-1]:
            return f"as the gold {plural(self.named)} are"
        word, share = (less, 1 - place) if place < 0.5 else (more, place)
        return f"{word} than {share:.0%} of the gold {plural(self.named)}"


def gold_scale(
    values: Iterable[float], unit: float | None = None, both_ends: bool = False, named: str = "script"
) -> GoldScale:
    """Return the scale that `values` of gold scripts make; `unit` None takes their own range.

    Raises ValueError for fewer than five values, NaN among them, or no range to measure distance by.
    """
    ordered = tuple(sorted(values))
    if len(ordered) < MIN_GOLD or any(math.isnan(value) for value in ordered):
        raise ValueError(f"{len(ordered)} gold figure(s) make no scale: at least {MIN_GOLD} are needed, none missing")
    unit = ordered[-1] - ordered[0] if unit is None else unit
    if unit <= 0:
        raise ValueError("all gold texts have the same figure: give `unit`, the distance that counts as far")
    return GoldScale(ordered, unit, both_ends, named)
