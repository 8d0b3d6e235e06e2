"""The quality checks of a file of ad scripts, beyond what the contract asks of each by itself.

``table, problems = check_file(path)`` is what `lekhai data check FILE` runs, on our file or on the user's own.
What would spoil training is an error, what only weakens the set is a warning. Taught in notebook 03.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import regex

from lekhai_helpers.core.bengali import char_ngrams, jaccard, words
from lekhai_helpers.core.recipe import data_file
from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.prepare.contracts.ad_script import check, parse_ad_script, spoken_lines
from lekhai_helpers.prepare.dataset import Brief, RowProblem, load_table
from lekhai_helpers.prepare.near_copies import near_copies
from lekhai_helpers.prepare.sources import get_source

if TYPE_CHECKING:
    import pandas as pd

MIN_BENGALI_SHARE = 0.85
MAX_JACCARD = 0.35
PROMPTS = ("prompt_1", "prompt_2", "prompt_3")
DENYLIST = "brand_denylist.txt"
INVENTED = "original-sample"  # rows of this source advertise invented brands; an agency's own rows need not
EXEMPT_BRANDS = ("বার্জার",)  # the plan asks for a Berger paint brief before and after training

_SUPER = regex.compile(r"সুপার\s*:\s*(.+)")
_CASE_ENDINGS = r"(?:র|এর|ের|কে|তে|ে|এ|য়|টা|টি|ও|ই)?"
_WITH_DISCLAIMER = ("(Bank)", "(Mobile Financial Services)", "(Insurance)", "(Pharma & Hospital)")
_DISCLAIMER = regex.compile(r"সুপার\s*:.*(?:শর্ত|চিকিৎসক|ডাক্তার|পরামর্শ|নীতিমালা)")

Record = dict[str, Any]


def check_file(
    path: Path, prompts: Sequence[str] = PROMPTS, source: str = "ad_script_csv", contract: str = "ad_script"
) -> tuple[pd.DataFrame, list[RowProblem]]:
    """Read a file of examples and run every check on it; return the table and all problems by row."""
    table, problems = load_table(path, prompts, source, contract)
    problems = [*problems, *_not_nfc(path, source), *strict_checks(table, contract)]
    return table, sorted(problems, key=lambda problem: (problem.row, problem.level, problem.column))


def check_table(table: pd.DataFrame) -> list[RowProblem]:
    """Return what the rows lack, each by itself and beside the others; unusable rows are passed over."""
    rows: list[Record] = table[table["usable"]].to_dict("records")
    deny = load_denylist()
    problems = [problem for row in rows for problem in _row_problems(row, deny)]
    for column, what, of in _UNIQUE:
        problems += _twice(rows, column, what, of)
    return [*problems, *_brand_twice(rows), *_near_copies(rows)]


def strict_checks(table: pd.DataFrame, contract: str) -> list[RowProblem]:
    """Return advice on the usable rows of any recipe's table: the contract's own, or which rows nearly copy others."""
    strict = get_contract(contract).strict
    return strict(table) if strict else _nearly_alike(table[table["usable"]])


def _nearly_alike(rows: pd.DataFrame) -> list[RowProblem]:
    """Compare the answers; of conversations with what was asked last, for many end in the same short call."""
    numbers, records = rows["row"].tolist(), rows.to_dict("records")
    texts = [f"{row['prompt_1']}\n{row['script']}" if row.get("messages") else row["script"] for row in records]
    return [
        RowProblem(
            numbers[place], "script", f"shares {share:.0%} of its 5-grams with row {numbers[earlier]}", "warning"
        )
        for place, (earlier, share) in near_copies(texts).items()
    ]


def _not_nfc(path: Path, source: str) -> Iterator[RowProblem]:
    """The loader normalises; whoever reads the file with another program would not."""
    for row in get_source(source)(path):
        for column, cell in row.cells.items():
            if not unicodedata.is_normalized("NFC", cell):
                yield RowProblem(row.number, column, "not in Unicode form NFC; it is normalised on reading", "warning")


def _row_problems(row: Record, deny: Denylist) -> Iterator[RowProblem]:
    share = check(row["script"]).facts["bengali_share"]
    if share < MIN_BENGALI_SHARE:
        text = f"{share:.0%} of the letters are Bengali; at least {MIN_BENGALI_SHARE:.0%} should be"
        yield RowProblem(row["row"], "script", text, "warning")
    for column in ("script", *PROMPTS):
        if row.get(column):
            yield from _brand_problems(row, column, deny)
    if row.get("source") == INVENTED and deny.is_real_brand(row["brand"]):
        yield RowProblem(row["row"], "brand", f"{row['brand']} is a real brand: invent one", "warning")
    if row["industry"].endswith(_WITH_DISCLAIMER) and not _DISCLAIMER.search(row["script"]):
        text = "health and finance need their disclaimer as a সুপার (শর্ত প্রযোজ্য, চিকিৎসকের পরামর্শ নিন)"
        yield RowProblem(row["row"], "script", text, "warning")


def _brand_problems(row: Record, column: str, deny: Denylist) -> Iterator[RowProblem]:
    if row["brand"] and row["brand"] not in row[column]:
        yield RowProblem(row["row"], column, f"the brand {row['brand']} is not named", "warning")
    if row.get("source") == INVENTED:
        for name in deny.real_brands_in(row[column]):
            yield RowProblem(row["row"], column, f"{name} is a real brand: invent one", "warning")


def opening(script: str) -> str:
    """Return what a script opens with: its first Visual cell and the first line anyone says, without labels."""
    rows = parse_ad_script(script)[0].rows
    lines = [line for _, audio in rows for line in spoken_lines(audio)]
    return " ".join(words(" ".join(lines[:1])))


def first_picture(script: str) -> str:
    """Return the first Visual cell as words."""
    rows = parse_ad_script(script)[0].rows
    return " ".join(words(rows[0][0])) if rows else ""


def tagline(script: str) -> str:
    """Return the words of the last row's last সুপার, the line the film ends on; "" where there is none."""
    rows = parse_ad_script(script)[0].rows
    found = _SUPER.findall(rows[-1][0]) if rows else []
    return " ".join(words(found[-1])) if found else ""


