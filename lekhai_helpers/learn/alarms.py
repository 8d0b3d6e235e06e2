"""Alarms over a preference training: the known signs of one that went wrong, each with its evidence.

``alarms = [*log_alarms(log), *drift_alarms(before, after)]``, ``write_alarms(ledger, alarms)``. A quiet alarm is kept
as well: that nothing was found is a finding only where it was looked for. Taught in notebook 10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.learn.callbacks import numbers_in

LN2 = math.log(2)  # the loss of a model that prefers neither side
FLAT = 0.005  # nats around ln 2 within which a loss has not moved; a margin of 0.01 is as much
HELD = 3  # steps in a row that make an accuracy more than luck: a batch of two is all right once in four by chance
DRIFT = 0.15  # of the mean length of what is written
_SMALLEST_FALL = 0.02  # of the better side's reward; less is not worth an alarm


@dataclass(frozen=True)
class Alarm:
    """One known sign of a training gone wrong. `rang` is None where there was too little to tell."""

    name: str
    rang: bool | None
    sentence: str
    evidence: str

    @property
    def words(self) -> str:
        """Say what was found: the evidence, and what it means where the alarm rang."""
        return f"{self.sentence}: {self.evidence}" if self.rang else self.evidence

    def __str__(self) -> str:
        state = {True: "ALARM", False: "quiet", None: "not judged"}[self.rang]
        return f"{state:<10} {self.name}: {self.words}"


def log_alarms(log: Sequence[Mapping[str, Any]]) -> list[Alarm]:
    """Return the alarms over a training log, quiet ones too: too easy, the better side sinking, a flat loss."""
    rows = [numbers_in(entry) for entry in log]
    return [_too_easy(rows), _sinking(rows), _flat(rows)]


def drift_alarms(before: Mapping[str, float], after: Mapping[str, float]) -> list[Alarm]:
    """Return the alarms over what is written before and after, on the same briefs: length drift, fallen contract.

    `before` and `after` are figures of `measure.evaluation.summarize_stage`.
    """
    drift = after["mean_tokens"] / before["mean_tokens"] - 1
    lengths = f"{before['mean_tokens']:.0f} tokens before, {after['mean_tokens']:.0f} after, {drift:+.0%}"
    shares = f"{before['valid_tables']:.0%} valid tables before, {after['valid_tables']:.0%} after"
    return [
        Alarm("length drift", abs(drift) > DRIFT, f"the texts grew or shrank by more than {DRIFT:.0%}", lengths),
        Alarm("contract fell", after["valid_tables"] < before["valid_tables"], "fewer texts are valid tables", shares),
    ]


def write_alarms(ledger: Ledger, alarms: Sequence[Alarm], stage: str = "dpo") -> None:
    """Enter every alarm into the ledger: 1 rang, 0 quiet, empty where it could not be judged."""
    for alarm in alarms:
        value = None if alarm.rang is None else float(alarm.rang)
        ledger.summarize(stage, f"alarm: {alarm.name}", value, note=alarm.words)


def _too_easy(rows: Sequence[dict[str, float]]) -> Alarm:
    """Full accuracy within the first tenth of the steps (or the first three) that holds for three steps.

    On the first step policy and reference are still the same, so its accuracy says nothing.
    """
    name, said = "too easy", "all pairs were told apart almost at once, so there was nothing left to learn"
    line = [row["rewards/accuracies"] for row in rows if "rewards/accuracies" in row]
    if len(line) <= HELD:
        return Alarm(name, None, said, f"{len(line)} steps with an accuracy are too few")
    starts = range(max(HELD, math.ceil(len(line) / 10)))
    found = [start for start in starts if len(line) >= start + HELD and min(line[start : start + HELD]) >= 1.0]
    if found:
        return Alarm(name, True, said, f"accuracy 100% from step {found[0] + 1} of {len(line)}, {HELD} steps in a row")
    early = max(line[: len(starts)])
    return Alarm(name, False, said, f"highest accuracy in the first {len(starts)} steps {early:.0%}, or not held")


def _sinking(rows: Sequence[dict[str, float]]) -> Alarm:
    """The better side becomes less likely than before training, while the margin grows.

    Read from rewards/chosen (beta times the log-probability against the reference), because the bare log-probabilities
    of two batches are those of different scripts. A trend is one by the test of Mann and Kendall at 5%, not one step.
    """
    name, said = "better side sinking", "the better scripts became less likely too; only the worse ones fell faster"
    pairs = [(r["rewards/chosen"], r["rewards/margins"]) for r in rows if {"rewards/chosen", "rewards/margins"} <= {*r}]
    if len(pairs) < 4:
        return Alarm(name, None, said, f"{len(pairs)} steps are too few for a trend")
    chosen, margins = [c for c, _ in pairs], [m for _, m in pairs]
    third = max(1, len(pairs) // 3)
    first, last = median(chosen[:third]), median(chosen[-third:])
    fell = last < 0 and last - first < -_SMALLEST_FALL and trend(chosen) < 0
    evidence = f"reward of the better side {first:+.2f} in the first third of the steps, {last:+.2f} in the last"
    evidence += f"; margin {median(margins[:third]):+.2f} and {median(margins[-third:]):+.2f}"
    return Alarm(name, fell and trend(margins) > 0, said, evidence)


def trend(values: Sequence[float]) -> int:
    """Return 1 where values rise, -1 where they fall, 0 where that may be chance (one-sided 5%).

    Kendall's rank correlation with time, against its spread under chance (Mann 1945, Kendall 1975).
    """
    n = len(values)
    if n < 4:
        return 0
    signs = [(values[j] > values[i]) - (values[j] < values[i]) for i in range(n) for j in range(i + 1, n)]
    z = sum(signs) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    return (z > 1.645) - (z < -1.645)


def _flat(rows: Sequence[dict[str, float]]) -> Alarm:
    """The loss of preferring stands at ln 2 over the last half of the steps: nothing was learned about the pairs."""
    name, said = "flat loss", "the loss stands at 0.693, ln 2: equal sides, or a learning rate or beta too low"
    late = rows[len(rows) // 2 :] if len(rows) >= 4 else []
    kinds = [[row["loss"] for row in late if "loss" in row], [_loss_of_margin(row) for row in late if _has_margin(row)]]
    gaps = [abs(mean(values) - LN2) for values in kinds if values]
    if not gaps:
        return Alarm(name, None, said, f"{len(rows)} steps are too few")
    return Alarm(name, min(gaps) < FLAT, said, f"mean of the last half of the steps {min(gaps):.4f} away from 0.693")


def _has_margin(row: Mapping[str, float]) -> bool:
    return "log_odds_ratio" in row or "rewards/margins" in row


def _loss_of_margin(row: Mapping[str, float]) -> float:
    """Return the loss of preferring alone, which the logged loss hides under the imitation term.

    For orpo it is logged; otherwise it is the logistic loss of the batch's mean margin.
    """
    if "log_odds_ratio" in row:
        return -row["log_odds_ratio"]
    margin = row["rewards/margins"]
    return math.log1p(math.exp(-abs(margin))) + max(0.0, -margin)
