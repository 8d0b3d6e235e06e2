"""Can the tuned voice be told from the base, and is it nearer to the writer's? A classifier on held-out writing.

``style_test(writing, base, tuned)`` answers with four shares, each with its interval: is the writer known from the
base model at all, does the tuned model stand nearer to the writer than the base does (by two measures that must agree),
can the two models be told apart. Only what is held out is ever judged. Topics are hidden: it sees the common words, the
marks and their order, and a star for every other word (`measure.skeletons`). Taught in notebook 07.

Why two measures: a classifier that knows only writer and base takes whatever is unlike the base for the writer's, noise
included. So the tuned answers must also be more *alike* to the writer's pages than the base's are.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lekhai_helpers.measure.evaluation import wilson
from lekhai_helpers.measure.skeletons import STAR, common_words, skeleton, tokens, windows

if TYPE_CHECKING:
    import numpy as np

FOLDS = 5
FEWEST = 6  # texts of the writer, and prompts: below, not even all of one mind would show anything
ALPHA = 0.05
Answers = Mapping[str, Sequence[str]]  # what a model wrote, by the prompt's id


@dataclass(frozen=True)
class Share:
    """A share of 0 to 1 with its 95% interval; guessing gives 0.5. `n` counts prompts (or texts of the writer).

    The interval is Wilson's over `n`, as if each were one yes or no: wider than need be where answers are several.
    """

    value: float
    low: float
    high: float
    n: int

    @property
    def shown(self) -> bool:
        """Say whether it is more than guessing."""
        return self.low > 0.5


@dataclass(frozen=True)
class StyleTest:
    """What the classifier found.

    known    share of (held-out text of the writer, base answer) with the writer's text taken for the writer's
    closer   share of (base answer, tuned answer) to one prompt with the tuned one taken for the writer's
    alike    share of the same pairs with the tuned one more alike to the writer's pages, by the cosine of their runs of
             two and three words and marks (runs of hidden words left out, so noise is like nothing); it counts only if
             it beats its own words shuffled, too, so guessing gives less than 0.5
    told     share of (base answer, tuned answer) to a prompt never seen that were put on their sides
    p        how often answers with their models changed about by lot are told apart as well as these
    """

    known: Share
    closer: Share
    alike: Share
    told: Share
    p: float

    @property
    def distinguishable(self) -> bool:
        """Say whether the tuned voice can be told from the base."""
        return self.told.shown and self.p <= ALPHA

    @property
    def nearer(self) -> bool:
        """Say whether the tuned voice stands nearer to the writer than the base does: both measures have to show it."""
        return self.known.shown and self.closer.shown and self.alike.shown

    @property
    def sentence(self) -> str:
        """Say it in words, no more than was shown."""
        told = "can" if self.distinguishable else "was not shown to"
        lines = [f"The tuned voice {told} be told from the base: {_words(self.told)}, p = {self.p:.2f}."]
        if not self.known.shown:
            return f"{lines[0]} The writer was not known from the base ({_words(self.known)}), so nobody can say more."
        nearer = "is" if self.nearer else "was not shown to be"
        both = f"taken for the writer's: {_words(self.closer)}; more alike to the writer's pages: {_words(self.alike)}"
        lines.append(f"It {nearer} nearer to the writer than the base is ({both}).")
        return " ".join(lines)


def style_test(writing: Mapping[str, str], base: Answers, tuned: Answers, seed: int = 0, rounds: int = 99) -> StyleTest:
    """Hold the answers of two models, and texts of the writer (by id), against each other.

    `writing` must be held out from the tuned model's training, or sentences learned by heart would count as style.
    Raises ValueError for fewer than six texts of the writer, or six prompts that both models answered.
    """
    prompts = sorted(name for name in base.keys() & tuned.keys() if base[name] and tuned[name])
    if len(writing) < FEWEST or len(prompts) < FEWEST:
        raise ValueError(
            f"{len(writing)} texts of the writer and {len(prompts)} prompts answered by both models are too few: "
            f"{FEWEST} of each are needed"
        )
    known, closer, alike = _against_writer(writing, base, tuned, prompts, seed)
    told = _told_apart(base, tuned, prompts, seed)
    return StyleTest(known, closer, alike, told, _by_lot(base, tuned, prompts, told.value, seed, rounds))


def _against_writer(
    writing: Mapping[str, str], base: Answers, tuned: Answers, prompts: Sequence[str], seed: int
) -> tuple[Share, Share, Share]:
    """Return (known, closer, alike); a fifth of the writing and of the prompts at a time is held out."""
    known: list[float] = []
    closer: list[float] = []
    alike: list[float] = []
    for fold in range(FOLDS):
        own, other = _parted(sorted(writing), fold, seed), _parted(prompts, fold, seed)
        taught = [writing[name] for name in own[0]], [text for name in other[0] for text in base[name]]
        score, likeness = _teach(*taught), _likeness(*taught)
        every = [score(text) for name in other[1] for text in base[name]]
        known += [_above([score(writing[name])], every) for name in own[1] if every]
        closer += [_above(list(map(score, tuned[name])), list(map(score, base[name]))) for name in other[1]]
        alike += [_more_alike(likeness, tuned[name], base[name]) for name in other[1]]
    return _share(known, min(len(known), len(prompts))), _share(closer, len(closer)), _share(alike, len(alike))


def _told_apart(base: Answers, tuned: Answers, prompts: Sequence[str], seed: int) -> Share:
    """Return how often the two answers to a prompt are put on their sides by a classifier that never saw the prompt."""
    found = []
    for fold in range(FOLDS):
        taught, held = _parted(prompts, fold, seed)
        score = _teach([text for n in taught for text in tuned[n]], [text for n in taught for text in base[n]])
        found += [_above(list(map(score, tuned[name])), list(map(score, base[name]))) for name in held]
    return _share(found, len(found))


def _by_lot(base: Answers, tuned: Answers, prompts: Sequence[str], reached: float, seed: int, rounds: int) -> float:
    """Return the share of swaps, prompt by prompt, told apart at least as well; the true order is counted in."""
    import numpy as np

    dice, hits = np.random.default_rng(seed), 1
    for _ in range(rounds):
        swapped = {name for name, lot in zip(prompts, dice.integers(0, 2, len(prompts)), strict=True) if lot}
        first = {name: tuned[name] if name in swapped else base[name] for name in prompts}
        second = {name: base[name] if name in swapped else tuned[name] for name in prompts}
        hits += _told_apart(first, second, prompts, seed).value >= reached - 1e-9
    return hits / (rounds + 1)


def _parted(names: Sequence[str], fold: int, seed: int) -> tuple[list[str], list[str]]:
    """Return (taught, held out) of one fold; which is which hangs on the names and the seed, not on their order."""
    shuffled = sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    return [name for place, name in enumerate(shuffled) if place % FOLDS != fold], shuffled[fold::FOLDS]


def _teach(yes: Sequence[str], no: Sequence[str]) -> Callable[[str], float]:
    """Return a function from a text to how much it speaks for `yes` (log-odds, the mean over its windows)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    common = common_words(yes, no)
    shown = [(skeleton(part, common), side) for side, texts in ((1, yes), (0, no)) for part in windows(texts)]
    weigher = TfidfVectorizer(tokenizer=str.split, token_pattern=None, lowercase=False, ngram_range=(1, 3), min_df=2)
    model: Any = LogisticRegression(class_weight="balanced", max_iter=1000)
    model.fit(weigher.fit_transform([text for text, _ in shown]), [side for _, side in shown])

    def score(text: str) -> float:
        parts = [skeleton(part, common) for part in windows([text])]
        values: np.ndarray = model.decision_function(weigher.transform(parts))
        return float(values.mean())

    return score


