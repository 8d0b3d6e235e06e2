"""Does the model write, or does it copy? The share of generated 8-grams that stand word for word in training rows.

``table(compare(rows, train, held_out, settings))`` puts it beside the same figure for scripts that people wrote and the
model never saw: what the trade repeats anyway. ``copied_passages(text, training)`` gives the passages to read. Taught
in notebook 06. After McCoy et al. 2021, "How much do language models copy from their training data?" (RAVEN:
novelty of n-grams against a human baseline), and Carlini et al. 2022, "Quantifying memorization across neural
language models".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lekhai_helpers.core.bengali import normalize, words
from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.core.words import Words
from lekhai_helpers.prepare.contracts import get_contract, words_of

if TYPE_CHECKING:
    from pandas import DataFrame

N = 8
SEED_LENGTH = 3  # common runs shorter than this are not looked for: any two Bengali texts share some
ROUNDS = 2000

Texts = Mapping[str, str] | Sequence[str]  # texts by id, or in a list: then the id is the place, "0", "1" ...
Example = Mapping[str, Any]
Place = tuple[str, int]  # a text's id, and the number of a word in it


@dataclass(frozen=True)
class Passage:
    """A copied run of words: `words` many, the `text` they form, and the id of a training text that holds it."""

    words: int
    text: str
    where: str


@dataclass(frozen=True)
class _Copies:
    """One text against the training: for each unit the longest common run that ends there, and where it stands."""

    length: int
    runs: list[int]
    places: list[str]
    given: list[bool]  # whether the n-gram that ends here stands in the text's own brief

    def ngrams(self, n: int, beyond_brief: bool = False) -> int:
        return sum(not (beyond_brief and self.given[end]) for end in range(n - 1, self.length))

    def copied(self, n: int, beyond_brief: bool = False) -> int:
        return sum(run >= n and not (beyond_brief and self.given[end]) for end, run in enumerate(self.runs))


def verbatim_share(
    texts: Texts,
    training_texts: Texts,
    n: int = N,
    unit: Literal["word", "token"] = "word",
    *,
    what: str = "generated",
    briefs: Texts | None = None,
    tokenizer: Any = None,
    seed: int = 0,
    contract: str = "ad_script",
) -> dict[str, Any]:
    """Return how much of `texts` stands word for word in `training_texts`, as one row of a table.

    `ngrams` counts the runs of `n` units in all texts, `share` (0 to 1) those found in some training text, with `low`
    and `high` from a bootstrap over texts. Where not one is copied the bootstrap knows no spread: then read
    `texts_with_copy` of `texts`. `longest` is the longest copied run in units (0: below three), standing in the text
    `longest_in` and in the training text `longest_from`. With `briefs` (what each text was asked with, same ids),
    `share_beyond_brief` leaves out n-grams that stand in the brief itself: to repeat the client is no memorising.
    Shares are None where no text is `n` units long. Raises ValueError for texts or training that are empty, for `n`
    below 1, and for unit "token" without a tokenizer.
    """
    import numpy as np

    cut = _cutter(unit, tokenizer, contract)
    named, asked = _named(texts), _named(briefs or {})
    index = _index(_named(training_texts), cut, n)
    if not named:
        raise ValueError("there are no texts to look for copies in")
    copies = {name: _copies(cut(text), index, cut(asked.get(name, "")), n) for name, text in named.items()}
    counts = np.array([(each.copied(n), each.ngrams(n)) for each in copies.values()])
    low, high = _interval(counts, seed)
    return {
        "what": what,
        "texts": len(named),
        "ngrams": int(counts[:, 1].sum()),
        "copied": int(counts[:, 0].sum()),
        "share": _share(*counts.sum(axis=0)),
        "low": low,
        "high": high,
        "share_beyond_brief": _beyond_brief(copies.values(), n) if briefs is not None else None,
        "texts_with_copy": int((counts[:, 0] > 0).sum()),
    } | _longest(copies)


def copied_passages(text: str, training: Texts, n: int = N, contract: str = "ad_script") -> list[Passage]:
    """Return the runs of at least `n` words of `text` that stand in a training text, longest first, none overlapping.

    To be read: eight words of a disclaimer are the trade's, eight words of a story are somebody's.
    """
    cut = _cutter("word", None, contract)
    own = cut(text)
    found = _copies(own, _index(_named(training), cut, n), [], n)
    ends = sorted(range(len(own)), key=lambda end: -found.runs[end])
    taken: set[int] = set()
    passages = []
    for end in ends:
        place = range(end - found.runs[end] + 1, end + 1)
        if found.runs[end] >= n and taken.isdisjoint(place):
            taken.update(place)
            passages.append(Passage(found.runs[end], " ".join(own[i] for i in place), found.places[end]))
    return passages


def compare(
    rows: Sequence[Mapping[str, Any]],
    train: Sequence[Example],
    held_out: Sequence[Example],
    settings: Settings,
    n: int = N,
) -> list[dict[str, Any]]:
    """Return `verbatim_share` of a stage's texts and of the held-out scripts, both against the training scripts.

    `rows`: as `evaluation.write_scripts` returns them (text, prompt, brief_id, seed), where the prompt may also be the
    whole list of messages, as in an example; `train` and `held_out`: examples of the data set. A script that stands
    there once per wording of its prompt counts once.
    """
    units = words_of(settings).units
    how: dict[str, Any] = {"seed": settings.seed, "contract": settings.data.contract}
    texts = {f"{row['brief_id']}/{row['seed']}": row["text"] for row in rows}
    asked = {f"{row['brief_id']}/{row['seed']}": _asked(row["prompt"], settings) for row in rows}
    training, people = scripts_by_id(train), scripts_by_id(held_out)
    return [
        verbatim_share(texts, training, n, what="written by the model", briefs=asked, **how),
        verbatim_share(people, training, n, what=f"held-out {units}", briefs=prompts_by_id(held_out), **how),
    ]


def _asked(prompt: str | Sequence[Mapping[str, str]], settings: Settings) -> str:
    """Return everything a text was asked with: in a conversation what was said before belongs to it."""
    if isinstance(prompt, str):
        return f"{settings.system_prompt}\n{prompt}"
    return "\n".join(message["content"] for message in prompt)


def scripts_by_id(examples: Sequence[Example]) -> dict[str, str]:
    """Return each row's script once, by the row's id."""
    return {example["id"]: example["completion"][0]["content"] for example in examples}


def prompts_by_id(examples: Sequence[Example]) -> dict[str, str]:
    """Return everything a row was asked with, all wordings and the system prompt, by the row's id."""
    asked: dict[str, list[str]] = defaultdict(list)
    for example in examples:
        asked[example["id"]] += [message["content"] for message in example["prompt"]]
    return {name: "\n".join(dict.fromkeys(parts)) for name, parts in asked.items()}


