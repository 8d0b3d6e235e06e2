"""Questions that have one right answer: a label, a tool call. How many are right before training, and how many after?

``asked = right_briefs(settings)``, ``rows = answer_right(writer_of, asked, settings)`` for each stage, then
``compare_right(before, after, asked, settings)``. A contract names what it counts as right (``contract.right``); where
it names nothing there is no such question, and all of this is empty. Taught in notebooks 05 and 07.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.measure.evaluation import Writer, paired_difference, wilson, write_scripts
from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.prepare.dataset import Brief, briefs_of

ALPHA = 0.05
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Accuracy:
    """Right answers of one stage: the share (0 to 1) with its 95% interval (Wilson), and of how many questions."""

    stage: str
    what: str
    right: int
    of: int
    value: float
    low: float
    high: float

    @property
    def sentence(self) -> str:
        """Say it in words."""
        return f"{self.stage}: {self.right} of {self.of} right ({self.low:.0%} to {self.high:.0%})"


def right_briefs(settings: Settings) -> list[Brief]:
    """Return the briefs with one right answer, of both parts: none was trained on, and nothing is chosen by them here.

    At most ``evaluation.right_limit``.
    """
    contract = get_contract(settings.data.contract)
    if not contract.right:
        return []
    asked = [one for one in briefs_of(settings, part=None) if contract.count("", one).get(contract.right) is not None]
    return asked[: settings.evaluation.right_limit]


def answer_right(
    writer_of: Callable[[Settings], Writer], briefs: Sequence[Brief], settings: Settings
) -> list[dict[str, Any]]:
    """Return one answer to each question, without dice: at temperature 0 the likeliest word is always taken.

    `writer_of` makes a writer from settings, as `model_writer` with a model does.
    """
    if not briefs:
        return []
    decoding = settings.decoding.model_copy(update={"temperature": 0.0})
    still = settings.model_copy(update={"decoding": decoding})
    return write_scripts(writer_of(still), briefs, still, still.evaluation.seeds[:1])


def accuracy(stage: str, rows: Rows, briefs: Sequence[Brief], settings: Settings) -> Accuracy:
    """Return how many answers of a stage are right. Raises ValueError where there is none to count."""
    if not rows:
        raise ValueError(f"{stage} answered no question with a right answer: see right_briefs")
    right, what = sum(_marked(rows, briefs, settings).values()), get_contract(settings.data.contract).right
    return Accuracy(stage, what, right, len(rows), right / len(rows), *wilson(right, len(rows)))


def compare_right(before: Rows, after: Rows, briefs: Sequence[Brief], settings: Settings) -> dict[str, Any]:
    """Return {"before", "after", "difference", "p"}: both accuracies, their difference on the same questions with its
    bootstrap interval, and the p of McNemar's exact test. Empty where the recipe has no such questions.
    """
    if not before or not after:
        return {}
    first, second = (_as_verdicts(rows, briefs, settings) for rows in (before, after))
    found = {
        stage: asdict(accuracy(stage, rows, briefs, settings)) for stage, rows in (("before", before), ("after", after))
    }
    difference = paired_difference(first, second, settings.seed)
    return found | {"difference": difference, "p": _mcnemar(first, second)}


def _mcnemar(before: Rows, after: Rows) -> float:
    """Return how often as lopsided a change would come by chance alone: of the questions that changed, as many became
    right as wrong (two-sided binomial test). With few questions the bootstrap alone would be too sure.
    """
    was = {row["brief_id"]: row["ok"] for row in before}
    gained = sum(row["ok"] and not was[row["brief_id"]] for row in after)
    lost = sum(was[row["brief_id"]] and not row["ok"] for row in after)
    changed, most = gained + lost, max(gained, lost)
    tail = sum(math.comb(changed, number) for number in range(most, changed + 1)) / 2**changed
    return min(1.0, 2 * tail)


def in_words(found: Mapping[str, Any]) -> str:
    """Say in two sentences what `compare_right` found."""
    if not found:
        return "this recipe asks nothing that has one right answer"
    told = [Accuracy(**found[side]).sentence for side in ("before", "after")]
    difference = found["difference"]
    around = f"{difference['difference']:+.0%} ({difference['low']:+.0%} to {difference['high']:+.0%})"
    shown = "a clear difference" if found["p"] <= ALPHA else "no difference shown"
    return f"{'; '.join(told)}. After minus before: {around}, p = {found['p']:.3f}: {shown}"


def record_right(ledger: Ledger, stage: str, rows: Rows, briefs: Sequence[Brief], settings: Settings) -> None:
    """Enter a stage's accuracy with its interval into the ledger; nothing where there was no question."""
    if rows:
        found = accuracy(stage, rows, briefs, settings)
        ledger.summarize(stage, found.what, found.value, found.low, found.high, found.of, "questions never trained on")


def _marked(rows: Rows, briefs: Sequence[Brief], settings: Settings) -> dict[str, bool]:
    contract, by_id = get_contract(settings.data.contract), {brief.id: brief for brief in briefs}
    return {row["brief_id"]: bool(contract.count(row["text"], by_id[row["brief_id"]])[contract.right]) for row in rows}


def _as_verdicts(rows: Rows, briefs: Sequence[Brief], settings: Settings) -> list[dict[str, Any]]:
    """Return the rows with "right" in place of "keeps the contract", for the paired comparison."""
    marked = _marked(rows, briefs, settings)
    return [dict(row) | {"ok": marked[row["brief_id"]]} for row in rows]
