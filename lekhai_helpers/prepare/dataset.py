"""The examples: the CSV read and checked row by row, split by row, written as prompt and completion messages.

``table, problems = load_table(path)`` keeps every row and says by ``usable`` which ones can be trained on.
Taught in notebook 03.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import regex

from lekhai_helpers.core.bengali import bengali_share, char_ngrams, jaccard, normalize
from lekhai_helpers.core.run_folder import write_text
from lekhai_helpers.prepare.contracts import Verdict, get_contract
from lekhai_helpers.prepare.sources import DatasetError, Row, get_source

if TYPE_CHECKING:
    import pandas as pd

Part = Literal["development", "heldout"]
SPLITS = ("train", "validation", "test")
UNUSED = "unused"
_OURS = ("row", "usable", "split")  # columns this module adds; the file's own of that name get a suffix
NO_INDUSTRY = "অন্যান্য"
Check = Callable[..., Verdict]  # a contract, called with the text and, where the row has one, the film's length
_OPTIONAL = ("id", "industry", "tone", "brand", "product", "duration_seconds", "system_prompt")


@dataclass(frozen=True)
class RowProblem:
    """What is wrong with one row. `row` is the spreadsheet's number: the header is row 1."""

    row: int
    column: str
    problem: str
    level: Literal["error", "warning"]


@dataclass(frozen=True)
class Brief:
    """What a client asks for; the evaluation writes one script for it."""

    id: str
    industry: str
    tone: str
    duration_seconds: int | None
    brand: str
    product: str
    prompt: str


def load_table(
    path: Path,
    prompts: Sequence[str] = ("prompt_1",),
    source: str = "ad_script_csv",
    contract: str = "ad_script",
) -> tuple[pd.DataFrame, list[RowProblem]]:
    """Read a file of examples; return every row of it, and what is wrong with which.

    The table has the file's own columns, those of `_OPTIONAL` filled in where they are missing, ``row`` (the
    spreadsheet's number) and ``usable``: False for a row with an error. Nothing is left out. Raises
    DatasetError where a needed column is missing or the file cannot be read at all.
    """
    import pandas as pd

    path = Path(path)
    rows = list(get_source(source)(path))
    if not rows:
        raise DatasetError(f"{path.name} has a header but no row under it")
    _need_columns(path, list(rows[0].cells), [prompts[0], "script"])
    absent = [name for name in prompts if name not in rows[0].cells]
    records = [_record(row) | dict.fromkeys(absent, "") for row in rows]
    problems = [problem for row in rows for problem in _shape_problems(row)]
    problems += [RowProblem(1, name, "there is no such column: no examples from it", "warning") for name in absent]
    asked = [name for name in prompts if name not in absent]
    problems += [problem for record in records for problem in _row_problems(record, asked, get_contract(contract))]
    problems += _duplicates(records)
    broken = {problem.row for problem in problems if problem.level == "error"}
    table = pd.DataFrame([record | {"usable": record["row"] not in broken} for record in records])
    table["duration_seconds"] = table["duration_seconds"].astype("Int64")
    return table, sorted(problems, key=lambda problem: (problem.row, problem.level, problem.column))


def report(problems: Sequence[RowProblem]) -> pd.DataFrame:
    """Return the problems as a table: row, level, column, problem. Empty means that the file is clean."""
    import pandas as pd

    rows = [(p.row, p.level, p.column, p.problem) for p in problems]
    return pd.DataFrame(rows, columns=["row", "level", "column", "problem"])


def _need_columns(path: Path, found: list[str], needed: list[str]) -> None:
    missing = [name for name in dict.fromkeys(needed) if name not in found]
    if not missing:
        return
    free = [name for name in found if name not in needed]
    hints = []
    for name in missing:
        near = difflib.get_close_matches(name, free, n=1, cutoff=0.5)
        hints.append(f"{name!r} (the nearest is {near[0]!r}: rename it)" if near else f"{name!r}")
    raise DatasetError(f"{path.name} lacks the column {', '.join(hints)}. Columns found: {', '.join(found)}")


def _record(row: Row) -> dict[str, Any]:
    """Turn a row of the file into a row of the table: text in NFC, optional columns filled in."""
    cells = {f"{key}_in_file" if key in _OURS else key: normalize(cell) for key, cell in row.cells.items()}
    record: dict[str, Any] = {"row": row.number} | dict.fromkeys(_OPTIONAL, "") | cells
    record["industry"] = record["industry"] or NO_INDUSTRY
    record["id"] = record["id"] or str(row.number)
    record["duration_seconds"] = _seconds(record["duration_seconds"])
    if row.surplus:
        record["surplus_cells"] = json.dumps(row.surplus, ensure_ascii=False)
    return record


