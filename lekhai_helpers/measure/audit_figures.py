"""The figures of a judge's audit, each from the answers to pairs whose better side is known. Used by `judge_audit`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from lekhai_helpers.measure.evaluation import wilson
from lekhai_helpers.measure.judge import PairVerdict, Score, Status
from lekhai_helpers.prepare.dataset import Brief

# Which criterion is there to see which planted defect.
SEEN_BY = {
    "broken_table": "structure",
    "wrong_tone": "tone",
    "english_leakage": "fluency",
    "no_brand": "adherence",
    "wrong_length": "adherence",
    "dull_copy": "idea",
}
_LENGTHS_DIFFER = 0.05  # of the longer one; nearer ones say nothing about a liking for length
_SAME = 1e-9
_Z = 1.96  # 95% of a normal distribution


@dataclass(frozen=True)
class AuditPair:
    """A script, the same one with one planted defect, and the brief both answer."""

    id: str
    defect: str
    brief: Brief
    better: str
    worse: str


@dataclass(frozen=True)
class Answered:
    """What a judge said of one pair: scores of either side, and its choice in both orders."""

    pair: AuditPair
    better: list[Score]
    worse: list[Score]
    verdict: PairVerdict


@dataclass(frozen=True)
class Accuracy:
    """How often the better side was found, of `n` answered pairs; a tie counts half."""

    n: int
    right: int
    ties: int

    @property
    def share(self) -> float | None:
        """Return the share, from 0 to 1; None where nothing was answered."""
        return (self.right + self.ties / 2) / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95% interval of the share, (0, 1) where nothing was answered.

        Wilson's (1927) score interval, which asks for which shares p this result is no surprise. Without ties the
        variance of one pair is p(1 - p); marks of 1, 1/2 and 0 have p(1 - p) - t/4, where t is the share of ties: half
        a point is no toss of a coin. t is taken as ties / (n + 2), for ties alone do not prove that all are ties.
        """
        if not self.n:
            return 0.0, 1.0
        points, ties, square = self.right + self.ties / 2, self.ties / (self.n + 2), _Z * _Z
        middle = points + square / 2
        half = _Z * math.sqrt(points * (1 - points / self.n) + (square - (self.n + square) * ties) / 4)
        return max(0.0, (middle - half) / (self.n + square)), min(1.0, (middle + half) / (self.n + square))

    @property
    def above_chance(self) -> bool:
        """Say whether the whole interval lies above one half, which is what guessing gives."""
        return self.interval[0] > 0.5

    def __str__(self) -> str:
        if not self.n:
            return "nothing answered"
        low, high = self.interval
        return f"{self.share:.0%} of {self.n} ({low:.0%} to {high:.0%})"


def by_defect(answers: Sequence[Answered]) -> dict[str, list[Answered]]:
    """Return the answers by planted defect, in the order of the file."""
    groups: dict[str, list[Answered]] = {}
    for answer in answers:
        groups.setdefault(answer.pair.defect, []).append(answer)
    return groups


def by_score(answers: Sequence[Answered], criterion: str | None = None) -> Accuracy:
    """Return how often the better side has the higher score: the mean of the criteria, or one of them.

    Only criteria scored on both sides count; a pair without any is left out.
    """
    return _accuracy([_gap(answer, criterion) for answer in answers])


def by_choice(answers: Sequence[Answered]) -> Accuracy:
    """Return how often both orders name the better side; what changes with the order is a tie."""
    values = {"better": 1.0, "worse": -1.0, "tie": 0.0}
    return _accuracy([values[answer.verdict.winner] if answer.verdict.winner else None for answer in answers])


def _accuracy(gaps: Sequence[float | None]) -> Accuracy:
    known = [gap for gap in gaps if gap is not None]
    return Accuracy(len(known), sum(gap > _SAME for gap in known), sum(abs(gap) <= _SAME for gap in known))


def _gap(answer: Answered, criterion: str | None) -> float | None:
    better, worse = _scores(answer.better), _scores(answer.worse)
    shared = [name for name in better if name in worse and criterion in (None, name)]
    return sum(better[name] - worse[name] for name in shared) / len(shared) if shared else None


def _scores(scores: Sequence[Score]) -> dict[str, float]:
    return {score.criterion: score.score for score in scores if score.score is not None}


def flip_rate(answers: Sequence[Answered]) -> tuple[int, int]:
    """Return (verdicts that changed when the sides were swapped, pairs answered in both orders)."""
    verdicts = [answer.verdict for answer in answers if answer.verdict.status == "scored"]
    return sum(verdict.flipped for verdict in verdicts), len(verdicts)


def first_named(answers: Sequence[Answered]) -> tuple[int, int]:
    """Return (choices that name the text that stood first, choices that name a side). Half is right."""
    said = [side for answer in answers for side in answer.verdict.said if side in ("first", "second")]
    return said.count("first"), len(said)


