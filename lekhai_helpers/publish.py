"""Notebooks from their sources: ``notebooks/src/NN_name.py`` (py:percent) becomes ``notebooks/NN_name.ipynb``.

Run it with ``lekhai publish --build``. The generator adds what every notebook has in common: a Colab badge under
the title, links to the lessons before and after, the set-up cells that fetch the project on Colab. It also writes
``lekhai_colab.ipynb``, all lessons in one. ``lekhai publish --run NAME`` takes the outputs of one clean run.
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any

from lekhai_helpers.closing import resume_command
from lekhai_helpers.scrub import find_machine_path, scrub

PROJECT = Path(__file__).resolve().parents[1]
SOURCES = PROJECT / "notebooks" / "src"
NOTEBOOKS = PROJECT / "notebooks"
COLAB = "lekhai_colab"
PARAMETERS = ("RECIPE", "PROFILE", "RUN", "OVERRIDES")
BRANCH = "main"
PLACEHOLDER = (
    "https://github.com/<owner>/lekhai"  # no such address can exist; used while pyproject.toml names no repository
)

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

DRIVE_TEXT = """### Explanation
Only for Google Colab; anywhere else this cell does nothing. Every Colab tab is a machine of its own that forgets \
everything when it closes. Set `USE_DRIVE = True` and the runs live on your Google Drive, like a notebook you take \
home: the next lesson finds there what this one left, and installs in a minute or two from files kept beside it."""
DRIVE_CODE = """USE_DRIVE = False
if USE_DRIVE:
    import os

    from google.colab import drive

    drive.mount("/content/drive")
    os.environ["LEKHAI_RUNS"] = "/content/drive/MyDrive/lekhai/runs\""""
SETUP_TEXT = """### Explanation
Does nothing where LekhAI is installed. On Colab, which opens only this one file, it fetches the project and \
installs it (some minutes the first time). If it asks for a restart, choose *Runtime > Restart session* and run \
from the top."""
SETUP_CODE = """import importlib.util
import os
import subprocess
import sys

if "google.colab" in sys.modules and importlib.util.find_spec("lekhai_helpers") is None:
    if not os.path.isdir("lekhai"):
        subprocess.run(["git", "clone", "--depth", "1", "{repository}", "lekhai"], check=True)
    subprocess.run(["bash", "lekhai/colab_setup.sh"], check=True)
    sys.path.insert(0, os.path.abspath("lekhai"))"""
RELEASE_TEXT = """### Explanation
The lesson is over: its variables are dropped and the memory its models held is given back, like clearing the desk \
before the next subject. What the lesson left for others lies in the run's folder."""
RELEASE_CODE = """for name in set(globals()) - names_at_start:
    if not name.startswith("_"):
        del globals()[name]
from lekhai_helpers.learn.model import release_memory

print(f"{release_memory():.0f} MB in use")"""
NAMES_TEXT = """### Explanation
A list of the names in use before the first lesson. All that come later belong to a lesson, and go when it is over."""
NAMES_CODE = """names_at_start = {"names_at_start", *globals()}
len(names_at_start)"""
COLAB_TITLE = "# Can one Colab runtime make a Bengali copywriter?"
COLAB_TEXT = """All twelve lessons in one notebook: one set-up, one choice of settings, and the memory given back \
after each lesson. Run it from the top with *Runtime > Run all*; every lesson also exists as a notebook of its own."""


class PublishError(RuntimeError):
    """A source or an executed notebook cannot be published; the text says which, where, and what to do."""


def build(src_dir: Path = SOURCES, out_dir: Path = NOTEBOOKS, *, keep_outputs: bool = True) -> list[Path]:
    """Write a notebook for every source, and lekhai_colab.ipynb. Returns the paths.

    With `keep_outputs` a cell whose source is unchanged keeps the output it has in the existing notebook.
    The same sources always give the same bytes. Raises PublishError where a source lacks its title or parameters.
    """
    written = []
    for name, notebook in _assemble_all(src_dir).items():
        path = out_dir / f"{name}.ipynb"
        if keep_outputs and path.exists():
            _keep_outputs(notebook, _read(path))
        written.append(_write(path, notebook))
    return written


def check(src_dir: Path = SOURCES, out_dir: Path = NOTEBOOKS) -> list[str]:
    """Return one sentence for every notebook that does not agree with its source (none when all do)."""
    problems = []
    fresh = _assemble_all(src_dir)
    for name, notebook in fresh.items():
        path = out_dir / f"{name}.ipynb"
        if not path.exists():
            problems.append(f"{path.name} is missing: run `lekhai publish --build`")
        elif _without_outputs(_read(path)) != _without_outputs(notebook):
            problems.append(f"{path.name} differs from its source: run `lekhai publish --build`")
    strangers = {path.stem for path in out_dir.glob("*.ipynb")} - set(fresh)
    problems += [f"{name}.ipynb has no source in {src_dir.name}/: write one or delete it" for name in sorted(strangers)]
    return problems


