"""Notebooks from sources: the same bytes every time, and no trace of the machine that executed them."""

import copy
import hashlib
from types import SimpleNamespace

import nbformat
import pytest
from nbformat import v4

from lekhai_helpers import publish
from lekhai_helpers.scrub import MACHINE_PATH, find_machine_path, scrub

SOURCE = """# %% [markdown]
# # {title}
# Goal: see a number.

# %% [markdown]
# ### Explanation
# The settings.

# %% tags=["parameters"]
RECIPE = "lekhai"
PROFILE = "auto"
RUN = "first"
OVERRIDES = {{}}

# %% [markdown]
# ### Explanation
# A model is loaded.

# %%
model, tokenizer = {value}, 2
with open(__file__) as handle:
    rows = [line for line in handle]

# %% [markdown]
# ### Explanation
# Shown.

# %%
print(model)
"""


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    titles = {"01_environment": "Is it ready?", "02_sutro_fusion": "Can two be one?", "03_data": "What is in it?"}
    for name, title in titles.items():
        (folder / f"{name}.py").write_text(SOURCE.format(title=title, value=1), encoding="utf-8")
    return folder


def built(sources):
    return {path.stem: nbformat.read(path, as_version=4) for path in publish.build(sources, sources.parent)}


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_same_sources_give_the_same_bytes(sources):
    """jupytext makes random cell ids: every build would then be a change of every notebook."""
    first = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in publish.build(sources, sources.parent)}
    assert {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in first} == first
    for path in first:
        path.unlink()
    publish.build(sources, sources.parent)
    assert {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in first} == first


def test_every_notebook_is_valid_with_ids_of_its_own(sources):
    for notebook in built(sources).values():
        nbformat.validate(notebook)
        ids = [cell.id for cell in notebook.cells]
        assert len(set(ids)) == len(ids)


def test_badge_links_and_set_up_are_added(sources):
    notebook = built(sources)["02_sutro_fusion"]
    opening, closing = notebook.cells[0].source, notebook.cells[-1].source
    assert opening.splitlines()[2].startswith("[![Open in Colab]")
    assert "/blob/main/notebooks/02_sutro_fusion.ipynb" in opening
    for text in (opening, closing):
        assert "[← Previous: Is it ready?](01_environment.ipynb)" in text
        assert "[Next: What is in it? →](03_data.ipynb)" in text
    assert [cell.metadata.get("tags") for cell in code(notebook)[:3]] == [["setup"], ["setup"], ["parameters"]]


def test_first_and_last_lesson_link_one_way_only(sources):
    made = built(sources)
    assert "Previous" not in made["01_environment"].cells[0].source
    assert "Next" not in made["03_data"].cells[-1].source


def test_the_set_up_cells_do_nothing_where_lekhai_is_installed(sources, monkeypatch):
    ran = []
    monkeypatch.setattr("subprocess.run", lambda *a, **k: ran.append(a))
    for cell in code(built(sources)["01_environment"])[:2]:
        exec(cell.source, {})
    assert ran == []


def test_the_colab_notebook_has_one_set_up_one_parameters_cell_and_gives_memory_back(sources):
    cells = code(built(sources)[publish.COLAB])
    tags = [tag for cell in cells for tag in cell.metadata.get("tags", [])]
    assert tags == ["setup", "setup", "parameters", "names", "release", "release", "release"]
    release = next(cell for cell in cells if "release" in cell.metadata.get("tags", []))
    assert "release_memory()" in release.source


def test_the_release_cell_forgets_what_the_lesson_named(sources, monkeypatch):
    """One name left behind is enough to keep a model in memory for the rest of the day."""
    module = SimpleNamespace(release_memory=lambda: 100.0)
    monkeypatch.setitem(__import__("sys").modules, "lekhai_helpers.learn.model", module)
    cells = code(built(sources)[publish.COLAB])
    names_at_start, release = (
        next(c for c in cells if tag in c.metadata.get("tags", [])) for tag in ("names", "release")
    )
    names = {"RUN": "first"}
    exec(names_at_start.source, names)
    names |= {"model": 1, "tokenizer": 2, "name": 3}
    exec(release.source, names)
    assert "model" not in names and "tokenizer" not in names
    assert names["RUN"] == "first"


def test_an_unchanged_cell_keeps_its_output_and_a_changed_one_loses_it(sources):
    built(sources)
    path = sources.parent / "01_environment.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for cell in code(notebook)[-2:]:
        cell.outputs = [v4.new_output("stream", name="stdout", text="1\n")]
    nbformat.write(notebook, path)
    (sources / "01_environment.py").write_text(SOURCE.format(title="Is it ready?", value=7), encoding="utf-8")
    changed, unchanged = code(built(sources)["01_environment"])[-2:]
    assert changed.outputs == []
    assert unchanged.outputs[0].text == "1\n"


def test_check_sees_a_notebook_edited_by_hand_a_missing_and_a_foreign_one(sources):
    built(sources)
    assert publish.check(sources, sources.parent) == []
    path = sources.parent / "01_environment.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source += " edited"
    nbformat.write(notebook, path)
    (sources.parent / "02_sutro_fusion.ipynb").unlink()
    nbformat.write(v4.new_notebook(), sources.parent / "stray.ipynb")
    problems = publish.check(sources, sources.parent)
    assert [problem.split()[0] for problem in problems] == [
        "01_environment.ipynb",
        "02_sutro_fusion.ipynb",
        "stray.ipynb",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# %%\nprint(1)\n", "the first cell must be markdown"),
        ("# %% [markdown]\n# # Title\n", "0 cells are tagged parameters"),
    ],
)
def test_a_source_without_title_or_parameters_is_refused(tmp_path, text, said):
    (tmp_path / "01_environment.py").write_text(text, encoding="utf-8")
    with pytest.raises(publish.PublishError, match=said):
        publish.build(tmp_path, tmp_path)


