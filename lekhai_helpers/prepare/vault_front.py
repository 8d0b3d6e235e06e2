"""The head of an Obsidian note: YAML between two lines of ---, with its tags and what it says about being private."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import regex

TAG_LETTERS = r"[\p{L}\p{M}\p{N}_/-]"
_OPENING = regex.compile(r"\s*---[ \t]*\n")
_CLOSING = regex.compile(r"^-{3,}[ \t]*$", regex.M)
_BETWEEN_TAGS = regex.compile(r"[^\p{L}\p{M}\p{N}_/-]+")
_END = "\n"
_NOT_PRIVATE = ("", "none", "false", "no", "off", "n", "0")


class FrontmatterError(ValueError):
    """The frontmatter cannot be read, so nobody can say whether the note is marked as private."""


def read_front(text: str) -> tuple[dict[str, Any], str]:
    """Return the frontmatter and the body, without a frontmatter {} and the text as it is.

    Lines end in a line feed. Raises FrontmatterError where the head is broken, or is no list of keys and values.
    """
    import yaml
    from frontmatter.default_handlers import YAMLHandler

    opening = _OPENING.match(text)
    if not opening:
        return {}, text
    closing = _CLOSING.search(text, opening.end())
    if closing is None:
        if regex.search(r"(?i)\bprivate\b", "\n".join(text[opening.end() :].split("\n", 30)[:30])):
            raise FrontmatterError("the frontmatter is never closed: a line --- is missing")
        return {}, text
    try:
        front = YAMLHandler().load(text[opening.end() : closing.start()])
    except (yaml.YAMLError, ValueError) as error:  # a day that does not exist is a ValueError
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f", line {opening.group().count(_END) + line + 1}" if line is not None else ""
        raise FrontmatterError(f"the frontmatter is no valid YAML{where}") from None
    if not isinstance(front, dict | None):
        raise FrontmatterError("the frontmatter is no valid YAML of keys and values (tags: private)")
    return front or {}, text[closing.end() :].strip()


def front_tags(front: dict[str, Any]) -> frozenset[str]:
    """Return the tags of the frontmatter, lower-case, however they are listed; `private: true` is a tag too."""
    tags: set[str] = set()
    for key, value in front.items():
        name = str(key).strip().lower()
        if name == "private" and str(value).strip().lower() not in _NOT_PRIVATE:
            tags.add("private")
        if name in ("tags", "tag"):
            tags.update(tag for text in _texts(value) for tag in _BETWEEN_TAGS.split(text))
    return frozenset(tag.lower().strip("/") for tag in tags) - {""}


def _texts(value: Any) -> Iterator[str]:
    """Yield every text and number in a value, also in lists in lists; YAML can make one that holds itself."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list | dict | set | tuple):
            if id(one) not in seen:
                seen.add(id(one))
                waiting += [*one, *one.values()] if isinstance(one, dict) else one
        elif one is not None and not isinstance(one, bool):
            yield str(one)
