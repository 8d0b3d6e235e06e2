"""One Obsidian note: its frontmatter, tags and fields, and what a reader sees of it as plain Markdown.

``note = read_note("Daily/2023-01-08.md", text)`` takes the text apart; ``plain(note.body)`` gives the prose without
what only Obsidian understands. Links and embeds are never followed: only the words that stand in the note are used.
"""

from __future__ import annotations

import datetime
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import regex

from lekhai_helpers.prepare.vault_code import HELD, hold_code, is_query, put_back
from lekhai_helpers.prepare.vault_front import TAG_LETTERS, front_tags, read_front

_TAG = rf"#((?=[\p{{N}}/_-]*\p{{L}}){TAG_LETTERS}{{1,200}}+)"  # a number alone is no tag
TAG = regex.compile(rf"(?<![^\s(>,;]){_TAG}")
_WHOLE_TAG = regex.compile(_TAG)
_LOOSE_TAG = regex.compile(rf"(?<![\p{{L}}\p{{M}}\p{{N}}]){_TAG}")
_FIELD_NAME = r"(?P<key>[\p{L}][\p{L}\p{M}\p{N} _-]{0,60}?)"
_LINE_FIELD = regex.compile(
    rf"^(?P<mark>[ \t>]*(?:[-*+] (?:\[.\] )?)?)(?:\*\*|__|[*_])?{_FIELD_NAME}(?:\*\*|__|[*_])?"
    r"::(?:[ \t]+(?P<value>.*))?$",
    regex.M,
)
_VALUE = r"(?:[^\[\]()\n]|\[\[[^\[\]\n]{0,300}\]\]|\([^()\n]{0,300}\))*+"
_INLINE_FIELD = regex.compile(
    rf"\[{_FIELD_NAME}::[ \t]*(?P<value>{_VALUE})\]|\({_FIELD_NAME}::[ \t]*(?P<value>{_VALUE})\)"
)
_HEADING = regex.compile(r"^#{1,6}[ \t]+(.+?)[ \t]*#*$", regex.M)
_COMMENT = regex.compile(r"%%.*?(?:%%|\Z)|<!--.*?(?:-->|\Z)", regex.S)  # one that is never closed hides the rest
_EMBED = regex.compile(r"!\[\[[^\[\]\n]{0,500}\]\]|!\[[^\[\]\n]{0,500}\]\([^()\n]{0,1000}\)")
_WIKILINK = regex.compile(r"\[\[([^\[\]|\n]{0,500})(?:\|([^\[\]\n]{0,500}))?\]\]")
_LINK = regex.compile(r"(?<!!)\[([^\[\]\n]{1,500})\]\([^()\n]{0,1000}\)")
_CALLOUT = regex.compile(r"^(?P<quote>(?:[ \t]*>)+)[ \t]*\[![^\[\]\n]{1,60}\][+-]?[ \t]*(?P<title>.*)$")
_BLOCK_ID = regex.compile(r"[ \t]+\^[A-Za-z0-9-]{1,80}$", regex.M)
_FOOTNOTE = regex.compile(r"\[\^[^\[\]\n]{1,60}\](?!:)")
_MARKER = regex.compile(r"==(?=\S)([^=\n]{1,1000})(?<=\S)==")
_DAY = regex.compile(r"(?<!\d)(\d{4})-?(\d{2})-?(\d{2})(?!\d)")
_JOURNALS = frozenset(["daily", "dailies", "journal", "journals", "diary", "daily-notes"])


@dataclass(frozen=True)
class Note:
    """One note as it stands in the vault. `path` is relative to the vault, with forward slashes.

    `body` has no comments, only their empty lines. `tags` are lower-case without the #, of frontmatter and text;
    `loose_tags` are those and whatever else begins with a #, of which is asked only whether a note is private.
    `fields` are Dataview's, key to values, of both too. `line` is the line of the file in which the body begins.
    """

    path: str
    body: str
    title: str
    front: dict[str, Any] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    loose_tags: frozenset[str] = frozenset()
    fields: dict[str, list[str]] = field(default_factory=dict)
    date: str = ""
    line: int = 1

    @property
    def daily(self) -> bool:
        """Say whether this is a page of a diary: named by a day, or kept in a folder for such pages."""
        path = PurePosixPath(self.path)
        folders = {part.lower().replace(" ", "-") for part in path.parts[:-1]}
        return bool(_DAY.search(path.stem) or folders & _JOURNALS)


