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

EVERY = 8  # whole rows at one place in so many: for 4000 tokens of a dictionary of 35 000 that is 70 MB on disk


@dataclass(frozen=True)
class Passage:
    """Token ids of a whole conversation, and the place of the first token that counts (that of the answer)."""

    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Scored:
    """What a model finds of passages: for each the natural log-probabilities of its answer's tokens.

    `kl` is the mean Kullback-Leibler divergence (nats) from the model compared with, at the places looked at;
    `same_next` the share of those where both find the same token likeliest. None where nothing was compared. `facts`
    is what llama.cpp says of the file's start and end tokens; empty for Hugging Face.
    """

    logprobs: tuple[tuple[float, ...], ...]
    kl: float | None = None
    same_next: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def perplexity(self) -> float:
        """Return exp(-mean log-probability): 1 would be certainty. NaN where there is no token."""
        values = [value for row in self.logprobs for value in row]
        return math.exp(-math.fsum(values) / len(values)) if values else math.nan


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
    return Scored(rows, found["kl"], found["same_next"], found["facts"])


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
        found.append(tuple(logprobs))
    rows.close()
    return Scored(tuple(found), rows.mean_kl, rows.same_next)


class Rows:
    """Whole rows of log-probabilities, one in `every`: written to `keep`, compared with those in `against`.

    A file of raw 32-bit numbers, row after row. Raises QuantizeError where `against` holds rows of another dictionary.
    """

    def __init__(self, every: int, keep: str | Path | None = None, against: str | Path | None = None) -> None:
        self.every, self.seen, self.width = every, 0, 0
        self.kept = Path(keep).open("wb") if keep else None  # noqa: SIM115 (closed by `close`, many rows later)
        self.other = Path(against).open("rb") if against else None  # noqa: SIM115
        self.divergences: list[float] = []
        self.same: list[bool] = []

    def take(self, row: Any) -> None:
        """Look at the next place's row (numpy, 32 bits), where it is one of those looked at."""
        self.seen, looked_at = self.seen + 1, self.seen % self.every == 0
        if looked_at and self.kept:
            self.kept.write(row.tobytes())
        if looked_at and self.other:
            self._compare(row)
        self.width = len(row)

    def _compare(self, row: Any) -> None:
        import numpy as np

        assert self.other is not None
        first = np.frombuffer(self.other.read(row.nbytes), dtype=np.float32)
        if first.shape != row.shape:
            raise QuantizeError(f"the rows kept by the other file are not of {len(row)} tokens, or were cut short")
        p = np.exp(first.astype(np.float64))
        # Tokens of probability zero add nothing: 0 times infinity must not make the sum NaN.
        self.divergences.append(float(np.where(p > 0, p * (first.astype(np.float64) - row), 0.0).sum()))
        self.same.append(bool(first.argmax() == row.argmax()))

    def close(self) -> None:
        """Close the files. Raises QuantizeError where the other one held more rows than were read: other texts."""
        for file in (self.kept, self.other):
            if file:
                left = file.read(1) if file is self.other else b""
                file.close()
                if left:
                    raise QuantizeError("the rows kept by the other file are of other texts: score both on the same")

    @property
    def mean_kl(self) -> float | None:
        """Return the mean divergence in nats; None where nothing was compared."""
        return math.fsum(self.divergences) / len(self.divergences) if self.divergences else None

    @property
    def same_next(self) -> float | None:
        """Return the share of places with the same likeliest token; None where nothing was compared."""
        return sum(self.same) / len(self.same) if self.same else None