def table(rows: Sequence[Mapping[str, Any]]) -> DataFrame:
    """Return the rows of `verbatim_share` as a table with one line for each set of texts."""
    import pandas as pd

    return pd.DataFrame([dict(row) for row in rows]).set_index("what")


def in_words(generated: Mapping[str, Any], held_out: Mapping[str, Any], said: Words | None = None) -> str:
    """Say what the two rows of `compare` say together; "copies" only where the intervals lie apart."""
    if generated["share"] is None or held_out["share"] is None:
        return "The texts are too short for an n-gram, so nothing can be said about copying."
    units = (said or Words()).units
    both = (
        f"{generated['share']:.1%} of the n-grams it wrote stand in training rows (in {generated['texts_with_copy']} "
        f"of {generated['texts']} texts), {held_out['share']:.1%} of those in {units} it never saw; "
        f"its longest copied run is {generated['longest']} words, theirs {held_out['longest']}"
    )
    if generated["low"] > held_out["high"]:
        return f"It copies more than people repeat by chance: {both}."
    if generated["high"] < held_out["low"]:
        return f"It copies less than people repeat by chance: {both}."
    return f"No more copying shown than people repeat by chance: {both}."


def _units(text: str, header: str) -> list[str]:
    """Return the words of a text in NFC: without punctuation, table marks, and the `header` every text has."""
    lines, nobodys = [words(line) for line in normalize(text).split("\n")], words(header.lower())
    return [word for line in lines if [word.lower() for word in line] != nobodys for word in line]