def read_note(path: str, text: str) -> Note:
    """Take one note apart. Raises FrontmatterError where the YAML at its head is broken."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    front, whole = read_front(text)
    tags = front_tags(front) | text_tags(whole)  # a tag in a comment is one too
    loose = tags | {tag.strip("_-/") for tag in _find_tags(_LOOSE_TAG, text)}
    body = _without_comments(whole)
    line = text.count("\n", 0, max(text.rfind(whole), 0)) + 1
    day = _day(path, front)
    return Note(path, body, _title(path, front, body), front, tags, loose, _fields(front, body), day, line)


def has_tag(tags: frozenset[str] | set[str], wanted: str) -> bool:
    """Say whether `wanted` or one nested below it is there: "reflection" also finds "reflection/work"."""
    wanted = _tag_name(wanted)
    return any(tag == wanted or tag.startswith(f"{wanted}/") for tag in tags)


def is_private(note: Note, wanted: str) -> bool:
    """Say whether `wanted` is among the tags of a note or a part of one: "private" also finds "me/private/old".

    In doubt a note is private, so tags also count where Obsidian sees none (**#private**, "#private").
    """
    wanted = _tag_name(wanted)
    return any(f"/{wanted}/" in f"/{tag}/" for tag in note.loose_tags)


def _tag_name(wanted: str) -> str:
    """Return a tag that somebody typed as those of a note stand there: some Bengali letters have two spellings."""
    return unicodedata.normalize("NFC", wanted).lower().strip("#/ ")


def text_tags(body: str) -> frozenset[str]:
    """Return the tags written in the text, lower-case; in code and in links a # is none."""
    return _find_tags(TAG, body)


def _find_tags(pattern: regex.Pattern, text: str) -> frozenset[str]:
    prose = _WIKILINK.sub(" ", hold_code(text)[0])
    return frozenset(tag.lower().strip("/") for tag in pattern.findall(prose))


def _without_comments(body: str) -> str:
    """Return the text without its comments, each replaced by as many line ends: lines keep their numbers."""
    text, held = hold_code(body)
    text = _COMMENT.sub(lambda match: "\n" * put_back(match.group(), held).count("\n"), text)
    return put_back(text, held)


def text_fields(body: str) -> dict[str, list[str]]:
    """Return Dataview's fields of the text: keys lower-case with _ for spaces, values without Obsidian's marks."""
    found: dict[str, list[str]] = {}
    prose = hold_code(body)[0]
    for match in [*_INLINE_FIELD.finditer(prose), *_LINE_FIELD.finditer(prose)]:
        found.setdefault(_key(match["key"]), []).append(plain(match["value"] or ""))
    return found


def plain(body: str, keep_field: Callable[[str], bool] = lambda _: False) -> str:
    """Return what a reader sees: no comments, embeds, ids, tags, fields and queries; links as their words.

    `keep_field` says of which fields the value is kept as a sentence (a lesson is prose, a weight is not).
    """
    text, held = hold_code(body)
    held = ["" if is_query(piece) else piece for piece in held]
    text = _EMBED.sub("", _COMMENT.sub("", text))
    text = _INLINE_FIELD.sub(lambda m: m["value"] if keep_field(_key(m["key"])) else "", text)
    text = _LINE_FIELD.sub(lambda m: m["mark"] + (m["value"] or "") if keep_field(_key(m["key"])) else "", text)
    text = _WIKILINK.sub(_link_words, text)
    text = _LINK.sub(r"\1", text)
    text = _FOOTNOTE.sub("", _BLOCK_ID.sub("", text))
    text = "\n".join(map(_without_ending_tags, text.split("\n")))
    text = TAG.sub(lambda match: match.group(1).rsplit("/", 1)[-1].replace("_", " "), text)
    text = _MARKER.sub(r"\1", _callouts(text))
    return _tidy(put_back(text, held))


def sections(body: str) -> list[tuple[str, str, int]]:
    """Return the parts of a note between headings below the first level: heading, text, number of the first line.

    What stands before the first such heading is a part without a heading. A # in code is no heading.
    """
    text, held = hold_code(body)
    parts: list[tuple[str, list[str], int]] = [("", [], 1)]
    number = 1
    for line in text.split("\n"):
        if regex.match(r"#{2,6}[ \t]+\S", line):
            parts.append((plain(line.lstrip("#")), [], number))
        else:
            parts[-1][1].append(line)
        number += 1 + sum(held[int(place)].count("\n") for place in HELD.findall(line))
    whole = [(head, put_back("\n".join(lines), held), at) for head, lines, at in parts]
    return [part for part in whole if part[1].strip()]


def _title(path: str, front: dict[str, Any], body: str) -> str:
    """Return the title of the frontmatter, else the first heading, else the name of the file; without emphasis."""
    heading = _HEADING.search(hold_code(body)[0])
    title = front.get("title") or (plain(heading.group(1)) if heading else "") or PurePosixPath(path).stem
    return regex.sub(r"(?<!\w)[*_]{1,3}|[*_]{1,3}(?!\w)", "", str(title))


def _fields(front: dict[str, Any], body: str) -> dict[str, list[str]]:
    """Return the fields of note and frontmatter; of the latter only plain texts, which is what prose can use."""
    listed = {_key(str(key)): [value] for key, value in front.items() if isinstance(value, str) and value.strip()}
    return listed | text_fields(body)


def _key(name: str) -> str:
    return regex.sub(r"[\s-]+", "_", name.strip().lower())


def _day(path: str, front: dict[str, Any]) -> str:
    """Return the day of a note as YYYY-MM-DD: of its frontmatter, else of its name; empty where neither says."""
    for key in ("date", "created"):
        if isinstance(front.get(key), datetime.date):
            return front[key].isoformat()[:10]
    for text in (*(str(front.get(key, "")) for key in ("date", "created")), PurePosixPath(path).stem):
        match = _DAY.search(text)
        if match:
            try:
                return datetime.date(*map(int, match.groups())).isoformat()
            except ValueError:  # no day: 2023-02-31
                continue
    return ""


def _without_ending_tags(line: str) -> str:
    """Return a line without the tags it ends in. Word by word: a pattern would take hours for thousands of them."""
    pieces = regex.split(r"([ \t]+)", line) if "#" in line else [line]
    while pieces and (not pieces[-1].strip(" \t") or _WHOLE_TAG.fullmatch(pieces[-1])):
        pieces.pop()
    return "".join(pieces)


def _link_words(match: regex.Match) -> str:
    target, alias = match.group(1), match.group(2)
    note, _, heading = target.partition("#")
    return alias or note.strip("/").rsplit("/", 1)[-1] or heading.lstrip("^")


def _callouts(text: str) -> str:
    """Turn a callout into its title and its text; an ordinary quotation keeps its marks."""
    lines, depth = [], 0
    for line in text.split("\n"):
        match = _CALLOUT.match(line)
        if match:
            depth = match["quote"].count(">")
            lines.append(match["title"])
        elif depth and line.lstrip().startswith(">"):
            lines.append(regex.sub(rf"^(?:[ \t]*>[ \t]?){{1,{depth}}}", "", line))
        else:
            depth = 0
            lines.append(line)
    return "\n".join(lines)


def _tidy(text: str) -> str:
    text = regex.sub(r"[ \t]+$", "", text, flags=regex.M)
    return regex.sub(r"\n{3,}", "\n\n", text).strip()
