"""The README promises nothing that is not there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_no_place_was_left_to_fill_in():
    assert "@@" not in README and "TODO" not in README


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", README))
def test_every_file_it_links_to_exists(target):
    assert (ROOT / target).exists()


def test_every_profile_is_in_its_table():
    profiles = sorted(path.stem for path in (ROOT / "lekhai_helpers" / "profiles").glob("*.yaml"))
    assert all(f"| `{name}` |" in README for name in profiles)
