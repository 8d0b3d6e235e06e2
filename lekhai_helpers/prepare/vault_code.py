"""Code in a note, fenced or inline: set aside while the prose around it is worked on, and put back after.

In code a # is no tag and [[ ]] is no link, so everything that looks for those asks here first.
"""

from __future__ import annotations

import regex

_FENCE = regex.compile(r"[ \t>]*(`{3,}|~{3,})[ \t]*([\w-]*)")
_INLINE_CODE = regex.compile(r"(`{1,3})(?!`)[^\n]*?(?<!`)\1(?!`)")
# Two code points that are no letters in any text: a piece of code waits between them while the prose is worked on.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
HELD = regex.compile(f"{_OPEN}(\\d+){_CLOSE}")
# What a plugin runs and a reader never sees.
_QUERIES = frozenset(["dataview", "dataviewjs", "tasks", "query", "mermaid", "button", "excalidraw"])


def hold_code(text: str) -> tuple[str, list[str]]:
    """Return the text with every piece of code replaced by a place-holder, and the pieces; `put_back` undoes it."""
    held: list[str] = []

    def keep(piece: str) -> str:
        held.append(piece)
        return f"{_OPEN}{len(held) - 1}{_CLOSE}"

    text = text.replace(_OPEN, "").replace(_CLOSE, "")
    lines = [keep(piece) if code else piece for piece, code in _blocks(text)]
    return _INLINE_CODE.sub(lambda match: keep(match.group()), "\n".join(lines)), held


def put_back(text: str, held: list[str]) -> str:
    """Return the text with the pieces of code where they stood."""
    return HELD.sub(lambda match: held[int(match.group(1))], text)


def _blocks(text: str) -> list[tuple[str, bool]]:
    """Return the lines of a text, each block of fenced code as one piece: (text, is it code?)."""
    found: list[tuple[str, bool]] = []
    block: list[str] = []
    fence = ""
    for line in text.split("\n"):
        match = _FENCE.match(line)
        if fence:
            block.append(line)
            if match and match[1].startswith(fence) and not match[2]:
                found.append(("\n".join(block), True))
                block, fence = [], ""
        elif match:
            block, fence = [line], match[1]
        else:
            found.append((line, False))
    if block:  # never closed: Obsidian shows the rest as code
        found.append(("\n".join(block), True))
    return found


def is_query(piece: str) -> bool:
    """Say whether a piece of code is a question to a plugin and no part of what was written."""
    match = _FENCE.match(piece)
    if match:
        return match[2].lower() in _QUERIES
    return regex.match(r"`{1,3}\s*(?:=|\$=)", piece) is not None
