"""What every notebook must be, read from its text: collected by folder, so a new lesson is covered by itself.

Both the sources and the generated notebooks are read; nothing is executed here.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from lekhai_helpers import publish
from lekhai_helpers.core.run_folder import PHASES

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "notebooks" / "src").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_LINES = 12
MACHINE_PATH = re.compile(r"(?<![\w.…])(/home|/root|/work|/tmp|/content)/|(?<!\w)[A-Z]:\\")
WIDGET = "application/vnd.jupyter.widget-view+json"

every = pytest.mark.parametrize("path", [*SOURCES, *NOTEBOOKS], ids=lambda path: path.name)
generated = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def cells_of(path):
    return (publish.read_source(path) if path.suffix == ".py" else nbformat.read(path, as_version=4)).cells


def code_of(path):
    """Return (number, cell) of every code cell; the numbers are those of the failure messages."""
    return list(enumerate((cell for cell in cells_of(path) if cell.cell_type == "code"), start=1))


def tags_of(cell):
    return cell.metadata.get("tags", [])


def is_shell(line):
    return line.lstrip().startswith(("!", "%"))


def tree_of(path, cell):
    """Parse a cell as Jupyter would: shell lines are allowed in notebook 01 only."""
    lines = cell.source.splitlines()
    plain = "\n".join("" if is_shell(line) else line for line in lines) if path.stem.startswith("01_") else cell.source
    return compile(plain, path.name, "exec", flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def output_texts(output):
    if output.output_type == "stream":
        return [output.text]
    data = output.get("data", {})
    return [str(value) for mime, value in data.items() if not mime.startswith("image/") or mime == "image/svg+xml"]


def test_all_twelve_lessons_and_the_colab_notebook_are_there():
    assert [path.stem for path in SOURCES] == list(PHASES)
    assert [path.stem for path in NOTEBOOKS] == [*PHASES, publish.COLAB]


def test_sources_and_notebooks_agree():
    """A notebook edited by hand is overwritten by the next build; a source not built is not what a reader opens."""
    assert publish.check() == []


@every
def test_every_code_cell_parses_and_is_short(path):
    for number, cell in code_of(path):
        tree_of(path, cell)
        lines = len(cell.source.splitlines())
        assert lines <= MAX_LINES, f"code cell {number} has {lines} lines: one action a cell"


@generated
def test_no_name_is_undefined(path):
    """A cell that uses a name of a deleted cell works in the author's kernel and nowhere else."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@every
def test_one_parameters_cell_of_literals_with_the_four_names(path):
    """What is computed in the parameters cell is not computed again when papermill replaces a parameter."""
    tagged = [cell for _, cell in code_of(path) if "parameters" in tags_of(cell)]
    assert len(tagged) == 1
    values = {}
    for statement in ast.parse(tagged[0].source).body:
        assert isinstance(statement, ast.Assign) and len(statement.targets) == 1, ast.unparse(statement)
        values[ast.unparse(statement.targets[0])] = ast.literal_eval(statement.value)
    assert sorted(values) == sorted(publish.PARAMETERS)


def test_the_parameters_are_the_same_everywhere():
    """lekhai_colab.ipynb sets them once for all twelve lessons."""
    found = {cell.source for path in SOURCES for _, cell in code_of(path) if "parameters" in tags_of(cell)}
    values = {str({ast.unparse(s.targets[0]): ast.unparse(s.value) for s in ast.parse(text).body}) for text in found}
    assert len(values) == 1


@every
def test_every_code_cell_has_its_explanation_right_above(path):
    cells = cells_of(path)
    for above, cell in zip([None, *cells], cells, strict=False):
        if cell.cell_type == "code" and "parameters" not in tags_of(cell):
            explained = above is not None and above.cell_type == "markdown" and "### Explanation" in above.source
            assert explained, f"no '### Explanation' right above:\n{cell.source}"


@every
def test_every_notebook_explains_its_key_concepts(path):
    assert any("### Key Concepts" in cell.source for cell in cells_of(path) if cell.cell_type == "markdown")


@every
def test_no_cell_waits_for_a_person_or_runs_a_shell(path):
    """A shell line that fails passes silently; input() hangs a headless run; `if False:` is dead weight."""
    for number, cell in code_of(path):
        where = f"code cell {number}"
        if not path.stem.startswith("01_"):
            assert not any(map(is_shell, cell.source.splitlines())), f"{where}: shell or magic line"
        for node in ast.walk(tree_of(path, cell)):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in ("input", "exit", "quit", "sys.exit"), f"{where}: {called}()"
            dead = isinstance(node, ast.If) and isinstance(node.test, ast.Constant)
            assert not dead, f"{where}: a condition that never changes"
            star = isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
            assert not star, f"{where}: star import"


@generated
def test_first_set_up_then_parameters_then_the_lesson(path):
    assert [tags_of(cell) for _, cell in code_of(path)[:3]] == [["setup"], ["setup"], ["parameters"]]


@generated
def test_outputs_hold_no_error_no_machine_path_and_nothing_only_a_widget_shows(path):
    for number, cell in code_of(path):
        for output in cell.outputs:
            where = f"code cell {number}"
            assert output.output_type != "error", f"{where}: {output.get('ename')}"
            assert output.get("name") != "stderr", f"{where}: stderr"
            hits = [hit.group() for text in output_texts(output) if (hit := MACHINE_PATH.search(text))]
            assert not hits, f"{where}: path of a machine, {hits[0]}"
            assert WIDGET not in output.get("data", {}), f"{where}: a widget, empty for who reads the page"


@generated
def test_committed_outputs_come_from_a_pass_from_top_to_bottom(path):
    """Half of the notebooks one finds online have outputs of two evenings, in an order nobody can repeat.

    A cell edited since has no count; `lekhai publish --run` is what fills all of them from one clean run.
    """
    counts = [cell.execution_count for _, cell in code_of(path) if cell.execution_count is not None]
    assert counts == sorted(set(counts))


@generated
def test_the_notebook_is_valid_and_holds_nothing_of_the_run(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