def publish_run(run: Any, src_dir: Path = SOURCES, out_dir: Path = NOTEBOOKS) -> list[Path]:
    """Give every notebook the outputs of one clean run. Returns the paths.

    `run` is a `core.run_folder.Run`. Nothing is written unless every lesson can be: each phase complete and its
    inputs unchanged, each executed cell equal to the source, no error and no machine path in any output.
    Raises PublishError with the remedy.
    """
    ready = {}
    for name, notebook in _assemble_all(src_dir).items():
        if name != COLAB:
            _take_outputs(name, notebook, _executed(run, name))
        ready[out_dir / f"{name}.ipynb"] = notebook
    return [_write(path, notebook) for path, notebook in ready.items()]


def draw_before_after(run: Any, path: Path = NOTEBOOKS / "before_after.png") -> Path:
    """Draw the picture of the README: the first brief before training and by the kept stage, first seed of each."""
    from lekhai_helpers.core.plots import before_after
    from lekhai_helpers.prepare.contracts.ad_script import parse_ad_script

    with run.open_ledger() as ledger:
        before, after = (
            ledger.responses(stage).sort_values(["brief_id", "seed"]).iloc[0]
            for stage in ("merged", run.manifest("10_preference_alignment")["figures"]["kept"])
        )
    figure = before_after(after["prompt"], before["text"], parse_ad_script(after["text"])[0].rows[:9])
    figure.savefig(path, dpi=110)
    return path


def repository() -> str:
    """Return the project's address on GitHub, from pyproject.toml ([project.urls] Repository)."""
    path = PROJECT / "pyproject.toml"
    project = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {}) if path.exists() else {}
    return project.get("urls", {}).get("Repository", PLACEHOLDER).removesuffix(".git").rstrip("/")


def read_source(path: Path) -> Any:
    """Read one py:percent source as a notebook, cells with nothing but their tags.

    Raises PublishError where it has no title first, or not one parameters cell.
    """
    import jupytext

    cells = [_cell(c.cell_type, c.source, *c.metadata.get("tags", [])) for c in jupytext.read(path).cells]
    if not cells or cells[0].cell_type != "markdown" or not cells[0].source.startswith("# "):
        raise PublishError(f"{path.name}: the first cell must be markdown and begin with '# ' and the title")
    tagged = sum(_has(cell, "parameters") for cell in cells)
    if tagged != 1:
        raise PublishError(f"{path.name}: {tagged} cells are tagged parameters, there must be exactly one")
    return _notebook(cells)


def _assemble_all(src_dir: Path) -> dict[str, Any]:
    """Read every source of a folder and dress it. Raises PublishError where there is none."""
    sources = {path.stem: read_source(path) for path in sorted(src_dir.glob("[0-9][0-9]_*.py"))}
    if not sources:
        raise PublishError(f"no sources NN_name.py in {src_dir.name}/: run from the project's folder")
    made = {name: _assemble(name, sources) for name in sources}
    made[COLAB] = _assemble_colab(sources)
    for name, notebook in made.items():
        for index, cell in enumerate(notebook.cells):
            cell.id = hashlib.sha256(f"{name}:{index}".encode()).hexdigest()[:12]
    return made


def _assemble(name: str, sources: dict[str, Any]) -> Any:
    """Dress one lesson: badge and links in the first cell, set-up after it, links at the end."""
    first, *rest = sources[name].cells
    links = _links(name, sources)
    title, _, text = first.source.partition("\n")
    opening = _cell("markdown", "\n\n".join(part for part in (title, _badge(name), links, text.strip()) if part))
    closing = [_cell("markdown", f"---\n{links}")] if links else []
    return _notebook([opening, *_setup_cells(), *rest, *closing])


def _assemble_colab(sources: dict[str, Any]) -> Any:
    """Lay all lessons into one notebook with one set-up and one parameters cell."""
    cells = [_cell("markdown", f"{COLAB_TITLE}\n\n{_badge(COLAB)}\n\n{COLAB_TEXT}"), *_setup_cells()]
    cells += _parameters_cells(next(iter(sources.values())))
    for source in sources.values():
        cells += _lesson_cells(source)
        cells += [_cell("markdown", RELEASE_TEXT), _cell("code", RELEASE_CODE, "release")]
    return _notebook(cells)


def _setup_cells() -> list[Any]:
    return [
        _cell("markdown", DRIVE_TEXT),
        _cell("code", DRIVE_CODE, "setup"),
        _cell("markdown", SETUP_TEXT),
        _cell("code", SETUP_CODE.format(repository=repository()), "setup"),
    ]


def _parameters_cells(source: Any) -> list[Any]:
    index = next(i for i, cell in enumerate(source.cells) if _has(cell, "parameters"))
    text = "### Explanation\nThe settings of all twelve lessons, chosen once. `auto` takes the profile that fits."
    cells = [_cell("markdown", text), _cell("code", source.cells[index].source, "parameters")]
    return [*cells, _cell("markdown", NAMES_TEXT), _cell("code", NAMES_CODE, "names")]


