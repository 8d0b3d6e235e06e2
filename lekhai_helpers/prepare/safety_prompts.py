"""Safe and unsafe-intent prompts for the Alignment Quality Index. Taught in notebook 11.

``load_set(settings.aqi, seed)`` reads the set a recipe names: our own (`load_prompts`) or one of two public ones, from
a hub or from a folder (`load_litmus`, `load_alignment_instructions`). Our unsafe prompts say what a person wants and
nothing on how it is done: the index reads what a model makes of the question, so no answer is ever written.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lekhai_helpers.core.bengali import bengali_share, words
from lekhai_helpers.core.recipe import Aqi, data_file

if TYPE_CHECKING:
    from pandas import DataFrame

Side = Literal["safe", "unsafe"]
SIDES: tuple[Side, Side] = ("safe", "unsafe")
# The seven axioms of LITMUS, the prompts of the Alignment Quality Index (arXiv 2506.13901).
AXIOMS = (
    "Civility & Tolerance",
    "Duty & Accountability",
    "Empathy & Helpfulness",
    "Information Seeking",
    "Justice & Rights",
    "Well-being & Peace",
    "Wisdom & Knowledge",
)
LITMUS = "hasnat79/litmus"
ALIGNMENT_INSTRUCTIONS = "Vaibhaav/alignment-instructions"
LONGEST = 1_000  # characters; a few prompts of LITMUS are as long as a book chapter


class PromptError(ValueError):
    """The prompts cannot be used; the text says what is wrong, where, and what to do next."""


@dataclass(frozen=True)
class SafetyPrompt:
    """One prompt. `answer` is empty unless the set labels answers (a refusal, a harmful one) and not questions."""

    id: str
    axiom: str
    side: Side
    language: str
    prompt: str
    origin: str
    answer: str = ""

    @property
    def topic(self) -> str:
        """Name what the safe and the unsafe prompt of a pair share; a prompt without a partner is its own topic."""
        return self.id.removesuffix(f"-{self.side}")


def load_set(aqi: Aqi, seed: int = 0) -> list[SafetyPrompt]:
    """Return the prompts that `aqi.prompts` names, `aqi.per_side` of each side; `seed` chooses from a public set.

    ``litmus`` and ``alignment-instructions`` come from their hub, ``litmus:FOLDER`` from a folder of the set's files;
    anything else is a JSONL file, by its path or its name in the data folder. Raises PromptError.
    """
    name, _, folder = aqi.prompts.partition(":")
    if name in PUBLIC_SETS:
        where, load = PUBLIC_SETS[name]
        return load(folder or where, aqi.per_side, seed)
    try:
        return load_prompts(aqi.prompts, aqi.per_side)
    except FileNotFoundError as error:
        raise PromptError(f"{error}; aqi.prompts takes a JSONL file or one of: {', '.join(PUBLIC_SETS)}") from None


def load_prompts(file: str = "aqi_prompts.jsonl", per_side: int | None = None) -> list[SafetyPrompt]:
    """Read a JSONL file of prompts (fields of SafetyPrompt), or `per_side` of each side, spread over the axioms.

    Raises PromptError with the line at fault, or where a side has not that many.
    """
    prompts = [
        _read_line(line, number, file)
        for number, line in enumerate(data_file(file).read_text(encoding="utf-8").splitlines(), start=1)
        if line.strip()
    ]
    problems = check_prompts(prompts)
    if problems:
        raise PromptError(f"{file} cannot be used: {'; '.join(problems)}")
    return choose(prompts, per_side, file) if per_side else prompts


def _read_line(line: str, number: int, file: str) -> SafetyPrompt:
    known = {field.name for field in fields(SafetyPrompt)}
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise PromptError(f"{file}, line {number} is no JSON ({error}): one object a line is needed") from None
    given = set(row) if isinstance(row, dict) else set()
    if not known - {"answer"} <= given <= known:
        raise PromptError(f"{file}, line {number} must have {', '.join(sorted(known - {'answer'}))} and nothing else")
    wrong = [name for name in given if not isinstance(row[name], str) or (name != "answer" and not row[name].strip())]
    if wrong:
        raise PromptError(f"{file}, line {number}: {', '.join(sorted(wrong))} must be a text that is not empty")
    return SafetyPrompt(**row | {"prompt": row["prompt"].strip()})


def check_prompts(prompts: Sequence[SafetyPrompt]) -> list[str]:
    """Return what is wrong with a set, in words: an unknown side, an id or a text twice, sides of unequal number."""
    problems = [f"{p.id}: side {p.side!r} is neither safe nor unsafe" for p in prompts if p.side not in SIDES]
    for what, values in (("id", [p.id for p in prompts]), ("prompt", [p.prompt + p.answer for p in prompts])):
        twice = sorted({value for value in values if values.count(value) > 1})
        problems += [f"the {what} {value!r} stands there twice" for value in twice[:3]]
    counts = [sum(p.side == side for p in prompts) for side in SIDES]
    if counts[0] != counts[1] or not counts[0]:
        problems.append(f"{counts[0]} safe and {counts[1]} unsafe prompts: as many of each are needed")
    return problems


def choose(prompts: Sequence[SafetyPrompt], per_side: int, source: str) -> list[SafetyPrompt]:
    """Return `per_side` prompts of each side, one of each axiom and language in turn, in the order they came.

    Both sides are dealt alike, so that pairs stay together where the set has pairs.
    """
    chosen: list[SafetyPrompt] = []
    for side in SIDES:
        dealt = _in_turn([p for p in prompts if p.side == side])
        if len(dealt) < per_side:
            raise PromptError(f"{source} has {len(dealt)} {side} prompts, {per_side} were asked: lower aqi.per_side")
        chosen += dealt[:per_side]
    return chosen


def _in_turn(prompts: Iterable[SafetyPrompt]) -> list[SafetyPrompt]:
    """Order prompts so that the first n of them are spread over axioms and languages as evenly as n allows."""
    languages: dict[str, dict[str, list[SafetyPrompt]]] = defaultdict(lambda: defaultdict(list))
    for prompt in prompts:
        languages[prompt.language][prompt.axiom].append(prompt)
    return _deal([_deal(list(axioms.values())) for axioms in languages.values()])


def _deal(hands: Sequence[list[SafetyPrompt]]) -> list[SafetyPrompt]:
    longest = max(map(len, hands), default=0)
    return [hand[place] for place in range(longest) for hand in hands if place < len(hand)]


def overview(prompts: Sequence[SafetyPrompt]) -> DataFrame:
    """Return a table by axiom and language: how many of each side, and their mean length in words."""
    import pandas as pd

    rows = [(p.axiom, p.language, p.side, len(words(p.prompt))) for p in prompts]
    table = pd.DataFrame(rows, columns=["axiom", "language", "side", "words"])
    grouped = table.groupby(["axiom", "language", "side"])["words"].agg(["size", "mean"]).unstack("side")
    grouped.columns = [f"{side}: {'prompts' if what == 'size' else 'words'}" for what, side in grouped.columns]
    return grouped.round(1)


def fingerprint(prompts: Sequence[SafetyPrompt]) -> str:
    """Return a SHA-256 of sides and texts in their order: are two models measured on the same prompts?"""
    parts = [[p.side, p.prompt, p.answer] for p in prompts]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()


def load_litmus(where: str = LITMUS, per_side: int = 96, seed: int = 0) -> list[SafetyPrompt]:
    """Return a random `per_side` of each side of LITMUS, from a hub id or a folder of its files, spread over axioms.

    Columns read: axiom, safety_label, input. Prompts over 1000 characters are left out. Raises PromptError.
    """
    rows = _read_set(where, ["axiom", "safety_label", "input"])
    prompts: dict[str, SafetyPrompt] = {}
    for number, row in enumerate(rows):
        text, side = str(row["input"] or "").strip(), str(row["safety_label"])
        if side not in SIDES:
            raise PromptError(f"{where}, row {number}: safety_label is {side!r}, neither safe nor unsafe")
        if 0 < len(text) <= LONGEST:
            axiom, language = str(row["axiom"]), _language(text)
            prompts.setdefault(text, SafetyPrompt(f"litmus-{number}", axiom, side, language, text, where))
    return choose(_shuffled(list(prompts.values()), seed), per_side, where)


def load_alignment_instructions(
    where: str = ALIGNMENT_INSTRUCTIONS, per_side: int = 96, seed: int = 0
) -> list[SafetyPrompt]:
    """Return `per_side` prompts twice over: with the accepted answer (safe) and with the rejected one (unsafe).

    This set labels answers and not questions, so a model reads question and answer together, as the paper has it. It
    has no axioms. Columns read: Prompt, Accepted Response, Rejected Response. Raises PromptError.
    """
    answers = {"safe": "Accepted Response", "unsafe": "Rejected Response"}
    rows = _read_set(where, ["Prompt", *answers.values()])
    whole: dict[str, list[SafetyPrompt]] = {}
    for number, row in enumerate(rows):
        prompt = str(row["Prompt"] or "").strip()
        given = {side: str(row[answers[side]] or "").strip() for side in SIDES}
        if prompt and all(0 < len(text) <= LONGEST for text in (prompt, *given.values())):
            pair = [
                SafetyPrompt(f"instructions-{number}-{side}", "", side, _language(prompt), prompt, where, given[side])
                for side in SIDES
            ]
            whole.setdefault(prompt, pair)
    pairs = list(whole.values())
    random.Random(seed).shuffle(pairs)
    return choose([prompt for pair in pairs for prompt in pair], per_side, where)


# What a recipe may name instead of a file: where it is by default, and what reads it.
PUBLIC_SETS: dict[str, tuple[str, Callable[[str, int, int], list[SafetyPrompt]]]] = {
    "litmus": (LITMUS, load_litmus),
    "alignment-instructions": (ALIGNMENT_INSTRUCTIONS, load_alignment_instructions),
}


def _shuffled(prompts: list[SafetyPrompt], seed: int) -> list[SafetyPrompt]:
    random.Random(seed).shuffle(prompts)
    return prompts


def _language(text: str) -> str:
    return "bn" if bengali_share(text) > 0.5 else "en"


def _read_set(where: str, columns: Sequence[str]) -> Any:
    """Return the rows of a data set, from a folder of csv, json or parquet files, or from a hub."""
    import datasets
    import httpx

    folder = Path(where).expanduser()
    try:
        rows = datasets.load_dataset(str(folder) if folder.is_dir() else where, split="train")
    except (OSError, ValueError, httpx.HTTPError, datasets.exceptions.DatasetsError) as error:
        raise PromptError(
            f"{where} cannot be read ({type(error).__name__}: {error}). Check the name and the network, or download "
            "its files into a folder and name that folder"
        ) from error
    missing = [column for column in columns if column not in rows.column_names]
    if missing:
        raise PromptError(f"{where} has no column {', '.join(missing)}; it has {', '.join(rows.column_names)}")
    return rows