def _seconds(text: str) -> int | None:
    """Return the number of "30", "30 s", "৩০ সেকেন্ড"; None where there is none."""
    number = regex.search(r"\d+", text)
    return int(number.group()) if number and int(number.group()) > 0 else None


def _shape_problems(row: Row) -> list[RowProblem]:
    if row.surplus:
        text = f"{len(row.surplus)} cell(s) more than the header: is a comma in a cell without quotation marks?"
        return [RowProblem(row.number, "", text, "error")]
    if row.missing:
        return [RowProblem(row.number, "", f"{row.missing} cell(s) fewer than the header; taken as empty", "warning")]
    duration = row.cells.get("duration_seconds", "").strip()
    if duration and _seconds(duration) is None:
        text = f"no number of seconds in {duration!r}: the length is not checked"
        return [RowProblem(row.number, "duration_seconds", text, "warning")]
    return []


def _row_problems(record: dict[str, Any], prompts: Sequence[str], contract: Check) -> list[RowProblem]:
    """Check one row by itself: its prompts, its duration, its script."""
    number, script = record["row"], record["script"]
    if not any(record[name] for name in (*prompts, "script")):
        return [RowProblem(number, "", "the row has neither prompt nor script", "error")]
    found = _prompt_problems(record, prompts)
    if not script:
        return [*found, RowProblem(number, "script", "the script is empty", "error")]
    if _lost_letters(script):
        text = "question marks stand where letters were: the file was once saved without Unicode; export it again"
        return [*found, RowProblem(number, "script", text, "error")]
    return found + _script_problems(number, script, record["duration_seconds"], contract)


def _prompt_problems(record: dict[str, Any], prompts: Sequence[str]) -> list[RowProblem]:
    empty = [name for name in prompts if not record[name]]
    level: Literal["error", "warning"] = "error" if len(empty) == len(prompts) else "warning"
    return [RowProblem(record["row"], name, "the prompt is empty", level) for name in empty]


def _script_problems(number: int, script: str, seconds: int | None, contract: Check) -> list[RowProblem]:
    """A broken script is an error; a whole one that does not fit its length is only a warning."""
    broken = contract(script).problems
    found = [RowProblem(number, "script", problem, "error") for problem in broken]
    if seconds is not None and not broken:
        unfit = contract(script, seconds).problems
        found += [RowProblem(number, "script", problem, "warning") for problem in unfit]
    return found


def _lost_letters(script: str) -> bool:
    return bengali_share(script) == 0 and len(regex.findall(r"\?{3,}", script)) > 1


def _duplicates(records: list[dict[str, Any]]) -> list[RowProblem]:
    """Report the second and later rows that repeat a script or an id: they would leak between the splits."""
    problems = []
    for column in ("script", "id"):
        first: dict[str, int] = {}
        for record in records:
            key = " ".join(record[column].split())
            if key and key in first:
                text = f"the same {column} as in row {first[key]}"
                problems.append(RowProblem(record["row"], column, text, "error"))
            first.setdefault(key, record["row"])
    return problems


def split(table: pd.DataFrame, validation_share: float, test_share: float, seed: int) -> pd.Series:
    """Return train, validation or test for every usable row (``unused`` for the others).

    By row, so that a row's three prompts never part; spread over the industries, and no industry loses its last
    training row. The choice depends on the ids and the seed, not on the order of the rows. Raises DatasetError
    where nothing can be held out.
    """
    import pandas as pd

    parts = pd.Series(UNUSED, index=table.index, dtype="object")
    groups: dict[str, list[Any]] = defaultdict(list)
    usable = table[table["usable"]] if "usable" in table else table
    for index, row in usable.iterrows():
        groups[row["industry"]].append(index)
        parts[index] = "train"
    for members in groups.values():
        members.sort(key=lambda index: _dice(seed, table.at[index, "id"]))
    shares = {"validation": validation_share, "test": test_share}
    wanted = {part: max(round(len(usable) * share), 1) for part, share in shares.items()}
    held: Counter[str] = Counter()
    for turn in range(max(wanted.values())):
        for part in shares:
            if turn < wanted[part] and (industry := _next_industry(groups, held, seed)) is not None:
                parts[groups[industry][held[industry]]] = part
                held[industry] += 1
    if not set(SPLITS) <= set(parts):
        raise DatasetError(
            f"{len(usable)} usable row(s) in {len(groups)} industries cannot be split: at least two rows have to be "
            "held out, and every industry keeps one. Add rows, or leave the column industry out"
        )
    return parts


