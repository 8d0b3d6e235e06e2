"""`lekhai extract` and `lekhai curate` as a person meets them: a real terminal, a pipe, and every wrong word."""

import io
import json
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lekhai_helpers.core.recipe import data_folder
from lekhai_helpers.curate_cli import curate_command, sit
from lekhai_helpers.extract_cli import extract_command
from lekhai_helpers.prepare.curation import Curation
from lekhai_helpers.prepare.near_duplicates import Duplicates, Pair

VAULT = data_folder() / "companion" / "vault"
PROGRAM = """
import sys, typer
from lekhai_helpers.curate_cli import curate_command
app = typer.Typer(pretty_exceptions_enable=False)
app.command()(curate_command)
app(sys.argv[1:])
"""
ASKED = "What shall be done"


def app(command):
    import typer

    from lekhai_helpers.cli import _Commands

    program = typer.Typer(cls=_Commands, pretty_exceptions_enable=False)
    program.callback()(lambda: None)  # so that the one command keeps its name, as among the others
    program.command("it")(command)
    return program


def run(command, *words: str):
    return CliRunner().invoke(app(command), ["it", *words])


def write(folder: Path, count: int = 3) -> Path:
    path = folder / "reflections.jsonl"
    talks = [[("user", f"Question {n}?"), ("assistant", f"Answer {n} of some words.")] for n in range(count)]
    rows = [{"id": f"e{n}", "messages": [{"role": r, "content": c} for r, c in talk]} for n, talk in enumerate(talks)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_extract_says_what_it_took_left_and_masked(tmp_path):
    out = tmp_path / "reflections.jsonl"
    answer = run(extract_command, "--vault", str(VAULT), "--out", str(out))
    assert answer.exit_code == 0, answer.output
    assert "118 notes read" in answer.output and "2 private" in answer.output and "2 mail, 1 key" in answer.output
    assert f"lekhai curate {out}" in answer.output.replace("\n", " ")
    assert len(out.read_text(encoding="utf-8").splitlines()) >= 100
    again = run(extract_command, "--vault", str(VAULT), "--out", str(out))
    assert again.exit_code == 1 and "--replace" in again.output


def test_extract_names_the_files_it_could_not_read(tmp_path):
    vault = tmp_path / "v"
    vault.mkdir()
    (vault / "good.md").write_text("I learned that I can wait. " * 20)
    for number in range(60):
        (vault / f"{number:02}.md").write_bytes(b"\0\1\2")
    answer = run(extract_command, "--vault", str(vault), "--out", str(tmp_path / "out.jsonl"), "--keep-secrets")
    assert "skipped 00.md: not text" in answer.output and "and 10 more files skipped" in answer.output
    assert "secrets were not masked" in answer.output


def test_extract_that_can_read_nothing_names_the_files_before_it_ends(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "a.md").write_bytes(b"\0")
    answer = run(extract_command, "--vault", str(tmp_path / "v"), "--out", str(tmp_path / "out.jsonl"))
    assert answer.exit_code == 1 and "skipped a.md: not text" in answer.output
    assert "no note of v could be read" in answer.output and "Traceback" not in answer.output


@pytest.mark.parametrize("vault", ["nowhere", "empty"])
def test_extract_ends_with_the_remedy_and_without_a_traceback(tmp_path, vault):
    (tmp_path / "empty").mkdir()
    answer = run(extract_command, "--vault", str(tmp_path / vault), "--out", str(tmp_path / "out.jsonl"))
    assert answer.exit_code == 1 and "Obsidian opens" in answer.output and "Traceback" not in answer.output
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_curate_without_a_terminal_says_where_to_go_and_makes_no_file(tmp_path):
    file = write(tmp_path)
    answer = run(curate_command, str(file))
    assert answer.exit_code == 1 and "--only-export" in answer.output
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_only_export_asks_nothing(tmp_path):
    file, out = write(tmp_path), tmp_path / "approved.jsonl"
    assert run(curate_command, str(file), "--only-export").exit_code == 1
    assert "nothing is approved" in run(curate_command, str(file), "--only-export", "--export", str(out)).output
    with Curation(file) as curation:
        curation.decide("e1", "approved")
    answer = run(curate_command, str(file), "--only-export", "--export", str(out))
    assert answer.exit_code == 0 and "1 approved" in answer.output
    assert json.loads(out.read_text())["id"] == "e1"


class Scripted:
    """A person whose answers are known beforehand; None where the person turns back."""

    def __init__(self, ways, words=()):
        self.ways, self.given = iter(ways), iter(words)

    def way(self):
        return next(self.ways)

    def words(self, what, now):
        return next(self.given)


def sitting(file: Path, ways, words=(), duplicates=None) -> str:
    from rich.console import Console

    console = Console(width=100, record=True, file=io.StringIO())
    with Curation(file) as curation:
        sit(curation, duplicates, console, Scripted(ways, words))
    return console.export_text()


def test_what_is_skipped_comes_back_in_the_next_sitting_and_not_in_this_one(tmp_path):
    file = write(tmp_path)
    text = sitting(file, ["skip for now", "approve", "reject"])
    assert text.count("Question 0?") == 1 and "1 approved, 1 rejected, 1 skipped, 0 open" in text
    assert "Question 0?" in sitting(file, [None])


def test_turning_back_from_an_edit_changes_nothing(tmp_path):
    file = write(tmp_path)
    sitting(file, ["edit the answer", "write a note", "edit the question", None], [None, None, " "])
    with Curation(file) as curation:
        assert curation.history() == []


def test_undo_brings_the_example_back_and_at_the_start_does_nothing(tmp_path):
    file = write(tmp_path)
    text = sitting(file, ["undo the last step", "reject", "undo the last step", "approve", None])
    assert "nothing to take back" in text and "taken back: rejected" in text
    with Curation(file) as curation:
        assert curation.states()["e0"].status == "approved"


def test_near_duplicates_stand_side_by_side_with_what_was_decided(tmp_path):
    file = write(tmp_path)
    duplicates = Duplicates("by letters", [Pair(0, 1, 0.87)])
    text = sitting(file, ["approve", None], duplicates=duplicates)
    second = text.split("Question 1?")[1]
    assert "87% alike" in second and "(approved)" in second
    assert re.search(r"Answer 1 of some words\..*Answer 0 of some words\.", second)


def test_markup_in_a_note_is_shown_and_not_run(tmp_path):
    """rich reads [bold] and [/x] in what it prints; a diary that holds them would end in a traceback."""
    path = tmp_path / "reflections.jsonl"
    talk = [{"role": "user", "content": "[bold]Q[/x]?"}, {"role": "assistant", "content": "[/]A[red]."}]
    path.write_text(json.dumps({"id": "e", "messages": talk, "source": {"path": "[/a].md"}}) + "\n")
    text = sitting(path, [None])
    assert "[bold]Q[/x]?" in text and "[/]A[red]." in text and "[/a].md" in text


def test_a_person_at_a_real_terminal_can_do_everything_and_come_back(tmp_path):
    pexpect = pytest.importorskip("pexpect", reason="pexpect opens the terminal of this test")
    pytest.importorskip("questionary", reason="the terminal form of lekhai curate needs questionary")
    if sys.platform == "win32":
        pytest.skip("a pseudo-terminal needs a POSIX system")
    file, out = write(tmp_path), tmp_path / "approved.jsonl"
    size = {"dimensions": (60, 100), "encoding": "utf-8", "timeout": 120}

    def open_terminal(*words: str):
        return pexpect.spawn(sys.executable, ["-c", PROGRAM, str(file), *words], cwd=str(Path.cwd()), **size)

    first = open_terminal()
    first.expect(ASKED)
    first.send("a\r")
    first.expect("1 of 3 decided, 1 approved")
    first.expect(ASKED)
    first.send("e\r")
    first.expect("ends it")
    first.send(" আরও এক লাইন\x1b\r")
    first.expect("edited")
    first.expect(ASKED)
    first.send("n\r")
    first.expect("ends it")
    first.send("mine\x1b\r")
    first.expect("note: mine")
    first.expect(ASKED)
    first.send("r\r")
    first.expect("2 of 3 decided")
    first.expect(ASKED)
    first.send("u\r")
    first.expect("taken back: rejected")
    first.expect(ASKED)
    first.sendcontrol("c")
    first.expect("1 approved, 0 rejected, 0 skipped, 2 open")
    first.expect(pexpect.EOF)

    second = open_terminal("--export", str(out))
    second.expect("1 of 3 decided")
    second.expect("Question 1")
    second.expect(ASKED)
    second.send("\r")  # the first way is to approve
    second.expect("Question 2")
    second.expect(ASKED)
    second.send("s\r")
    second.expect("2 approved examples written")
    second.expect(pexpect.EOF)
    second.close()
    assert second.exitstatus == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert rows[1]["messages"][1]["content"] == "Answer 1 of some words. আরও এক লাইন" and rows[1]["notes"] == ["mine"]