# --- outputs of a run


class FakeRun:
    """Stands for core.run_folder.Run: a folder of executed notebooks and whether each phase still holds."""

    label, name = "lekhai-smoke-x", "x"

    def __init__(self, folder, stale=None):
        self.folder, self.stale = folder, stale
        self.settings = SimpleNamespace(recipe="lekhai", profile="smoke")

    def stale_reason(self, phase):
        return self.stale


@pytest.fixture
def executed(sources, tmp_path):
    """Executed notebooks as papermill leaves them: one injected cell, timings, counts from one pass."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name, notebook in built(sources).items():
        if name == publish.COLAB:
            continue
        notebook = copy.deepcopy(notebook)
        notebook.metadata["papermill"] = {"start_time": "2026-01-01", "input_path": "/home/me/x.ipynb"}
        injected = v4.new_code_cell('RUN = "x"', metadata={"tags": ["injected-parameters"]})
        position = 1 + next(i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", []))
        notebook.cells.insert(position, injected)
        for count, cell in enumerate(code(notebook), start=1):
            cell.execution_count = count
            cell.metadata["papermill"] = {"duration": 1.5}
        code(notebook)[-1].outputs = [
            v4.new_output("stream", name="stderr", text=" 10%|#   | 1/10"),
            v4.new_output("stream", name="stdout", text="saved in /home/me/runs/x/model.gguf\n"),
        ]
        nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder


def test_the_outputs_of_one_run_are_taken_without_the_machine(sources, executed):
    for path in publish.publish_run(FakeRun(executed), sources, sources.parent):
        text = path.read_text(encoding="utf-8")
        assert not any(word in text for word in ("papermill", "duration", "/home/me", "10%", "injected"))
        if path.stem != publish.COLAB:
            assert "saved in …/model.gguf" in text
            counts = [cell.execution_count for cell in code(nbformat.read(path, as_version=4))]
            assert counts == list(range(1, len(counts) + 1))
    assert publish.check(sources, sources.parent) == []


def change(folder, **what):
    path = folder / "03_data.ipynb"
    notebook = nbformat.read(path, as_version=4)
    code(notebook)[-1].update(what)
    nbformat.write(notebook, path)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"source": "print(2)"}, "the source changed after the run"),
        ({"execution_count": 1}, "not executed from top to bottom"),
        ({"outputs": [v4.new_output("error", ename="E", evalue="", traceback=[])]}, "its output is an error"),
    ],
)
def test_a_run_that_is_not_clean_is_refused_and_nothing_is_written(sources, executed, what, said):
    """A published notebook whose outputs come from another source teaches something that is not true."""
    before = {path: path.read_bytes() for path in sources.parent.glob("*.ipynb")}
    change(executed, **what)
    with pytest.raises(publish.PublishError, match=said):
        publish.publish_run(FakeRun(executed), sources, sources.parent)
    assert {path: path.read_bytes() for path in sources.parent.glob("*.ipynb")} == before


def test_a_stale_or_unfinished_run_is_refused(sources, executed):
    with pytest.raises(publish.PublishError, match="its settings changed"):
        publish.publish_run(FakeRun(executed, stale="its settings changed"), sources, sources.parent)
    (executed / "01_environment.ipynb").unlink()
    with pytest.raises(publish.PublishError, match="holds no 01_environment.ipynb"):
        publish.publish_run(FakeRun(executed), sources, sources.parent)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("in /home/me/runs/x/config.yaml now", "in …/config.yaml now"),
        ("PosixPath('/home/somebody/project/a')", "PosixPath('…/a')"),
        (r"C:\Users\me\model.gguf", "…/model.gguf"),
        ("at /content", "at …"),
        ("~/.cache/lekhai stays, so does runs/x/report.html", "~/.cache/lekhai stays, so does runs/x/report.html"),
        ("https://host.example/home/page and application/content", None),
        ("half/home/made and 1/tmp", None),
        ("বাড়ি /root/বাংলা।", "বাড়ি …/বাংলা।"),
    ],
)
def test_machine_paths_are_shortened_and_addresses_left_alone(text, expected):
    output = scrub(v4.new_output("stream", name="stdout", text=text))
    assert output["text"] == (expected or text)
    assert find_machine_path(output) is None


def test_progress_bars_widgets_and_colours_go():
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "HBox()"}
    assert scrub(v4.new_output("stream", name="stderr", text="warning")) is None
    assert scrub(v4.new_output("display_data", data=widget)) is None
    kept = scrub(v4.new_output("display_data", data={**widget, "text/html": "<b>1</b>"}))
    assert set(kept["data"]) == {"text/plain", "text/html"}
    rewritten = v4.new_output("stream", name="stdout", text="\x1b[31mstep 1\rstep 2\x1b[0m\nend\r\n")
    assert scrub(rewritten)["text"] == "step 2\nend\n"


def test_pictures_are_left_as_they_are_and_drawings_are_read():
    output = v4.new_output("display_data", data={"image/png": "iVBOR /home/me/x", "image/svg+xml": "<a>/home/me/x</a>"})
    cleaned = scrub(output)
    assert cleaned["data"] == {"image/png": "iVBOR /home/me/x", "image/svg+xml": "<a>…/x</a>"}
    assert not MACHINE_PATH.search(cleaned["data"]["image/svg+xml"])
