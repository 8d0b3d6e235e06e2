"""The CSV of ad scripts, ours or the user's own, as Excel, LibreOffice, Google Sheets or pandas wrote it.

Called as ``rows(path)``; taught in notebook 03. It is read with the standard csv module in its strict mode:
with the lenient one a quotation mark that is never closed swallows the rest of the file without a word.
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from lekhai_helpers.prepare.sources.base import DatasetError, Row

COLUMNS = (
    "id", "industry", "format", "tone", "brand", "product", "duration_seconds",
    "system_prompt", "prompt_1", "prompt_2", "prompt_3", "prompt", "script", "source",
)  # fmt: skip
ONE_ROW_A_SCRIPT = True  # a row has up to three prompts; the same film under a fourth would be in two splits
DELIMITERS = (",", ";", "\t")
_IN_JSON = ("messages", "expected")  # with these a script is held against something; a table's own mean other things
_SAVE_AGAIN = 'save it again as "CSV UTF-8 (Comma delimited) (*.csv)" and give that file'
_WORKBOOKS = {b"PK\x03\x04": "a workbook (.xlsx or .ods)", b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls)"}


def rows(path: Path) -> Iterator[Row]:
    """Yield every row of a CSV file of scripts. Columns named messages or expected, no JSON of ours, get a suffix.

    Raises DatasetError as `briefs` does.
    """
    for row in briefs(path):
        cells = {f"{name}_in_file" if name in _IN_JSON else name: cell for name, cell in row.cells.items()}
        yield Row(row.number, cells, row.surplus, row.missing)


def briefs(path: Path) -> Iterator[Row]:
    """Yield every row of a CSV file as it stands; only wholly blank lines are passed over.

    Raises DatasetError where the file is a workbook, is in an encoding without Bengali, or is broken as CSV.
    """
    text = decode(path)
    records = list(_records(path, text))
    if not records:
        raise DatasetError(f"{path.name} is empty: it needs a header line and one row for each script")
    header = _header(path, records[0])
    for number, cells in enumerate(records[1:], start=2):
        if cells:
            yield _row(number, header, cells)


def decode(path: Path) -> str:
    """Return the text of a CSV file in UTF-8 or UTF-16, with or without byte-order mark."""
    if not path.is_file():
        raise DatasetError(f"{path.name} was not found: give the path of a CSV file")
    data = path.read_bytes()
    for magic, what in _WORKBOOKS.items():
        if data.startswith(magic) or path.suffix.lower() in (".xlsx", ".xls", ".ods"):
            raise DatasetError(f"{path.name} is {what}, not a CSV file: open it and {_SAVE_AGAIN}")
    encoding = _encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DatasetError(
            f"{path.name} is not in UTF-8 (line {line}): it looks like an old Windows encoding such as cp1252, "
            f"which has no Bengali letters. Open the original and {_SAVE_AGAIN}"
        ) from None


def _encoding(data: bytes) -> str:
    """Return utf-16 or utf-8 by byte-order mark, or by the zero bytes beside the header's ASCII letters."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if data[1:2] == b"\0" and data[3:4] == b"\0":
        return "utf-16-le"
    if data[0:1] == b"\0" and data[2:3] == b"\0":
        return "utf-16-be"
    return "utf-8-sig"


def _records(path: Path, text: str) -> Iterator[list[str]]:
    text, delimiter = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    started = 1
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DatasetError(
                f"{path.name} is broken as CSV in the row that starts at line {started} ({error}): "
                f"a cell with a comma, a line break or a quotation mark must stand in quotation marks, "
                f'and a quotation mark inside it is written twice (""). A spreadsheet does so by itself: {_SAVE_AGAIN}'
            ) from None
        started = reader.line_num + 1
        yield record


def _delimiter(text: str) -> tuple[str, str]:
    """Return the text and the delimiter under which the first line holds the most known column names."""
    first, _, rest = text.partition("\n")
    if first.strip().lower() in ("sep=;", "sep=,", "sep=\t"):  # a line Excel writes for itself
        return rest, first.strip()[4] if len(first.strip()) > 4 else "\t"
    found = {mark: len({column_name(name) for name in first.split(mark)} & set(COLUMNS)) for mark in DELIMITERS}
    best = max(DELIMITERS, key=lambda mark: (found[mark], first.count(mark)))
    return text, best


def column_name(name: str) -> str:
    """Return a known column's own name for "Prompt 1", "PROMPT-1", "script "; any other name as it stands."""
    name = name.strip().strip('"').strip()
    simple = re.sub(r"[\s_-]+", "_", name.lower())
    return simple if simple in COLUMNS else name


def _header(path: Path, cells: list[str]) -> list[str]:
    names = [column_name(cell) or f"unnamed_{place}" for place, cell in enumerate(cells, start=1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DatasetError(
            f"{path.name} has the column {', '.join(twice)} more than once: rename or delete one of them"
        )
    return names


def _row(number: int, header: list[str], cells: list[str]) -> Row:
    missing = max(len(header) - len(cells), 0)
    padded = cells + [""] * missing
    return Row(number, dict(zip(header, padded, strict=False)), padded[len(header) :], missing)
