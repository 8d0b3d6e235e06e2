"""Texts that cannot break their form: before each token, all that the grammar forbids is struck out. See notebook 07.

``vocabulary = model_vocabulary(model, tokenizer, bill)`` once, then
``generate(..., processors=grammar_processors(vocabulary, grammars, limit, bill))``: every text has a matcher of
its own (`learn.table_text`), which says what may come next. Sampling only, no beam search: a matcher belongs to its
row of the batch.

How it works: Willard and Louf 2023, "Efficient guided generation for large language models".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lekhai_helpers.learn.model import end_ids
from lekhai_helpers.learn.table_text import (
    ConstraintError,
    GrammarText,
    TableText,
    Vocabulary,
    read_vocabulary,
    shortest_parts,
)
from lekhai_helpers.prepare.contracts import Grammar


@dataclass
class Bill:
    """What the grammar cost: filled while texts are written.

    `preparing` are the seconds before the first token: the dictionary is read once, a grammar for each text. `seconds`
    come while writing. `nats` sums -log of the probability mass that the model had on allowed tokens (temperature 1),
    `steered` counts the tokens chosen under the limit's pressure.
    """

    tokens: int = 0
    preparing: float = 0.0
    seconds: float = 0.0
    nats: float = 0.0
    steered: int = 0

    def figures(self) -> dict[str, float]:
        """Return seconds of preparing, and per token: milliseconds, nats given up, share steered towards the end."""
        count = max(self.tokens, 1)
        return {
            "grammar_preparing_seconds": round(self.preparing, 3),
            "grammar_ms_per_token": round(1000 * self.seconds / count, 3),
            "nats_given_up_per_token": round(self.nats / count, 4),
            "steered_share": round(self.steered / count, 4),
        }


def model_vocabulary(model, tokenizer, bill: Bill) -> Vocabulary:
    """Read the dictionary of a model for `grammar_processors`, and put the time on the bill: once is enough.

    Raises ConstraintError as `read_vocabulary` does.
    """
    began = time.perf_counter()
    found = read_vocabulary(tokenizer, end_ids(model, tokenizer), model.config.get_text_config().vocab_size)
    bill.preparing += time.perf_counter() - began
    return found


def grammar_processors(
    vocabulary: Vocabulary, grammars: Sequence[Grammar], limit: int, bill: Bill
) -> Callable[[int, int], list[Any]]:
    """Return what `learn.model.generate` asks for each batch: processors that hold text i to ``grammars[i]``.

    `limit` is the number of new tokens a text may have. Tables are steered to their end within it (ConstraintError
    where none fits); other texts may be cut by it.
    """
    make = table_processors if grammars[0].header else plain_processors
    return lambda first, end: make(vocabulary, grammars[first:end], limit, bill)


def plain_processors(
    vocabulary: Vocabulary, grammars: Sequence[Grammar], limit: int, bill: Bill
) -> list[GrammarProcessor]:
    """Return the logits processors of one batch of texts that nothing steers to an end."""
    began = time.perf_counter()
    texts = [GrammarText(vocabulary, grammar) for grammar in grammars]
    bill.preparing += time.perf_counter() - began
    return [GrammarProcessor(vocabulary, texts, limit, bill)]


def table_processors(
    vocabulary: Vocabulary, grammars: Sequence[Grammar], limit: int, bill: Bill
) -> list[GrammarProcessor]:
    """Return the logits processors of one batch, for transformers' ``generate(logits_processor=...)``.

    Raises ConstraintError where `limit` is too small for any table.
    """
    began = time.perf_counter()
    header, row = shortest_parts(vocabulary, grammars[0])
    texts = [TableText(vocabulary, grammar, row) for grammar in grammars]
    bill.preparing += time.perf_counter() - began
    needed = header + grammars[0].least_rows * row + 1 + max(text.margin for text in texts)
    if limit < needed:
        raise ConstraintError(
            f"{limit} new tokens hold no table: with this tokenizer the shortest takes {needed}. "
            f"Set decoding.max_new_tokens to {needed} or more"
        )
    return [GrammarProcessor(vocabulary, texts, limit, bill)]


class GrammarProcessor:
    """Strikes out, for every text of a left-padded batch, the tokens its grammar and the limit do not allow."""

    def __init__(self, vocabulary: Vocabulary, texts: Sequence[GrammarText], limit: int, bill: Bill) -> None:
        self.vocabulary, self.texts, self.limit, self.bill = vocabulary, texts, limit, bill
        self.prompt = -1  # tokens of the padded prompts, known at the first call

    def __call__(self, input_ids, scores):
        """Return `scores` (texts x vocabulary) with everything forbidden at minus infinity."""
        import numpy as np
        import torch

        began = time.perf_counter()
        if self.prompt < 0:
            self.prompt = input_ids.shape[1]
        else:
            for text, token in zip(self.texts, input_ids[:, -1].tolist(), strict=True):
                text.take(token)
        left = self.limit - (input_ids.shape[1] - self.prompt)
        writing = [not text.done for text in self.texts]
        masks = np.stack([text.allowed(left) for text in self.texts])
        masked = scores.masked_fill(~torch.from_numpy(masks).to(scores.device), float("-inf"))
        kept = torch.logsumexp(masked.float(), 1) - torch.logsumexp(scores.float(), 1)
        self.bill.tokens += sum(writing)
        self.bill.nats -= float(kept[torch.tensor(writing, device=kept.device)].sum())
        self.bill.steered += sum(text.steered for text in self.texts if not text.done)
        self.bill.seconds += time.perf_counter() - began
        return masked
