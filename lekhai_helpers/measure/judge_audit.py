"""A judge is judged before it judges: pairs with a known better side, and the biases that judges are known for.

``audit(judge, load_pairs(path), criteria, limit=None, seed=3407)`` returns an `Audit` with ``.passed``, ``.sentence``
and ``.table()``. The biases are those of Zheng et al. 2023 ("Judging LLM-as-a-Judge with MT-Bench"): for a place, for
length, for its own family. Taught in notebook 11; `lekhai judge audit` does the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lekhai_helpers.measure import audit_figures as figures
from lekhai_helpers.measure.audit_figures import Answered, AuditPair
from lekhai_helpers.measure.evaluation import wilson
from lekhai_helpers.measure.judge import Grader, asked_of, in_order, not_asked_of, pairwise
from lekhai_helpers.measure.judge_pairs import AuditError, load_pairs, some

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Audit", "AuditError", "audit", "leading", "load_pairs"]

# The rule. A judge passes where all of these hold; each is a fault that would make its heatmap worthless.
LEAST_ANSWERED = 0.8  # of the pairs, by score and by choice
MOST_FLIPS = 0.3  # of the pairs: GPT-4 itself kept its verdict for about 65% of them (Zheng et al. 2023, table 2)
LEAST_VALUES = 3  # different whole scores; and the interval of either accuracy lies above one half
# These are warned of and do not fail a judge.
MOST_ALIKE = 0.6  # of all scores are the same whole number
MOST_LENGTH = 0.4  # correlation of score and length among sound scripts


def audit(
    judge: Grader,
    pairs: Sequence[AuditPair],
    criteria: Mapping[str, str],
    limit: int | None = None,
    seed: int = 3407,
    *,
    writer_family: str = "",
    concurrency: int = 1,
    progress: Callable[[str], None] | None = None,
) -> Audit:
    """Let `judge` grade both sides of every pair and choose between them in both orders: four calls a pair.

    It is asked for the criteria that it has a measure of; the others become a warning.
    `limit` takes only so many pairs, evenly from all defects, drawn with `seed`. `writer_family` is the family of the
    model whose texts are judged (`judge.family_of`). Raises AuditError where there is no pair.
    """
    chosen = some(pairs, limit, seed)
    if not chosen:
        raise AuditError("there is no pair to audit the judge with: load_pairs reads data/judge_audit.csv")
    own, answers = asked_of(judge, criteria), []
    for answer in in_order(lambda pair: _ask(judge, pair, own), chosen, concurrency):
        answers.append(answer)
        if progress:
            progress(f"{judge.name}: {len(answers)} of {len(chosen)} audit pairs")
    return Audit(judge.name, judge.family, writer_family, answers, tuple(not_asked_of(judge, criteria)))


def _ask(judge: Grader, pair: AuditPair, criteria: Mapping[str, str]) -> Answered:
    better, worse = (judge.grade(text, pair.brief, criteria) for text in (pair.better, pair.worse))
    return Answered(pair, better, worse, pairwise(judge, pair.better, pair.worse, pair.brief))


def leading(
    audits: Mapping[str, Audit], configured: str | None = None, candidates: Collection[str] | None = None
) -> str:
    """Return which of the audited judges (name to audit) leads.

    The one that was `configured`, where there is one, whatever its audit says: it was chosen, and the audit stands
    beside its scores. Else one that passed before one that failed, then the higher lower bound of its accuracy by
    score, so that 6 of 6 pairs do not beat 54 of 60; then the first. Only `candidates` may lead, all without: give
    those that graded every stage. Raises AuditError where none is left, or the configured one was not audited.
    """
    able = [name for name in audits if candidates is None or name in candidates]
    if configured is not None and configured not in able:
        raise AuditError(f"{configured} cannot lead: it was not audited, or has not graded every stage")
    if not able:
        raise AuditError("no judge can lead: none that was audited has graded every stage")
    return configured or max(able, key=lambda name: (audits[name].passed, audits[name].proved))


@dataclass(frozen=True)
class Audit:
    """What an audit found. ``problems`` make the judge fail; ``warnings`` are to be read beside its scores.

    ``unmeasured`` are the criteria it was not asked for.
    """

    judge: str
    family: str
    writer_family: str
    answers: list[Answered]
    unmeasured: tuple[str, ...] = ()

    @property
    def proved(self) -> float:
        """Return the lower end of the interval of its accuracy by score, from 0 to 1; 0 where it gave no score."""
        return figures.by_score(self.answers).interval[0]

    @property
    def passed(self) -> bool:
        """Say whether the judge may be trusted here, by the rule at the top of this module."""
        return not self.problems

    @property
    def sentence(self) -> str:
        """Say in words what came of it."""
        if self.problems:
            return f"{self.judge} is not to be trusted here: {'; '.join(self.problems)}"
        flips, answered = figures.flip_rate(self.answers)
        return (
            f"{self.judge} passed its audit: it finds the better side by score in {figures.by_score(self.answers)} "
            f"pairs and by choice in {figures.by_choice(self.answers)}; {flips} of {answered} choices changed with "
            f"the order{self._blind_spots()}"
        )

    @property
    def problems(self) -> list[str]:
        """Return why the judge fails, in words; empty where it passes."""
        scored, chosen = figures.by_score(self.answers), figures.by_choice(self.answers)
        flips, answered = figures.flip_rate(self.answers)
        values = figures.spread(self.answers)
        found = [
            *self._unproved("by score", scored, "graded both sides of"),
            *self._unproved("by choice", chosen, "chose in both orders in"),
        ]
        if answered and flips / answered > MOST_FLIPS:
            found.append(f"{flips} of {answered} choices change when the two texts are swapped")
        if scored.n and len(values) < LEAST_VALUES:
            found.append(f"it gives only {len(values)} different score(s) for good and bad scripts")
        return found

    def _blind_spots(self) -> str:
        """Say which faults a judge that passes was not shown to notice: its marks say little there."""
        faults = [defect.split(" (")[0] for defect in self.unseen]
        return f"; it was not shown to notice {', '.join(faults)}" if faults else ""

    def _unproved(self, how: str, accuracy: figures.Accuracy, did: str) -> list[str]:
        found = []
        if accuracy.n < LEAST_ANSWERED * len(self.answers):
            found.append(f"it {did} only {accuracy.n} of {len(self.answers)} pairs{self._why()}")
        if accuracy.n and not accuracy.above_chance:
            found.append(f"{how} it finds the better side in {accuracy}, and guessing finds half")
        return found

    def _why(self) -> str:
        """Return the reason given most often for a score that is not there."""
        reasons = [score.reason for score in figures.all_scores(self.answers) if score.status != "scored"]
        return f" ({max(reasons, key=reasons.count)})" if reasons else ""

    @property
    def warnings(self) -> list[str]:
        """Return what is to be kept in mind, in words."""
        found = [f"it has no measure of {name} and is not asked for it" for name in self.unmeasured]
        found += [f"it has no score for {name}: {why}" for name, why in figures.never_scored(self.answers).items()]
        if unseen := self.unseen:
            found.append(f"it was not shown to notice {', '.join(unseen)}")
        if self.family and self.family == self.writer_family:
            found.append(f"judge and writer are of one family ({self.family}), and judges favour their own")
        return [*found, *self._liking_for_length(), *self._alike()]

    @property
    def unseen(self) -> list[str]:
        """Return the defects for which the scores were not shown to be better than guessing, with their share."""
        found = {defect: figures.by_score(group) for defect, group in figures.by_defect(self.answers).items()}
        return [f"{defect} ({accuracy})" for defect, accuracy in found.items() if not accuracy.above_chance]

    def _liking_for_length(self) -> list[str]:
        found = []
        correlation, n = figures.length_correlation(self.answers)
        if correlation is not None and abs(correlation) >= MOST_LENGTH:
            liked = "longer" if correlation > 0 else "shorter"
            found.append(
                f"it scores {liked} scripts higher where both are sound (correlation {correlation:.2f}, n={n})"
            )
        wins, right, pairs = figures.longer_wins(self.answers)
        if pairs and wilson(wins, pairs)[0] > right / pairs:
            found.append(f"it chooses the longer side in {wins} of {pairs} pairs, and {right} of these are the better")
        return found

    def _alike(self) -> list[str]:
        values = figures.spread(self.answers)
        if not values:
            return []
        value, times = values.most_common(1)[0]
        share = times / values.total()
        return [f"{share:.0%} of its scores are {value}"] if share > MOST_ALIKE else []

    def table(self) -> pd.DataFrame:
        """Return one row a defect, and one for all: accuracy by score, on its own criterion and by choice, flips."""
        import pandas as pd

        groups = figures.by_defect(self.answers) | {"all": self.answers}
        return pd.DataFrame([_line(defect, group) for defect, group in groups.items()]).set_index("defect")

    def rows(self) -> list[dict[str, Any]]:
        """Return the figures as `Ledger.add_audit` takes them: metric, value, low, high, n, note."""
        own = {"metric": "family", "value": float(bool(self.family) and self.family == self.writer_family)}
        return [*figures.ledger_rows(self.answers), own | {"note": f"judge {self.family}, writer {self.writer_family}"}]


def _line(defect: str, group: Sequence[Answered]) -> dict[str, Any]:
    scored, chosen = figures.by_score(group), figures.by_choice(group)
    criterion = figures.SEEN_BY.get(defect)
    own = figures.by_score(group, criterion) if criterion else None
    flips, answered = figures.flip_rate(group)
    return {
        "defect": defect,
        "pairs": len(group),
        "by score": scored.share,
        "score low": scored.interval[0],
        "score high": scored.interval[1],
        "score ties": scored.ties,
        "criterion": criterion or "",
        "by that criterion": own.share if own else None,
        "by choice": chosen.share,
        "choice low": chosen.interval[0],
        "choice high": chosen.interval[1],
        "choice ties": chosen.ties,
        "flipped": f"{flips} of {answered}",
    }
