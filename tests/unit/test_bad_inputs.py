"""Every bad input of a recipe ends in one sentence with a remedy and exit code 1, at the command a person types."""

import json

import pytest
from typer.testing import CliRunner

from lekhai_helpers.cli import app

CALL = {"type": "function", "function": {"name": "get_tides", "arguments": {"place": "Khulna"}}}
TALK = [{"role": "user", "content": "When is high tide?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}]


def refused(*words: str) -> str:
    """Return what a command said that had to refuse."""
    answer = CliRunner().invoke(app, [str(word) for word in words])
    assert answer.exit_code == 1, answer.output
    assert "Traceback" not in answer.output and isinstance(answer.exception, SystemExit)
    return answer.output


def check(file, recipe: str) -> str:
    return refused("data", "check", file, "--recipe", recipe)


def test_an_empty_vault_is_refused_and_nothing_is_written(tmp_path):
    (tmp_path / "vault").mkdir()
    out = tmp_path / "out.jsonl"
    assert "no note" in refused("extract", "--vault", tmp_path / "vault", "--out", out)
    assert not out.exists()


def test_a_binary_file_named_md_is_named_and_the_other_notes_go_on(tmp_path):
    vault, out = tmp_path / "vault", tmp_path / "out.jsonl"
    vault.mkdir()
    (vault / "photo.md").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\xff\xfe" * 40)
    (vault / "day.md").write_text(
        "---\ntags: [reflection]\n---\nI kept asking myself whether to stay or to go. "
        "On the one hand the work is safe; on the other hand I learn nothing. I decided to wait until spring, "
        "and I learned that waiting is a decision as well.\n",
        encoding="utf-8",
    )
    answer = CliRunner().invoke(app, ["extract", "--vault", str(vault), "--out", str(out)])
    assert answer.exit_code == 0, answer.output
    assert "skipped photo.md: " in answer.output and "1 reflections written" in answer.output


def test_ten_thousand_notes_are_read_to_the_end(tmp_path):
    """That memory stays flat meanwhile is measured beside the vault's own tests."""
    vault, out = tmp_path / "vault", tmp_path / "out.jsonl"
    vault.mkdir()
    for number in range(10_000):
        tag = "#reflection " if number % 100 == 0 else ""
        (vault / f"n{number:05}.md").write_text(
            f"{tag}On day {number} I asked myself whether to write or to rest. I chose to rest, and I learned that "
            f"{number} pages can wait, because nobody counts them but me.\n",
            encoding="utf-8",
        )
    answer = CliRunner().invoke(app, ["extract", "--vault", str(vault), "--out", str(out), "--marked"])
    assert answer.exit_code == 0 and "10000 notes read" in answer.output
    assert len(out.read_text(encoding="utf-8").splitlines()) == 100


CSV, JSONL = "date,amount\n2024-01-01,7\n", '{"date": "2024-01-01", "amount": 7}\n'


@pytest.mark.parametrize(
    ("recipe", "name", "text", "said"),
    [
        ("lekhai", "other.csv", CSV, "other.csv lacks the column 'prompt_1', 'script'. Columns found: date, amount"),
        ("tutor", "other.jsonl", JSONL, "other.jsonl, line 1 has no instruction; it has date, amount"),
        ("alignment", "other.jsonl", JSONL, "line 1 has no Prompt, Accepted Response, Rejected Response; it has date,"),
        ("companion", "other.jsonl", JSONL, "other.jsonl, line 1 has no messages; it has date, amount"),
    ],
)
def test_a_file_with_other_columns_names_what_is_missing(tmp_path, recipe, name, text, said):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert said in check(tmp_path / name, recipe)


@pytest.mark.parametrize("recipe", ["tutor", "alignment", "companion"])
def test_a_csv_in_place_of_jsonl_hears_what_a_line_must_be(tmp_path, recipe):
    (tmp_path / "other.csv").write_text(CSV, encoding="utf-8")
    said = check(tmp_path / "other.csv", recipe)
    assert "other.csv, line 1 is no JSON" in said and "every line must hold one whole object" in said


@pytest.mark.parametrize(("column", "cell"), [("messages", "3"), ("messages", "see mail"), ("expected", "good")])
def test_a_column_of_a_csv_that_is_named_like_one_of_ours_is_only_kept(tmp_path, column, cell):
    file = tmp_path / "own.csv"
    file.write_text(f"prompt_1,script,{column}\nhi,there,{cell}\n", encoding="utf-8")
    assert "row 2  error  script: there is no table" in check(file, "lekhai")


def test_a_csv_of_headlines_with_other_columns_names_those_it_has(tmp_path):
    (tmp_path / "headlines.csv").write_text("date,amount\n2024-01-01,7\n", encoding="utf-8")
    said = check(tmp_path, "twainbot")
    assert "headlines.csv" in said and "amount" in said


@pytest.mark.parametrize("recipe", ["tutor", "alignment", "companion", "twainbot"])
def test_malformed_jsonl_is_named_by_its_line(tmp_path, recipe):
    good = {"instruction": "a", "output": "b", "Prompt": "a", "Accepted Response": "b", "Rejected Response": "c"}
    good |= {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(good) + '\n{"messages": [\n', encoding="utf-8")
    said = check(tmp_path if recipe == "twainbot" else file, recipe)
    assert "rows.jsonl, line 2 is no JSON" in said


@pytest.mark.parametrize("recipe", ["tutor", "alignment", "companion"])
def test_a_binary_file_is_called_one(tmp_path, recipe):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"PK\x03\x04" + b"\0" * 60)
    assert "a zip archive or a workbook" in check(file, recipe)


def test_a_call_of_a_tool_that_does_not_exist_is_named_with_its_line(tmp_path):
    (tmp_path / "calls.jsonl").write_text(json.dumps({"id": "c1", "messages": TALK}) + "\n", encoding="utf-8")
    said = check(tmp_path, "twainbot")
    assert "calls.jsonl, line 1" in said and "get_tides" in said and "get_weather" in said


def test_an_empty_file_and_a_folder_without_data_are_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text("", encoding="utf-8")
    assert "is empty" in check(tmp_path / "rows.jsonl", "tutor")
    (tmp_path / "none").mkdir()
    assert "holds neither a book" in check(tmp_path / "none", "twainbot")
