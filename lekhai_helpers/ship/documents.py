"""A stored script as a file to work on: a Word document or a table for a spreadsheet. Taught in notebook 09.

``to_docx(stored, settings)`` and ``to_csv(stored, settings)`` return the bytes of the file. Nothing the model wrote is
left out: lines that are no row of the table come after it. What is no ad script is shown as its contract shows it, a
table or text, under English labels.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import regex

from lekhai_helpers.core.bengali import normalize
from lekhai_helpers.prepare.contracts import words_of
from lekhai_helpers.prepare.contracts.ad_script import HEADER, parse_ad_script, raw_cells
from lekhai_helpers.ship.forms import BENGALI_DIGITS, ad_title, form_of

if TYPE_CHECKING:
    from docx.document import Document
    from docx.oxml.xmlchemy import BaseOxmlElement

    from lekhai_helpers.core.recipe import Settings
    from lekhai_helpers.ship.api_models import Table
    from lekhai_helpers.ship.store import NewScript, StoredScript

FONT = "Noto Sans Bengali"
_POINTS = 11
_RULE = regex.compile(r"^:?-+:?$")
_BREAK = regex.compile(r"<br\s*/?>", regex.IGNORECASE)
_NOT_XML = regex.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# With one of these in front a spreadsheet runs a cell as a formula (OWASP, "CSV Injection"), in both widths.
_FORMULA = tuple("=+-@\t\r＝＋－＠")


def to_docx(stored: StoredScript, settings: Settings | None = None) -> bytes:
    """Return the script as a .docx: title, what was asked for, the table of two columns, the verdict.

    `settings` are the recipe's; without them it is an ad script. The Bengali font is named for complex script as well:
    Word draws Bengali with that one and ignores the usual one.
    """
    from docx import Document

    document = Document()
    _use_bengali(document)
    sheet = _sheet(settings)
    title = sheet.title(stored)
    document.core_properties.title, document.core_properties.author = title[:255], "LekhAI"
    document.core_properties.created = stored.created_at
    document.core_properties.comments, document.core_properties.language = "", sheet.language
    document.add_heading(title, level=0)
    for label, value in sheet.asked_for(stored):
        paragraph = document.add_paragraph()
        _bold(paragraph.add_run(f"{label}: "))
        paragraph.add_run(value)
    columns, rows, left = sheet.read(stored.markdown)
    if columns:
        _add_table(document, columns, rows)
    if columns and left:
        document.add_heading(sheet.outside, level=1)
    for line in left:
        document.add_paragraph(_for_xml(line))
    _add_verdict(document, stored, sheet)
    written = io.BytesIO()
    document.save(written)
    return written.getvalue()


def to_csv(stored: NewScript, settings: Settings | None = None) -> bytes:
    """Return the table as CSV, in UTF-8 with a byte-order mark, without which Excel shows Bengali as rubbish.

    A cell that a spreadsheet would run as a formula gets an apostrophe in front. What is no table has one column.
    """
    sheet = _sheet(settings)
    columns, rows, left = sheet.read(stored.markdown)
    columns = columns or [sheet.unit]
    written = io.StringIO(newline="")
    writer = csv.writer(written)
    writer.writerow([_no_formula(name) for name in columns])
    writer.writerows([[_no_formula(cell) for cell in row] for row in rows])
    writer.writerows([[_no_formula(line), *[""] * (len(columns) - 1)] for line in left])
    return written.getvalue().encode("utf-8-sig", "replace")


def read_rows(markdown: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the rows of the table as (visual, audio), and the lines that are no row, header or rule."""
    rows = parse_ad_script(markdown)[0].rows
    lines = [line.strip() for line in normalize(markdown).split("\n") if line.strip()]
    left = [line for line in lines if not _in_table(raw_cells(line), rows)]
    return [(_cell(visual), _cell(audio)) for visual, audio in rows], left


def _in_table(cells: list[str] | None, rows: list[tuple[str, str]]) -> bool:
    if cells is None:
        return False
    frame = [cell.lower() for cell in cells] == HEADER or all(_RULE.match(cell) for cell in cells)
    return frame or tuple(cells) in rows


def _cell(text: str) -> str:
    """Return what a Markdown cell means: a line break, a pipe that is no border."""
    return _BREAK.sub("\n", text).replace("\\|", "|")


def _no_formula(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) or cell.lstrip().startswith(_FORMULA) else cell


# --- the document


def _ad_asked_for(stored: StoredScript) -> list[tuple[str, str]]:
    request = stored.request
    seconds = request.get("duration_seconds")
    length = f"{str(seconds).translate(BENGALI_DIGITS)} সেকেন্ড ({seconds} s)" if seconds else ""
    facts = [
        ("খাত (Industry)", request.get("industry")),
        ("সুর (Tone)", request.get("tone")),
        ("দৈর্ঘ্য (Length)", length),
        ("মূল বার্তা (Message)", request.get("message")),
        ("মডেল (Model)", stored.model),
        ("লেখার সময় (Written)", f"{stored.created_at:%Y-%m-%d %H:%M} UTC"),
    ]
    return _told(facts)


