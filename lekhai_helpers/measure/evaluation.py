"""The frozen briefs: every stage writes the same ones, and the contract scores them. Taught in notebooks 05 and 07."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from lekhai_helpers.core.bengali import words
from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.learn.model import Generation, Message, generate
from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.prepare.dataset import Brief

# A writer turns prompts and a seed into texts: a model in this process, or a server.
Writer = Callable[[Sequence[Sequence[Message]], int], list[Generation]]


def brief_messages(prompt: str, settings: Settings) -> list[Message]:
    """Return the messages a brief is sent as: the recipe's system prompt, then the brief."""
    return [{"role": "system", "content": settings.system_prompt}, {"role": "user", "content": prompt}]


def model_writer(model, tokenizer, settings: Settings) -> Writer:
    """Return a writer over a model in this process, with the recipe's decoding."""
    return lambda prompts, seed: generate(model, tokenizer, prompts, settings.decoding, seed)


def write_scripts(
    writer: Writer, briefs: Sequence[Brief], settings: Settings, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Let `writer` answer every brief once per seed and return rows for the ledger, contract verdict included."""
    check = get_contract(settings.data.contract)
    prompts = [brief_messages(brief.prompt, settings) for brief in briefs]
    rows = []
    for seed in seeds:
        began = time.monotonic()
        for brief, text in zip(briefs, writer(prompts, seed), strict=True):
            verdict = check(text.text)
            rows.append(
                {
                    "brief_id": brief.id,
                    "seed": seed,
                    "industry": brief.industry,
                    "tone": brief.tone,
                    "prompt": brief.prompt,
                    "text": text.text,
                    "ok": verdict.ok,
                    "problems": verdict.problems,
                    "facts": verdict.facts,
                    "tokens": text.tokens,
                    "seconds": text.seconds,
                    "stopped": text.stopped,
                }
            )
        print(f"seed {seed}: {len(briefs)} texts in {time.monotonic() - began:.0f} s", flush=True)
    return rows


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95% interval of a share (Wilson 1927): honest also for few trials and shares near 0 or 1."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def summarize_stage(ledger: Ledger, stage: str, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Enter a stage's texts and figures into the ledger and return the figures.

    ``valid_tables`` and ``stopped`` are shares with a Wilson interval. ``bengali_share`` is the mean over texts that
    hold at least one table row, and its n says how many did.
    """
    ledger.clear_stage(stage)  # texts of an earlier try, with other briefs or seeds, must not be counted
    ledger.add_responses(stage, rows)
    n = len(rows)
    figures: dict[str, float] = {"texts": n}
    for name, hits in (
        ("valid_tables", sum(row["ok"] for row in rows)),
        ("stopped", sum(row["stopped"] for row in rows)),
    ):
        low, high = wilson(hits, n)
        ledger.summarize(stage, name, hits / n, low, high, n, f"{hits} of {n}")
        figures |= {name: round(hits / n, 4), f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}
    shares = [row["facts"]["bengali_share"] for row in rows if row["facts"].get("rows")]
    mean = sum(shares) / len(shares) if shares else None
    ledger.summarize(stage, "bengali_share", mean, n=len(shares), note=f"of {n} texts {len(shares)} hold a table row")
    figures["bengali_share"] = round(mean, 4) if mean is not None else float("nan")
    lengths = sum(row["tokens"] for row in rows) / n
    ledger.summarize(stage, "mean_tokens", lengths, n=n)
    figures["mean_tokens"] = round(lengths, 1)
    return {key: value for key, value in figures.items() if value == value}


def problem_counts(rows: Sequence[dict[str, Any]]) -> Counter[str]:
    """Count what is wrong with a stage's texts, the numbers in the messages left out."""
    return Counter(
        " ".join(word for word in problem.split() if not word[:1].isdigit())
        for row in rows
        for problem in row["problems"]
    )


def paired_difference(
    before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]], seed: int, rounds: int = 2000
) -> dict[str, float]:
    """Compare two stages brief by brief: difference of the valid share, with a bootstrap interval over briefs.

    Briefs, not texts, are drawn, because the texts of one brief are alike (cluster bootstrap). Raises ValueError
    where no brief is in both stages.
    """
    import numpy as np

    def by_brief(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
        grouped: dict[str, list[bool]] = {}
        for row in rows:
            grouped.setdefault(row["brief_id"], []).append(bool(row["ok"]))
        return {brief: sum(hits) / len(hits) for brief, hits in grouped.items()}

    first, second = by_brief(before), by_brief(after)
    shared = sorted(first.keys() & second.keys())
    if not shared:
        raise ValueError("the two stages have no brief in common, so there is nothing to compare")
    differences = np.array([second[brief] - first[brief] for brief in shared])
    draws = np.random.default_rng(seed).integers(0, len(shared), (rounds, len(shared)))
    low, high = np.quantile(differences[draws].mean(axis=1), [0.025, 0.975])
    return {"difference": float(differences.mean()), "low": float(low), "high": float(high), "briefs": len(shared)}


def word_distance(first: Sequence[str], second: Sequence[str]) -> float:
    """Return how far apart the words of two groups of texts lie, from 0 (same words as often) to 1 (none shared).

    Jensen-Shannon distance (base 2) of the word counts, see Lin 1991, "Divergence measures based on the Shannon
    entropy".
    """
    from scipy.spatial.distance import jensenshannon

    counts = [Counter(word for text in group for word in words(text)) for group in (first, second)]
    shared = sorted(counts[0].keys() | counts[1].keys())
    if not shared or not all(counts):
        return 1.0
    return float(jensenshannon(*([count[word] for word in shared] for count in counts), base=2))


def with_tone(prompt: str, tone: str) -> str:
    """Return a brief with its tone asked for in so many words."""
    return f"{prompt} টোন: {tone}।"


def tone_test(writer: Writer, briefs: Sequence[Brief], tones: tuple[str, str], settings: Settings) -> dict[str, float]:
    """Ask for the same briefs in two tones, and in the first tone twice.

    ``between`` is the word distance of the two tones, ``within`` that of the same tone with another seed. A model
    that listens to the tone has the first clearly above the second.
    """

    def texts(tone: str, seed: int) -> list[str]:
        prompts = [brief_messages(with_tone(brief.prompt, tone), settings) for brief in briefs]
        return [text.text for text in writer(prompts, seed)]

    first, again, other = texts(tones[0], 1), texts(tones[0], 2), texts(tones[1], 3)
    return {
        "between": round(word_distance(first, other), 4),
        "within": round(word_distance(first, again), 4),
        "texts": len(briefs) * 3,
    }
