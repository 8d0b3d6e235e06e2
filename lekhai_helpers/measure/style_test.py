"""Can the tuned voice be told from the base, and is it nearer to the writer's? A classifier on held-out writing.

``style_test(writing, base, tuned)`` answers with three shares, each with its interval: is the writer known from the
base model at all, does the tuned model stand nearer to the writer than the base does, can the two models be told
apart. Only what is held out is ever judged. Topics are hidden from the classifier: it sees the common words, the marks
and their order, and a star for every other word ("text distortion", Stamatatos 2017). Taught in notebook 07.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import regex

from lekhai_helpers.measure.evaluation import wilson

if TYPE_CHECKING:
    import numpy as np

COMMON = 150  # words that are shown; the function words of a language are about as many
WINDOW = 100  # words taught at a time, so that a long text does not stand out by its length
FOLDS = 5
FEWEST = 6  # texts of the writer, and prompts: below, not even all of one mind would show anything
ALPHA = 0.05
_TOKEN = regex.compile(r"[\p{L}\p{M}\u200c\u200d]+(?:['’-][\p{L}\p{M}]+)*|\p{N}+|[^\s\p{L}\p{M}\p{N}]|\n+")
_WORD = regex.compile(r"[\p{L}\p{M}]")
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
    told     share of (base answer, tuned answer) to a prompt never seen that were put on their sides
    p        how often answers with their models changed about by lot are told apart as well as these
    """

    known: Share
    closer: Share
    told: Share
    p: float

    @property
    def distinguishable(self) -> bool:
        """Say whether the tuned voice can be told from the base."""
        return self.told.shown and self.p <= ALPHA

    @property
    def sentence(self) -> str:
        """Say it in words, no more than was shown."""
        told = "can" if self.distinguishable else "was not shown to"
        lines = [f"The tuned voice {told} be told from the base: {_words(self.told)}, p = {self.p:.2f}."]
        if not self.known.shown:
            return f"{lines[0]} The writer was not known from the base ({_words(self.known)}), so nobody can say more."
        nearer = "is" if self.closer.shown else "was not shown to be"
        lines.append(f"It {nearer} nearer to the writer than the base is: {_words(self.closer)}.")
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
    known, closer = _against_writer(writing, base, tuned, prompts, seed)
    told = _told_apart(base, tuned, prompts, seed)
    return StyleTest(known, closer, told, _by_lot(base, tuned, prompts, told.value, seed, rounds))


def distort(text: str, common: frozenset[str]) -> str:
    """Return the text's skeleton: common words and marks as they are, a star for other words, # for figures."""
    return _skeleton(_tokens(text), common)


@lru_cache(maxsize=4096)
def _tokens(text: str) -> tuple[str, ...]:
    """Return words, figures, marks and line ends; kept, because each text is taught from some hundred times."""
    return tuple(_TOKEN.findall(text))


def _mask(token: str, common: frozenset[str]) -> str:
    if token.isnumeric():
        return "#"
    if not _WORD.match(token):
        return token if token.strip() else "¶"
    folded = token.casefold().replace("’", "'")
    return folded if folded in common else "*"


def _against_writer(
    writing: Mapping[str, str], base: Answers, tuned: Answers, prompts: Sequence[str], seed: int
) -> tuple[Share, Share]:
    """Return (known, closer): a fifth of the writing and of the prompts at a time is held out of the teaching."""
    known: list[float] = []
    closer: list[float] = []
    for fold in range(FOLDS):
        own, other = _parted(sorted(writing), fold, seed), _parted(prompts, fold, seed)
        taught = [writing[name] for name in own[0]], [text for name in other[0] for text in base[name]]
        score = _teach(*taught)
        bases = {name: [score(text) for text in base[name]] for name in other[1]}
        every = [value for values in bases.values() for value in values]
        known += [_above([score(writing[name])], every) for name in own[1] if every]
        closer += [_above([score(text) for text in tuned[name]], bases[name]) for name in other[1]]
    return _share(known, min(len(known), len(prompts))), _share(closer, len(closer))


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

    common = _common_words(yes, no)
    windows = [(_skeleton(part, common), side) for side, texts in ((1, yes), (0, no)) for part in _windows(texts)]
    weigher = TfidfVectorizer(tokenizer=str.split, token_pattern=None, lowercase=False, ngram_range=(1, 3), min_df=2)
    model: Any = LogisticRegression(class_weight="balanced", max_iter=1000)
    model.fit(weigher.fit_transform([text for text, _ in windows]), [side for _, side in windows])

    def score(text: str) -> float:
        parts = [_skeleton(part, common) for part in _windows([text])]
        values: np.ndarray = model.decision_function(weigher.transform(parts))
        return float(values.mean())

    return score


def _common_words(yes: Sequence[str], no: Sequence[str]) -> frozenset[str]:
    """Return the words that both sides use most: a word of one side only would be a topic, or a name."""
    shares = [_frequencies(texts) for texts in (yes, no)]
    both = {word: min(share[word] for share in shares) for word in shares[0].keys() & shares[1].keys()}
    return frozenset(sorted(both, key=lambda word: (-both[word], word))[:COMMON])


def _frequencies(texts: Sequence[str]) -> dict[str, float]:
    tokens = [token.casefold().replace("’", "'") for text in texts for token in _tokens(text)]
    counts = Counter(token for token in tokens if _WORD.match(token))
    return {word: count / sum(counts.values()) for word, count in counts.items()}


def _skeleton(tokens: Sequence[str], common: frozenset[str]) -> str:
    return " ".join(_mask(token, common) for token in tokens)


def _windows(texts: Sequence[str]) -> list[tuple[str, ...]]:
    """Return each text in pieces of about WINDOW words; what remains goes with the last piece if it is short."""
    pieces = []
    for text in texts:
        tokens = _tokens(text)
        count = max(round(len(tokens) / WINDOW), 1)
        size = max(-(-len(tokens) // count), 1)
        pieces += [tokens[start : start + size] for start in range(0, max(len(tokens), 1), size)]
    return pieces


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