def _told(facts: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    return [(label, _for_xml(str(value))) for label, value in facts if value]


def _asked_for(stored: StoredScript) -> list[tuple[str, str]]:
    written = f"{stored.created_at:%Y-%m-%d %H:%M} UTC"
    named = [("Request", "message"), ("Group", "industry"), ("Tone", "tone")]
    asked = [(label, stored.request.get(name)) for label, name in named]
    return _told([*asked, ("Model", stored.model), ("Written", written)])


@dataclass(frozen=True)
class _Sheet:
    """How a document of one recipe is laid out: `read` gives columns, rows and lines beside them."""

    title: Callable[[NewScript], str]
    asked_for: Callable[[StoredScript], list[tuple[str, str]]]
    read: Callable[[str], tuple[list[str], Sequence[Sequence[str]], list[str]]]
    unit: str
    language: str
    outside: str
    verdict: tuple[str, str, str]  # heading, "kept", "broken"


def _sheet(settings: Settings | None) -> _Sheet:
    if settings is None or settings.serving.form == "ad_script":
        return _AD_SHEET
    form, unit = form_of(settings), settings.data.unit
    return _Sheet(
        title=lambda stored: _for_xml(form.title(stored.request)) or unit,
        asked_for=_asked_for,
        read=lambda text: _read_shown(form.table(text, settings.data.contract), text),
        unit=unit,
        language=settings.language,
        outside="",
        verdict=("Check", f"It is {words_of(settings).one}.", f"It is not {words_of(settings).one}:"),
    )


def _read_ad(markdown: str) -> tuple[list[str], Sequence[Sequence[str]], list[str]]:
    rows, left = read_rows(markdown)
    return ["Visual", "Audio"], rows, left


def _read_shown(table: Table | None, text: str) -> tuple[list[str], Sequence[Sequence[str]], list[str]]:
    if table is not None and table.columns:
        return table.columns, table.rows, []
    return [], [], [line for line in text.split("\n") if line.strip()]


_AD_SHEET = _Sheet(
    title=lambda stored: _for_xml(ad_title(stored.request)) or "চিত্রনাট্য (Script)",
    asked_for=_ad_asked_for,
    read=_read_ad,
    unit="script",
    language="bn-BD",
    outside="ছকের বাইরের লেখা (Outside the table)",
    verdict=(
        "যাচাই (Check)",
        "ছকটি সব নিয়ম মেনে লেখা। (The table keeps every rule.)",
        "ছকটি সব নিয়ম মানেনি। (The table breaks these rules:)",
    ),
)


def _add_table(document: Document, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from docx.oxml import OxmlElement

    table = document.add_table(rows=1, cols=len(columns), style="Table Grid")
    for cell, name in zip(table.rows[0].cells, columns, strict=True):
        _bold(cell.paragraphs[0].add_run(_for_xml(name)))
    # The header comes again on every page, and no shot is torn between two pages.
    table.rows[0]._tr.get_or_add_trPr().append(OxmlElement("w:tblHeader"))
    for row in rows:
        added = table.add_row()
        added._tr.get_or_add_trPr().append(OxmlElement("w:cantSplit"))
        for cell, text in zip(added.cells, row, strict=True):
            cell.text = _for_xml(text)


def _add_verdict(document: Document, stored: NewScript, sheet: _Sheet) -> None:
    heading, kept, broken = sheet.verdict
    document.add_heading(heading, level=1)
    document.add_paragraph(kept if stored.valid else broken)
    for problem in stored.problems:
        document.add_paragraph(_for_xml(problem), style="List Bullet")


def _use_bengali(document: Document) -> None:
    """Name the font in every style, and take out the theme's fonts, which would win over it."""
    from docx.oxml.ns import qn

    styles = document.styles.element
    for fonts in styles.iter(qn("w:rFonts")):
        fonts.attrib.clear()
        for script in ("w:ascii", "w:hAnsi", "w:eastAsia", "w:cs"):
            fonts.set(qn(script), FONT)
    defaults = next(styles.iter(qn("w:rPrDefault")))
    for size in ("w:sz", "w:szCs"):
        next(defaults.iter(qn(size))).set(qn("w:val"), str(2 * _POINTS))  # Word counts in half points
    _bengali_language(next(defaults.iter(qn("w:lang"))))


def _bengali_language(language: BaseOxmlElement) -> None:
    from docx.oxml.ns import qn

    language.set(qn("w:bidi"), "bn-BD")


def _bold(run: Any) -> None:
    run.bold = run.font.cs_bold = True  # complex script has a boldness of its own


def _for_xml(text: str) -> str:
    """Return a text without what XML cannot hold; such a character becomes the sign �."""
    return _NOT_XML.sub("�", text)
