"""A base whose weights were rounded before, as in a 4-bit repository: the lessons leave out what needs 16 bits."""

import json
from types import SimpleNamespace

import pytest

from lekhai_helpers.core.run_folder import write_text
from tests.notebooks.test_notebooks_static import SOURCES, code_of

LESSONS = [path for path in SOURCES if path.stem.startswith(("02_", "08_", "12_"))]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_what_needs_16_bits_is_left_out_with_a_sentence(path, tmp_path, capsys):
    """The converter and the comparison were given 4-bit bytes, and the chain ended there."""
    config = write_text(tmp_path / "four" / "config.json", json.dumps({"quantization_config": {"load_in_4bit": True}}))
    base = SimpleNamespace(path=str(config.parent))
    names = {"base": base, "chosen": base, "load_pointer": lambda file: base, "adapter": None}
    names["phase"] = SimpleNamespace(require=lambda name: name)
    [cell] = [cell.source for _, cell in code_of(path) if "rounded_base(" in cell.source]
    exec(cell, names)
    assert capsys.readouterr().out.startswith("Left out: the weights of four were rounded before")
