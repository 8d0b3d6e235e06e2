"""Writing beside and renaming: no half file or folder ever stands under its final name, and no earlier one is lost.

``with new_folder(folder) as place: ...`` and ``with new_file(path) as place: ...`` give a place to write to. A process
killed in the middle leaves a name that ends in ``.writing``; `clear_unfinished` takes those away. The folder belongs to
one writer at a time. `working_copy` gives a tool that writes beside its input a folder of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from lekhai_helpers.prepare.merging import local_folder

UNFINISHED = ".writing"
_PREVIOUS = ".previous"


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a fresh folder to write to; it takes `folder`'s name only when the block ends without an error.

    The earlier folder is renamed and not deleted until the new one stands: killed between the two renames, it is found
    again by the next call.
    """
    place = folder.with_name(f"{folder.name}{UNFINISHED}")
    restore(folder)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        yield place
        _to_disk(place)
        _take_name(place, folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a file name to write to; it becomes `path` only when the block ends without an error and wrote something."""
    place = path.with_name(f"{path.name}{UNFINISHED}")
    path.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    try:
        yield place
        _flush(place)
        place.replace(path)
    finally:
        place.unlink(missing_ok=True)


def restore(folder: Path) -> None:
    """Give a folder back its name where an export was killed between its two renames."""
    previous = folder.with_name(f"{folder.name}{_PREVIOUS}")
    if not previous.exists():
        return
    if folder.exists():
        shutil.rmtree(previous)
    else:
        previous.rename(folder)


def working_copy(source: str | Path, target: Path) -> Path:
    """Make `target` a folder with the same files, to which new ones may be added. Returns `target`.

    `source` is a folder, or a model's hub id, which is fetched (from the hub's cache, where it is there). Files are
    hard links where the disk allows it, and then take no room: whoever changes one changes the original, so only add.
    Elsewhere they are copied. What an earlier, killed run left of `target` goes first.
    """
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(local_folder(source), target, copy_function=_link_or_copy))


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(os.path.realpath(source), target)  # the hub's cache holds relative links, which lead nowhere elsewhere
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)


def can_link(source: Path, target: Path) -> bool:
    """Say whether files of `source` can be hard-linked to the existing folder `target`: tried with the smallest one."""
    files = [path for path in source.iterdir() if path.is_file()]
    place = target / f"link{UNFINISHED}"
    try:
        os.link(min(files, key=lambda path: path.stat().st_size).resolve(), place)
    except (OSError, ValueError):
        return False
    place.unlink()
    return True


def clear_unfinished(folder: Path) -> list[str]:
    """Take away what killed exports left in `folder`, at any depth, and return the names. Finished files stay."""
    found = [path for path in sorted(folder.rglob(f"*{UNFINISHED}")) if not path.is_symlink()]
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)  # its folder may have gone before it
    return [path.relative_to(folder).as_posix() for path in found]


def _take_name(place: Path, folder: Path) -> None:
    previous = folder.with_name(f"{folder.name}{_PREVIOUS}")
    if folder.exists():
        folder.rename(previous)
    place.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)


def _to_disk(folder: Path) -> None:
    """Have every file really written: a rename can reach the disk before the bytes, and a power cut between them."""
    for path in folder.rglob("*"):
        if path.is_file():
            _flush(path)


def _flush(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