def length_correlation(answers: Sequence[Answered]) -> tuple[float | None, int]:
    """Return (Spearman's correlation of mean score and length in characters, texts) among the better sides only.

    These are all sound scripts, so at equal quality it should be near 0. None where scores or lengths never differ.
    """
    from scipy.stats import spearmanr

    pairs = [(len(answer.pair.better), _mean(answer.better)) for answer in answers if _scores(answer.better)]
    lengths, scores = [length for length, _ in pairs], [score for _, score in pairs]
    if len(pairs) < 3 or len(set(lengths)) == 1 or max(scores) - min(scores) <= _SAME:
        return None, len(pairs)
    return float(spearmanr(lengths, scores).statistic), len(pairs)


def _mean(scores: Sequence[Score]) -> float:
    known = _scores(scores).values()
    return sum(known) / len(known)


def longer_wins(answers: Sequence[Answered]) -> tuple[int, int, int]:
    """Return (wins of the longer side, how often the longer side is the better one, decided pairs).

    Of pairs that both orders decide alike and whose lengths differ by a twentieth or more.
    """
    wins = right = pairs = 0
    for answer in answers:
        better, worse = len(answer.pair.better), len(answer.pair.worse)
        decided = answer.verdict.winner in ("better", "worse")
        if not decided or abs(better - worse) < _LENGTHS_DIFFER * max(better, worse):
            continue
        longer = "better" if better > worse else "worse"
        wins, right, pairs = wins + (answer.verdict.winner == longer), right + (longer == "better"), pairs + 1
    return wins, right, pairs


def spread(answers: Sequence[Answered]) -> Counter[int]:
    """Return how often each whole score from 1 to 10 was given, over all sides and criteria."""
    return Counter(round(score.score) for score in all_scores(answers) if score.score is not None)


def all_scores(answers: Sequence[Answered]) -> list[Score]:
    """Return every score of either side."""
    return [score for answer in answers for score in (*answer.better, *answer.worse)]


def states(answers: Sequence[Answered]) -> dict[str, Counter[Status]]:
    """Return how many scores, and how many pairs, were scored, unparsable and failed."""
    return {
        "scores": Counter(score.status for score in all_scores(answers)),
        "pairs": Counter(answer.verdict.status for answer in answers),
    }


def never_scored(answers: Sequence[Answered]) -> Mapping[str, str]:
    """Return the criteria that have no score at all, each with the reason given most often."""
    reasons: dict[str, Counter[str]] = {}
    for score in all_scores(answers):
        reasons.setdefault(score.criterion, Counter())[score.reason if score.status != "scored" else ""] += 1
    return {name: found.most_common(1)[0][0] for name, found in reasons.items() if "" not in found}


def ledger_rows(answers: Sequence[Answered]) -> list[dict[str, Any]]:
    """Return the figures as `Ledger.add_audit` takes them: metric, value, low, high, n, note."""
    rows = _accuracy_rows("", answers)
    for defect, group in by_defect(answers).items():
        rows += _accuracy_rows(f": {defect}", group)
    flips, answered = flip_rate(answers)
    first, named = first_named(answers)
    wins, right, pairs = longer_wins(answers)
    rows += [
        _share_row("flip rate", flips, answered),
        _share_row("first named", first, named),
        _share_row("longer wins", wins, pairs, f"the longer is the better side in {right} of {pairs}"),
    ]
    correlation, texts = length_correlation(answers)
    rows.append({"metric": "length correlation", "value": correlation, "n": texts})
    return [*rows, *_spread_rows(answers), *_state_rows(answers)]


def _accuracy_rows(of: str, group: Sequence[Answered]) -> list[dict[str, Any]]:
    found = {"by score": by_score(group), "by choice": by_choice(group)}
    return [
        {"metric": f"accuracy {how}{of}", "value": accuracy.share, "n": accuracy.n, "note": f"{accuracy.ties} ties"}
        | dict(zip(("low", "high"), accuracy.interval, strict=True))
        for how, accuracy in found.items()
    ]


def _share_row(metric: str, count: int, n: int, note: str = "") -> dict[str, Any]:
    low, high = wilson(count, n)
    return {"metric": metric, "value": count / n if n else None, "low": low, "high": high, "n": n, "note": note}


def _spread_rows(answers: Sequence[Answered]) -> list[dict[str, Any]]:
    values = spread(answers)
    total = values.total()
    common = values.most_common(1)[0][1] / total if total else None
    expected = sum(score.how == "expectation" for score in all_scores(answers))
    return [
        {"metric": "different scores", "value": len(values), "n": total},
        {"metric": "commonest score", "value": common, "n": total, "note": "share of all scores"},
        {"metric": "expectations", "value": expected / total if total else None, "n": total},
    ]


def _state_rows(answers: Sequence[Answered]) -> list[dict[str, Any]]:
    return [
        {"metric": f"{what} {status}", "value": counts[status], "n": counts.total()}
        for what, counts in states(answers).items()
        for status in get_args(Status)
    ]
