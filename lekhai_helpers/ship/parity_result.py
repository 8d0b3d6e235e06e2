"""What the parity gate found: `Parity`, a verdict of each file and a sentence. Made by `ship.parity.parity_gate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lekhai_helpers.ship.parity_checks import NOT_SHOWN, ROUNDING, TRAINING, Check


@dataclass(frozen=True)
class Parity:
    """The gate's answer: every check, and a row of figures for each file, the 16-bit one first.

    A row: file, size_mb, perplexity (of held-out answers), distance (mean Kullback-Leibler divergence from the 16-bit
    file, nats) with distance_low and distance_high (95%, scripts drawn anew; None: too few scripts), scripts and places
    (what that was measured on), dlogp (mean absolute difference to Hugging Face at the token that follows, nats),
    same_next (share of places with the same likeliest token), greedy_equal ("3 of 4"), first_difference, stopped_share,
    valid_share, and passed: no check of this file failed. `prompts` and `greedy` count what was asked and answered.
    """

    checks: tuple[Check, ...]
    rows: tuple[dict[str, Any], ...]
    prompts: int
    greedy: int = 0

    @property
    def ok(self) -> bool:
        """Say whether the export is sound: all passed but what a smaller file lost to rounding, which is named."""
        return bool(self.checks) and all(check.passed or check.cause == ROUNDING for check in self.checks)

    @property
    def faults(self) -> list[Check]:
        """Return the failed checks that the export is to blame for: not training, not rounding, not too few prompts."""
        others = (TRAINING, ROUNDING, NOT_SHOWN)
        return [check for check in self.checks if not check.passed and check.cause not in others]

    @property
    def passed(self) -> list[str]:
        """Return the files that may be recommended: none of their checks failed for another reason than training."""
        failed = {check.file for check in self.checks if not check.passed and check.cause != TRAINING}
        return [row["file"] for row in self.rows if row["file"] not in failed]

    @property
    def sentence(self) -> str:
        """Return "Export OK ..." with the files that pass and those that do not, else the first fault and remedy."""
        if self.ok:
            return " ".join([self._approval(), *map(_left_out, self._lost())])
        wrong = [check for check in self.checks if not check.passed and check.cause != ROUNDING]
        if not wrong:
            return "Not passed: nothing was checked."
        one = wrong[0]
        return (
            f"Not passed: {len(wrong)} of {len(self.checks)} checks failed. First: {one.name} of {one.file}: "
            f"{one.found}. Cause: {one.cause}. Remedy: {one.fix}."
        )

    def _approval(self) -> str:
        mine = {row["file"] for row in self.rows}
        rest = " The Modelfile lays the prompts out alike." if any(c.file not in mine for c in self.checks) else ""
        return (
            f"Export OK: on {self.prompts} prompts {len(self.passed)} of {len(self.rows)} GGUF files "
            f"({', '.join(self.passed)}) give Hugging Face's text and tokens, with one start mark and an end that all "
            f"know, and they stop where it stops (asked on {self.greedy} prompts, one in four may run on).{rest}"
        )

    def _lost(self) -> list[list[Check]]:
        """Return the checks that a file failed by rounding, file by file."""
        lost = [check for check in self.checks if not check.passed]
        return [[check for check in lost if check.file == file] for file in dict.fromkeys(c.file for c in lost)]

    def table(self):
        """Return the checks as a pandas table: check, file, passed, found, cause, fix."""
        import pandas as pd

        return pd.DataFrame([vars(check) for check in self.checks]).set_index("name")

    def figures(self):
        """Return the rows as a pandas table, one for each file."""
        import pandas as pd

        return pd.DataFrame(self.rows).set_index("file")


def _left_out(checks: list[Check]) -> str:
    """Say which file is not passed, by what, and what to do."""
    found = "; ".join(f"{check.name}: {check.found}" for check in checks)
    return f"Not passed: {checks[0].file} ({found}). Cause: {checks[0].cause}. Remedy: {checks[0].fix}."
