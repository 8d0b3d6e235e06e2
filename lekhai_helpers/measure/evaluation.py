"""The frozen briefs: every stage writes the same ones, and the contract scores them. Taught in notebooks 05 and 07."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from lekhai_helpers.core.bengali import words
from lekhai_helpers.core.intervals import wilson
from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.core.words import Words
from lekhai_helpers.learn.constrained import Bill, grammar_processors, model_vocabulary
from lekhai_helpers.learn.model import Generation, Message, generate, perplexity
from lekhai_helpers.prepare.contracts import Grammar, Verdict, expected_of, get_contract, get_grammar
from lekhai_helpers.prepare.dataset import Brief

# A writer turns prompts (lists of messages) and a seed into texts: a model in this process, or a server. One that can
# be held to a grammar takes a third argument, one Grammar for each prompt.
Writer = Callable[..., list[Generation]]

# What a problem says of one text alone: what is quoted, a list, numbers.
_DIFFERS = re.compile(r"“[^”]*”|\[.*\]|-?\d+(?:[.,:-]+\d+)*(?:, -?\d[\d.,:-]*)*")


def brief_messages(asked: str | Brief, settings: Settings) -> list[Message]:
    """Return the messages a brief, or a prompt alone, is sent as: the recipe's system prompt, then what is asked."""
    if isinstance(asked, Brief):
        return asked.asked(settings.system_prompt)
    return [{"role": "system", "content": settings.system_prompt}, {"role": "user", "content": asked}]


def brief_grammar(brief: Brief, settings: Settings) -> Grammar:
    """Return the grammar an answer to this brief must keep. Raises KeyError where the contract has none."""
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
    contract = get_contract(settings.data.contract)
    asked = [(seed, brief) for seed in seeds for brief in briefs]
    prompts = [brief_messages(brief, settings) for _, brief in asked]
    grammars = ([brief_grammar(brief, settings) for _, brief in asked],) if constrained else ()
    began = time.monotonic()
    texts = writer(prompts, seeds[0], *grammars)
    print(f"{len(texts)} texts in {time.monotonic() - began:.0f} s", flush=True)
    return [
        _row(brief, seed, text, contract(text.text, expected_of(brief.expected)))
        for (seed, brief), text in zip(asked, texts, strict=True)
    ]


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


def summarize_stage(ledger: Ledger, stage: str, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Enter a stage's texts and figures into the ledger and return the figures.

    ``valid_tables`` (texts that keep the contract, whatever the recipe's contract is) and ``stopped`` are shares with a
    Wilson interval. Every share among the contract's facts, such as ``bengali_share``, is the mean over texts with at
    least one row, where the contract counts rows, and its n says how many those are.
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
    for name, shares in _shares(rows).items():
        mean = sum(shares) / len(shares) if shares else None
        counted = any("rows" in row["facts"] for row in rows)
        note = f"of {n} texts {len(shares)} hold a table row" if counted else ""
        ledger.summarize(stage, name, mean, n=len(shares), note=note)
        figures[name] = round(mean, 4) if mean is not None else float("nan")
    lengths = sum(row["tokens"] for row in rows) / n
    ledger.summarize(stage, "mean_tokens", lengths, n=n)
    figures["mean_tokens"] = round(lengths, 1)
    return {key: value for key, value in figures.items() if value == value}


def _shares(rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Return the contract's facts that are shares, by name, of every text that has something to share out."""
    names = dict.fromkeys(name for row in rows for name in row["facts"] if name.endswith("_share"))
    bearing = [row["facts"] for row in rows if row["facts"].get("rows", 1)]
    return {name: [facts[name] for facts in bearing if facts.get(name) is not None] for name in names}


def shown_figures(figures: Mapping[str, Any], words: Words) -> dict[str, Any]:
    """Return a stage's figures under the names a reader of this recipe knows: "valid tables" for ``valid_tables``."""
    name = words.many.replace(" ", "_")
    return {key.replace("valid_tables", name): value for key, value in figures.items()}


def problem_counts(rows: Sequence[dict[str, Any]]) -> Counter[str]:
    """Count what is wrong with a stage's texts. What differs from text to text, as numbers do, becomes ``…``."""
    return Counter(_DIFFERS.sub("…", problem) for row in rows for problem in row["problems"])


def valid_by_brief(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return for every brief the share of texts that keep the contract, in the order the briefs come in."""
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


def text_figures(rows: Sequence[dict[str, Any]], contract: str = "ad_script") -> dict[str, float]:
    """Return what can be counted in a stage's texts, to set two ways of writing side by side.

    Shares run from 0 to 1; rows and repeated rows are means per text (of a contract that counts rows), words means
    per cell (else per text), speed is new tokens per second of the whole batch. A figure that no text bears is NaN.
    """
    seconds = sum(row["seconds"] for row in rows)
    figures = {
        "valid_share": _mean([row["ok"] for row in rows]),
        "stopped_share": _mean([row["stopped"] for row in rows]),
        "tokens_per_second": round(sum(row["tokens"] for row in rows) / seconds, 1) if seconds else float("nan"),
    }
    figures |= {name: _mean(shares) for name, shares in _shares(rows).items()}
    counted = [row["facts"] for row in rows if "rows" in row["facts"]]
    if not counted:
        return figures | {"words_per_text": _mean([len(words(row["text"])) for row in rows])}
    shown = [get_contract(contract).show(row["text"]) for row in rows]
    cells = [str(cell) for table in shown if not isinstance(table, str) for cell in table.to_numpy().ravel()]
    return figures | {
        "rows": _mean([facts["rows"] for facts in counted]),
        "repeated_rows": _mean([facts.get("repeated_rows", 0) for facts in counted]),
        "words_per_cell": _mean([len(words(cell)) for cell in cells]),
    }


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else float("nan")


def text_perplexity(
    model, tokenizer, rows: Sequence[dict[str, Any]], settings: Settings, briefs: Sequence[Brief] = ()
) -> float:
    """Return how surprised a model is by a stage's texts, each after its own brief; NaN where all texts are empty.

    `briefs` are needed where they hold conversations; else a row's own prompt is all that was asked.
    """
    pairs, by_id = [], {brief.id: brief for brief in briefs}
    for row in rows:
        messages = brief_messages(by_id.get(row["brief_id"], row["prompt"]), settings)
        asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        pairs += [(asked, row["text"])] if row["text"] else []
    return round(perplexity(model, tokenizer, pairs), 2) if pairs else float("nan")
