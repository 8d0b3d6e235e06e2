"""The two parents of the merge. Taught in notebook 02.

On the embedded base the donors are made here, honestly named: the base, trained briefly on one thing each. On other
profiles they are models of their own, named in the recipe.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lekhai_helpers.core.recipe import Donor, Merge, Settings, data_file
from lekhai_helpers.learn.callbacks import progress_callbacks
from lekhai_helpers.learn.model import attach_lora, load_model, perplexity, unsloth_engine
from lekhai_helpers.learn.training import Example, messages_of, print_one_way


@dataclass(frozen=True)
class DonorText:
    """What a donor is trained on and tried on: plain paragraphs, or briefs with their outline."""

    train: list[Any]
    heldout: list[Any]

    @property
    def sample(self) -> str:
        """Return its first row to be read by a person: a paragraph, or a brief with its outline."""
        first = self.train[0]
        return (
            first if isinstance(first, str) else "\n".join(m["content"] for m in first["prompt"] + first["completion"])
        )


def donor_texts(merge: Merge) -> dict[str, DonorText]:
    """Return what the donors "language" and "structure" read; nothing where the recipe merges nothing."""
    if merge.method == "none":
        return {}
    return {role: load_donor_text(getattr(merge, role).data) for role in ("language", "structure")}


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


def short_lora_training(model, tokenizer, rows: Sequence[Example | str], settings: Settings, steps: int, folder: Path):
    """Train the LoRA of `model` for a few steps on plain texts or prompt/completion rows (the donors of notebook 02).

    Returns the losses as (step, loss).
    """
    unsloth_engine()
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    # A paragraph is a whole document, from BOS to EOS; messages get theirs from the template.
    bos, eos = tokenizer.bos_token or "", tokenizer.eos_token
    table = [{"text": f"{bos}{row}{eos}"} if isinstance(row, str) else messages_of([row])[0] for row in rows]
    config = SFTConfig(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=settings.merge.batch_size,
        learning_rate=settings.merge.learning_rate,
        gradient_checkpointing=settings.model.device != "cpu",
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(0.1 * steps),
        max_length=settings.model.max_seq_length,
        logging_steps=max(1, steps // 5),
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=settings.seed,
        data_seed=settings.seed,
    )
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        args=config,
        train_dataset=Dataset.from_list(table),
        callbacks=progress_callbacks(None, "", False),
    )
    print_one_way(trainer)
    trainer.train()
    return [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
