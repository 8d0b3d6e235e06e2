"""Two models, two dictionaries: what survives a merge, and what to do where they differ. Taught in notebook 02.

mergekit aligns rows by the piece, not by its number. A piece only one donor knows takes that donor's row; we name the
source of each (`token_sources`). SLERP turns the table as a whole and so stretches such a row a little (by 1 over the
cosine of half the angle between the donors at t = 0.5); linear merging leaves it as it was.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lekhai_helpers.core.bengali import words
from lekhai_helpers.prepare.model_facts import MergeError

# What the early conversion test cuts into tokens: prose, tables, English, digits, marks and an emoji.
CONVERSION_TEXTS = (
    "আজকের বিজ্ঞাপনটি আপনার পরিবারের জন্য।",
    "ক্ষুধার্ত শিশু, বৃষ্টিভেজা সন্ধ্যা আর এক কাপ গরম চা।",
    "ঢাকার রিকশাচালক হেসে বলেন, “চলুন, বাড়ি যাই!”",
    "| Visual | Audio |\n|---|---|\n| মাঠে কৃষক | ভিও: নতুন বীজ |",
    "| শেষ দৃশ্য: লোগো | SFX: ঘণ্টা |",
    "দাম মাত্র ৳৪৯৯, ছাড় ২০%।",
    "Only 499 taka, 20% off until 31/12/2026.",
    "Write a 30-second Bangla commercial for a paint brand.",
    "  দুটি  ফাঁকা   ঘর\n\nআর নতুন লাইন",
    "চা ☕ আর হাসি 🙂",
)


class Answer(Protocol):
    """What `must_stop` looks at: `learn.model.Generation` has it."""

    @property
    def stopped(self) -> bool: ...


@dataclass(frozen=True)
class Survival:
    """What became of a donor's Bengali pieces: piece to its ids before and after (None where it is gone)."""

    pieces: dict[str, tuple[int, int | None]]

    @property
    def kept(self) -> int:
        """How many pieces are still there, under whichever id."""
        return sum(after is not None for _, after in self.pieces.values())

    @property
    def same_id(self) -> int:
        """How many pieces are still there under their old id."""
        return sum(before == after for before, after in self.pieces.values())

    @property
    def sentence(self) -> str:
        """The result in words."""
        count = len(self.pieces)
        return f"{self.kept} of {count} Bengali pieces survive, {self.same_id} of them under the same id"

    def table(self, rows: int = 8):
        """Return a pandas table of some pieces, the lost and the moved ones first: piece, before, after."""
        import pandas as pd

        def order(item: tuple[str, tuple[int, int | None]]) -> tuple[bool, bool]:
            before, after = item[1]
            return after is not None, before == after

        shown = sorted(self.pieces.items(), key=order)[:rows]
        table = pd.DataFrame([(piece, *ids) for piece, ids in shown], columns=["piece", "id before", "id after"])
        return table.astype({"id after": "Int64"}).set_index("piece")


def survival(before, after) -> Survival:
    """Compare two tokenizers: which Bengali pieces of the first the second still has, and under which ids."""
    has = after.get_vocab()
    return Survival(
        {piece: (number, has.get(piece)) for piece, number in before.get_vocab().items() if _bengali(before, piece)}
    )


def _bengali(tokenizer, piece: str) -> bool:
    """Say whether a piece holds a Bengali letter; byte-level tokenizers spell them in an alphabet of their own."""
    text = piece if any(char >= "\u0980" for char in piece) else tokenizer.convert_tokens_to_string([piece])
    return any("\u0980" <= char <= "\u09ff" for char in text)


def tokens_per_word(tokenizer, texts: Sequence[str]) -> float:
    """Return how many tokens a word costs on these texts, punctuation included."""
    counted = sum(len(words(text)) for text in texts)
    if not counted:
        raise MergeError("there is no word in these texts to count tokens for")
    return sum(len(tokenizer(text, add_special_tokens=False).input_ids) for text in texts) / counted


