"""Does the model listen to the tone? The same brief in two tones, and the first tone once more. Taught in notebook 07.

``rows = write_tones(writer, briefs, tones, settings)``, then ``tone_test(rows, seed)`` and ``tone_words(rows)``. Two
texts never share all their words, so the distance of two tones says nothing by itself: it is held against the
distance of one tone from itself, and against chance.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core.bengali import words
from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.measure.evaluation import Writer, brief_messages
from lekhai_helpers.prepare.dataset import Brief

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

EXACT_UP_TO = 20_000  # ways of shuffling that are all looked at; beyond, as many are drawn
ALPHA = 0.05


def with_tone(prompt: str, tone: str, request: str = "{prompt} টোন: {tone}।") -> str:
    """Return a brief with its tone asked for, worded as `request` (`evaluation.tone_request`) says.

    Only {prompt} and {tone} are filled in, at once: other braces in the wording, the brief or the tone stay.
    """
    given = {"prompt": prompt, "tone": tone}
    return re.sub(r"\{(prompt|tone)\}", lambda place: given[place[1]], request)


def write_tones(writer: Writer, briefs: Sequence[Brief], tones: Sequence[str], settings: Settings) -> list[dict]:
    """Let `writer` answer every brief three times: in the first tone, in it again with other dice, in the second.

    Returns rows of brief_id, tone, seed, text. Raises ValueError unless there are two different tones.
    """
    if len(set(tones)) != 2:
        raise ValueError(f"a tone test needs two different tones, not {list(tones)}")
    asked = [(tone, seed, brief) for tone, seed in ((tones[0], 1), (tones[0], 2), (tones[1], 3)) for brief in briefs]
    request = settings.evaluation.tone_request
    texts = writer([brief_messages(with_tone(brief.prompt, tone, request), settings) for tone, _, brief in asked], 1)
    return [
        {"brief_id": brief.id, "tone": tone, "seed": seed, "text": text.text}
        for (tone, seed, brief), text in zip(asked, texts, strict=True)
    ]


def word_distance(first: Sequence[str], second: Sequence[str]) -> float:
    """Return how far apart the words of two groups of texts lie, from 0 (same words as often) to 1 (none shared).

    Jensen-Shannon distance (base 2) of the word counts, see Lin 1991, "Divergence measures based on the Shannon
    entropy".
    """
    from scipy.spatial.distance import jensenshannon

    counts = [Counter(word for text in group for word in words(text)) for group in (first, second)]
    shared = sorted(counts[0].keys() | counts[1].keys())
    if not shared or not all(counts):
        return 1.0
    return float(jensenshannon(*([count[word] for word in shared] for count in counts), base=2))


def distances(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each brief how far the tones lie apart and how far one tone lies from itself.

    ``between`` is the mean distance of the two texts of the first tone from the one of the second, ``within`` that of
    the first two. ``odd`` holds between minus within for each of the three texts taken as the one of another tone, the
    true one last. Raises ValueError where a brief has not two texts of one tone and one of the other.
    """
    return [_brief_distances(brief, texts) for brief, texts in _by_brief(rows).items()]


