"""Whole rows of log-probabilities, kept on disk by the first reader and compared by the next: for `ship.scoring`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from lekhai_helpers.ship.errors import QuantizeError


class Rows:
    """Whole rows of log-probabilities, one in `every`: written to `keep`, compared with those in `against`.

    A file of raw 32-bit numbers, row after row. Raises QuantizeError where `against` holds rows of another dictionary.
    """

    def __init__(self, every: int, keep: str | Path | None = None, against: str | Path | None = None) -> None:
        self.every, self.seen, self.width = every, 0, 0
        self.kept = Path(keep).open("wb") if keep else None  # noqa: SIM115 (closed by `close`, many rows later)
        self.other = Path(against).open("rb") if against else None  # noqa: SIM115
        self.divergences: list[float] = []
        self.by_passage: list[list[float]] = []
        self.same: list[bool] = []

    def take(self, row: Any) -> None:
        """Look at the next place's row (numpy, 32 bits), where it is one of those looked at."""
        self.seen, looked_at = self.seen + 1, self.seen % self.every == 0
        if looked_at and self.kept:
            self.kept.write(row.tobytes())
        if looked_at and self.other:
            self._compare(row)
        self.width = len(row)

    def _compare(self, row: Any) -> None:
        import numpy as np

        assert self.other is not None
        first = np.frombuffer(self.other.read(row.nbytes), dtype=np.float32)
        if first.shape != row.shape:
            raise QuantizeError(f"the rows kept by the other file are not of {len(row)} tokens, or were cut short")
        p = np.exp(first.astype(np.float64))
        # Tokens of probability zero add nothing: 0 times infinity must not make the sum NaN.
        self.divergences.append(float(np.where(p > 0, p * (first.astype(np.float64) - row), 0.0).sum()))
        self.same.append(bool(first.argmax() == row.argmax()))

    def end_passage(self) -> None:
        """Note that the next place belongs to another passage."""
        before = sum(len(passage) for passage in self.by_passage)
        if self.other:
            self.by_passage.append(self.divergences[before:])

    def close(self) -> None:
        """Close the files. Raises QuantizeError where the other one held more rows than were read: other texts."""
        for file in (self.kept, self.other):
            if file:
                left = file.read(1) if file is self.other else b""
                file.close()
                if left:
                    raise QuantizeError("the rows kept by the other file are of other texts: score both on the same")

    @property
    def mean_kl(self) -> float | None:
        """Return the mean divergence in nats; None where nothing was compared."""
        return math.fsum(self.divergences) / len(self.divergences) if self.divergences else None

    @property
    def same_next(self) -> float | None:
        """Return the share of places with the same likeliest token; None where nothing was compared."""
        return sum(self.same) / len(self.same) if self.same else None
