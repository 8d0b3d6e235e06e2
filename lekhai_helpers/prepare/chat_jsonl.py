"""Examples written for other programs: JSONL of whole conversations, as messages and as rendered text.

``write_chat_jsonl(examples, folder, tokenizer)`` writes, for each split, ``train.messages.jsonl`` with
{"messages": [...]} and ``train.text.jsonl`` with {"text": ...} as the tokenizer's template renders them. Taught in
notebook 03.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lekhai_helpers.core.run_folder import write_text

SPLITS = ("train", "validation", "test")


def write_chat_jsonl(examples: Sequence[dict[str, Any]], folder: Path, tokenizer: Any = None) -> list[Path]:
    """Write the examples of `prepare.dataset.to_examples`; without a tokenizer only the messages. Returns the files."""
    written = []
    for part in SPLITS:
        talks = [example["prompt"] + example["completion"] for example in examples if example["split"] == part]
        written.append(_write(folder, f"{part}.messages.jsonl", [{"messages": talk} for talk in talks]))
        if tokenizer is not None:
            texts = [tokenizer.apply_chat_template(talk, tokenize=False) for talk in talks]
            written.append(_write(folder, f"{part}.text.jsonl", [{"text": text} for text in texts]))
    return written


def _write(folder: Path, name: str, lines: Sequence[dict[str, Any]]) -> Path:
    path = Path(folder) / name
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return path
