"""What every judge of scripts has in common: its verdicts, two texts in both orders, many texts at once.

A judge is any object that has what `Grader` lists: a model behind an address (`judge_client.Judge`), or one that works
without a key. A verdict is scored, unparsable or failed, and all three are counted. Taught in notebook 11.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from lekhai_helpers.prepare.dataset import Brief

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["scored", "unparsable", "failed"]
# What a judge says of two texts: which is better, or why it says nothing.
Choice = Literal["first", "second", "tie", "unparsable", "failed"]
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")

# Models of one family share training data and manners, and a judge favours its own (Zheng et al. 2023,
# "Judging LLM-as-a-Judge"). A distilled model writes in its base's family: so the base's name is looked for first.
_FAMILIES = {
    "qwen": ("qwen",),
    "llama": ("llama",),
    "google": ("gemma", "gemini", "tigerllm", "embedded"),
    "openai": ("gpt", "chatgpt", "davinci"),
    "anthropic": ("claude",),
    "mistral": ("mistral", "mixtral", "zephyr"),
    "deepseek": ("deepseek",),
    "smollm": ("smollm",),
}


@dataclass(frozen=True)
class Score:
    """One verdict. ``score`` (1 to 10) is there exactly if ``status`` is "scored"; else ``reason`` says why not.

    ``how`` says how a model's score was read: "expectation" over its score tokens, or the number "written".
    """

    criterion: str
    status: Status
    score: float | None
    reason: str
    how: str = ""


class Grader(Protocol):
    """What a judge must have. ``family`` is the maker's line of models (see `family_of`), "" where it has none.

    Neither method raises for what one text or one endpoint does: that is a verdict, unparsable or failed.
    """

    @property
    def name(self) -> str:
        """Return the judge's name, as ledger and report show it."""

    @property
    def family(self) -> str:
        """Return the line of models it belongs to."""

    @property
    def measures(self) -> Collection[str] | None:
        """Return the criteria it has a measure of; None where it can be asked for any."""

    @property
    def identity(self) -> str:
        """Return what its marks rest on besides the criteria, such as a sum of its weights; "" where nothing else."""

    def grade(self, text: str, brief: Brief, criteria: Mapping[str, str]) -> list[Score]:
        """Return one Score for each of `criteria` (name to rubric), in their order."""

    def compare(self, first: str, second: str, brief: Brief) -> Choice:
        """Return which of two texts answers the brief better, in the order given: `pairwise` swaps them."""


@dataclass(frozen=True)
class PairVerdict:
    """What a judge says of a pair whose better side is known, asked in both orders.

    ``winner`` is "better" or "worse" only where both orders agree, else "tie", and None unless both were answered
    (``status`` "scored"). ``flipped``: the verdict changed with the order. ``said``: the two raw answers.
    """

    status: Status
    winner: Literal["better", "worse", "tie"] | None
    flipped: bool
    said: tuple[Choice, Choice]


def pairwise(judge: Grader, better: str, worse: str, brief: Brief) -> PairVerdict:
    """Ask for both orders of a pair; only agreeing verdicts count, the rest are ties.

    The rule of Zheng et al. 2023 ("Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", section 3.4).
    """
    said = (judge.compare(better, worse, brief), judge.compare(worse, better, brief))
    for status in ("failed", "unparsable"):
        if status in said:
            return PairVerdict(status, None, False, said)
    named = {"first": ("better", "worse"), "second": ("worse", "better"), "tie": ("tie", "tie")}
    one, other = named[said[0]][0], named[said[1]][1]
    return PairVerdict("scored", one if one == other else "tie", one != other, said)  # type: ignore[arg-type]


def family_of(model: str) -> str:
    """Return the line of models a name belongs to, such as "google"; "" where the name does not tell."""
    name = model.lower()
    return next((family for family, parts in _FAMILIES.items() if any(part in name for part in parts)), "")


def asked_of(judge: Grader, criteria: Mapping[str, str]) -> dict[str, str]:
    """Return those of `criteria` that the judge has a measure of; of the others it is not asked."""
    return {name: text for name, text in criteria.items() if judge.measures is None or name in judge.measures}


