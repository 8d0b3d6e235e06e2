"""The package answers at once, and its rooms know only the rooms below them."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "lekhai_helpers"
MODULES = sorted(PACKAGE.rglob("*.py"))
ROOMS = ["core", "prepare", "learn", "measure", "ship"]  # each may import from those before it
HEAVY = ["torch", "unsloth", "trl", "transformers", "peft", "datasets", "mergekit", "pandas", "matplotlib", "sklearn"]

IMPORT_ALL = f"""
import importlib, json, pkgutil, sys, time
began = time.monotonic()
import lekhai_helpers
names = [module.name for module in pkgutil.walk_packages(lekhai_helpers.__path__, "lekhai_helpers.")]
for name in names:
    importlib.import_module(name)
print(json.dumps([names, sorted(set({HEAVY!r}) & set(sys.modules)), time.monotonic() - began]))
"""


def test_every_module_is_imported_without_any_heavy_package():
    """One import of torch at the top of one file makes every --help take ten seconds."""
    answer = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    names, heavy, _ = json.loads(answer.stdout.splitlines()[-1])
    files = [path for path in MODULES if path.name != "__init__.py"]
    assert heavy == [] and len(names) >= len(files)


def imported(path: Path) -> set[str]:
    """Return the modules of ours that a file imports, inside functions too, by full dotted name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == PACKAGE.name}


def room_of(dotted: str) -> str:
    """Return the room a module belongs to; what stands above the rooms (cli, pipeline, ...) is "top"."""
    second = (dotted.split(".") + [""])[1]
    return second if second in ROOMS else "top"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_room_imports_upward(path):
    """core < prepare < learn < measure < ship < everything at the top."""
    order = [*ROOMS, "top"]
    own = room_of(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    upward = [name for name in imported(path) if order.index(room_of(name)) > order.index(own)]
    assert upward == []


def test_the_rooms_are_all_there_is_below_the_top():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(ROOMS)


def test_unsloth_is_imported_in_one_place():
    """Its patches are lost where trl comes first, so nobody else may decide the order."""
    users = [
        str(path.relative_to(PACKAGE))
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "unsloth" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "unsloth")
    ]
    assert users == ["learn/model.py"]
