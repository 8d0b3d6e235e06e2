"""Evaluation briefs in JSON lines, where a recipe's own source has no reader for them. Called as ``rows(path)``.

One object a line: ``prompt``, or ``instruction`` with or without ``input``; ``id``, ``part``, ``expected`` and
``messages`` where there are any; the group under ``industry``, ``subject``, ``kind``, ``category`` or ``area``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lekhai_helpers.prepare.sources.base import DatasetError, Row
from lekhai_helpers.prepare.sources.reading import json_lines

_GROUPS = ("industry", "subject", "kind", "category", "area")
_AS_JSON = ("expected", "messages")
_AS_TEXT = ("id", "part", "tone", "system_prompt")


def rows(path: Path) -> Iterator[Row]:
    """Yield one row for each line. Raises DatasetError where a line is no object, or asks nothing."""
    for number, line in json_lines(path):
        prompt = line.get("prompt") or "\n\n".join(filter(None, (line.get("instruction"), line.get("input"))))
        if not isinstance(prompt, str) or not prompt.strip():
            raise DatasetError(f"{path.name}, line {number} asks nothing: it needs a text under prompt or instruction")
        yield Row(number, {"prompt": prompt} | _cells(line))


def _cells(line: Mapping[str, Any]) -> dict[str, str]:
    cells = {name: str(line[name]) for name in _AS_TEXT if line.get(name)}
    cells |= {name: json.dumps(line[name], ensure_ascii=False) for name in _AS_JSON if line.get(name) is not None}
    return cells | {"industry": next((str(line[name]) for name in _GROUPS if line.get(name)), "")}
