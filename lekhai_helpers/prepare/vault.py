"""An Obsidian vault read for its reflections: ``extract(Path("vault"))`` yields them one by one.

Run as ``lekhai extract --vault PATH``. The vault is only read: no link is followed, hidden folders (`.obsidian`,
`.trash`), symbolic links and private notes are left out, and nothing is ever written into it. One note is held in
memory at a time, so ten thousand take no more than ten.
"""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lekhai_helpers.core.bengali import bengali_share
from lekhai_helpers.core.replacing import replacing
from lekhai_helpers.prepare.secrets import mask, mask_path
from lekhai_helpers.prepare.vault_dialogue import dialogue
from lekhai_helpers.prepare.vault_front import FrontmatterError
from lekhai_helpers.prepare.vault_markdown import Note, is_private, read_note
from lekhai_helpers.prepare.vault_select import MARKS, Choice, Entry, choose, entries

PRIVATE = ("private",)
LARGEST = 1_000_000  # bytes: a larger note is an export or a paste, and would have to be held in memory


class VaultError(ValueError):
    """A vault that cannot be read, or holds nothing to take; the text says what is wrong and what to do next."""


@dataclass(frozen=True)
class Reflection:
    """One reflection as a conversation. `source`: path in the vault, heading, first line, SHA-256 of the note's file.

    `masked` counts the secrets that were replaced, None where masking was switched off.
    """

    id: str
    messages: list[dict[str, str]]
    source: dict[str, Any]
    title: str
    date: str
    kind: str
    language: str
    marked: bool
    reasons: list[str]
    tags: list[str]
    masked: dict[str, int] | None

    def line(self) -> str:
        """Return it as one line of JSONL."""
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"


@dataclass
class Tally:
    """What became of every file, counted while it is read.

    `skipped` names the first files nobody could read, with the secrets in their names masked.
    """

    notes: int = 0
    taken: int = 0
    left: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    skips: int = 0

    def skip(self, path: str, reason: str) -> None:
        """Count a file that could not be read; only the first fifty are named, a vault may have thousands."""
        self.skips += 1
        if len(self.skipped) < 50:
            self.skipped.append((mask_path(path), reason))


def extract(
    vault: Path,
    tally: Tally | None = None,
    *,
    marks: Sequence[str] = MARKS,
    private: Sequence[str] = PRIVATE,
    marked_only: bool = False,
    keep_secrets: bool = False,
) -> Iterator[Reflection]:
    """Yield the reflections of a vault in the order of its paths; `tally` counts what was left out, and why.

    Raises VaultError where the folder is no vault, has no note, or none that can be read.
    """
    root, tally = check_vault(vault), tally if tally is not None else Tally()
    for note, digest in read_notes(root, tally, private):
        for entry in entries(note, marks):
            choice = choose(note, entry, marks, marked_only)
            if choice.taken:
                tally.taken += 1
                tally.kinds[choice.kind] += 1
                yield _reflection(note, entry, choice, digest, None if keep_secrets else tally.masked)
            else:
                tally.left[choice.reasons[0]] += 1
    if not (tally.notes or tally.skips or tally.left):
        raise VaultError(f"{root.name} holds no note (.md): give the folder that Obsidian opens as a vault")
    if tally.skips and not (tally.notes or tally.left):
        path, reason = tally.skipped[0]
        raise VaultError(f"no note of {root.name} could be read, {tally.skips} skipped; {path}: {reason}")


def check_vault(vault: Path) -> Path:
    """Return the vault's own folder. Raises VaultError where there is no such folder."""
    root = Path(vault).expanduser().resolve()
    if not root.exists():
        raise VaultError(f"no folder {vault}: give the folder that Obsidian opens as a vault")
    if not root.is_dir():
        raise VaultError(f"{vault} is a file: give the folder that Obsidian opens as a vault")
    return root