def _dice(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def _next_industry(groups: dict[str, list[Any]], held: Counter[str], seed: int) -> str | None:
    """Return the industry of which the smallest share is held out, if it can spare a row; ties by seed."""
    free = [name for name in groups if len(groups[name]) - held[name] > 1]
    return min(free, key=lambda name: (held[name] / len(groups[name]), _dice(seed, name)), default=None)


def to_examples(table: pd.DataFrame, prompts: Sequence[str], system_prompt: str) -> list[dict[str, Any]]:
    """Return one example for each usable row and prompt, as chat messages; `table` needs the column ``split``.

    Keys: id, split, prompt_key, prompt (system and user message), completion (the assistant's script). A row's own
    ``system_prompt`` comes before the recipe's. Empty prompts give no example (`load_table` reported them).
    """
    examples = []
    for row in table[table["split"].isin(SPLITS)].to_dict("records"):
        system = {"role": "system", "content": row.get("system_prompt") or system_prompt}
        for key in prompts:
            if row[key]:
                example = {"id": row["id"], "split": row["split"], "prompt_key": key}
                example["prompt"] = [system, {"role": "user", "content": row[key]}]
                example["completion"] = [{"role": "assistant", "content": row["script"]}]
                examples.append(example)
    return examples


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


def load_briefs(path: Path, limit: int | None = None, part: Part | None = "development") -> list[Brief]:
    """Return the evaluation briefs of a CSV file, the first `limit` of one `part` (None takes both).

    Columns prompt, id, industry, tone, duration_seconds, brand, product, part; only prompt is needed, and a brief
    without a part is for development. The held-out ones are for the last exam of notebook 12 alone. Raises
    DatasetError with the row at fault.
    """
    path = Path(path)
    briefs: dict[str, Brief] = {}
    seen: set[str] = set()
    for row in get_source("ad_script_csv")(path):
        _need_columns(path, list(row.cells), ["prompt"])
        record = _record(row)
        if not record["prompt"]:
            raise DatasetError(f"{path.name}, row {row.number}: the prompt is empty")
        if record["id"] in seen:
            raise DatasetError(f"{path.name}, row {row.number}: the id {record['id']} stands there twice")
        seen.add(record["id"])
        found = record.get("part") or "development"
        if found not in get_args(Part):
            raise DatasetError(
                f"{path.name}, row {row.number}: part is {found!r}, not one of {', '.join(get_args(Part))}"
            )
        if part in (None, found):
            briefs[record["id"]] = Brief(**{name: record[name] for name in Brief.__dataclass_fields__})
    if not briefs:
        raise DatasetError(f"{path.name} holds no {part or ''} brief".replace("  ", " "))
    return list(briefs.values())[:limit]


def leakage(examples_train: Sequence[dict[str, Any]], others: Sequence[dict[str, Any] | Brief]) -> pd.DataFrame:
    """Return how near each held-out text comes to its nearest training text, the nearest first.

    Examples are compared by script, briefs by prompt. Columns: id, nearest, jaccard (shared 5-grams of all),
    contained (share of the held-out text's 5-grams found there). Both run from 0 to 1; a copy has 1.
    """
    import pandas as pd

    scripts = _grams({e["id"]: e["completion"][0]["content"] for e in examples_train})
    prompts = _grams({f"{e['id']}/{e['prompt_key']}": e["prompt"][-1]["content"] for e in examples_train})
    held_scripts = _grams({o["id"]: o["completion"][0]["content"] for o in others if not isinstance(o, Brief)})
    held_prompts = _grams({o.id: o.prompt for o in others if isinstance(o, Brief)})
    rows = [_nearest(name, grams, scripts) for name, grams in held_scripts.items()]
    rows += [_nearest(name, grams, prompts) for name, grams in held_prompts.items()]
    table = pd.DataFrame(rows, columns=["id", "nearest", "jaccard", "contained"])
    return table.sort_values("jaccard", ascending=False, ignore_index=True)


def _grams(texts: dict[str, str]) -> dict[str, set[str]]:
    return {name: char_ngrams(text) for name, text in texts.items()}


def _nearest(name: str, grams: set[str], train: dict[str, set[str]]) -> tuple[str, str, float, float]:
    best = max(train, key=lambda other: jaccard(grams, train[other]))
    shared = len(grams & train[best]) / len(grams)
    return name, best, round(jaccard(grams, train[best]), 3), round(shared, 3)