def _cutter(unit: str, tokenizer: Any, contract: str) -> Callable[[str], list[Any]]:
    header = get_contract(contract).header
    if unit == "word":
        return lambda text: _units(text, header)
    if unit != "token" or tokenizer is None:
        raise ValueError('unit is "word", or "token" with tokenizer=...: the tokens are those of a tokenizer')
    return lambda text: tokenizer(" ".join(_units(text, header)), add_special_tokens=False)["input_ids"]


def _named(texts: Texts) -> dict[str, str]:
    if isinstance(texts, str):
        raise ValueError("one text was given where several are needed: put it into a list")
    if isinstance(texts, Mapping):
        return dict(texts)
    return {str(place): text for place, text in enumerate(texts)}


def _index(training: Mapping[str, str], cut: Callable[[str], list[Any]], n: int) -> dict[tuple, list[Place]]:
    """Return every short run of units with the places where it ends. Its length is that of the keys."""
    if n < 1:
        raise ValueError(f"n is {n}; an n-gram has at least 1 unit")
    if not training:
        raise ValueError("there are no training texts to compare with: pass the rows of the split train")
    seed, index = min(n, SEED_LENGTH), defaultdict(list)
    for name, text in training.items():
        units = cut(text)
        for end in range(seed - 1, len(units)):
            index[tuple(units[end - seed + 1 : end + 1])].append((name, end))
    return index


def _copies(units: Sequence[Any], index: Mapping[tuple, list[Place]], brief: Sequence[Any], n: int) -> _Copies:
    """Follow every common run through one text: a run goes on where its place in the training moves on by one."""
    seed = min(n, SEED_LENGTH)
    runs, places = [], []
    going: dict[Place, int] = {}
    for end in range(len(units)):
        key = tuple(units[max(end - seed + 1, 0) : end + 1])  # at the very beginning too short to be found
        going = {(name, at): going.get((name, at - 1), seed - 1) + 1 for name, at in index.get(key, ())}
        best = max(going, key=lambda place: going[place], default=("", 0))
        runs.append(going.get(best, 0))
        places.append(best[0])
    asked = {tuple(brief[i : i + n]) for i in range(len(brief) - n + 1)}
    given = [tuple(units[end - n + 1 : end + 1]) in asked if end >= n - 1 else False for end in range(len(units))]
    return _Copies(len(units), runs, places, given)


def _beyond_brief(copies: Iterable[_Copies], n: int) -> float | None:
    pairs = [(each.copied(n, beyond_brief=True), each.ngrams(n, beyond_brief=True)) for each in copies]
    return _share(sum(copied for copied, _ in pairs), sum(ngrams for _, ngrams in pairs))


def _longest(copies: Mapping[str, _Copies]) -> dict[str, Any]:
    name = max(copies, key=lambda name: max(copies[name].runs, default=0))
    run = max(copies[name].runs, default=0)
    if not run:
        return {"longest": 0, "longest_in": "", "longest_from": ""}
    return {"longest": run, "longest_in": name, "longest_from": copies[name].places[copies[name].runs.index(run)]}


def _share(copied: int, ngrams: int) -> float | None:
    return round(float(copied) / float(ngrams), 4) if ngrams else None


def _interval(counts: Any, seed: int) -> tuple[float | None, float | None]:
    """Return the 95% interval of the share by drawing texts anew: the n-grams of one text hang together."""
    import numpy as np

    if not counts[:, 1].any():
        return None, None
    draws = np.random.default_rng(seed).integers(0, len(counts), (ROUNDS, len(counts)))
    copied, ngrams = counts[draws].sum(axis=1).T
    shares = copied[ngrams > 0] / ngrams[ngrams > 0]
    low, high = np.quantile(shares, [0.025, 0.975])
    return round(float(low), 4), round(float(high), 4)
