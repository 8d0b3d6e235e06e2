"""Two models' answers to the same questions, next to each other, with what each took. Taught in notebook 07.

``side_by_side(ledger.responses())`` is for a reader; ``cost(ledger.responses())`` says how long the answers are and how
long they took. Both read the ledger, where `evaluation.write_scripts` put every answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_KEYS = ["industry", "brief_id", "seed", "prompt"]
_FIGURES = ["text", "tokens", "seconds"]


def side_by_side(responses: pd.DataFrame, first: str = "base", second: str = "sft") -> pd.DataFrame:
    """Return one row for each question and seed that both stages answered: text, tokens and seconds of each.

    `responses` is `Ledger.responses()`. Columns: industry, brief_id, seed, prompt, then text_base, text_sft and so on.
    Raises ValueError where a stage has no answer, or the two share no question.
    """
    sides = [
        _of_stage(responses, stage).set_index(_KEYS)[_FIGURES].add_suffix(f"_{stage}") for stage in (first, second)
    ]
    both = sides[0].join(sides[1], how="inner").reset_index()
    if both.empty:
        raise ValueError(f"{first} and {second} answered no question both: write their answers to the same briefs")
    order = [f"{name}_{stage}" for name in _FIGURES for stage in (first, second)]
    return both[_KEYS + order].sort_values(_KEYS, ignore_index=True)


def cost(responses: pd.DataFrame, stages: Sequence[str] = ("base", "sft")) -> pd.DataFrame:
    """Return for each stage: answers, median tokens, median and 95th percentile of the seconds, tokens a second.

    Answers are written many at a time, so the seconds are each answer's share of its batch and not what one person
    would wait; the two stages are comparable where they ran on the same machine with the same batch size.
    """
    import pandas as pd

    rows = {}
    for stage in stages:
        found = _of_stage(responses, stage)
        rows[stage] = {
            "answers": len(found),
            "tokens (median)": found["tokens"].median(),
            "seconds (median)": found["seconds"].median(),
            "seconds (95th percentile)": found["seconds"].quantile(0.95),
            "tokens a second": found["tokens"].sum() / found["seconds"].sum() if found["seconds"].sum() else None,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("stage")


def _of_stage(responses: pd.DataFrame, stage: str) -> pd.DataFrame:
    found = responses[responses["stage"] == stage]
    if found.empty:
        raise ValueError(f"no answer of {stage} in the ledger; there are: {', '.join(sorted(set(responses['stage'])))}")
    return found
