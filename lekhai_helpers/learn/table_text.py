"""A text within a grammar as it is written, token by token: which tokens may come next. Taught in notebook 07.

Used by `learn.constrained`. llguidance keeps the grammar; but a grammar alone still lets a text be cut by the limit of
new tokens. So the last tokens of a table are steered: a cell is closed, and no row begun, while there is still room for
what a whole table must have.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import regex

from lekhai_helpers.prepare.contracts import Grammar

if TYPE_CHECKING:
    import numpy as np

_LETTERS = regex.compile(r"[\p{L}\p{M}]+")
_FIRST = regex.compile(r" ?(?=\p{L})\p{Beng}+")  # a word begun: no vowel sign stands first
_FIRST_BYTES = {b" ", *(space + byte for space in (b"", b" ") for byte in (b"\xe0", b"\xe0\xa6", b"\xe0\xa7"))}
_CLOSERS = (b" |", b"|", b" ")
_LAST_WORDS = 8  # tokens kept for ending a word before a cell must be closed
# A tokenizer that a reading goes wrong with does so on Bengali, on table marks, or on what stands between them.
_SAMPLE = "| Visual | Audio |\n|---|---|\n| মিড শট: ক্ষুধা ১০:৩০। | SFX: “ঢং”! ভিও (নারী): ৳৫০০ |"


class ConstraintError(RuntimeError):
    """The grammar cannot be kept with this tokenizer or this limit; the text names the remedy."""


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as bytes: `pieces` by id, and the ids that matter where a cell has to end."""

    engine: Any
    pieces: list[bytes]
    ends: list[int]
    closers: list[int]
    first: np.ndarray
    first_bytes: np.ndarray
    inside: np.ndarray


def read_vocabulary(tokenizer, ends: Collection[int], size: int) -> Vocabulary:
    """Read a fast tokenizer's pieces as bytes; `size` is the model's number of logits, padding rows included.

    Raises ConstraintError where llguidance reads the pieces otherwise than the tokenizer writes them.
    """
    import numpy as np
    from llguidance.hf import from_tokenizer

    engine = from_tokenizer(tokenizer, n_vocab=size, eos_token=sorted(ends))
    if engine.decode_bytes(tokenizer(_SAMPLE, add_special_tokens=False).input_ids) != _SAMPLE.encode():
        raise ConstraintError(
            "llguidance reads the pieces of this tokenizer wrongly, so no grammar can be kept with it: "
            "write without one, or serve the GGUF file with the GBNF grammar"
        )
    pieces = [b"" if engine.is_special_token(number) else engine.decode_bytes([number]) for number in range(size)]
    texts = [piece.decode("utf-8", "replace") for piece in pieces]
    places = {piece: number for number, piece in reversed(list(enumerate(pieces)))}
    return Vocabulary(
        engine,
        pieces,
        sorted(ends),
        [places[piece] for piece in _CLOSERS if piece in places],
        np.array([_FIRST.fullmatch(text) is not None for text in texts]),
        np.array([piece in _FIRST_BYTES for piece in pieces]),
        np.array([_LETTERS.fullmatch(text) is not None for text in texts]),
    )


class GrammarText:
    """One text as it grows within its grammar. Nothing steers it to an end: the limit of new tokens may cut it."""

    margin = 0

    def __init__(self, vocabulary: Vocabulary, grammar: Grammar) -> None:
        from llguidance import LLMatcher

        self.vocabulary, self.done, self.steered = vocabulary, False, False
        self.matcher = LLMatcher(vocabulary.engine, LLMatcher.grammar_from_lark(grammar.lark))

    def take(self, token: int) -> None:
        """Add the token that was drawn. What comes after the end of the text is padding."""
        if self.done:
            return
        if not self.matcher.consume_token(token):
            raise ConstraintError(f"token {token} breaks the grammar: {self.matcher.get_error()}")
        self.done = token in self.vocabulary.ends
        self._took(b"" if self.done else self.vocabulary.pieces[token])

    def _took(self, piece: bytes) -> None:
        """Learn what was written; a text that nothing steers has nothing to remember."""

    def mask(self) -> np.ndarray:
        """Return which tokens the grammar allows next, one bool for each id."""
        import numpy as np

        bits = np.frombuffer(self.matcher.compute_bitmask(), dtype=np.uint8)
        return np.unpackbits(bits, bitorder="little")[: len(self.vocabulary.pieces)].astype(bool)

    def allowed(self, left: int) -> np.ndarray:
        """Return which tokens may come next where `left` more are to be written, the end of the text included."""
        return self._only(self.vocabulary.ends) if self.done else self.mask()

    def _only(self, numbers: Sequence[int]) -> np.ndarray:
        import numpy as np

        mask = np.zeros(len(self.vocabulary.pieces), dtype=bool)
        mask[list(numbers)] = True
        return mask