_UNIQUE: tuple[tuple[str, str, Callable[[Record], str]], ...] = (
    ("script", "opening line", lambda row: opening(row["script"])),
    ("script", "first picture", lambda row: first_picture(row["script"])),
    ("script", "tagline", lambda row: tagline(row["script"])),
    ("format", "pair of industry and format", lambda row: _industry_and_format(row)),
)


def _industry_and_format(row: Record) -> str:
    return f"{row['industry']} / {row['format']}" if row.get("format") else ""


def _twice(rows: list[Record], column: str, what: str, of: Callable[[Record], str]) -> Iterator[RowProblem]:
    first: dict[str, int] = {}
    for row in rows:
        value = of(row)
        if value and value in first:
            yield RowProblem(row["row"], column, f"the same {what} as row {first[value]}: {value}", "warning")
        first.setdefault(value, row["row"])


def _brand_twice(rows: list[Record]) -> Iterator[RowProblem]:
    industries: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        known = industries[row["brand"]]
        if row["brand"] and known and row["industry"] not in known:
            text = f"the brand {row['brand']} also stands in {known[0]}"
            yield RowProblem(row["row"], "brand", text, "warning")
        known.append(row["industry"])


def _near_copies(rows: list[Record]) -> Iterator[RowProblem]:
    grams = [(row["row"], char_ngrams(row["script"])) for row in rows]
    for place, (number, own) in enumerate(grams):
        for earlier, other in grams[:place]:
            if (overlap := jaccard(own, other)) > MAX_JACCARD:
                text = f"shares {overlap:.0%} of its 5-grams with row {earlier} (at most {MAX_JACCARD:.0%})"
                yield RowProblem(number, "script", text, "warning")


def check_briefs(briefs: Sequence[Brief], table: pd.DataFrame) -> list[str]:
    """Return what makes a brief unfit to judge by: a training brand, a paraphrase, a real brand, no brand named."""
    deny, brands = load_denylist(), set(table["brand"])
    prompts = {(row["id"], key): row[key] for row in table.to_dict("records") for key in PROMPTS if row.get(key)}
    grams = {name: char_ngrams(text) for name, text in prompts.items()}
    problems = []
    for brief in briefs:
        if brief.brand in brands:
            problems.append(f"{brief.id}: the brand {brief.brand} is in the training file")
        if brief.brand not in brief.prompt:
            problems.append(f"{brief.id}: the prompt does not name {brief.brand}")
        if brief.brand not in EXEMPT_BRANDS:
            found = [*deny.real_brands_in(brief.prompt), *([brief.brand] if deny.is_real_brand(brief.brand) else [])]
            problems += [f"{brief.id}: {name} is a real brand" for name in dict.fromkeys(found)]
        own = char_ngrams(brief.prompt)
        near = [name for name, other in grams.items() if jaccard(own, other) > MAX_JACCARD]
        problems += [f"{brief.id}: nearly the same words as {name[1]} of {name[0]}" for name in near]
    return problems


class Denylist:
    """Names of real brands. `names` may stand nowhere; `ordinary` are also plain words (রবি, নগদ, প্রাণ), so they
    are refused only as a row's own brand."""

    def __init__(self, names: Sequence[str], ordinary: Sequence[str]) -> None:
        self.names = [unicodedata.normalize("NFC", name) for name in names]
        self.ordinary = [unicodedata.normalize("NFC", name) for name in ordinary]
        self._anywhere = _any_word(self.names, _CASE_ENDINGS)
        self._as_brand = _any_word([*self.names, *self.ordinary], "")

    def real_brands_in(self, text: str) -> list[str]:
        """Return the real brands a text names, in order, each once."""
        return list(dict.fromkeys(found.group(1) for found in self._anywhere.finditer(text)))

    def is_real_brand(self, brand: str) -> bool:
        """Say whether a brand is, or has as one of its words, a name of the list."""
        return bool(self._as_brand.search(brand))


def _any_word(names: Sequence[str], ending: str) -> regex.Pattern[str]:
    """Match any of `names` as a whole word, Latin ones in either case; with no names, match nothing."""
    if not names:
        return regex.compile(r"(?!)()")
    longest_first = "|".join(regex.escape(name) for name in sorted(names, key=len, reverse=True))
    letter = r"[\p{L}\p{M}\p{N}]"
    return regex.compile(rf"(?<!{letter})({longest_first}){ending}(?!{letter})", regex.IGNORECASE)


def load_denylist(path: Path | None = None) -> Denylist:
    """Read the deny-list: one name a line, "# ..." a comment, "= name" for one that is an ordinary word too."""
    lines = (path or data_file(DENYLIST)).read_text(encoding="utf-8").splitlines()
    entries = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    ordinary = [entry[1:].strip() for entry in entries if entry.startswith("=")]
    return Denylist([entry for entry in entries if not entry.startswith("=")], ordinary)
