"""The frozen briefs: every stage writes the same ones, and the contract scores them. Taught in notebooks 05 and 07."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from lekhai_helpers.core.bengali import words
from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.learn.constrained import Bill, grammar_processors, model_vocabulary
from lekhai_helpers.learn.model import Generation, Message, generate, perplexity
from lekhai_helpers.prepare.contracts import Grammar, Verdict, get_contract, get_grammar
from lekhai_helpers.prepare.contracts.ad_script import parse_ad_script
from lekhai_helpers.prepare.dataset import Brief

# A writer turns prompts (lists of messages) and a seed into texts: a model in this process, or a server. One that can
# be held to a grammar takes a third argument, one Grammar for each prompt.
Writer = Callable[..., list[Generation]]


def brief_messages(prompt: str, settings: Settings) -> list[Message]:
    """Return the messages a brief is sent as: the recipe's system prompt, then the brief."""
    return [{"role": "system", "content": settings.system_prompt}, {"role": "user", "content": prompt}]


def brief_grammar(brief: Brief, settings: Settings) -> Grammar:
    """Return the grammar a script for this brief must keep: of Latin words it may hold those of the brief."""
    return get_grammar(settings.data.contract)(f"{brief.prompt} {brief.brand} {brief.product}")


def model_writer(model, tokenizer, settings: Settings, bill: Bill | None = None) -> Writer:
    """Return a writer over a model in this process, with the recipe's decoding.

    `bill` takes down what grammars cost, where the writer is given any. For those the model's dictionary is read, once
    for a writer.
    """
    bill = Bill() if bill is None else bill

    @cache
    def vocabulary():
        return model_vocabulary(model, tokenizer, bill)

    def write(prompts: Sequence[Sequence[Message]], seed: int, grammars: Sequence[Grammar] | None = None):
        limit = settings.decoding.max_new_tokens
        held = None if grammars is None else grammar_processors(vocabulary(), grammars, limit, bill)
        return generate(model, tokenizer, prompts, settings.decoding, seed, held)

    return write


def write_scripts(
    writer: Writer, briefs: Sequence[Brief], settings: Settings, seeds: Sequence[int], constrained: bool = False
) -> list[dict[str, Any]]:
    """Let `writer` answer every brief once per seed and return rows for the ledger, contract verdict included.

    All are asked for at once, because large batches are written faster: the dice are thrown from the first seed, and a
    text depends on the whole list of briefs and seeds. With `constrained` the writer gets the grammar of each brief.
    """
    check = get_contract(settings.data.contract)
    asked = [(seed, brief) for seed in seeds for brief in briefs]
    prompts = [brief_messages(brief.prompt, settings) for _, brief in asked]
    grammars = ([brief_grammar(brief, settings) for _, brief in asked],) if constrained else ()
    began = time.monotonic()
    texts = writer(prompts, seeds[0], *grammars)
    print(f"{len(texts)} texts in {time.monotonic() - began:.0f} s", flush=True)
    return [_row(brief, seed, text, check(text.text)) for (seed, brief), text in zip(asked, texts, strict=True)]


def _row(brief: Brief, seed: int, text: Generation, verdict: Verdict) -> dict[str, Any]:
    return {
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


def valid_by_brief(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the share of valid tables of every brief, in the order the briefs come in."""
    grouped: dict[str, list[bool]] = {}
    for row in rows:
        grouped.setdefault(row["brief_id"], []).append(bool(row["ok"]))
    return {brief: sum(hits) / len(hits) for brief, hits in grouped.items()}


def paired_difference(
    before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]], seed: int, rounds: int = 2000
) -> dict[str, float]:
    """Compare two stages brief by brief: difference of the valid share, with a bootstrap interval over briefs.

    Briefs, not texts, are drawn, because the texts of one brief are alike (cluster bootstrap). Raises ValueError
    where no brief is in both stages.
    """
    import numpy as np

    first, second = valid_by_brief(before), valid_by_brief(after)
    shared = sorted(first.keys() & second.keys())
    if not shared:
        raise ValueError("the two stages have no brief in common, so there is nothing to compare")
    differences = np.array([second[brief] - first[brief] for brief in shared])
    draws = np.random.default_rng(seed).integers(0, len(shared), (rounds, len(shared)))
    low, high = np.quantile(differences[draws].mean(axis=1), [0.025, 0.975])
    return {"difference": float(differences.mean()), "low": float(low), "high": float(high), "briefs": len(shared)}


def text_figures(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return what can be counted in a stage's texts, to set two ways of writing side by side.

    Shares run from 0 to 1; rows and repeated rows are means per text, words means per cell, speed is new tokens per
    second of the whole batch. A figure that no text bears is NaN.
    """
    cells = [cell for row in rows for pair in parse_ad_script(row["text"])[0].rows for cell in pair]
    seconds = sum(row["seconds"] for row in rows)
    shares = [row["facts"]["bengali_share"] for row in rows if row["facts"].get("rows")]
    return {
        "valid_share": _mean([row["ok"] for row in rows]),
        "stopped_share": _mean([row["stopped"] for row in rows]),
        "tokens_per_second": round(sum(row["tokens"] for row in rows) / seconds, 1) if seconds else float("nan"),
        "bengali_share": _mean(shares),
        "rows": _mean([row["facts"].get("rows", 0) for row in rows]),
        "repeated_rows": _mean([row["facts"].get("repeated_rows", 0) for row in rows]),
        "words_per_cell": _mean([len(words(cell)) for cell in cells]),
    }


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else float("nan")


def text_perplexity(model, tokenizer, rows: Sequence[dict[str, Any]], settings: Settings) -> float:
    """Return how surprised a model is by a stage's texts, each after its own brief; NaN where all texts are empty."""
    pairs = []
    for row in rows:
        messages = brief_messages(row["prompt"], settings)
        asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        pairs += [(asked, row["text"])] if row["text"] else []
    return round(perplexity(model, tokenizer, pairs), 2) if pairs else float("nan")
