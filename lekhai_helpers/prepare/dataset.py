"""The examples: a file read and checked row by row, split by row, written as prompt and completion messages.

``table, problems = load_table(path)`` keeps every row and says by ``usable`` which ones can be trained on.
Taught in notebook 03.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core.run_folder import write_text
from lekhai_helpers.prepare.briefs import Brief, Message, Part, briefs_of, conversation, load_briefs
from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.prepare.row_checks import (
    RowProblem,
    duplicates,
    need_columns,
    other_group,
    record_of,
    row_problems,
    shape_problems,
)
from lekhai_helpers.prepare.sources import DatasetError, get_source
from lekhai_helpers.prepare.sources.base import one_row_a_script

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Brief",
    "DatasetError",
    "Part",
    "RowProblem",
    "briefs_of",
    "load_briefs",
    "load_examples",
    "load_rows",
    "load_table",
    "report",
    "save",
    "split",
    "to_examples",
]

SPLITS = ("train", "validation", "test")
UNUSED = "unused"
CONVERSATION = "messages"  # the prompt_key of an example that is a whole conversation


def load_table(
    path: Path,
    prompts: Sequence[str] = ("prompt_1",),
    source: str = "ad_script_csv",
    contract: str = "ad_script",
) -> tuple[pd.DataFrame, list[RowProblem]]:
    """Read a file of examples; return every row of it, and what is wrong with which.

    The table has the file's own columns, the optional ones filled in where they are missing, ``row`` (the
    spreadsheet's number) and ``usable``: False for a row with an error. Nothing is left out. Raises
    DatasetError where a needed column is missing or the file cannot be read at all.
    """
    import pandas as pd

    path = Path(path)
    rows = list(get_source(source)(path))
    if not rows:
        raise DatasetError(f"{path.name} has a header but no row under it")
    need_columns(path, list(rows[0].cells), [prompts[0], "script"])
    absent = [name for name in prompts if name not in rows[0].cells]
    other = other_group(rows)
    records = [record_of(row, other) | dict.fromkeys(absent, "") for row in rows]
    problems = [problem for row in rows for problem in shape_problems(row)]
    problems += [RowProblem(1, name, "there is no such column: no examples from it", "warning") for name in absent]
    asked = [name for name in prompts if name not in absent]
    problems += [problem for record in records for problem in row_problems(record, asked, get_contract(contract))]
    problems += duplicates(records, () if one_row_a_script(source) else asked)
    broken = {problem.row for problem in problems if problem.level == "error"}
    table = pd.DataFrame([record | {"usable": record["row"] not in broken} for record in records])
    table["duration_seconds"] = table["duration_seconds"].astype("Int64")
    return table, sorted(problems, key=lambda problem: (problem.row, problem.level, problem.column))


def report(problems: Sequence[RowProblem]) -> pd.DataFrame:
    """Return the problems as a table: row, level, column, problem. Empty means that the file is clean."""
    import pandas as pd

    rows = [(p.row, p.level, p.column, p.problem) for p in problems]
    return pd.DataFrame(rows, columns=["row", "level", "column", "problem"])


def split(table: pd.DataFrame, validation_share: float, test_share: float, seed: int) -> pd.Series:
    """Return train, validation or test for every usable row (``unused`` for the others).

    By row, so that a row's three prompts never part, nor the rows of one ``thread`` (a conversation), where the table
    has that column; spread over the groups of the column industry, and no group loses its last training row. The
    choice depends on the ids and the seed, not on the order of the rows. Raises DatasetError where nothing can be held
    out.
    """
    import pandas as pd

    parts = pd.Series(UNUSED, index=table.index, dtype="object")
    usable = table[table["usable"]] if "usable" in table else table
    parts[usable.index] = "train"
    groups = _groups(usable, seed)
    shares = {"validation": validation_share, "test": test_share}
    wanted = {part: max(round(len(usable) * share), 1) for part, share in shares.items()}
    held: Counter[str] = Counter()
    while any(wanted[part] > 0 for part in shares) and _next_group(groups, held, seed) is not None:
        for part in shares:
            if wanted[part] > 0 and (group := _next_group(groups, held, seed)) is not None:
                thread = groups[group][held[group]]
                parts[thread] = part
                held[group], wanted[part] = held[group] + 1, wanted[part] - len(thread)
    if not set(SPLITS) <= set(parts):
        raise DatasetError(
            f"{len(usable)} usable row(s) in {len(groups)} groups cannot be split: at least two rows have to be "
            "held out, and every group keeps one. Add rows, or have fewer groups"
        )
    return parts


def _groups(usable: pd.DataFrame, seed: int) -> dict[str, list[list[Hashable]]]:
    """Return each group's threads, a list of rows each, in an order drawn by lot; a row without thread is its own."""
    threads: dict[str, list[Hashable]] = defaultdict(list)
    groups: dict[str, list[str]] = defaultdict(list)
    for index, row in usable.iterrows():
        name = str(row.get("thread") or row["id"])
        if name not in threads:
            groups[row["industry"]].append(name)
        threads[name].append(index)
    ordered = {group: sorted(names, key=lambda name: _dice(seed, name)) for group, names in groups.items()}
    return {group: [threads[name] for name in names] for group, names in ordered.items()}