def _likeness(yes: Sequence[str], no: Sequence[str]) -> Callable[[str], float]:
    """Return a function from a text to its cosine with the pages of `yes`; `no` only says which words are common.

    Runs of two and three, for single words would stay the same when a text is shuffled.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    common = common_words(yes, no)
    weigher = TfidfVectorizer(analyzer=_runs)
    seen = weigher.fit_transform([skeleton(tokens(text), common) for text in (*yes, *no)])
    profile = seen[: len(yes)].mean(axis=0).A1

    def likeness(text: str) -> float:
        return float((weigher.transform([skeleton(tokens(text), common)]) @ profile)[0])

    return likeness


def _more_alike(likeness: Callable[[str], float], tuned: Sequence[str], base: Sequence[str]) -> float:
    """Return the share of pairs whose tuned text is more like the pages than the base's, and than itself shuffled."""
    written = [text for text in tuned if likeness(text) > likeness(_shuffled(text))]
    wins = sum(likeness(one) > likeness(other) for one in written for other in base)
    return wins / (len(tuned) * len(base))


def _shuffled(text: str) -> str:
    parts = tokens(text)
    return " ".join(random.Random(text).sample(parts, len(parts)))


def _runs(shown: str) -> list[str]:
    """Return the runs of two and three of a skeleton that hold more than stars."""
    parts = shown.split()
    runs = [parts[start : start + size] for size in (2, 3) for start in range(len(parts) - size + 1)]
    return [" ".join(run) for run in runs if set(run) != {STAR}] or [""]  # else nothing but stars would be an error


def _above(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the share of pairs in which the first side scores higher; a tie is half."""
    wins = sum((a > b) + (a == b) / 2 for a in first for b in second)
    return wins / (len(first) * len(second))


def _share(values: Sequence[float], n: int) -> Share:
    value = sum(values) / len(values)
    low, high = wilson(value * n, n)  # type: ignore[arg-type]
    return Share(value, low, high, n)


def _words(share: Share) -> str:
    return f"{share.value:.0%} of the pairs ({share.low:.0%} to {share.high:.0%}, n = {share.n}, guessing 50%)"
