"""Which file to take, by rule, and what the lesson of notebook 12 comes to, in computed sentences.

``recommend(rows)`` picks the smallest file that still does its job and says in ``why`` what decided;
``mending_verdict(larger, trials)`` says whether a mended small file is worth more than the next larger kind;
``only_marks(texts)`` counts texts without a word, which is how a small file once failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

TOLERANCE, DISTANCE = (
    0.1,
    0.1,
)  # share of sound texts under the 16-bit file's; nats a token away from it
Row = Mapping[str, Any]


def recommend(
    files: Sequence[Row], tolerance: float = TOLERANCE, distance: float = DISTANCE, many: str = "valid tables"
) -> dict[str, Any]:
    """Return the smallest file that still does its job: its contract share and its predictions both hold.

    `files` are rows with ``file``, ``size_mb``, ``valid_share`` (0 to 1) and, where it was measured, ``distance`` (mean
    KL divergence from the 16-bit file's predictions, nats a token; None or absent: not measured, not asked) with
    ``distance_low`` and ``distance_high``; and ``passed``, where the parity gate was asked. The 16-bit file comes
    first. The rule: passed by the gate, a share at most `tolerance` below the 16-bit file's, and a `distance` of at
    most 0.1: to the tokens the 16-bit file would write, such a file gives nine tenths (e^-0.1) of their probability
    on average. Where nothing else holds, the 16-bit file itself is returned: it is what the others are held against. A
    16-bit file that writes none that keeps its contract has nothing to hold: then the distance alone decides. `many` is
    what texts that keep it are called. The row comes back with ``why``, which says what decided, and which files an
    interval leaves on the edge of the rule.
    """
    first, *_ = files
    enough = first["valid_share"] - tolerance - 1e-9  # 0.8 - 0.1 is a little more than 0.7
    rules: dict[str, Callable[[Row], bool]] = {
        "the parity gate": lambda row: bool(row.get("passed", True)),
        f"the share of {many}": lambda row: row["valid_share"] >= enough,
        "the distance": lambda row: row.get("distance") is None or row["distance"] <= distance,
    }
    best = _smallest(files, list(rules.values()))
    holds = all(rule(best) for rule in rules.values())
    parts = [
        f"{best['file']} is the smallest file that holds"
        if holds
        else f"no file holds: {best['file']} is the whole one"
    ]
    parts += [f"{row['file']} is smaller and {_failing(row, enough, distance, many)}" for row in _smaller(files, best)]
    parts += [_decided(files, best, rules), *_edges(files, best, distance)]
    return dict(best) | {"why": "; ".join(part for part in parts if part)}


def _smallest(files: Sequence[Row], rules: Sequence[Callable[[Row], bool]]) -> Row:
    holding = [row for row in files if row is files[0] or all(rule(row) for rule in rules)]
    return min(holding, key=lambda row: row["size_mb"])


def _smaller(files: Sequence[Row], best: Row) -> list[Row]:
    return [row for row in files if row["size_mb"] < best["size_mb"]]


def _failing(row: Row, enough: float, distance: float, many: str) -> str:
    words = [] if row.get("passed", True) else ["is not passed by the parity gate"]
    if row["valid_share"] < enough:
        words.append(f"writes {row['valid_share']:.0%} {many}, under {max(enough, 0):.0%}")
    if row.get("distance") is not None and row["distance"] > distance:
        words.append(f"is {row['distance']:.2f} nats a token away, over {distance:g}")
    return " and ".join(words)


def _decided(files: Sequence[Row], best: Row, rules: Mapping[str, Callable[[Row], bool]]) -> str:
    """Say which rule alone would have chosen the same, and what the others would have taken."""
    if not _smaller(files, best):
        return ""
    alone = {name: _smallest(files, [rule])["file"] for name, rule in rules.items()}
    deciding = [name for name, file in alone.items() if file == best["file"]]
    others = [f"{name} alone would take {file}" for name, file in alone.items() if name not in deciding]
    if not deciding:
        return f"no rule decided alone ({', '.join(others)})"
    verb = f"decided ({', '.join(others)})" if others else "decided alike"
    return f"{' and '.join(deciding)} {verb}"


def _edges(files: Sequence[Row], best: Row, distance: float) -> list[str]:
    """Name the recommended file and smaller ones whose interval holds the limit: other scripts might turn them."""
    words = []
    for row in [best, *_smaller(files, best)]:
        low, high = row.get("distance_low"), row.get("distance_high")
        if low is not None and high is not None and low <= distance <= high:
            words.append(
                f"{row['file']} is on the edge: {low:.3f} to {high:.3f} nats (95%) holds the limit {distance:g}"
            )
    return words


def mending_verdict(larger: Row, trials: Sequence[Row]) -> str:
    """Return in one sentence what to take: the best trial of the smallest kind, or the next larger kind.

    Rows have ``trial``, ``size_mb`` and ``distance`` (nats); the first of `trials` is the smallest kind as it is.
    """
    plain, best = trials[0], min(trials, key=lambda row: row["distance"])
    if best is plain:
        return f"No remedy brought it nearer than it was ({plain['distance']:.3f} nats): take {larger['trial']}."
    gained = f"{best['trial']} brings it from {plain['distance']:.3f} to {best['distance']:.3f} nats"
    smaller, nearer = larger["size_mb"] <= best["size_mb"], larger["distance"] <= best["distance"]
    figures = f"{larger['trial']} has {larger['size_mb']} MB and {larger['distance']:.3f} nats"
    if smaller and nearer:
        return f"{gained}, in {best['size_mb']} MB; {figures}, is no larger and no farther: take that."
    if not smaller and not nearer:
        return f"{gained}, in {best['size_mb']} MB; {figures}, is larger and farther: the mended file is worth it."
    how = "smaller but farther" if smaller else "nearer but larger"
    return f"{gained}, in {best['size_mb']} MB; {figures}, is {how}: choose by the room you have."


def training_verdict(kind: str, before: float, after: float) -> str:
    """Return in one sentence what the model before training hints at: could gentler training mend `kind`?

    `before` and `after` are the distances (nats) from each model's own 16-bit file, before and after training. What
    differs by less than a tenth counts as the same.
    """
    found = f"{kind} lies {before:.3f} nats from its own 16-bit file before training, {after:.3f} after it"
    if after > before * 1.1:
        return f"{found}: a sign that training made rounding dearer; a gentler one (fewer, smaller steps) may help."
    if after < before * 0.9:
        return f"{found}: no sign that training made rounding dearer, so none that a gentler one would help."
    return f"{found}: about the same, so no sign that a gentler training would help."


def only_marks(texts: Sequence[str]) -> int:
    """Return how many texts hold no letter of any script at all: pipes, dashes, or nothing."""
    return sum(not any(sign.isalpha() for sign in text) for text in texts)
