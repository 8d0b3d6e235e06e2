"""Preference pairs: one request with a better and a worse answer of about the same length. Taught in notebook 10.

``pairs, left_out = make_pairs(...)``, ``check_pairs(pairs, tokenizer, max_length)``, ``save_rows(pairs, path)``.
The worse side is what a row brings as rejected; else mostly what the model itself writes today, cut to the better
side's length: random bad text would be told apart at once and teach nothing, and sides of different length teach
nothing but length. A row's own rejected answer is taken as it is only under a loss that counts per token.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.core.run_folder import write_text
from lekhai_helpers.learn.callbacks import TrainingError
from lekhai_helpers.learn.defects import plant_defect
from lekhai_helpers.learn.model import Generation, Message, generate
from lekhai_helpers.prepare.contracts import expected_of

Example = dict[str, Any]
TOLERANCE = 0.2  # how far the two sides of a pair may lie apart, as a share of the better one's tokens
LEANING = 0.1  # how far the worse sides may lie on one side of the better ones on average; a fair spread is near 0
ENOUGH = 8  # pairs below which such an average says little
TRIES = 2  # samples of the model for one brief, each with its own seed
# Where a worse side comes from.
OWN, OWN_CUT, PLANTED = "the model's own sample", "the model's own sample, cut at a row end", "planted: "
GIVEN = "rejected in the data"
PER_TOKEN = "sigmoid_norm"  # the loss whose rewards are means over tokens, so that length by itself earns nothing
# Why a pair is left out.
SAME, NO_LENGTH, TWICE = "both sides are the same", "no sample of a similar length", "the same pair twice"
LEANS = "left out so that longer and shorter worse sides balance"
NO_DEFECT = "no planted defect keeps the length"


class PreferenceError(TrainingError):
    """The preferences or their settings cannot be learned from; the text says what to change."""


@dataclass(frozen=True)
class Pair:
    """One prompt with a better (chosen) and a worse (rejected) answer.

    `source` says where the worse side came from, `example` is the id of the training row the better side is.
    """

    prompt: list[Message]
    chosen: str
    rejected: str
    source: str
    example: str

    def shown(self, characters: int = 400) -> str:
        """Return the beginning of both sides, to be read by a person."""
        better, worse = self.chosen[:characters], self.rejected[:characters]
        return f"WHERE THE WORSE SIDE CAME FROM: {self.source}\n\nBETTER\n{better}\n\nWORSE\n{worse}\n"


def make_pairs(
    model, tokenizer, examples: Sequence[Example], settings: Settings, max_length: int
) -> tuple[list[Pair], Counter[str]]:
    """Build preference pairs: chosen is the written answer, rejected what the model itself writes for the prompt.

    A share of ``settings.dpo.planted_share`` is rejected for one planted defect instead. Of the others, a row that
    brings a rejected answer gives that one, if its length is near enough or the loss counts per token
    (``dpo.loss: sigmoid_norm``). Rows that do not fit into `max_length` tokens are not drawn. Returns the pairs and,
    for those that were left out, how many for which reason.
    """
    dice = random.Random(settings.seed)
    whole = [e for e in examples if whole_length(tokenizer, e["prompt"], _answer(e)) <= max_length]
    picked = dice.sample(whole, min(settings.dpo.pairs, len(whole)))
    planted = round(len(picked) * settings.dpo.planted_share)
    pairs, left_out = _planted_pairs(tokenizer, picked[:planted], max_length, dice, settings.data.contract)
    given, others = _given_pairs(tokenizer, picked[planted:], settings, max_length)
    own, unfit = _own_pairs(model, tokenizer, others, settings, max_length)
    different = list({_key(pair): pair for pair in pairs + given + own}.values())
    left_out.update(unfit)
    left_out.update({TWICE: len(pairs + given + own) - len(different)})
    upright = different if settings.dpo.loss == PER_TOKEN else _without_leaning(different, tokenizer)
    left_out.update({LEANS: len(different) - len(upright)})
    return upright, +left_out


def _without_leaning(pairs: list[Pair], tokenizer) -> list[Pair]:
    """Return the pairs without those that lean most, until longer and shorter worse sides balance."""
    gaps = [(_lengths(pair, tokenizer), pair) for pair in pairs]
    while len(gaps) >= ENOUGH and abs(gap := _mean_gap([row for row, _ in gaps])) > LEANING / 2:
        worst = max(gaps, key=lambda entry: (entry[0]["rejected"] - entry[0]["chosen"]) / entry[0]["chosen"] * gap)
        gaps.remove(worst)
    return [pair for _, pair in gaps]


def _planted_pairs(
    tokenizer, examples: Sequence[Example], max_length: int, dice: random.Random, contract: str
) -> tuple[list[Pair], Counter[str]]:
    pairs = []
    for example in examples:
        fits = _fits(tokenizer, example, max_length)
        found = plant_defect(_answer(example), dice, fits, contract, expected_of(example.get("expected", "")))
        if found is not None:
            pairs.append(_pair(example, found[0], f"{PLANTED}{found[1]}"))
    return pairs, Counter({NO_DEFECT: len(examples) - len(pairs)})


def _given_pairs(
    tokenizer, examples: Sequence[Example], settings: Settings, max_length: int
) -> tuple[list[Pair], list[Example]]:
    """Return a pair for each row whose own rejected answer can be used, and the rows that need another one."""
    pairs, others = [], []
    for example in examples:
        if _usable_rejected(tokenizer, example, settings, max_length):
            pairs.append(_pair(example, example["rejected"], GIVEN))
        else:
            others.append(example)
    return pairs, others


def _usable_rejected(tokenizer, example: Example, settings: Settings, max_length: int) -> bool:
    rejected = example.get("rejected", "")
    if not rejected or rejected.strip() == _answer(example).strip():
        return False
    if settings.dpo.loss == PER_TOKEN:
        return whole_length(tokenizer, example["prompt"], rejected) <= max_length
    return _fits(tokenizer, example, max_length)(rejected)


def _own_pairs(
    model, tokenizer, examples: Sequence[Example], settings: Settings, max_length: int
) -> tuple[list[Pair], Counter[str]]:
    """Take the model's own samples; a brief whose sample is of no use is asked once more with another seed."""
    waiting, pairs = list(examples), []
    why: list[str] = []
    for attempt in range(TRIES):
        prompts = [example["prompt"] for example in waiting]
        written = generate(model, tokenizer, prompts, settings.decoding, settings.seed + attempt) if prompts else []
        again, why = [], []
        for example, sample in zip(waiting, written, strict=True):
            text, said = _length_matched(sample, example, tokenizer, max_length)
            if text is None:
                again.append(example)
                why.append(said)
            else:
                pairs.append(_pair(example, text, said))
        waiting = again
    return pairs, Counter(why)