def read_alike(first, second) -> bool:
    """Say whether two tokenizers turn the same text or chat into the same ids."""

    def rules(tokenizer) -> tuple[Any, ...]:
        return tokenizer.get_vocab(), tokenizer.chat_template, tokenizer.bos_token_id, tokenizer.eos_token_id

    return rules(first) == rules(second)


def token_sources(first, second, first_model: str, second_model: str) -> dict[str, str]:
    """Return whose row each piece takes in a union that only one donor knows: piece to that donor.

    Pieces of both need no entry: they are blended like every other number.
    """
    own, other = first.get_vocab(), second.get_vocab()
    return {piece: first_model for piece in own if piece not in other} | {
        piece: second_model for piece in other if piece not in own
    }


def union_sentence(first, second) -> str:
    """Say what a union of two dictionaries would take, and what to beware of."""
    own, other = set(first.get_vocab()), set(second.get_vocab())
    if own == other:
        return "both dictionaries hold the same pieces: nothing to unite"
    return (
        f"{len(own & other)} pieces in common, {len(own - other)} only in the first, {len(other - own)} only in the "
        "second; what the second adds is found in a text before everything else, which can change how it is cut"
    )


def tokensurgeon_command(structure: str, language: str, out: str, neighbours: int = 64) -> str:
    """Return the command that gives the structure donor the language donor's dictionary.

    Worth it where the dictionaries differ and a plain union would blend rows that only one donor has trained: each
    missing row is written as a mix of `neighbours` known ones (orthogonal matching pursuit). It changes dictionaries
    only, never an architecture.
    """
    command = ["mergekit-tokensurgeon", structure, language, out]
    return shlex.join([*command, "--approximation-method", "omp", "--k", str(neighbours), "--lazy-unpickle"])


def surgery_offer(first, second, structure: str, language: str, out: str) -> str:
    """Return the command where it applies, else the sentence why it does not."""
    own, other = set(first.get_vocab()), set(second.get_vocab())
    if own <= other:
        return "no surgery needed: the structure donor knows every piece of the language donor"
    return (
        f"{len(own - other)} pieces are new to the structure donor:\n{tokensurgeon_command(structure, language, out)}"
    )


def must_stop(answers: Sequence[Answer], at_least: int) -> int:
    """Return how many answers ended by themselves. Raises MergeError where they are fewer than `at_least`."""
    stopped = sum(answer.stopped for answer in answers)
    if stopped < at_least:
        raise MergeError(
            f"only {stopped} of {len(answers)} answers end by themselves, at least {at_least} must: look at "
            "eos_token_id in config.json and generation_config.json, and at the end token of the chat template"
        )
    return stopped


def least_stops(base_stops: int, asked: int, taught: bool) -> tuple[int, str]:
    """Return how many of `asked` answers a candidate must end by itself, and the rule in words.

    `base_stops`: how many the base ended. `taught`: the donors are ready chat models, which were taught to end.
    """
    if taught:
        return asked, f"ready chat models were taught to end an answer: a candidate must end all {asked}"
    said = f"the base itself ends {base_stops} of {asked}"
    if base_stops <= 1:  # not even ending none is then more than one answer worse than the base
        return 0, f"{said}, so this exam excludes nobody here"
    return base_stops - 1, f"{said}: a candidate must end at least {base_stops - 1}"


def stopped_share(answers: Sequence[Answer]) -> float:
    """Return the share of answers that ended by themselves."""
    return sum(answer.stopped for answer in answers) / len(answers)


def sync_table(tokenizers: dict[str, Any], texts: Sequence[str]):
    """Return a pandas table of tokenizers: pieces, Bengali pieces, tokens per word on `texts`."""
    import pandas as pd

    rows = [
        (name, len(t), sum(_bengali(t, piece) for piece in t.get_vocab()), round(tokens_per_word(t, texts), 3))
        for name, t in tokenizers.items()
    ]
    return pd.DataFrame(rows, columns=["whose", "pieces", "bengali pieces", "tokens per word"]).set_index("whose")
