"""What judges said, as the report shows it: each judge's audit before its scores. Called by `measure.report`.

A judge whose audit failed, or that was never audited, keeps its scores; but its heatmap carries the sentence that it
is not to be trusted here, in the picture itself, so that it goes wherever the picture goes.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core import plots
from lekhai_helpers.core.ledger_judges import AUDIT_VERDICT
from lekhai_helpers.core.words import Words
from lekhai_helpers.measure import comparisons
from lekhai_helpers.measure.judge import heatmap_table, tally
from lekhai_helpers.measure.report_parts import FILE, Rows, records, stage_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

NO_AUDIT = "Not to be trusted here: this judge was not audited, so nobody knows what its scores are worth."


@dataclass(frozen=True)
class JudgeReport:
    """One judge: what its audit found, then what it said. `means` and `counts` are for the heatmap."""

    name: str
    trusted: bool
    sentence: str
    audit: Rows
    tally: str
    scores: Rows
    differences: list[str]
    means: DataFrame | None
    counts: DataFrame | None


def judge_reports(
    verdicts: DataFrame,
    audits: DataFrame,
    responses: DataFrame,
    stages: tuple[str, str],
    leading: str | None = None,
    seed: int = 0,
) -> list[JudgeReport]:
    """Return every judge that was audited or gave verdicts. First the `leading` one, then those with better audits.

    `verdicts`, `audits` and `responses` as the ledger returns them; `stages` are the one before training, which the
    others are compared with, and the one that is kept, of which the heatmap is; `seed` draws the intervals. The files
    of notebook 12 are left out: they answered other briefs, and are compared with one another.
    """
    verdicts = verdicts[~verdicts["stage"].str.startswith(FILE)]
    names = dict.fromkeys([*audits["judge"], *verdicts["judge"]])
    industries = dict(zip(responses["brief_id"], responses["industry"], strict=True))
    found = [
        _report(name, verdicts[verdicts["judge"] == name], audits[audits["judge"] == name], industries, stages, seed)
        for name in names
    ]
    return sorted(found, key=lambda judge: (judge.name != leading, not judge.trusted, -_accuracy(judge)))


def _report(
    name: str, verdicts: DataFrame, audits: DataFrame, industries: dict[str, str], stages: tuple[str, str], seed: int
) -> JudgeReport:
    rows = records(audits)
    verdict = next((row for row in rows if row["metric"] == AUDIT_VERDICT), None)
    trusted = verdict is not None and verdict["value"] == 1
    own = verdicts[verdicts["stage"] == stages[1]]
    scored = (own["status"] == "scored").any()
    means, counts = heatmap_table(own, industries) if scored else (None, None)
    return JudgeReport(
        name=name,
        trusted=trusted,
        sentence=(verdict["note"] or _without_words(trusted)) if verdict else NO_AUDIT,
        audit=[row for row in rows if row["metric"] != AUDIT_VERDICT],
        tally=tally(verdicts) if len(verdicts) else "",
        scores=_mean_scores(verdicts, seed),
        differences=_differences(verdicts, stages[0], seed),
        means=means,
        counts=counts,
    )


def _without_words(trusted: bool) -> str:
    return "It passed its audit." if trusted else "Not to be trusted here: it failed its audit."


def _accuracy(judge: JudgeReport) -> float:
    """Return the accuracy its audit names first, for the order of judges; 0 where there is none."""
    found = (row["value"] for row in judge.audit if str(row["metric"]).startswith("accuracy"))
    return next(found, None) or 0.0


def _mean_scores(verdicts: DataFrame, seed: int) -> Rows:
    """Return one row a stage: the mean score on each criterion, its interval over briefs, and how many were scored."""
    rows: dict[str, dict[str, Any]] = {}
    for mean in comparisons.means(verdicts, seed):
        row = rows.setdefault(mean.stage, {"stage": stage_name(mean.stage)})
        row[mean.criterion] = _points(mean)
    return list(rows.values())


def _points(mean: comparisons.Mean) -> str:
    """Return "6.4 (5.9 to 6.9, n=36)": points have one decimal, more would pretend."""
    if mean.mean is None:
        return "–"
    around = f"{mean.low:.1f} to {mean.high:.1f}, " if mean.low is not None and mean.high is not None else ""
    return f"{mean.mean:.1f} ({around}n={mean.texts})"


def _differences(verdicts: DataFrame, before: str, seed: int) -> list[str]:
    """Say how every other stage differs from the one before training, on the briefs both have a score for.

    The first sentence speaks of all comparisons together: of many, some differ by chance alone.
    """
    if before not in set(verdicts["stage"]):
        return []
    found = comparisons.differences(verdicts, before, seed=seed)
    return [comparisons.in_words(found), *(one.sentence for one in found)] if found else []


def judge_heatmap(judge: JudgeReport, words: Words | None = None) -> Figure | None:
    """Draw mean scores by group and criterion; where the judge is not to be trusted, the picture says so."""
    if judge.means is None or judge.counts is None:
        return None
    figure = plots.heatmap(judge.means, judge.counts, words=words)
    if not judge.trusted:
        width = int(figure.get_figwidth() * 10)
        figure.suptitle(textwrap.fill(judge.sentence, width), color=plots.ORANGE, fontsize=11)
    return figure