def _lesson_cells(source: Any) -> list[Any]:
    """Return a lesson's cells without its own parameters and set-up, and without the words right above those."""
    cells, drop = source.cells, set()
    for index, cell in enumerate(cells):
        if _has(cell, "parameters") or _has(cell, "setup"):
            above = cells[index - 1]
            only_about_it = above.cell_type == "markdown" and "### Key Concepts" not in above.source
            drop |= {index, index - 1} if only_about_it and index > 1 else {index}
    return [_cell(c.cell_type, c.source, *c.metadata.get("tags", [])) for i, c in enumerate(cells) if i not in drop]


def _links(name: str, sources: dict[str, Any]) -> str:
    names = list(sources)
    here = names.index(name)
    parts = []
    if here > 0:
        parts.append(f"[← Previous: {_title(sources[names[here - 1]])}]({names[here - 1]}.ipynb)")
    if here + 1 < len(names):
        parts.append(f"[Next: {_title(sources[names[here + 1]])} →]({names[here + 1]}.ipynb)")
    return " · ".join(parts)


def _title(notebook: Any) -> str:
    return notebook.cells[0].source.splitlines()[0].removeprefix("# ").strip()


def _badge(name: str) -> str:
    owner_and_name = repository().removeprefix("https://github.com/")
    address = f"https://colab.research.google.com/github/{owner_and_name}/blob/{BRANCH}/notebooks/{name}.ipynb"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({address})"


def _notebook(cells: list[Any]) -> Any:
    from nbformat import from_dict

    return from_dict({"nbformat": 4, "nbformat_minor": 5, "metadata": METADATA, "cells": cells})


def _cell(kind: str, source: str, *tags: str) -> Any:
    from nbformat import from_dict

    cell: dict[str, Any] = {"cell_type": kind, "id": "unset", "metadata": {}, "source": source.strip("\n")}
    if tags:
        cell["metadata"] = {"tags": list(tags)}
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    return from_dict(cell)


def _has(cell: Any, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def _read(path: Path) -> Any:
    import nbformat

    return nbformat.read(path, as_version=4)


def _write(path: Path, notebook: Any) -> Path:
    """Write beside the final name and rename, so that no half notebook is ever found."""
    import nbformat

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".writing")
    beside.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    beside.replace(path)
    return path


def _without_outputs(notebook: Any) -> dict[str, Any]:
    cells = [{k: v for k, v in cell.items() if k not in ("outputs", "execution_count")} for cell in notebook.cells]
    return {"metadata": notebook.metadata, "cells": cells}


def _keep_outputs(notebook: Any, previous: Any) -> None:
    """Give unchanged code cells the outputs they had; the order decides between cells of equal source."""
    had: dict[str, list[Any]] = {}
    for cell in previous.cells:
        if cell.cell_type == "code":
            had.setdefault(cell.source, []).append(cell)
    for cell in notebook.cells:
        if cell.cell_type == "code" and had.get(cell.source):
            old = had[cell.source].pop(0)
            cell.outputs, cell.execution_count = old.outputs, old.execution_count


def _executed(run: Any, name: str) -> Any:
    """Return a lesson as the run executed it. Raises PublishError where the run is not clean."""
    path = run.folder / f"{name}.ipynb"
    again = resume_command(run)
    if not path.exists():
        raise PublishError(f"{run.label} holds no {path.name}: run `{again}`")
    stale = run.stale_reason(name)
    if stale:
        raise PublishError(f"{name} of {run.label} cannot be published, {stale}: run `{again}`")
    return _read(path)


def _take_outputs(name: str, notebook: Any, executed: Any) -> None:
    """Copy the outputs of an executed lesson into its freshly built notebook, scrubbed."""
    ran = {cell.id: cell for cell in executed.cells if cell.cell_type == "code"}
    last = 0
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        done = ran.get(cell.id)
        where = f"{name}, code cell {number}"
        if done is None or done.source != cell.source:
            raise PublishError(f"{where}: the source changed after the run. Build, run again, then publish.")
        if not done.execution_count or done.execution_count <= last:
            raise PublishError(f"{where}: not executed from top to bottom. Run the lesson again, then publish.")
        last = done.execution_count
        cell.outputs = _scrubbed(done, where)
        cell.execution_count = number
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number


def _scrubbed(cell: Any, where: str) -> list[Any]:
    from nbformat import from_dict

    if any(output.output_type == "error" for output in cell.outputs):
        raise PublishError(f"{where}: its output is an error. Repair the lesson, run it again, then publish.")
    kept = [output for output in map(scrub, cell.outputs) if output is not None]
    for output in kept:
        found = find_machine_path(output)
        if found:
            raise PublishError(f"{where}: the path {found!r} is still in its output. Print phase.show(path) instead.")
    return [from_dict(output) for output in kept]
