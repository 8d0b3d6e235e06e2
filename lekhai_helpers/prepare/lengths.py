"""How long an example may be: chosen from the measured lengths, with what the choice would cut.

``measured = measure_lengths(examples, tokenizer)``, ``choose_max_length(measured.values(), cap)``,
``leave_out(examples, measured, chosen)``, ``save_max_length(...)``. Taught in notebook 03, read in 04,
06 and 10.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core.run_folder import write_json
from lekhai_helpers.prepare.masking import name_of, rendered_ids
from lekhai_helpers.prepare.sources import DatasetError

if TYPE_CHECKING:
    import pandas as pd

FILE = "max_length.json"
_PERCENTILES = (50, 90, 95, 99, 100)


def measure_lengths(examples: Iterable[dict[str, Any]], tokenizer: Any) -> dict[str, int]:
    """Return the length of every example in tokens, prompt and answer as the trainer renders them, by its name."""
    return {name_of(example): len(rendered_ids(example, tokenizer)) for example in examples}


def choose_max_length(lengths: Iterable[int], cap: int, percentile: float = 99, step: int = 64) -> int:
    """Return the percentile of `lengths` in tokens, rounded up to a multiple of `step`, never above `cap`.

    The percentile is that of the nearest rank: a length that really occurs, so 100 is the longest. Memory and time
    grow with the longest row, which is why one odd row should not set them for all. Raises ValueError without lengths.
    """
    ordered = sorted(lengths)
    if not ordered:
        raise ValueError("no lengths to choose from: measure at least one example")
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile is {percentile}, but must be above 0 and at most 100")
    rank = math.ceil(len(ordered) * percentile / 100)
    return min(math.ceil(ordered[rank - 1] / step) * step, cap)


def cut_table(lengths: Iterable[int], cap: int, step: int = 64) -> pd.DataFrame:
    """Return what each choice would cost, a line a percentile.

    Columns: max_length (tokens), rows_cut (longer than that), share_cut (0 to 1), tokens_cut (what stands beyond it:
    the last words and the end token of those rows).
    """
    import pandas as pd

    measured = list(lengths)
    rows = []
    for percentile in _PERCENTILES:
        chosen = choose_max_length(measured, cap, percentile, step)
        beyond = [length - chosen for length in measured if length > chosen]
        rows.append((percentile, chosen, len(beyond), round(len(beyond) / len(measured), 3), sum(beyond)))
    columns = ["percentile", "max_length", "rows_cut", "share_cut", "tokens_cut"]
    return pd.DataFrame(rows, columns=columns).set_index("percentile")


def leave_out(
    examples: Sequence[dict[str, Any]], lengths: Mapping[str, int], max_length: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the examples that stay, and the names of those left out because they are longer than `max_length`.

    A cut row teaches a script without its end, and the model then never stops: so a row is learned whole or not at
    all. Test rows stay, for nothing is trained on them.
    """
    long = {name for name, length in lengths.items() if length > max_length}
    stay = [example for example in examples if example["split"] == "test" or name_of(example) not in long]
    return stay, [name_of(example) for example in examples if example["split"] != "test" and name_of(example) in long]


def save_max_length(dataset_folder: Path, max_length: int, longest: int, left_out: Sequence[str]) -> Path:
    """Write the choice beside the rows, with the length of the longest row that stays. Returns the file."""
    chosen = {"max_length": max_length, "longest": longest, "left_out": list(left_out)}
    return write_json(Path(dataset_folder) / FILE, chosen)


def load_max_length(dataset_folder: Path) -> int:
    """Return the length that notebook 03 chose, in tokens. Raises DatasetError where it did not."""
    return _tokens(dataset_folder, "max_length")


def load_longest(dataset_folder: Path) -> int:
    """Return how long the longest row is that stays, in tokens: what the memory is estimated for, at most max_length.

    Raises DatasetError as `load_max_length` does.
    """
    return _tokens(dataset_folder, "longest")


def _tokens(dataset_folder: Path, name: str) -> int:
    path = Path(dataset_folder) / FILE
    if not path.exists():
        raise DatasetError(f"no {FILE} in {path.parent.name}: run notebook 03 again, which chooses the length")
    chosen = json.loads(path.read_text(encoding="utf-8")).get(name)
    if not isinstance(chosen, int) or chosen <= 0:
        raise DatasetError(f"{FILE} says {name} {chosen!r}, which is no number of tokens: run notebook 03 again")
    return chosen
