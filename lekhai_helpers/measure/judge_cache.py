"""The answers of a judge, kept on disk: what was answered once is not paid for again. Used by `judge_client`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from lekhai_helpers.core.run_folder import write_json


class Kept(BaseModel):
    """An answer: the reply, and the expectation over score tokens for each criterion that has one."""

    reply: str
    expected: dict[str, float]


@dataclass(frozen=True)
class Cache:
    """A folder with one file for each question; no folder, nothing kept. Not safe between threads."""

    folder: Path | None

    def find(self, question: Sequence[Any]) -> Kept | None:
        """Return the answer to a question (what JSON can hold); None also for a damaged file: it costs one call."""
        path = self._file(question)
        if path is None or not path.exists():
            return None
        try:
            return Kept.model_validate_json(path.read_bytes())
        except ValidationError:
            return None

    def keep(self, question: Sequence[Any], reply: str, expected: Mapping[str, float]) -> None:
        """Write down the answer to a question, in place of an earlier one."""
        if path := self._file(question):
            write_json(path, {"reply": reply, "expected": dict(expected)})

    def _file(self, question: Sequence[Any]) -> Path | None:
        if self.folder is None:
            return None
        key = json.dumps(question, ensure_ascii=False).encode(errors="surrogatepass")
        return Path(self.folder) / f"{hashlib.sha256(key).hexdigest()}.json"
