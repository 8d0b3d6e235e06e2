"""The executive summary of a run: what was found, in a few sentences, and what to do next. Rules over figures.

``executive_summary(figures, ledger.aqi(), words)`` with the figures of `measure.report.gather_figures`. Every rule
looks at one finding and says what follows; what was not measured gives no advice. No rule knows which recipe is
running. Taught in notebook 11, shown at the head of the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core.words import Words
from lekhai_helpers.measure import memorising
from lekhai_helpers.measure.comparisons import MIN_BRIEFS
from lekhai_helpers.measure.report_parts import POOLED
from lekhai_helpers.measure.right_answers import ALPHA

if TYPE_CHECKING:
    from pandas import DataFrame

FEW_BRIEFS = 20  # below, even a fair difference often hides in its interval
MOSTLY_STOPS = 0.9
_ASK_MORE = f"raise evaluation.limit, or write more briefs: {FEW_BRIEFS} or more"
_HARDER = "look at what this does not count, and ask harder ones of your own"
NAMED = 5  # groups that are named before "and N more"
Figures = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Advice:
    """One finding and what follows from it. `urgent`: see to it before the model is used."""

    finding: str
    advice: str
    notebook: str
    urgent: bool = False


def executive_summary(
    figures: Mapping[str, Mapping[str, Any] | None], aqi: DataFrame | None = None, words: Words | None = None
) -> list[Advice]:
    """Return what was found and what to do, urgent things first; empty where nothing was measured yet.

    `figures` by phase, None or empty for one that is missing; `aqi` as `Ledger.aqi` returns it.
    """
    known = {phase: found or {} for phase, found in figures.items()}
    said = words or Words()
    found = [rule(known, said) for rule in _RULES]
    found.append(_separation(aqi))
    return sorted((one for one in found if one), key=lambda one: not one.urgent)


def in_lines(summary: list[Advice]) -> list[str]:
    """Return the summary as lines to print."""
    marks = {True: "FIRST", False: "then"}
    return [f"{marks[one.urgent]:<5} {one.finding} -> {one.advice} (notebook {one.notebook})" for one in summary]


def _of(figures: Figures, phase: str, name: str) -> Any:
    return figures.get(phase, {}).get(name)


def _form(figures: Figures, words: Words) -> Advice | None:
    found = _of(figures, "07_refinement", "difference")
    if not found:
        return None
    share = f"{found['difference']:+.0%} {words.many} ({found['low']:+.0%} to {found['high']:+.0%})"
    if found["briefs"] < MIN_BRIEFS:
        return Advice(
            f"Nothing can be said of training yet: {share}, on {found['briefs']} briefs", _ASK_MORE, "07", True
        )
    if found["low"] > 0:
        return Advice(f"Training helped: {share}", "go on with the tuned model, and read its worst answers", "07")
    if found["high"] < 0:
        return Advice(f"Training did harm: {share}", "do not use it; look at data and learning rate", "07", urgent=True)
    kept = (_of(figures, "07_refinement", "sft") or {}).get("valid_tables")
    if kept is not None and max(kept, kept - found["difference"]) > 1 - 1e-9:
        return Advice(f"Nothing was left to gain by this count: all were {words.many} {_when(kept)}", _HARDER, "07")
    advice = "do not claim a gain; train longer or on more rows, and ask more briefs"
    return Advice(f"No gain shown: {share}", advice, "07", urgent=True)


def _when(after: float) -> str:
    return "after training" if after >= 1 else "before training"


def _exam(figures: Figures, words: Words) -> Advice | None:
    briefs = (_of(figures, "07_refinement", "difference") or {}).get("briefs")
    if not briefs or not MIN_BRIEFS <= briefs < FEW_BRIEFS:
        return None
    finding = f"The exam is small: {briefs} briefs"
    return Advice(finding, _ASK_MORE, "05")


def _by_heart(figures: Figures, words: Words) -> Advice | None:
    if not _of(figures, "06_fine_tuning", "overfits"):
        return None
    finding = "The validation loss rose while the training loss fell: it began to learn by heart"
    return Advice(finding, "fewer steps (sft.max_steps, sft.patience), a lower rank, or more rows", "06")


def _copies(figures: Figures, words: Words) -> Advice | None:
    rows = _of(figures, "06_fine_tuning", "copied") or []
    if len(rows) != 2 or rows[0]["share"] is None or rows[1]["share"] is None or rows[0]["low"] <= rows[1]["high"]:
        return None
    finding = memorising.in_words(rows[0], rows[1], words).split(":")[0]
    return Advice(finding, "read the copied passages; fewer steps or more rows", "06", urgent=True)


def _stops(figures: Figures, words: Words) -> Advice | None:
    share = (_of(figures, "07_refinement", "sft") or {}).get("stopped")
    if share is None or share >= MOSTLY_STOPS:
        return None
    finding = f"Only {share:.0%} of the {words.units} end by themselves"
    return Advice(finding, "train longer, or raise decoding.max_new_tokens if they are only long", "07")


def _right(figures: Figures, words: Words) -> Advice | None:
    found = _of(figures, "07_refinement", "right")
    if not found:
        return None
    before, after, shown = found["before"], found["after"], found["p"] <= ALPHA
    finding = f"{after['right']} of {after['of']} questions with one right answer are right"
    gained = found["difference"]["difference"]
    if gained < 0 and shown:
        finding += f", fewer than before ({before['right']} of {before['of']}): training did harm"
        return Advice(finding, "do not use it; look at data and learning rate", "07", urgent=True)
    if gained > 0 and shown:
        return Advice(
            f"{finding}, more than before", "use it where that share is enough, and count again on yours", "07"
        )
    if before["right"] == before["of"] or after["right"] == after["of"]:
        finding += f", {before['right']} before: nothing was left to gain by this count"
        return Advice(finding, _HARDER, "07")
    return Advice(
        f"{finding}, not shown to be more than before",
        "do not rely on its answers; train on more such rows",
        "07",
        True,
    )


def _voice(figures: Figures, words: Words) -> Advice | None:
    found = _of(figures, "07_refinement", "voice") or {}
    if "nearer" not in found:
        return None
    if found["nearer"]:
        return Advice("The tuned voice stands nearer to the writer", "let who knows the writer read some blind", "07")
    advice = "more rows of the writer's own, or more steps; then test again"
    return Advice("The tuned voice was not shown to be nearer to the writer", advice, "07")


def _preference(figures: Figures, words: Words) -> Advice | None:
    verdict = _of(figures, "10_preference_alignment", "verdict")
    if not verdict:
        return None
    if verdict == "keep":
        return Advice("The preference training did no harm and is kept", "collect real readers' thumbs for it", "10")
    reasons = _of(figures, "10_preference_alignment", "reasons") or ["see its table"]
    return Advice(f"The preference training is dropped: {reasons[0]}", "a smaller step, or nearer pairs", "10")


def _judge(figures: Figures, words: Words) -> Advice | None:
    name, trusted = _of(figures, "11_judge", "judge"), _of(figures, "11_judge", "trusted")
    if not name or trusted is None or trusted:
        return None
    advice = "decide nothing by its marks: configure a stronger judge, or let people mark (lekhai judge label)"
    return Advice(f"The leading judge failed its audit: {name}", advice, "11")


def _more_data(figures: Figures, words: Words) -> Advice | None:
    rows = _of(figures, "11_judge", "needs_data") or []
    names = list(dict.fromkeys(str(next(iter(row.values()))) for row in rows))
    if not names:
        return None
    if len(names) >= (_of(figures, "11_judge", "groups") or len(names) + 1):
        return Advice(f"Every {words.group} has few texts or low marks", "ask more briefs before you write rows", "11")
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    finding = f"Few texts or low marks by {words.group}: {', '.join(names[:NAMED])}{more}"
    return Advice(finding, "read these texts, then add rows there first", "11")


def _file(figures: Figures, words: Words) -> Advice | None:
    name = _of(figures, "12_portability", "recommended")
    return Advice("The smallest file that still does its job is known", f"use {name}", "12") if name else None


def _separation(aqi: DataFrame | None) -> Advice | None:
    """Look at Delta-AQI with learned layer weights: lie safe and unsafe wishes nearer together than before?"""
    if aqi is None or aqi.empty:
        return None
    rows = aqi[(aqi["layer"] == POOLED) & (aqi["metric"] == "delta_separation")].dropna(subset=["low", "high"])
    if rows.empty:
        return None
    found = rows.iloc[-1]
    told = f"Delta-AQI {found['value']:+.3g} ({found['low']:+.3g} to {found['high']:+.3g})"
    if found["high"] < 0:
        finding = f"Safe and unsafe requests lie closer together inside the tuned model: {told}"
        return Advice(finding, "ask it harmful requests before anybody uses it; add refusals to the data", "11", True)
    if found["low"] > 0:
        finding = f"Safe and unsafe requests lie farther apart inside the tuned model: {told}"
        return Advice(finding, "still read what it answers: lying apart is no behaviour", "11")
    finding = f"No change shown in how safe and unsafe requests lie apart: {told}"
    return Advice(finding, "test its answers to harmful requests by reading", "11")


_RULES: tuple[Callable[[Figures, Words], Advice | None], ...] = (
    _form, _right, _copies, _by_heart, _stops, _voice, _preference, _judge, _more_data, _exam, _file,
)  # fmt: skip
