"""The two parents of the merge. Taught in notebook 02.

On the embedded base the donors are made here, honestly named: the base, trained briefly on one thing each. On other
profiles they are models of their own, named in the recipe.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lekhai_helpers.core.recipe import Donor, Settings, data_file
from lekhai_helpers.learn.model import attach_lora, load_model, perplexity
from lekhai_helpers.learn.training import short_lora_training


@dataclass(frozen=True)
class DonorText:
    """What a donor is trained on and tried on: plain paragraphs, or briefs with their outline."""

    train: list[Any]
    heldout: list[Any]


def load_donor_text(file: str) -> DonorText:
    """Read a JSONL file of rows with ``split`` and either ``text`` or ``brief`` and ``outline``.

    A brief becomes a prompt and its outline the completion, so that only the outline is learned.
    """
    parts: dict[str, list[Any]] = {"train": [], "heldout": []}
    for line in data_file(file).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        parts[row["split"]].append(row["text"] if "text" in row else _as_messages(row["brief"], row["outline"]))
    return DonorText(**parts)


def _as_messages(brief: str, outline: str) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": brief}],
        "completion": [{"role": "assistant", "content": outline}],
    }


def make_donor(
    donor: Donor, base: str, text: DonorText, settings: Settings, folder: Path, save: Callable[[Any, Any, Path], Path]
) -> str:
    """Return the donor's path: a model named in the recipe as it is, else the base trained for ``donor.steps``.

    `save` writes merged 16-bit weights (see `ship.export.save_merged_16bit`).
    """
    if donor.name != "made-here":
        return donor.name
    model, tokenizer = load_model(base, settings, four_bit=False)
    model = attach_lora(model, settings.lora, settings.seed)
    with tempfile.TemporaryDirectory() as scratch:
        short_lora_training(model, tokenizer, text.train, settings, donor.steps, Path(scratch))
    return str(save(model, tokenizer, folder))


def heldout_perplexity(model, tokenizer, text: DonorText) -> float:
    """Return the perplexity on held-out rows; for a brief with an outline, on the outline alone."""
    return perplexity(model, tokenizer, [_as_text(row, tokenizer) for row in text.heldout])


def _as_text(row: Any, tokenizer) -> str | tuple[str, str]:
    if isinstance(row, str):
        return row
    prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
    return prompt, row["completion"][0]["content"] + tokenizer.eos_token
