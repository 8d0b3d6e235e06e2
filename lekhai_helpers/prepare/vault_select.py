"""Which notes are reflections: those that say so by a tag, a field or a folder's name, and those that read like one.

``choose(note, entry)`` answers with what was found and why. A person decides afterwards (`lekhai curate`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import regex

from lekhai_helpers.core.bengali import words
from lekhai_helpers.prepare.vault_code import hold_code
from lekhai_helpers.prepare.vault_cues import find_cues, first_person
from lekhai_helpers.prepare.vault_markdown import Note, has_tag, plain, sections, text_fields, text_tags

MARKS = ("reflection", "decision", "learning")
_KIND_OF_TAG = {"decision": "decision", "learning": "lesson"}
_KIND_OF_FIELD = {
    **dict.fromkeys(("lesson", "lessons", "learned", "learnt", "learning", "insight", "takeaway"), "lesson"),
    **dict.fromkeys(("decided", "decision"), "decision"),
    **dict.fromkeys(("question", "reflection"), "reflection"),
}
SHORTEST, LONGEST = 40, 600  # words: below nothing is weighed, above a note with headings is read in parts
_PROSE_SHARE = 0.4  # a note of lists and tables is a record, whatever words stand in it

# One of these is needed, or both of the others: a plan or a doubt alone is no reflection. To ask for two kinds in any
# case found half as many of the unmarked reflections of our vault, and a false alarm costs a person only a key press.
_DECISIVE = {"weighs", "learns", "revises"}
_FOLDER = regex.compile(r"\b(?:reflections?|decisions?|lessons?|learnings?)\b", regex.I)
_FIRST_SHARE = 0.03  # of the words: a text about others, or to others, is no reflection of one's own
_RECORD = regex.compile(r"[ \t>]*(?:[-*+] |\d+[.)] |\||#{1,6} )")


@dataclass(frozen=True)
class Entry:
    """A note, or a part of one: `heading` is empty for the whole, `line` is where its text begins in the body."""

    text: str
    heading: str = ""
    line: int = 1


@dataclass(frozen=True)
class Choice:
    """What was found in one entry: `taken`, its kind (decision, lesson, reflection), and the reasons in words."""

    taken: bool
    kind: str
    reasons: tuple[str, ...]
    marked: bool = False


def entries(note: Note, marks: Iterable[str] = MARKS) -> Iterator[Entry]:
    """Yield the note as a whole, or its parts: a long one with headings, or a diary's page with a marked part."""
    marks = tuple(marks)
    parts = sections(note.body)
    headed = [part for part in parts if part[0]]
    marked = [part for part in headed if _text_marks(part[1], marks)]
    long = len(words(note.body)) > LONGEST and len(headed) > 1
    if long or (note.daily and 0 < len(marked) < len(headed)):
        yield from (Entry(text, heading, line) for heading, text, line in parts)
    else:
        yield Entry(note.body)


def choose(note: Note, entry: Entry, marks: Iterable[str] = MARKS, marked_only: bool = False) -> Choice:
    """Say whether an entry is a reflection. A mark is taken at its word; without one the writing has to show it."""
    text = plain(entry.text, keep_field=reflective)
    if len(words(text)) < SHORTEST // 2:
        return Choice(False, "", (f"fewer than {SHORTEST // 2} words",))
    said = _marks(note, entry, tuple(marks)) or _folder_mark(note, text)
    cues = find_cues(text)
    if said:
        return Choice(True, _kind(note, entry, cues), said, marked=True)
    if marked_only:
        return Choice(False, "", ("no mark",))
    against = _against(text, cues)
    return Choice(not against, _kind(note, entry, cues), against or tuple(cues))


def reflective(key: str) -> bool:
    """Say whether a Dataview field holds a thought (lesson, decided, question) and not a figure."""
    return key in _KIND_OF_FIELD


def prose_share(text: str) -> float:
    """Return the share of the words that stand in sentences and not in lists, tables, headings or code."""
    lines = hold_code(text)[0].split("\n")
    prose = sum(len(words(line)) for line in lines if not _RECORD.match(line))
    every = len(words(text))
    return prose / every if every else 0.0


def _marks(note: Note, entry: Entry, marks: tuple[str, ...]) -> tuple[str, ...]:
    """Return how an entry says of itself that it is a reflection; a part of a note does not speak for the others."""
    if not entry.heading and entry.text == note.body:
        tags, fields = note.tags, note.fields
    else:
        tags, fields = text_tags(entry.text), text_fields(entry.text)
        tags = tags | (note.tags - text_tags(note.body))  # those of the frontmatter hold for every part
    said = [f"tag #{mark}" for mark in marks if has_tag(tags, mark)]
    return (*said, *(f"field {key}::" for key in fields if reflective(key)))


def _folder_mark(note: Note, text: str) -> tuple[str, ...]:
    """Return the folder that promises reflections (Decisions/...), unless the note is a mere list or index in it."""
    named = next(filter(None, map(_FOLDER.search, PurePosixPath(note.path).parts[:-1])), None)
    whole = len(words(text)) >= SHORTEST and prose_share(text) >= _PROSE_SHARE
    return (f"folder {named.group()}",) if named and whole else ()


def _text_marks(text: str, marks: Iterable[str]) -> bool:
    tags = text_tags(text)
    return any(has_tag(tags, mark) for mark in marks) or any(reflective(key) for key in text_fields(text))


def _against(text: str, cues: dict[str, str]) -> tuple[str, ...]:
    """Return why an unmarked text is no reflection; nothing where it is one."""
    count = len(words(text))
    if count < SHORTEST:
        return (f"fewer than {SHORTEST} words",)
    if prose_share(text) < _PROSE_SHARE:
        return ("mostly lists and tables",)
    if first_person(text) < _FIRST_SHARE * count:
        return ("hardly speaks of the writer",)
    if not _DECISIVE & set(cues) and len(cues) < 2:
        return ("neither weighs options nor draws a lesson",)
    return ()


def _kind(note: Note, entry: Entry, cues: dict[str, str]) -> str:
    """Return decision, lesson or reflection, by tag, by field, by the folder's name, then by the cues."""
    tags = note.tags | text_tags(entry.text)
    for mark, kind in _KIND_OF_TAG.items():
        if has_tag(tags, mark):
            return kind
    kinds = [_KIND_OF_FIELD[key] for key in text_fields(entry.text) if reflective(key)]
    if kinds:
        return "decision" if "decision" in kinds else kinds[0]
    if "weighs" in cues and ("resolves" in cues or "decision" in note.path.lower()):
        return "decision"
    return "lesson" if "learns" in cues and "weighs" not in cues else "reflection"