def not_asked_of(judge: Grader, criteria: Mapping[str, str]) -> list[str]:
    """Return the criteria that the judge has no measure of, to be told once."""
    own = asked_of(judge, criteria)
    return [name for name in criteria if name not in own]


def rubric_of(judge: Grader, criteria: Mapping[str, str]) -> str:
    """Return a short name for what is asked of a judge, which changes with the words of the criteria, or with it."""
    asked = json.dumps([judge.identity, asked_of(judge, criteria)], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


def grade_all(
    judge: Grader,
    rows: Iterable[Mapping[str, Any]],
    criteria: Mapping[str, str],
    progress: Callable[[str], None] | None = None,
    *,
    briefs: Sequence[Brief],
    concurrency: int = 1,
) -> list[dict[str, Any]]:
    """Grade responses (stage, brief_id, seed, text; a table of `Ledger.responses` will do) to `briefs`.

    Only the criteria that the judge has a measure of are asked (`asked_of`); `progress` is told once of the others.
    Returns rows for `Ledger.add_verdicts`, one for each response and criterion asked, whatever became of it, in the
    order of `rows` also where `concurrency` calls run at once; `rubric` in each says what was asked (`rubric_of`).
    Raises KeyError where a row answers none of `briefs`.
    """
    own, rubric = asked_of(judge, criteria), rubric_of(judge, criteria)
    if progress and (missing := not_asked_of(judge, criteria)):
        progress(f"{judge.name} has no measure of {', '.join(missing)}, so it is not asked")
    verdicts: list[dict[str, Any]] = []
    asked = records(rows)
    by_id = {brief.id: brief for brief in briefs}

    def grade(row: Mapping[str, Any]) -> list[Score]:
        return judge.grade(row["text"], by_id[row["brief_id"]], own)

    for number, (row, scores) in enumerate(zip(asked, in_order(grade, asked, concurrency), strict=True), start=1):
        key = {part: row[part] for part in ("stage", "brief_id", "seed")} | {"rubric": rubric}
        verdicts += [key | vars(score) for score in scores]
        if progress:
            progress(f"{number} of {len(asked)} texts, {tally(verdicts)}")
    return verdicts


def in_order(ask: Callable[[_Item], _Answer], items: Sequence[_Item], concurrency: int) -> Iterable[_Answer]:
    """Yield ask(item) for each item, in their order; up to `concurrency` at once (1: no threads at all)."""
    if concurrency == 1:
        yield from map(ask, items)
        return
    with ThreadPoolExecutor(concurrency) as pool:
        yield from pool.map(ask, items)


def records(rows: Any) -> list[Mapping[str, Any]]:
    """Return the rows of a table, or of anything that yields rows, as a list of mappings."""
    return rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)


def tally(verdicts: Iterable[Mapping[str, Any]]) -> str:
    """Return "117 of 120 scored, 2 unparsable, 1 failed"."""
    states = [verdict["status"] for verdict in records(verdicts)]
    rest = [f"{states.count(name)} {name}" for name in ("unparsable", "failed") if name in states]
    return ", ".join([f"{states.count('scored')} of {len(states)} scored", *rest])


def heatmap_table(
    verdicts: pd.DataFrame, industries: Mapping[str, str] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (mean score, number of scored verdicts) by industry and criterion, for `core.plots.heatmap`.

    `verdicts` is `Ledger.verdicts()` or `counted_table(...)`; without a column industry, `industries` gives it by
    brief id. A cell nobody could score is empty with count 0, never 0 points.
    """
    table = verdicts.copy()
    if "industry" not in table:
        if industries is None:
            raise ValueError("verdicts without a column industry need `industries`: brief id to industry")
        table["industry"] = table["brief_id"].map(industries)
    table["scored"] = (table["status"] == "scored").astype(int)
    table["score"] = table["score"].astype(float).where(table["scored"] == 1)
    cells = table.pivot_table(
        index="industry", columns="criterion", values=["score", "scored"],
        aggfunc={"score": "mean", "scored": "sum"}, dropna=False, sort=False,
    )  # fmt: skip
    means = cells["score"] if "score" in cells else cells["scored"] * float("nan")
    return means, cells["scored"].fillna(0).astype(int)