def read_notes(root: Path, tally: Tally, private: Iterable[str] = PRIVATE) -> Iterator[tuple[Note, str]]:
    """Yield every note that may be read, with the SHA-256 of its file; the others are counted in `tally`."""
    tags = tuple(private)
    for path in note_paths(root, tally):
        name = path.relative_to(root).as_posix()
        try:
            note, digest = _read(path, name)
        except _UnreadableError as error:
            tally.skip(name, str(error))
            continue
        if any(is_private(note, tag) for tag in tags):
            tally.left["private"] += 1
        else:
            tally.notes += 1
            yield note, digest


def note_paths(root: Path, tally: Tally) -> Iterator[Path]:
    """Yield the Markdown files of a vault by path. Hidden folders are passed over, symbolic links never followed."""

    def unreadable(error: OSError) -> None:
        name = Path(error.filename).relative_to(root).as_posix()
        tally.skip(name, f"the folder cannot be opened ({error.strerror})")

    for folder, folders, files in os.walk(root, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(".md") and not name.startswith("."):
                path = Path(folder) / name
                if path.is_symlink():
                    tally.skip(path.relative_to(root).as_posix(), "a link to another place, which is not followed")
                else:
                    yield path


def write_reflections(reflections: Iterable[Reflection], out: Path, vault: Path, replace: bool = False) -> int:
    """Write one reflection a line, all or none, and return how many. Raises VaultError instead of losing a file.

    Never writes into the vault, and not over a file that is there unless `replace` says so.
    """
    target, root = Path(out).expanduser().resolve(), check_vault(vault)
    if target.is_relative_to(root):
        raise VaultError(f"{out} lies in the vault, into which nothing is written: give another place with --out")
    if target.is_dir():
        raise VaultError(f"{out} is a folder: give the name of a file with --out")
    if target.exists() and not replace:
        raise VaultError(f"{out} is there already: give another name with --out, or --replace to write it anew")
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as file:
        count = sum(1 for reflection in reflections if file.write(reflection.line()))
        if not count:
            raise VaultError(
                "no note of this vault reads like a reflection: mark some with #reflection, #decision or #learning, "
                "or name your own tag with --tag"
            )
    return count


class _UnreadableError(Exception):
    """One file that cannot be read; it is counted, and the others go on."""


def _read(path: Path, name: str) -> tuple[Note, str]:
    try:
        if path.stat().st_size > LARGEST:
            raise _UnreadableError(f"larger than {LARGEST // 1_000_000} MB")
        data = path.read_bytes()
        if b"\0" in data:
            raise _UnreadableError("not text: it holds zero bytes, as a picture or a program does")
        note = read_note(name, unicodedata.normalize("NFC", data.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        raise _UnreadableError(f"not in UTF-8 (byte {error.start}): save it again as UTF-8") from None
    except FrontmatterError as error:
        raise _UnreadableError(f"{error}; left out, because it might be private") from None
    except OSError as error:
        raise _UnreadableError(f"cannot be read ({error.strerror})") from None
    return note, hashlib.sha256(data).hexdigest()


def _reflection(note: Note, entry: Entry, choice: Choice, digest: str, masked: Counter[str] | None) -> Reflection:
    asked, answered = dialogue(note, entry, choice.kind)
    title, path, heading, tags = note.title, note.path, entry.heading, sorted(note.tags)
    count: Counter[str] | None = None
    if masked is not None:
        (asked, first), (answered, second) = mask(asked), mask(answered)
        title, heading = mask(title)[0], mask(heading)[0]
        path, tags = mask_path(path), sorted(map(mask_path, tags))
        count = first + second
        masked.update(count)
    return Reflection(
        id=hashlib.sha256("\0".join((note.path, entry.heading, asked, answered)).encode()).hexdigest()[:16],
        messages=[{"role": "user", "content": asked}, {"role": "assistant", "content": answered}],
        source={"path": path, "heading": heading, "line": note.line + entry.line - 1, "sha256": digest},
        title=title,
        date=note.date,
        kind=choice.kind,
        language="bn" if bengali_share(answered) > 0.5 else "en",
        marked=choice.marked,
        reasons=list(choice.reasons),
        tags=tags,
        masked=None if count is None else dict(count),
    )