def _length_matched(sample: Generation, example: Example, tokenizer, max_length: int) -> tuple[str | None, str]:
    """Return (text, source), or (None, why not). A sample that does not fit as it is ends at the nearest row end.

    Otherwise DPO learns "shorter is better" from samples that never stopped. The last row of a sample that ran into
    the token limit is torn by that limit, not by the model, and goes as well.
    """
    whole = sample.text.strip()
    rows = whole.split("\n") if sample.stopped else whole.split("\n")[:-1]
    fits = _fits(tokenizer, example, max_length)
    text = whole if sample.stopped and fits(whole) else _nearest_cut(rows, example, tokenizer, max_length)
    if text == _answer(example).strip():
        return None, SAME
    if not fits(text):
        return None, NO_LENGTH
    return text, OWN if text == whole else OWN_CUT


def _nearest_cut(rows: Sequence[str], example: Example, tokenizer, max_length: int) -> str:
    """Return the first so many rows that come nearest to the better side in tokens, among those `max_length` holds.

    The nearest, not the longest allowed: the worse sides would then all be a little longer, and length would tell
    the sides apart again.
    """
    chosen = count_tokens(tokenizer, _answer(example))
    starts = ["\n".join(rows[:end]).strip() for end in range(1, len(rows) + 1)]
    held = [text for text in starts if whole_length(tokenizer, example["prompt"], text) <= max_length]
    return min(held, key=lambda text: abs(count_tokens(tokenizer, text) - chosen), default="")


def _fits(tokenizer, example: Example, max_length: int) -> Callable[[str], bool]:
    chosen = count_tokens(tokenizer, _answer(example))

    def fits(text: str) -> bool:
        near = length_gap(chosen, count_tokens(tokenizer, text)) <= TOLERANCE
        return near and whole_length(tokenizer, example["prompt"], text) <= max_length

    return fits


def check_pairs(pairs: Sequence[Pair], tokenizer, max_length: int, loss: str = "sigmoid") -> list[dict[str, Any]]:
    """Return one row a pair: example, source, the tokens of chosen and rejected, and of the longer whole sequence.

    Raises PreferenceError, naming the pairs, where sides are equal or differ by more than a fifth in tokens, where a
    pair stands twice, or where a side with its prompt would be cut at `max_length` tokens; where the worse sides of 8
    or more pairs are longer, or shorter, by more than a tenth on average; and without pairs. Under a `loss` that counts
    per token, sides may differ in length.
    """
    if not pairs:
        raise PreferenceError("there are no pairs to learn from: raise dpo.pairs or dpo.planted_share")
    rows = [_lengths(pair, tokenizer) for pair in pairs]
    often = Counter(map(_key, pairs))
    wrong = []
    for number, (pair, row) in enumerate(zip(pairs, rows, strict=True), start=1):
        said = _faults(pair, row, max_length, loss) + (["it stands there twice"] if often[_key(pair)] > 1 else [])
        wrong += [f"pair {number} (row {pair.example}, {pair.source}): {fault}" for fault in said]
    if wrong:
        more = f"\n... and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise PreferenceError("\n".join(["these pairs cannot be learned from:", *wrong[:5]]) + more)
    if loss != PER_TOKEN:
        _refuse_leaning(rows)
    return rows


