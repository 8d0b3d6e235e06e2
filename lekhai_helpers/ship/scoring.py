"""How likely a model finds given scripts, token by token: Hugging Face and every GGUF file on the same ids.

``score_model(model, passages)`` and ``score_gguf(path, passages)`` return a `Scored`, with a perplexity; two of them
have a distance. Whole rows of log-probabilities, which the Kullback-Leibler divergence needs, are kept on disk at every
so many places (``keep``) and read back by the next file (``against``): one model in memory at a time. The figures are
of the kind that llama.cpp's own ``llama-perplexity --kl-divergence`` gives. Taught in notebook 12.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lekhai_helpers.ship.errors import QuantizeError
from lekhai_helpers.ship.scoring_rows import Rows

EVERY = 4  # whole rows at one place in so many: for 2000 tokens of a dictionary of 35 000 that is 70 MB on disk
FEWEST = 3  # scripts; from fewer nothing can be said of how far chance alone moves a distance


@dataclass(frozen=True)
class Passage:
    """Token ids of a whole conversation, and the place of the first token that counts (that of the answer)."""

    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Scored:
    """What a model finds of passages: for each the natural log-probabilities of its answer's tokens.

    `kl` is the mean Kullback-Leibler divergence (nats) from the model compared with, at the places looked at, and
    `divergences` are those of each passage; `same_next` is the share of places where both find the same token
    likeliest. None and empty where nothing was compared. `facts` is what llama.cpp says of the file's start and end
    tokens; empty for Hugging Face.
    """

    logprobs: tuple[tuple[float, ...], ...]
    kl: float | None = None
    same_next: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    divergences: tuple[tuple[float, ...], ...] = ()

    @property
    def places(self) -> int:
        """Return how many places were compared with whole rows."""
        return sum(len(passage) for passage in self.divergences)

    @property
    def kls(self) -> list[float]:
        """Return the mean divergence of each passage that has a place looked at, in nats."""
        return [math.fsum(passage) / len(passage) for passage in self.divergences if passage]

    @property
    def perplexity(self) -> float:
        """Return exp(-mean log-probability): 1 would be certainty. NaN where there is no token."""
        values = [value for row in self.logprobs for value in row]
        return math.exp(-math.fsum(values) / len(values)) if values else math.nan


def distinct_scripts(examples: Sequence[Mapping[str, Any]], limit: int | None = None) -> list[Mapping[str, Any]]:
    """Return the dataset rows of the first `limit` different scripts, one wording of its request each.

    The same script under a second request is no second witness: whoever counts it twice finds intervals too narrow.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for row in examples:
        found.setdefault(row["completion"][-1]["content"], row)
    return list(found.values())[:limit]


def passages(tokenizer, examples: Sequence[Mapping[str, Any]]) -> list[Passage]:
    """Return dataset rows ({"prompt": [...], "completion": [...]}) as the model was trained on them.

    Raises QuantizeError where the template renders a prompt otherwise once an answer follows: then no token belongs
    to the answer alone.
    """
    found = []
    for row in examples:
        asked = tokenizer.apply_chat_template(list(row["prompt"]), add_generation_prompt=True, tokenize=False)
        whole = tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], tokenize=False)
        if not whole.startswith(asked):
            raise QuantizeError("the chat template renders a prompt otherwise once an answer follows: see notebook 03")
        head = tokenizer(asked, add_special_tokens=False).input_ids
        tail = tokenizer(whole[len(asked) :], add_special_tokens=False).input_ids
        found.append(Passage(tuple(head + tail), len(head)))
    return found


def distance(one: Scored, other: Scored) -> float:
    """Return the mean absolute difference, in nats, of the two log-probabilities of each token that really follows.

    Raises ValueError where the two did not read the same tokens.
    """
    if [len(row) for row in one.logprobs] != [len(row) for row in other.logprobs]:
        raise ValueError("the two did not read the same passages, so there is nothing to compare")
    pairs = [
        (a, b) for row, mate in zip(one.logprobs, other.logprobs, strict=True) for a, b in zip(row, mate, strict=True)
    ]
    return math.fsum(abs(a - b) for a, b in pairs) / len(pairs) if pairs else math.nan


def kl_interval(scored: Scored, seed: int = 0, rounds: int = 2000) -> tuple[float, float] | None:
    """Return the 95% interval of the mean divergence, in nats, by drawing whole passages anew.

    Places of one script are alike, so it is scripts that are drawn and not places. The percentiles are moved out as
    few passages need it (Hesterberg 2015, as in `measure.comparisons`). None from fewer than `FEWEST` passages.
    """
    import numpy as np
    from scipy.stats import norm, t

    looked_at = [passage for passage in scored.divergences if passage]
    n = len(looked_at)
    if n < FEWEST:
        return None
    sums, counts = np.array([math.fsum(p) for p in looked_at]), np.array([len(p) for p in looked_at])
    drawn = np.random.default_rng(seed).integers(0, n, (rounds, n))
    tail = norm.cdf(t.ppf(0.025, n - 1) * (n / (n - 1)) ** 0.5)
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [tail, 1 - tail])
    return float(low), float(high)


def kept_mb(texts: Sequence[Passage], vocabulary: int, every: int = EVERY) -> float:
    """Return what the whole rows of `texts` take on disk while files are compared, in MB of 10^6 bytes."""
    places = sum(len(text.ids) - max(1, text.start) for text in texts)
    return (places // every + 1) * vocabulary * 4 / 1e6


def score_gguf(
    gguf: Path,
    texts: Sequence[Passage],
    keep: Path | None = None,
    against: Path | None = None,
    every: int = EVERY,
    threads: int | None = None,
) -> Scored:
    """Let llama.cpp read the passages in a process of its own.

    `keep` is where whole rows go (about 4 bytes for each token of the dictionary, at one place in `every`), `against`
    where those of an earlier call lie. Raises QuantizeError where the file cannot be loaded or the reader ends.
    """
    from lekhai_helpers.ship.llama_server import cores

    asked = {
        "model": str(gguf),
        "texts": [{"ids": list(text.ids), "start": max(1, text.start)} for text in texts],
        "keep": str(keep) if keep else None,
        "against": str(against) if against else None,
        "every": every,
        "threads": threads or cores(),
    }
    command = [sys.executable, "-m", "lekhai_helpers.ship.scoring_process"]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, errors="replace")
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise QuantizeError(f"llama.cpp could not read the scripts with {gguf.name}: {last}")
    found = json.loads(lines[-1])
    rows = tuple(tuple(row) for row in found["logprobs"])
    apart = tuple(tuple(passage) for passage in found["divergences"])
    return Scored(rows, found["kl"], found["same_next"], found["facts"], apart)


def score_model(
    model, texts: Sequence[Passage], keep: Path | None = None, against: Path | None = None, every: int = EVERY
) -> Scored:
    """Let a Hugging Face model read the same passages; the other arguments as in `score_gguf`."""
    import torch

    rows, found = Rows(every, keep, against), []
    model.eval()
    for text in texts:
        start = max(1, text.start)
        ids = torch.tensor([text.ids], device=model.device)
        with torch.inference_mode():
            logits = model(input_ids=ids, logits_to_keep=len(text.ids) - start + 1).logits[0, :-1]
        logprobs = []
        for token, row in zip(text.ids[start:], logits, strict=True):
            values = row.float().log_softmax(-1).cpu().numpy()
            logprobs.append(float(values[token]))
            rows.take(values)
        rows.end_passage()
        found.append(tuple(logprobs))
    rows.close()
    return Scored(tuple(found), rows.mean_kl, rows.same_next, divergences=tuple(map(tuple, rows.by_passage)))
