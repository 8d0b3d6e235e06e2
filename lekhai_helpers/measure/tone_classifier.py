"""Which tone does a script have? A small classifier over groups of letters, taught by the training split only.

``tones = ToneClassifier(ids, texts, tones)``; ``tones.margin(text, "শান্ত (Calm)")`` says how much more the text speaks
for that tone than for the others, ``tones.skill()`` whether the classifier knows anything. Taught in notebook 11.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

LETTERS = (2, 4)  # shortest and longest group of letters
SMOOTHING = 0.1
FOLDS = 5
ALPHA = 0.05
MIN_EXAMPLES = 2  # a tone with one example has none left when that one is held out


@dataclass(frozen=True)
class Skill:
    """How well held-out scripts are known: `rank` is the share of the wrong tones that stand below the right one.

    Held out means that the classifier was not told the script's tone; how rare each group of letters is was counted in
    all scripts, without their tones.

    Guessing gives 0.5. `p` is the share of shufflings of the tones among the `n` scripts with a rank at least as high,
    `right` the share of scripts whose tone came first of all.
    """

    rank: float
    p: float
    right: float
    n: int

    @property
    def shown(self) -> bool:
        """Say whether the classifier does better than guessing, beyond what chance explains."""
        return self.p <= ALPHA

    @property
    def sentence(self) -> str:
        """Say it in words."""
        found = (
            f"in scripts whose tone it was not told the right tone stands above {self.rank:.0%} of the others, first "
            f"of all in {self.right:.0%} (n = {self.n}, guessing 50%, p = {self.p:.2f})"
        )
        return found if self.shown else f"{found}: no better than guessing shown"


class ToneClassifier:
    """Naive Bayes on weighted groups of 2 to 4 letters within words; every tone counts as equally common.

    The weights (how rare a group is) are counted once in all texts, without their tones; a text that is left out is
    left out of what is learned about tones, not of these weights.
    See Rennie et al. 2003, "Tackling the poor assumptions of naive Bayes text classifiers", for the weighting. Raises
    ValueError for fewer than two tones, or unless there are as many tones and ids as texts.
    """

    def __init__(self, ids: Sequence[str], texts: Sequence[str], tones: Sequence[str]) -> None:
        if not len(ids) == len(texts) == len(tones) or len(set(tones)) < 2:
            raise ValueError(f"{len(texts)} texts with {len(set(tones))} tone(s) teach nothing: two tones are needed")
        self.ids, self.texts, self.tones = list(ids), list(texts), list(tones)
        self._models: dict[frozenset[str], tuple[Any, Any]] = {}

    @property
    def known(self) -> list[str]:
        """Return the tones it can tell apart, with enough examples each, the commonest first."""
        return [tone for tone, count in Counter(self.tones).most_common() if count >= MIN_EXAMPLES]

    def margin(self, text: str, tone: str, without: frozenset[str] = frozenset()) -> float:
        """Return how much more the text speaks for `tone` than for the others: above 0 it does, in natural logarithms.

        log s(tone) minus the log of the other tones' mean s, where log s is log p(tone | text) beyond what is usual.
        `without`: ids of training texts that the tones are not to have been learned from. Raises KeyError for a tone
        that is not known.
        """
        logs = self._logs(text, without)
        if tone not in logs:
            raise KeyError(f"no tone {tone!r} among the training scripts; known: {', '.join(sorted(logs))}")
        others = [value for name, value in logs.items() if name != tone]
        top = max(others)
        return logs[tone] - top - math.log(math.fsum(math.exp(value - top) for value in others) / len(others))

    @cached_property
    def held_out(self) -> dict[str, float]:
        """Return for each training text the margin of its own tone, by a classifier that was not told it."""
        rows = zip(self.ids, self.texts, self.tones, strict=True)
        return {name: self.margin(text, tone, frozenset({name})) for name, text, tone in rows if tone in self.known}

    def skill(self, seed: int = 0, rounds: int = 99) -> Skill:
        """Return how well the classifier knows texts whose tone it was not told, a fifth of them at a time.

        p by shuffling the tones: the held-out ranks depend on each other, and a bootstrap over them took labels given
        by lot for known in one case of eight. The true order is counted in (Phipson and Smyth 2010).
        """
        import numpy as np

        ranks, dice = self._ranks(), np.random.default_rng(seed)
        if not ranks:
            return Skill(0.5, 1.0, 0.0, 0)
        reached = _mean(ranks) - 1e-9
        lots = (self._relabelled(dice.permutation(self.tones).tolist())._ranks() for _ in range(rounds))
        hits = sum(_mean(lot) >= reached for lot in lots)
        return Skill(_mean(ranks), (hits + 1) / (rounds + 1), _mean([rank == 1 for rank in ranks]), len(ranks))

    def _relabelled(self, tones: Sequence[str]) -> ToneClassifier:
        other = ToneClassifier(self.ids, self.texts, tones)
        other.__dict__["_vectors"] = self._vectors  # they know no tone
        return other

    def _ranks(self) -> list[float]:
        """Return for each text of a known tone the share of the other tones that a classifier without it puts lower."""
        known, turns, found = set(self.known), dict.fromkeys(self.tones, 0), []
        folds: list[list[int]] = [[] for _ in range(FOLDS)]
        for place, tone in enumerate(self.tones):
            if tone in known:
                folds[turns[tone] % FOLDS].append(place)  # tone by tone, so that every fold has some of each
                turns[tone] += 1
        for fold in filter(None, folds):
            model, usual = self._model(frozenset(self.ids[place] for place in fold))
            values, classes = _centred(model, self._vectors[1][fold]) - usual, list(model.classes_)
            for row, place in zip(values, fold, strict=True):
                own = row[classes.index(self.tones[place])]
                found.append(float(((row < own).sum() + ((row == own).sum() - 1) / 2) / (len(row) - 1)))
        return found

    def _logs(self, text: str, without: frozenset[str]) -> dict[str, float]:
        """Return for each tone how much the text speaks for it, more than texts of other tones do on average.

        Without that average a tone with many training texts, and so with many known letter groups, is likelier for
        any text: labels given by lot were then "known" better than by guessing.
        """
        model, usual = self._model(without)
        values = _centred(model, self._vectors[0].transform([text]))[0] - usual
        return dict(zip(model.classes_, values.tolist(), strict=True))

    @cached_property
    def _vectors(self) -> tuple[Any, np.ndarray]:
        """Return the weighing of letter groups and the training texts weighed. Built once: it knows no tone."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        weigher = TfidfVectorizer(analyzer="char_wb", ngram_range=LETTERS, sublinear_tf=True)
        return weigher, weigher.fit_transform(self.texts)

    def _model(self, without: frozenset[str]) -> tuple[Any, np.ndarray]:
        """Return the classifier without some texts, and for each tone the mean of what texts of other tones get."""
        from sklearn.naive_bayes import MultinomialNB

        without = without & set(self.ids)
        if without not in self._models:
            keep = [place for place, name in enumerate(self.ids) if name not in without]
            tones, vectors = [self.tones[place] for place in keep], self._vectors[1][keep]
            model = MultinomialNB(alpha=SMOOTHING, fit_prior=False).fit(vectors, tones)
            self._models[without] = model, _usual(model, vectors, tones)
        return self._models[without]


def _usual(model: Any, vectors: Any, tones: Sequence[str]) -> np.ndarray:
    import numpy as np

    values, own = _centred(model, vectors), np.array(tones)[:, None] == model.classes_[None, :]
    return np.where(own, 0.0, values).sum(axis=0) / (~own).sum(axis=0)


def _centred(model: Any, vectors: Any) -> np.ndarray:
    """Return the log-probabilities (texts x tones), the mean over the tones taken away from each text."""
    values = model.predict_log_proba(vectors)
    return values - values.mean(axis=1, keepdims=True)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