def _by_brief(rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Return for each brief its texts: the two of the same tone first."""
    grouped: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        grouped.setdefault(row["brief_id"], {}).setdefault(row["tone"], []).append(row["text"])
    ordered = {brief: sorted(tones.values(), key=len, reverse=True) for brief, tones in grouped.items()}
    wrong = [brief for brief, groups in ordered.items() if [len(group) for group in groups] != [2, 1]]
    if wrong:
        raise ValueError(f"{', '.join(wrong)}: a tone test needs two texts in one tone and one in another")
    return {brief: [*groups[0], *groups[1]] for brief, groups in ordered.items()}


def _brief_distances(brief: str, texts: Sequence[str]) -> dict[str, Any]:
    pairs = {odd: word_distance(*([text] for n, text in enumerate(texts) if n != odd)) for odd in range(3)}
    odd = [sum(pairs.values()) / 2 - 1.5 * pairs[n] for n in range(3)]  # mean of the two with n, minus the one without
    return {"brief_id": brief, "between": (pairs[0] + pairs[1]) / 2, "within": pairs[2], "odd": odd}


def tone_test(rows: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Test whether two tones lie farther apart than one tone from itself; `rows` as `write_tones` returns them.

    A permutation test: if the tone did nothing, any of a brief's three texts could be the one of the other tone.
    ``p`` is the share of all such shufflings with a difference at least as large, or, where they are too many, of
    drawn ones with the true one counted in (Phipson and Smyth 2010, "Permutation p-values should never be zero").
    ``least_p`` is the smallest p so few briefs could give.
    """
    import numpy as np

    table = distances(rows)
    if not table:
        raise ValueError("there are no texts to test: write_tones makes them")
    odd = np.array([row["odd"] for row in table])
    shuffled, exact = _shuffled_sums(odd, np.random.default_rng(seed))
    hits = int((shuffled >= odd[:, 2].sum() - 1e-9).sum())
    p = hits / len(shuffled) if exact else (hits + 1) / (len(shuffled) + 1)
    between, within = (float(np.mean([row[name] for row in table])) for name in ("between", "within"))
    found = {"between": round(between, 4), "within": round(within, 4), "difference": round(between - within, 4)}
    found |= {"p": round(p, 5), "least_p": round(max(3.0 ** -len(table), 1 / (len(shuffled) + 1)), 5)}
    return found | {"briefs": len(table), "texts": 3 * len(table), "exact": exact, "words": _sentence(p, len(table))}


def _shuffled_sums(odd: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """Return the summed difference of every way to shuffle (briefs x 3 in), and True; or of many, and False."""
    import numpy as np

    if 3 ** len(odd) > EXACT_UP_TO:
        choices = rng.integers(0, 3, (EXACT_UP_TO, len(odd)))
        return odd[np.arange(len(odd)), choices].sum(axis=1), False
    sums = np.zeros(1)
    for brief in odd:
        sums = np.add.outer(sums, brief).ravel()
    return sums, True


def _sentence(p: float, briefs: int) -> str:
    if p <= ALPHA:
        return "the tone changes the words"
    if 3.0**-briefs > ALPHA:
        return f"no effect of the tone shown: {briefs} brief(s) are too few to show one"
    return "no effect of the tone shown"


def tone_words(rows: Sequence[dict[str, Any]], n: int = 8) -> pd.DataFrame:
    """Return the `n` words that speak most for each tone: word, tone, how often in it and in the other, z, briefs.

    `briefs` says in the texts of how many briefs of that tone the word stands: in one only, it may be a text's loop.

    z is the log odds ratio over its standard deviation, with the words of all texts as prior, which keeps a word that
    came once from the top (Monroe, Colaresi and Quinn 2008, "Fightin' words").
    """
    import pandas as pd

    tones = list(dict.fromkeys(row["tone"] for row in rows))
    if len(tones) != 2:
        raise ValueError(f"the words of two tones can be compared, not of {len(tones)}")
    counts = [Counter(word for row in rows if row["tone"] == tone for word in words(row["text"])) for tone in tones]
    sizes, everything = [count.total() for count in counts], counts[0] + counts[1]
    scored = [(word, _log_odds(word, counts, sizes, everything)) for word in everything]
    found = []
    for place, sign in ((0, 1), (1, -1)):
        ours = sorted(((sign * z, word) for word, z in scored if sign * z > 0), reverse=True)[:n]
        for z, word in ours:
            briefs = {row["brief_id"] for row in rows if row["tone"] == tones[place] and word in words(row["text"])}
            times = counts[place][word], counts[1 - place][word]
            found.append((word, tones[place], *times, round(z, 2), len(briefs)))
    return pd.DataFrame(found, columns=["word", "tone", "times", "times in the other", "z", "briefs"])


def _log_odds(word: str, counts: Sequence[Counter], sizes: Sequence[int], prior: Counter) -> float:
    """Return z of one word: positive where it belongs to the first group."""
    whole, alpha = prior.total(), prior[word]
    if whole == alpha:  # one word is all there is
        return 0.0
    odds = [
        math.log((count[word] + alpha) / (size + whole - count[word] - alpha))
        for count, size in zip(counts, sizes, strict=True)
    ]
    return (odds[0] - odds[1]) / math.sqrt(sum(1 / (count[word] + alpha) for count in counts))
