"""The style test of a run: the answers before and after, and what the writer wrote that nothing was trained on.

``voice_test(load_rows(dataset), before, after, settings)`` says in words what `style_test` found, or why it was not
made. It is made where the recipe asks for it (``evaluation.style_test``). Taught in notebook 07.

The writer's side are the test rows alone: validation rows may have chosen the weights (``sft.keep``), and would flatter
them. That leaves few texts (9 of 92 rows in the sample) but enough to know a writer by, and the intervals say how few.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.measure.style_test import FEWEST, Answers, style_test

if TYPE_CHECKING:
    import pandas as pd

JUDGED = "test"


def voice_test(
    table: pd.DataFrame, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], settings: Settings
) -> dict[str, Any]:
    """Return {"sentence": ...} and, where the test was made, its shares with intervals, and p.

    `table` is the checked table with its column split; the writer's texts are the answers of its test rows.
    """
    if not settings.evaluation.style_test:
        return {"sentence": "this recipe has no writer whose voice is to be met, so no style test is made"}
    held = table[(table["split"] == JUDGED) & table["usable"]]
    writing = dict(zip(held["id"], held["script"], strict=True))
    base, tuned = _by_prompt(before), _by_prompt(after)
    prompts = base.keys() & tuned.keys()
    if len(writing) < FEWEST or len(prompts) < FEWEST:
        found = f"{len(writing)} texts of the writer (test rows) and {len(prompts)} questions answered by both"
        return {"sentence": f"{found} are too few for a style test: {FEWEST} of each are needed (data.test_share)"}
    result = style_test(writing, base, tuned, settings.seed)
    shares = {name: asdict(getattr(result, name)) for name in ("known", "closer", "alike", "told")}
    verdicts = {"distinguishable": result.distinguishable, "nearer": result.nearer}
    return {"sentence": result.sentence, "p": result.p} | verdicts | shares


def _by_prompt(rows: Sequence[Mapping[str, Any]]) -> Answers:
    answers: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row["text"].strip():
            answers[row["brief_id"]].append(row["text"])
    return answers
