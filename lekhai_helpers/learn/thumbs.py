"""A curator's thumbs: single scripts liked or not, for KTO. Read by `learn.preference`, taught in notebook 10.

A JSONL file, one object a line: {"prompt": "the brief", "completion": "the script", "label": true}. The prompt may
also be a list of messages with role and content.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lekhai_helpers.learn.model import Message
from lekhai_helpers.learn.pairs import PreferenceError, count_tokens, whole_length

_KEYS = ("prompt", "completion", "label")


@dataclass(frozen=True)
class Thumb:
    """One script to a prompt, with a thumb up (label True) or down; `example` names the line it stands on."""

    prompt: list[Message]
    completion: str
    label: bool
    example: str

    @property
    def source(self) -> str:
        """Say which way the thumb points."""
        return "thumb up" if self.label else "thumb down"

    def shown(self, characters: int = 400) -> str:
        """Return the beginning of the script and its thumb, to be read by a person."""
        return f"{self.source.upper()}, {self.example}\n{self.completion[:characters]}\n"


def load_thumbs(path: Path, system_prompt: str = "") -> list[Thumb]:
    """Return the thumbs of a JSONL file; a brief given as plain text gets `system_prompt` before it.

    Raises PreferenceError with the number of every bad line; also where one script has both thumbs, or where the file
    holds thumbs of one kind only, from which nothing can be told apart.
    """
    path = Path(path)
    thumbs, wrong = [], []
    seen: dict[str, tuple[int, bool]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        record, fault = _read(line)
        fault = fault or _repeated(record, number, seen)
        if fault:
            wrong.append(f"line {number}: {fault}")
        else:
            prompt = _messages(record["prompt"], system_prompt)
            thumbs.append(Thumb(prompt, record["completion"].strip(), record["label"], f"line {number}"))
    if wrong:
        raise PreferenceError("\n".join([f"{path.name} cannot be learned from:", *wrong]))
    if len({thumb.label for thumb in thumbs}) < 2:
        raise PreferenceError(f"{path.name} needs thumbs up and thumbs down (label true and false); it has one kind")
    return thumbs


def _read(line: str) -> tuple[dict[str, Any], str]:
    """Return (record, what is wrong with it); the second is empty where all is well."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        return {}, f"not JSON ({error.msg})"
    if not isinstance(record, dict):
        return {}, "not an object with prompt, completion and label"
    missing = [key for key in _KEYS if key not in record]
    if missing:
        return record, f"{', '.join(missing)} missing"
    if not _is_prompt(record["prompt"]):
        return record, "prompt is neither a brief nor a list of messages with role and content, the last by the user"
    if not isinstance(record["completion"], str) or not record["completion"].strip():
        return record, "completion is empty or no text"
    if not isinstance(record["label"], bool):
        return record, f"label is {record['label']!r}; write true (thumb up) or false (thumb down)"
    return record, ""


def _is_prompt(prompt: Any) -> bool:
    if isinstance(prompt, str):
        return bool(prompt.strip())
    if not isinstance(prompt, list) or not prompt:
        return False
    texts = [m.get(key) for m in prompt if isinstance(m, dict) for key in ("role", "content")]
    whole = len(texts) == 2 * len(prompt) and all(isinstance(text, str) and text for text in texts)
    return whole and prompt[-1]["role"] == "user"


def _repeated(record: dict[str, Any], number: int, seen: dict[str, tuple[int, bool]]) -> str:
    key = json.dumps([record["prompt"], record["completion"].strip()], ensure_ascii=False, sort_keys=True)
    first, label = seen.setdefault(key, (number, record["label"]))
    if first == number:
        return ""
    return f"repeats line {first}" if label == record["label"] else f"contradicts line {first}: one script, both thumbs"


def _messages(prompt: str | list[Message], system_prompt: str) -> list[Message]:
    if isinstance(prompt, list):
        return prompt
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return [*system, {"role": "user", "content": prompt.strip()}]


def check_thumbs(thumbs: Sequence[Thumb], tokenizer, max_length: int) -> list[dict[str, Any]]:
    """Return one row a thumb: example, source, tokens of the script, and of the whole with its prompt.

    Raises PreferenceError, naming the lines, where a script would be cut at `max_length` tokens.
    """
    rows: list[dict[str, Any]] = []
    for thumb in thumbs:
        tokens, whole = (
            count_tokens(tokenizer, thumb.completion),
            whole_length(tokenizer, thumb.prompt, thumb.completion),
        )
        rows.append({"example": thumb.example, "source": thumb.source, "tokens": tokens, "whole": whole})
    long = [f"{row['example']} ({row['whole']} tokens)" for row in rows if row["whole"] > max_length]
    if long:
        raise PreferenceError(f"would be cut at {max_length} tokens: {', '.join(long)}. Raise model.max_seq_length")
    return rows


def interleaved(thumbs: Sequence[Thumb], seed: int) -> list[Thumb]:
    """Return the thumbs shuffled, ups and downs spread evenly: KTO takes them in this order, batch by batch."""
    dice = random.Random(seed)
    spread: list[tuple[float, Thumb]] = []
    for label in (True, False):
        group = [thumb for thumb in thumbs if thumb.label is label]
        dice.shuffle(group)
        spread += [((place + 0.5) / len(group), thumb) for place, thumb in enumerate(group)]
    return [thumb for _, thumb in sorted(spread, key=lambda entry: entry[0])]
