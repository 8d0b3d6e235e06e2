"""Stages held against each other on the same briefs, with intervals, and where more data is needed.

``means(table)`` and ``differences(table, "base")`` read verdicts or counted shares in the long form (`Ledger.verdicts`,
`measure.counting.counted_table`); ``needs_data(*heatmap_table(...), low=4)`` lists groups. Briefs are drawn, not
texts, for the texts of one brief are alike (cluster bootstrap); with few briefs the interval is widened (`_interval`).
Where every brief says exactly the same there is nothing to draw from: no interval is given, and it is said. Taught in
notebook 11.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from lekhai_helpers.measure.evaluation import wilson

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

ROUNDS = 10000
# With five briefs even five of five in one direction come by chance once in sixteen (two-sided sign test 0.06).
MIN_BRIEFS = 6
MANY_BRIEFS = 50  # with fewer, and scores that lean to one side, an interval misses more often than one time in twenty

ALIKE = 1e-9  # scores nearer than this are equal but for rounding

Shown = Literal[
    "higher",
    "lower",
    "no difference shown",
    "every brief alike: no interval",
    "too few briefs to tell",
    "not on the same briefs",
]


@dataclass(frozen=True)
class Mean:
    """A stage's mean of one criterion over briefs. `low` and `high` are the 95% interval, None where there is none.

    `briefs` and `texts` count what was scored, `asked` the texts there were a verdict on, scored or not.
    """

    stage: str
    criterion: str
    mean: float | None
    low: float | None
    high: float | None
    briefs: int
    texts: int
    asked: int
    note: str = ""


@dataclass(frozen=True)
class Difference:
    """How much `second` stands above `first` on the briefs both have a score for (`briefs`, in `texts` texts)."""

    first: str
    second: str
    criterion: str
    difference: float | None
    low: float | None
    high: float | None
    briefs: int
    texts: int
    shown: Shown

    @property
    def sentence(self) -> str:
        """Say the result in words."""
        if self.difference is None:
            return f"{self.criterion}: {self.first} and {self.second} share no scored brief, so nothing is compared"
        counted = f"n = {self.briefs} briefs"
        if self.low is None:
            return f"{self.criterion}: {self.shown} ({self.second} {self.difference:+.2f}, {counted})"
        found = f"{self.difference:+.2f}, {self.low:+.2f} to {self.high:+.2f}, {counted}"
        if self.shown in ("higher", "lower"):
            return f"{self.criterion}: {self.second} is {self.shown} than {self.first} ({found})"
        return f"{self.criterion}: {self.shown} between {self.first} and {self.second} ({found})"


def means(table: pd.DataFrame, seed: int = 0, share: bool = False, rounds: int = ROUNDS) -> list[Mean]:
    """Return the mean of every stage and criterion; `table` has stage, brief_id, criterion, status and score.

    Every brief weighs the same, however many of its texts were scored. With `share` the scores are shares from 0 to 1.
    Verdicts that are not scored count in `asked` only, never as 0. Raises ValueError for a table of several judges.
    """
    _one_judge(table)
    groups = table.groupby(["stage", "criterion"], sort=False)
    return [_mean(str(stage), str(name), group, seed, share, rounds) for (stage, name), group in groups]


def means_table(table: pd.DataFrame, seed: int = 0, share: bool = False, rounds: int = ROUNDS) -> pd.DataFrame:
    """Return `means` as a table, one row a stage and criterion."""
    import pandas as pd

    return pd.DataFrame([asdict(found) for found in means(table, seed, share, rounds)], columns=_names(Mean))


def _mean(stage: str, name: str, group: pd.DataFrame, seed: int, share: bool, rounds: int) -> Mean:
    scored = _scored(group)
    by_brief = scored.groupby("brief_id")["score"].mean().to_numpy()
    counts: dict[str, Any] = {"briefs": len(by_brief), "texts": len(scored), "asked": len(group)}
    if not len(by_brief):
        return Mean(stage, name, None, None, None, **counts, note="nothing was scored")
    mean = float(by_brief.mean())
    if len(by_brief) < MIN_BRIEFS:
        return Mean(stage, name, mean, None, None, **counts, note=f"fewer than {MIN_BRIEFS} briefs: no interval")
    if share and mean in (0.0, 1.0):  # drawing from equal values knows no spread
        low, high = wilson(int(mean * len(by_brief)), len(by_brief))
        return Mean(stage, name, mean, low, high, **counts, note="every brief the same: Wilson interval over briefs")
    if _alike(by_brief):
        return Mean(stage, name, mean, None, None, **counts, note="every brief has the same score: no interval")
    return Mean(stage, name, mean, *_interval(by_brief, seed, rounds), **counts)


def differences(
    table: pd.DataFrame, baseline: str, stages: Sequence[str] = (), seed: int = 0, rounds: int = ROUNDS
) -> list[Difference]:
    """Compare `stages` (empty: all others) with `baseline`, criterion by criterion, on the briefs both have.

    Raises ValueError where the table holds no such stage, or the verdicts of several judges.
    """
    _one_judge(table)
    there = list(dict.fromkeys(table["stage"]))
    missing = [stage for stage in (baseline, *stages) if stage not in there]
    if missing:
        raise ValueError(f"no stage {', '.join(missing)} in the table; there are: {', '.join(there) or 'none'}")
    others = stages or [stage for stage in there if stage != baseline]
    names = dict.fromkeys(table["criterion"])
    return [_difference(table, baseline, stage, name, seed, rounds) for stage in others for name in names]


def differences_table(
    table: pd.DataFrame, baseline: str, stages: Sequence[str] = (), seed: int = 0, rounds: int = ROUNDS
) -> pd.DataFrame:
    """Return `differences` as a table, with the sentence of each."""
    import pandas as pd

    found = [asdict(one) | {"sentence": one.sentence} for one in differences(table, baseline, stages, seed, rounds)]
    return pd.DataFrame(found, columns=[*_names(Difference), "sentence"])


def in_words(found: Sequence[Difference]) -> str:
    """Return one sentence over many comparisons: how many differ, and how many would by chance alone."""
    told = [one for one in found if one.low is not None]
    differ = [one for one in told if one.shown in ("higher", "lower")]
    alike = sum(one.shown == "every brief alike: no interval" for one in found)
    apart = f"; in {alike} more every brief says the same, so there is no interval" if alike else ""
    if not told and not alike:
        return "no difference shown: too few briefs were scored in both stages of any comparison"
    if not differ:
        return f"no difference shown in any of {len(told)} comparisons with an interval{apart}"
    chance = f"if no stage differed, one in twenty, here {len(told) / 20:.1f}, would be expected to by chance alone"
    few = ", and somewhat more where briefs are few" if min(one.briefs for one in told) < MANY_BRIEFS else ""
    return f"{len(differ)} of {len(told)} comparisons show a difference; {chance}{few}{apart}"


def _difference(table: pd.DataFrame, first: str, second: str, name: str, seed: int, rounds: int) -> Difference:
    scored = _scored(table[table["criterion"] == name])
    sides = [scored[scored["stage"] == stage] for stage in (first, second)]
    one, other = (side.groupby("brief_id")["score"].mean() for side in sides)
    shared = sorted(set(one.index) & set(other.index))
    if not shared:
        return Difference(first, second, name, None, None, None, 0, 0, "not on the same briefs")
    texts = sum(int(side["brief_id"].isin(shared).sum()) for side in sides)
    gaps = (other[shared] - one[shared]).to_numpy()
    mean = float(gaps.mean())
    if len(gaps) < MIN_BRIEFS:
        return Difference(first, second, name, mean, None, None, len(gaps), texts, "too few briefs to tell")
    if _alike(gaps):
        return Difference(first, second, name, mean, None, None, len(gaps), texts, "every brief alike: no interval")
    low, high = _interval(gaps, seed, rounds)
    shown: Shown = "higher" if low > 0 else "lower" if high < 0 else "no difference shown"
    return Difference(first, second, name, mean, low, high, len(gaps), texts, shown)


def _interval(values: np.ndarray, seed: int, rounds: int) -> tuple[float, float]:
    """Return the expanded percentile bootstrap interval of a mean: percentiles moved out until they suit few values.

    Hesterberg 2015, "What Teachers Should Know About the Bootstrap": plain percentiles are too narrow as a normal
    interval is beside Student's t, and by sqrt((n - 1) / n). Simulated with 6, 12 and 20 values: 93 to 96 of 100
    intervals held the true mean where values lie evenly to both sides of it (plain percentiles 86 to 95, BCa 88 to
    96), and 86 to 92 where a few values stand far out to one side.
    """
    import numpy as np
    from scipy.stats import norm, t

    n = len(values)
    tail = norm.cdf(t.ppf(0.025, n - 1) * (n / (n - 1)) ** 0.5)
    draws = np.random.default_rng(seed).integers(0, n, (rounds, n))
    low, high = np.quantile(values[draws].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)


def _alike(values: np.ndarray) -> bool:
    return bool(values.max() - values.min() <= ALIKE)


def _scored(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["status"] == "scored"].astype({"score": float})


def _one_judge(table: pd.DataFrame) -> None:
    judges = list(dict.fromkeys(table["judge"])) if "judge" in table else []
    if len(judges) > 1:
        raise ValueError(f"verdicts of {', '.join(judges)} in one table: their scales differ, so choose one judge")


def _names(kind: Any) -> list[str]:
    return list(kind.__dataclass_fields__)


# --- where more data is needed


def needs_data(
    scores: pd.DataFrame,
    counts: pd.DataFrame,
    low: float,
    k: int = 3,
    industries: Iterable[str] = (),
    group: str = "industry",
) -> list[dict[str, str]]:
    """Return the groups to collect data for, each with the reason; the tables as `heatmap_table` gives them.

    `group` is the recipe's word for a group. One is listed where it has fewer than `k` scored texts, or a criterion
    whose mean is below `low` (in the unit of `scores`), or where it is one of `industries` and was never asked. A
    criterion that nobody scored anywhere accuses no group. Those without texts come first, then the lowest means.
    """
    used = [name for name in counts if counts[name].sum()]
    found: list[tuple[float, dict[str, str]]] = []
    for industry in dict.fromkeys([*counts.index, *industries]):
        known = industry in counts.index
        n = int(counts.loc[industry, used].max()) if known and used else 0
        judged = [name for name in used if known and counts.loc[industry, name] >= k]
        weak = sorted((float(scores.loc[industry, name]), str(name)) for name in judged)
        weak = [(mean, name) for mean, name in weak if mean < low]
        if n < k:
            found.append((float("-inf"), {group: industry, "reason": _too_few(n, k)}))
        elif weak:
            means_said = ", ".join(f"{name} {mean:.2f}" for mean, name in weak)
            found.append((weak[0][0], {group: industry, "reason": f"mean below {low:g}: {means_said} (n = {n})"}))
    return [entry for _, entry in sorted(found, key=lambda pair: pair[0])]


def _too_few(n: int, k: int) -> str:
    return f"{n or 'no'} text{'' if n == 1 else 's'} scored, fewer than {k}"
