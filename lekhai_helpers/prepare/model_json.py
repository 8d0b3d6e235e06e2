"""JSON as a model writes it: read whole, or named as none. Used by the contracts, the tools and their loop.

``read_json(text)`` never crashes on what a model may write: thousands of brackets, a number of thousands of digits.
"""

from __future__ import annotations

import json
from typing import Any

DEEPEST = 40  # levels of lists and objects: answers have five; what walks through them takes a step deeper for each


class NoJson(ValueError):
    """A text that is no JSON, or none that anybody should work with; the message says why."""


def read_json(text: str) -> Any:
    """Return what a text holds as JSON. Raises NoJson for anything else, a key written twice among it."""
    try:
        found = json.loads(text, object_pairs_hook=_object)
    except NoJson:
        raise
    except json.JSONDecodeError as error:
        raise NoJson(f"{error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise NoJson("it is nested too deeply") from None
    except ValueError as error:  # Python reads no number of more than 4,300 digits
        raise NoJson("a number in it is too long") from error
    if _too_deep(found):
        raise NoJson("it is nested too deeply")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; of a key that stands twice Python would silently keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for n, (key, _) in enumerate(pairs) if key in dict(pairs[:n]))
        raise NoJson(f"the key {twice!r} stands in it twice")
    return found


def _too_deep(found: Any) -> bool:
    level = [found]
    for _ in range(DEEPEST):
        level = [inner for one in level for inner in _inside(one)]
    return bool(level)


def _inside(found: Any) -> list[Any]:
    if isinstance(found, dict):
        return list(found.values())
    return found if isinstance(found, list) else []
