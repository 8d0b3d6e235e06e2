"""A judge without a key: likelihood and rubric, on the scale of the scripts people wrote. Taught in notebook 11.

``judge = likelihood_judge(load_rows(dataset), embedded_base())``, then as any other judge (`measure.judge.Grader`).
Fluency is the embedded base's own log-likelihood, structure and adherence are counted, tone comes from a small
classifier. It is deterministic, it says why, and it has no measure of ideas. It learns from the training split only,
and never from the script that answers the very brief it is judging.

Two things to know when reading its marks. Its gold is the training split, and a tuned model has read those scripts: a
mark says how near a text stands to them, so training moves marks up for that alone, and other good scripts lose. And
its structure is the form, counted: nearly all gold scripts are of sound form, so a sound form gets 7 by construction,
the middle of its equals, and neither a story nor a turn can bring more.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core.bengali import bengali_share, normalize, words
from lekhai_helpers.core.run_folder import cache_folder
from lekhai_helpers.learn.likelihood import Kept, Read, fingerprint, reader
from lekhai_helpers.measure.gold_scale import OUTSIDE, GoldScale, gold_scale
from lekhai_helpers.measure.judge import Choice, Score, family_of
from lekhai_helpers.measure.rubric_figures import Share, adherence, cells_text, common_stems, structure
from lekhai_helpers.measure.tone_classifier import Skill, ToneClassifier
from lekhai_helpers.prepare.bases import Base
from lekhai_helpers.prepare.dataset import Brief

if TYPE_CHECKING:
    import pandas as pd

NAME = "likelihood-and-rubric"
MEASURED = ("fluency", "structure", "tone", "adherence")
TIE = 0.05  # a smaller difference of two mean scores decides nothing

# How each figure is measured beyond the gold: shares by the share itself, the rest by the gold's own range.
_SHARES = ("fresh", "bengali", "structure", "adherence")
_Found = tuple[float | None, str]


@dataclass(frozen=True)
class Gold:
    """A script of the training split, the brief it answers, and every wording that brief has."""

    text: str
    brief: Brief
    prompts: frozenset[str]

    @property
    def id(self) -> str:
        """Return the id of its row."""
        return self.brief.id


def gold_scripts(table: pd.DataFrame) -> list[Gold]:
    """Return the training scripts of the checked table (`prepare.dataset.load_rows`), and no others.

    Raises ValueError where the table holds none.
    """
    found = [_gold(row) for row in table.to_dict("records") if row["split"] == "train"]
    if not found:
        raise ValueError("the table holds no row of the training split: run notebook 03 again")
    return found


def _gold(row: Mapping[Any, Any]) -> Gold:
    prompts = [row[key] for key in ("prompt_1", "prompt_2", "prompt_3") if row.get(key)]
    seconds = row.get("duration_seconds")
    length = None if seconds is None or seconds != seconds else int(seconds)
    parts = {name: str(row.get(name) or "") for name in ("id", "industry", "tone", "brand", "product")}
    brief = Brief(**parts, duration_seconds=length, prompt=prompts[0])
    return Gold(row["script"], brief, frozenset(normalize(prompt) for prompt in prompts))


def likelihood_judge(table: pd.DataFrame, base: Base, cache: Path | None = None) -> LikelihoodJudge:
    """Return the judge over `base`, an untrained model folder, with the training rows of `table` as its gold."""
    folder = Path(base.path)
    weights = fingerprint(folder)
    read = Kept(reader(folder), cache or cache_folder() / "likelihood", f"{weights}, text by text")
    return LikelihoodJudge(gold_scripts(table), read, family_of(base.title), weights=weights)


@dataclass
class LikelihoodJudge:
    """A judge by likelihood and countable rubric; `read` gives a model's reading of texts (`learn.likelihood`).

    Scores run from 1 to 10: 4 to 10 inside the range of the gold scripts, 1 to 3 outside. Rows of `gold` that answer
    the brief at hand are left out of scale and classifier, so that the audit, made from these rows, is fair.
    `weights` names the model that reads.
    """

    gold: Sequence[Gold]
    read: Read
    family: str = ""
    name: str = NAME
    weights: str = ""
    _scales: dict[tuple[str, frozenset[str]], GoldScale] = field(default_factory=dict, init=False, repr=False)

    def grade(self, text: str, brief: Brief, criteria: Mapping[str, str]) -> list[Score]:
        """Return one Score for each of `criteria`; one it has no measure of is "failed", with no number."""
        return [self._score(name, text, brief) for name in criteria]

    def compare(self, first: str, second: str, brief: Brief) -> Choice:
        """Return the text with the higher mean over the criteria both have a score for; closer than 0.05 is a tie."""
        one, other = ([self._score(name, text, brief).score for name in MEASURED] for text in (first, second))
        gaps = [a - b for a, b in zip(one, other, strict=True) if a is not None and b is not None]
        if not gaps:
            return "failed"
        gap = math.fsum(gaps) / len(gaps)
        if abs(gap) < TIE:
            return "tie"
        return "first" if gap > 0 else "second"

    @property
    def measures(self) -> tuple[str, ...]:
        """Return the criteria it has a measure of."""
        return MEASURED

    @cached_property
    def identity(self) -> str:
        """Return a name for what its marks rest on: the model that reads, and the gold scripts with their briefs."""
        rests = [self.weights, *(f"{gold.brief}{sorted(gold.prompts)}{gold.text}" for gold in self.gold)]
        return hashlib.sha256("\0".join(rests).encode()).hexdigest()[:16]

    def read_ahead(self, texts: Iterable[str]) -> None:
        """Let the model read many scripts before they are graded one by one; it remembers them."""
        self.read([cells_text(text) for text in [*(gold.text for gold in self.gold), *texts]])

    @cached_property
    def tone_skill(self) -> Skill | None:
        """Return how well the tone classifier knows scripts it has not read; None where there is no classifier."""
        return self._tones.skill() if self._tones else None

    # --- one criterion: a score, or None, and the reason

    def _score(self, name: str, text: str, brief: Brief) -> Score:
        measures: dict[str, Callable[[str, Brief], _Found]] = {
            "fluency": self._fluency, "structure": self._structure, "tone": self._tone, "adherence": self._adherence
        }  # fmt: skip
        if name not in measures:
            what = "ideas" if name == "idea" else name
            return Score(name, "failed", None, f"this judge has no measure of {what}; it knows {', '.join(MEASURED)}")
        score, reason = measures[name](text, brief)
        return Score(name, "failed" if score is None else "scored", score, reason)

    def _fluency(self, text: str, brief: Brief) -> _Found:
        """Place the likelihood among the gold: too likely counts as badly as too unlikely.

        People rate text best at a middle likelihood: above it stands the empty and the repeated (Zhang et al. 2021,
        "Trading off diversity and quality in natural language generation").
        """
        cells = cells_text(text)
        if not words(cells):
            return 1.0, "there is not one word to read"
        reading, out = self.read([cells])[0], self._same_brief(brief)
        likely = self._scale("likely", out)
        found = [(likely.score(reading.fresh_mean), likely.words(reading.fresh_mean, "less likely", "more likely"))]
        repeated, bengali = reading.repeated_share, bengali_share(cells)
        for figure, value, said in (
            ("fresh", 1 - repeated, f"{repeated:.0%} is repetition"),
            ("bengali", bengali, f"{bengali:.0%} is Bengali"),
        ):
            scale = self._scale(figure, out)
            if scale.distance(value):  # only counts where it is worse than in every gold script
                found.append((scale.score(value), f"{said}, worse than every gold script"))
        return min(found)[0], "; ".join(reason for _, reason in found)

    def _structure(self, text: str, brief: Brief) -> _Found:
        score, reason = self._placed("structure", structure(text, brief), brief)
        return score, f"form, counted: {reason}"

    def _adherence(self, text: str, brief: Brief) -> _Found:
        found = adherence(text, brief, self._common)
        if found is None:
            return None, "the brief names no brand, product, length or wish that could be counted"
        score, reason = self._placed("adherence", found, brief)
        if "the brand" in found.missing:
            return min(score or OUTSIDE, OUTSIDE), reason  # an advertisement for nobody is none
        return score, reason

    def _placed(self, figure: str, found: Share, brief: Brief) -> _Found:
        scale = self._scale(figure, self._same_brief(brief))
        missing = f"missing: {', '.join(found.missing)}" if found.missing else "nothing that can be counted is missing"
        return scale.score(found.value), f"{missing}; {scale.words(found.value, 'less', 'more')}"

    def _tone(self, text: str, brief: Brief) -> _Found:
        if self._tones is None or self.tone_skill is None:
            return None, "the training scripts name too few tones to learn from"
        if not self.tone_skill.shown:
            return None, f"this judge does not know tones ({self.tone_skill.sentence})"
        if brief.tone not in self._tones.known:
            return None, f"no tone {brief.tone!r} among the training scripts; known: {', '.join(self._tones.known)}"
        out = self._same_brief(brief)
        margin = self._tones.margin(cells_text(text), brief.tone, out)
        scale = self._scale("tone", out)
        return scale.score(margin), scale.words(margin, "less of the tone asked for", "more of the tone asked for")

    # --- what the gold scripts are

    def _same_brief(self, brief: Brief) -> frozenset[str]:
        """Return the ids of gold scripts that answer this very brief."""
        asked = normalize(brief.prompt)
        return frozenset(gold.id for gold in self.gold if asked in gold.prompts)

    def _scale(self, figure: str, without: frozenset[str]) -> GoldScale:
        if (figure, without) not in self._scales:
            values = [value for name, value in self._figures[figure].items() if name not in without]
            unit = 1.0 if figure in _SHARES else None
            self._scales[figure, without] = gold_scale(values, unit, both_ends=figure == "likely")
        return self._scales[figure, without]

    @cached_property
    def _figures(self) -> dict[str, dict[str, float]]:
        """Return every raw figure of every gold script: figure to id to value."""
        cells = {gold.id: cells_text(gold.text) for gold in self.gold}
        readings = dict(zip(cells, self.read(list(cells.values())), strict=True))
        met = {gold.id: adherence(gold.text, gold.brief, self._common) for gold in self.gold}
        return {
            "likely": {name: reading.fresh_mean for name, reading in readings.items()},
            "fresh": {name: 1 - reading.repeated_share for name, reading in readings.items()},
            "bengali": {name: bengali_share(text) for name, text in cells.items()},
            "structure": {gold.id: structure(gold.text, gold.brief).value for gold in self.gold},
            "adherence": {name: share.value for name, share in met.items() if share is not None},
            "tone": self._tones.held_out if self._tones else {},
        }

    @cached_property
    def _common(self) -> frozenset[str]:
        return common_stems(gold.brief.prompt for gold in self.gold)

    @cached_property
    def _tones(self) -> ToneClassifier | None:
        named = [gold for gold in self.gold if gold.brief.tone]
        if len({gold.brief.tone for gold in named}) < 2:
            return None
        texts = [cells_text(gold.text) for gold in named]
        return ToneClassifier([gold.id for gold in named], texts, [gold.brief.tone for gold in named])
