"""Alarms over a preference training: the known signs of one that went wrong, each with its evidence.

``alarms = [*log_alarms(log, settings.dpo), *drift_alarms(before, after)]``, ``write_alarms(ledger, alarms)``. A quiet
alarm is kept as well: that nothing was found is a finding only where it was looked for. Taught in notebook 10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.recipe import Dpo
from lekhai_helpers.core.words import Words
from lekhai_helpers.learn.callbacks import numbers_in

LN2 = math.log(2)  # the loss of a model that prefers neither side
FLAT = 0.005  # nats around ln 2 within which a loss has not moved
FLAT_MARGIN = 0.01  # as much, told in the margin: the logistic loss falls by half of it
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


def log_alarms(log: Sequence[Mapping[str, Any]], dpo: Dpo, words: Words | None = None) -> list[Alarm]:
    """Return the alarms over a training log, quiet ones too: too easy, the better side sinking, a flat loss.

    `dpo` are the settings it was trained with: they say what the logged loss is the sum of.
    """
    rows = [numbers_in(entry) for entry in log]
    return [_too_easy(rows), _sinking(rows, words or Words()), _flat(rows, dpo)]


def drift_alarms(before: Mapping[str, float], after: Mapping[str, float], words: Words | None = None) -> list[Alarm]:
    """Return the alarms over what is written before and after, on the same briefs: length drift, fallen contract.

    `before` and `after` are figures of `measure.evaluation.summarize_stage`.
    """
    drift, many = length_drift(before, after), (words or Words()).many
    lengths = f"{before['mean_tokens']:.0f} tokens before, {after['mean_tokens']:.0f} after"
    lengths += "" if drift is None else f", {drift:+.0%}"
    drifted = None if drift is None else abs(drift) > DRIFT
    shares = f"{before['valid_tables']:.0%} {many} before, {after['valid_tables']:.0%} after"
    return [
        Alarm("length drift", drifted, f"the texts grew or shrank by more than {DRIFT:.0%}", lengths),
        Alarm("contract fell", after["valid_tables"] < before["valid_tables"], f"fewer texts are {many}", shares),
    ]


def length_drift(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """Return how much longer the texts became, as a share of before; None where all texts before were empty."""
    return after["mean_tokens"] / before["mean_tokens"] - 1 if before["mean_tokens"] else None


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


def _sinking(rows: Sequence[dict[str, float]], words: Words) -> Alarm:
    """The better side becomes less likely than before training, while the margin grows.

    Read from rewards/chosen (beta times the log-probability against the reference), because the bare log-probabilities
    of two batches are those of different texts. A trend is one by the test of Mann and Kendall at 5%, not one step.
    """
    name = "better side sinking"
    said = f"the better {words.units} became less likely too; only the worse ones fell faster"
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


def _flat(rows: Sequence[dict[str, float]], dpo: Dpo) -> Alarm:
    """What is learned about the pairs stands where it began, over the last half of the steps."""
    name, flat, near, said = _told_apart_by(dpo)
    late = rows[len(rows) // 2 :] if len(rows) >= 4 else []
    values = [row[name] for row in late if name in row]
    if not values:
        return Alarm("flat loss", None, said, f"{len(rows)} steps are too few, or none logs {name}")
    evidence = f"{name} {mean(values):+.4f} on average over the last half of the steps; flat would be {flat:+.4f}"
    return Alarm("flat loss", abs(mean(values) - flat) < near, said, evidence)


def _told_apart_by(dpo: Dpo) -> tuple[str, float, float, str]:
    """Return which logged figure tells the sides apart, its flat value, how near is flat, and what that means.

    The loss of plain dpo does, and stands at ln 2 where neither side is preferred. With the imitation term in it, or
    with another loss, a sum could pass 0.693 by accident: there the margin is asked. So it is for kto, whose own loss
    stands at 0.5 where the rewards are 0 (with both thumbs weighing the same). orpo logs its log odds ratio, ln 0.5
    where the sides are equally likely.
    """
    why = "equal sides, or a learning rate or beta too low"
    if dpo.method == "orpo":
        return "log_odds_ratio", -LN2, FLAT, f"better and worse side stay equally likely: {why}"
    if dpo.method == "dpo" and dpo.loss == "sigmoid" and dpo.sft_weight == 0:
        return "loss", LN2, FLAT, f"the loss stands at 0.693, ln 2: {why}"
    return "rewards/margins", 0.0, FLAT_MARGIN, f"the margin stands at 0, where it began: {why}"