def _dice(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def _next_group(groups: dict[str, list[list[Hashable]]], held: Counter[str], seed: int) -> str | None:
    """Return the group of which the smallest share is held out, if it can spare a thread; ties by seed."""
    free = [name for name in groups if len(groups[name]) - held[name] > 1]
    return min(free, key=lambda name: (held[name] / len(groups[name]), _dice(seed, name)), default=None)


def to_examples(table: pd.DataFrame, prompts: Sequence[str], system_prompt: str) -> list[dict[str, Any]]:
    """Return one example for each usable row and prompt, as chat messages; `table` needs the column ``split``.

    Keys: id, split, prompt_key, prompt (system and user message), completion (the assistant's script), expected where
    the row holds its script against something, and rejected where it brings a worse answer to avoid. A row's own
    ``system_prompt`` comes before the recipe's. A row with ``messages`` gives one example of that conversation. Empty
    prompts give none (`load_table` reported them).
    """
    examples = []
    for row in table[table["split"].isin(SPLITS)].to_dict("records"):
        rest = {name: row[name] for name in ("expected", "rejected") if row.get(name)}
        for key, messages in _conversations(row, prompts, row.get("system_prompt") or system_prompt):
            example = {"id": row["id"], "split": row["split"], "prompt_key": key}
            examples.append(example | {"prompt": messages[:-1], "completion": messages[-1:]} | rest)
    return examples


def _conversations(row: dict[Any, Any], prompts: Sequence[str], system: str) -> Iterator[tuple[str, list[Message]]]:
    """Yield (the column that asks, all messages to the answer) for each way a row asks."""
    if row.get("messages"):
        yield CONVERSATION, conversation(row["messages"], system)
        return
    answer = {"role": "assistant", "content": row["script"]}
    for key in prompts:
        if row[key]:
            yield key, [{"role": "system", "content": system}, {"role": "user", "content": row[key]}, answer]


def save(examples: Sequence[dict[str, Any]], table: pd.DataFrame, folder: Path) -> Path:
    """Write train.jsonl, validation.jsonl, test.jsonl and rows.csv (the checked table). Returns the folder."""
    folder = Path(folder)
    for part in SPLITS:
        lines = [json.dumps(e, ensure_ascii=False) + "\n" for e in examples if e["split"] == part]
        write_text(folder / f"{part}.jsonl", "".join(lines))
    write_text(folder / "rows.csv", table.to_csv(index=False, lineterminator="\n"))
    return folder


def load_examples(folder: Path, part: str) -> list[dict[str, Any]]:
    """Return the examples of one split ("train", "validation", "test") as `save` wrote them."""
    if part not in SPLITS:
        raise KeyError(f"no split named {part!r}; known: {', '.join(SPLITS)}")
    path = Path(folder) / f"{part}.jsonl"
    if not path.exists():
        raise DatasetError(f"no {path.name} in {path.parent.name}: run notebook 03 first")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def load_rows(folder: Path) -> pd.DataFrame:
    """Return the checked table that `save` wrote: the file's columns, ``split`` and ``usable``."""
    import pandas as pd

    table = pd.read_csv(Path(folder) / "rows.csv", dtype=str, keep_default_na=False)
    table["row"] = table["row"].astype(int)
    table["usable"] = table["usable"] == "True"
    table["duration_seconds"] = pd.to_numeric(table["duration_seconds"]).astype("Int64")
    return table