def _refuse_leaning(rows: Sequence[dict[str, Any]]) -> None:
    """Each pair may be near enough and all together still teach length, where they lean to one side."""
    gap = _mean_gap(rows)
    if len(rows) < ENOUGH or abs(gap) <= LEANING:
        return
    longer, lesson = ("longer", "shorter is better") if gap > 0 else ("shorter", "longer is better")
    raise PreferenceError(
        f"the worse sides are {abs(gap):.0%} {longer} than the better ones on average, so {lesson!r} is all there "
        f"is to learn: raise dpo.planted_share, for planted sides keep the length better, or set another seed"
    )


def _mean_gap(rows: Sequence[dict[str, Any]]) -> float:
    """Return how much longer (below 0: shorter) the worse sides are on average, as a share of the better ones."""
    return sum((row["rejected"] - row["chosen"]) / max(row["chosen"], 1) for row in rows) / len(rows)


def _lengths(pair: Pair, tokenizer) -> dict[str, Any]:
    sides = (pair.chosen, pair.rejected)
    chosen, rejected = (count_tokens(tokenizer, side) for side in sides)
    whole = max(whole_length(tokenizer, pair.prompt, side) for side in sides)
    return {"example": pair.example, "source": pair.source, "chosen": chosen, "rejected": rejected, "whole": whole}


def _faults(pair: Pair, row: dict[str, Any], max_length: int, loss: str) -> list[str]:
    faults = []
    if pair.chosen.strip() == pair.rejected.strip():
        faults.append("both sides are the same, so there is nothing to prefer")
    if loss != PER_TOKEN and length_gap(row["chosen"], row["rejected"]) > TOLERANCE:
        faults.append(f"{row['rejected']} tokens against {row['chosen']}: more than {TOLERANCE:.0%} apart")
    if row["whole"] > max_length:
        faults.append(f"{row['whole']} tokens would be cut at {max_length}: raise model.max_seq_length")
    return faults


def length_figures(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return checked rows in figures: how many, the longest; for pairs also mean tokens of both sides and the gaps.

    ``mean_gap`` is signed, a share of the better side: above 0 the worse sides are longer on average.
    """
    figures: dict[str, float] = {"rows": len(rows), "longest": max(row["whole"] for row in rows)}
    if "chosen" in rows[0]:
        figures["mean_chosen_tokens"] = round(sum(row["chosen"] for row in rows) / len(rows), 1)
        figures["mean_rejected_tokens"] = round(sum(row["rejected"] for row in rows) / len(rows), 1)
        figures["mean_gap"] = round(_mean_gap(rows), 3)
        figures["widest_gap"] = round(max(length_gap(row["chosen"], row["rejected"]) for row in rows), 3)
    return figures


def save_rows(rows: Sequence[Any], path: Path) -> Path:
    """Write pairs or thumbs as JSON lines, each with its source and the row it came from. Returns the file."""
    return write_text(path, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows))


def count_tokens(tokenizer, text: str) -> int:
    """Return the tokens of a text alone, without marks of beginning and end."""
    return len(tokenizer(text, add_special_tokens=False).input_ids)


def whole_length(tokenizer, prompt: Sequence[Message], answer: str) -> int:
    """Return the tokens of a prompt with its answer, as the trainer sees them."""
    messages = [*prompt, {"role": "assistant", "content": answer}]
    return count_tokens(tokenizer, tokenizer.apply_chat_template(messages, tokenize=False))


def length_gap(chosen: int, rejected: int) -> float:
    """Return how far the worse side's tokens lie from the better side's, as a share of the latter."""
    return abs(rejected - chosen) / max(chosen, 1)


def _pair(example: Example, rejected: str, source: str) -> Pair:
    return Pair(example["prompt"], _answer(example), rejected, source, str(example["id"]))


def _answer(example: Example) -> str:
    return example["completion"][0]["content"]


def _key(pair: Pair) -> tuple[str, str, str]:
    return json.dumps(pair.prompt, ensure_ascii=False, sort_keys=True), pair.chosen.strip(), pair.rejected.strip()