class TableText(GrammarText):
    """One table as it grows: where in it the text stands, and what may come next.

    `pipes` counts the strokes after the header: 3 a row, so ``divmod(pipes, 3)`` is whole rows and cell (1 or 2,
    0 between rows); below 0 the header is not complete. `margin` is the longest way to the end of a word once begun:
    Latin words cannot be left in the middle.
    """

    def __init__(self, vocabulary: Vocabulary, grammar: Grammar, row_cost: int) -> None:
        super().__init__(vocabulary, grammar)
        self.row_cost, self.least_rows = row_cost, grammar.least_rows
        self.margin = max(len(word.encode()) for word in grammar.words) + 3
        self.text, self.pipes = b"", -grammar.header.count("|")
        self.cell_tokens = self.row_tokens = self.longest_row = 0
        self.share: float = 0

    @property
    def in_cell(self) -> bool:
        """Whether a cell is open."""
        return self.pipes > 0 and self.pipes % 3 > 0

    def _took(self, piece: bytes) -> None:
        self.text += piece
        self.cell_tokens, self.row_tokens = self.cell_tokens + 1, self.row_tokens + 1
        if b"|" not in piece:
            return
        rows = max(self.pipes, 0) // 3
        self.pipes, self.cell_tokens, self.share = self.pipes + piece.count(b"|"), 0, 0
        if self.pipes // 3 > rows:
            self.longest_row, self.row_tokens = max(self.longest_row, self.row_tokens), 0

    def allowed(self, left: int) -> np.ndarray:
        """Return which tokens may come next where `left` more are to be written, the end of the text included."""
        if self.done:
            return self._only(self.vocabulary.ends)
        mask = self.mask()
        narrowed = self._in_cell(mask, left) if self.in_cell else self._between_rows(mask, left)
        self.steered = narrowed is not mask
        return narrowed

    def _between_rows(self, mask: np.ndarray, left: int) -> np.ndarray:
        """No new row where the rest would not hold another as long as the longest."""
        if mask[self.vocabulary.ends].any() and left <= max(self.longest_row, self.row_cost) + self.margin + 1:
            return self._only(self.vocabulary.ends)
        return mask

    def _in_cell(self, mask: np.ndarray, left: int) -> np.ndarray:
        rows = self.pipes // 3
        slack = left - 1 - max(self.least_rows - rows, 1) * self.row_cost - self.margin
        # Until a table is whole, its cells share what is left.
        cells = max(2 * (self.least_rows - rows) - (self.pipes % 3 - 1), 1)
        self.share = self.share or self.row_cost / 2 + slack / cells
        over = self.cell_tokens - self.share if rows < self.least_rows else -1
        if slack <= 0 or over >= _LAST_WORDS:
            return self.closing(mask)
        return self._last_word(mask) if slack <= _LAST_WORDS or over >= 0 else mask

    def closing(self, mask: np.ndarray) -> np.ndarray:
        """Narrow `mask` to the shortest way out of the cell; where a word must end first, leave it as it is."""
        if any(map(str.isalpha, self._cell())):
            place = next((number for number in self.vocabulary.closers if mask[number]), None)
            return mask if place is None else self._only([place])
        for wanted in (self.vocabulary.first, self.vocabulary.first_bytes):
            if (mask & wanted).any():
                return mask & wanted
        return mask

    def _last_word(self, mask: np.ndarray) -> np.ndarray:
        """Let a word be ended but no other begun."""
        if not _LETTERS.fullmatch(self._cell()[-1:]):
            return self.closing(mask)
        ends = mask & (self.vocabulary.inside | self._only(self.vocabulary.closers[:2]))
        return ends if ends.any() else mask

    def _cell(self) -> str:
        """Return the text of the open cell; the bytes of a half letter are left out."""
        return self.text.rpartition(b"|")[2].decode("utf-8", "ignore")


def shortest_parts(vocabulary: Vocabulary, grammar: Grammar) -> tuple[int, int]:
    """Return how many tokens the header takes, and the shortest row, by writing them."""
    text, counts = TableText(vocabulary, grammar, row_cost=0), [0, 0]
    while text.pipes < 3:
        counts[text.pipes >= 0] += 1
        mask = text.mask()
        text.take(int((text.closing(mask) if text.in_cell else mask).argmax()))
        if sum(counts) > 400:
            raise ConstraintError("no short row can be written with this tokenizer: has it a piece for '|'?")
    return counts[0], counts[1]
