"""Preference alignment: pairs of a better and a worse script, DPO against the SFT policy. Taught in notebook 10.

DPO: Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model".
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.learn.model import Generation, generate, unsloth_engine
from lekhai_helpers.learn.training import Example, TrainingError, numbers_in, progress_callbacks
from lekhai_helpers.prepare.contracts.ad_script import AdScript, parse_ad_script


@dataclass(frozen=True)
class Pair:
    """One prompt with a better (chosen) and a worse (rejected) script; `source` says where the worse one came from."""

    prompt: list[dict[str, str]]
    chosen: str
    rejected: str
    source: str


def _drop_cell(script: AdScript, dice: random.Random) -> str:
    """Break the table: one row loses its second cell."""
    lines = script.to_markdown().split("\n")
    place = dice.randrange(2, len(lines))
    lines[place] = f"| {script.rows[place - 2][0]} |"
    return "\n".join(lines)


def _forget_ending(script: AdScript, dice: random.Random) -> str:
    """Lose the pack shot: the last row, with brand, tagline and call to action, is gone."""
    return AdScript(script.rows[:-1]).to_markdown()


def _repeat_row(script: AdScript, dice: random.Random) -> str:
    """Loop: a row stands again where the next one should be."""
    rows = list(script.rows)
    place = dice.randrange(len(rows) - 1)
    rows[place + 1] = rows[place]
    return AdScript(rows).to_markdown()


def _swap_columns(script: AdScript, dice: random.Random) -> str:
    """Put what is heard under Visual and what is seen under Audio."""
    return AdScript([(audio, visual) for visual, audio in script.rows]).to_markdown()


DEFECTS: dict[str, Callable[[AdScript, random.Random], str]] = {
    "a row lost a cell": _drop_cell,
    "the ending is missing": _forget_ending,
    "a row is repeated": _repeat_row,
    "the columns are swapped": _swap_columns,
}


def plant_defect(text: str, dice: random.Random) -> tuple[str, str]:
    """Return `text` with one planted defect, and the defect's name. Raises ValueError where `text` is no script."""
    script, problems = parse_ad_script(text)
    if problems or len(script.rows) < 2:
        raise ValueError(f"cannot plant a defect in a text that is no script: {'; '.join(problems) or 'too short'}")
    name = dice.choice(sorted(DEFECTS))
    return DEFECTS[name](script, dice), name


def make_pairs(model, tokenizer, examples: Sequence[Example], settings: Settings) -> list[Pair]:
    """Build preference pairs: chosen is the written script, rejected what the model itself writes for the brief.

    A share of ``settings.dpo.planted_share`` is rejected for one planted defect instead. Pairs whose sides are equal
    are left out and counted in the printed line; a pair teaches only what differs.
    """
    dice = random.Random(settings.seed)
    picked = dice.sample(list(examples), min(settings.dpo.pairs, len(examples)))
    planted = round(len(picked) * settings.dpo.planted_share)
    pairs = []
    for example in picked[:planted]:
        chosen = example["completion"][0]["content"]
        rejected, defect = plant_defect(chosen, dice)
        pairs.append(Pair(example["prompt"], chosen, rejected, f"planted: {defect}"))
    own = picked[planted:]
    written = generate(model, tokenizer, [example["prompt"] for example in own], settings.decoding, settings.seed)
    pairs += [
        Pair(example["prompt"], example["completion"][0]["content"], rejected, "the model's own sample")
        for example, rejected in zip(own, _length_matched(own, written, tokenizer), strict=True)
    ]
    different = [pair for pair in pairs if pair.chosen.strip() != pair.rejected.strip()]
    print(f"{len(different)} pairs; {len(pairs) - len(different)} left out because both sides are the same")
    return different


def _length_matched(examples: Sequence[Example], written: Sequence[Generation], tokenizer) -> list[str]:
    """Cut samples that run past their chosen side by more than a fifth, at the end of a row.

    Otherwise DPO learns "shorter is better" from samples that never stopped.
    """
    matched = []
    for example, sample in zip(examples, written, strict=True):
        limit = 1.2 * len(tokenizer(example["completion"][0]["content"], add_special_tokens=False).input_ids)
        lines, kept, used = sample.text.split("\n"), [], 0
        for line in lines:
            used += len(tokenizer(line + "\n", add_special_tokens=False).input_ids)
            if kept and used > limit:
                break
            kept.append(line)
        matched.append("\n".join(kept))
    return matched


def check_pairs(pairs: Sequence[Pair], tokenizer, max_length: int) -> dict[str, float]:
    """Return counts and lengths (tokens) of the pairs.

    Raises TrainingError where there are none, or where a side would be cut at `max_length`.
    """
    if not pairs:
        raise TrainingError("there are no pairs to learn from: raise dpo.pairs or dpo.planted_share")
    lengths: dict[str, list[int]] = {"chosen": [], "rejected": []}
    for pair in pairs:
        for side in lengths:
            messages = [*pair.prompt, {"role": "assistant", "content": getattr(pair, side)}]
            text = tokenizer.apply_chat_template(messages, tokenize=False)
            lengths[side].append(len(tokenizer(text, add_special_tokens=False).input_ids))
    longest = max(max(lengths["chosen"]), max(lengths["rejected"]))
    if longest > max_length:
        raise TrainingError(f"a side of {longest} tokens would be cut at {max_length}: raise model.max_seq_length")
    return {
        "pairs": len(pairs),
        "mean_chosen_tokens": sum(lengths["chosen"]) / len(pairs),
        "mean_rejected_tokens": sum(lengths["rejected"]) / len(pairs),
        "longest": longest,
    }


def train_dpo(model, tokenizer, pairs: Sequence[Pair], settings: Settings, folder: Path, ledger: Ledger | None = None):
    """Align `model` (the SFT model with its adapter) by DPO; its frozen copy of now is the reference.

    Returns the log as a list of dicts with ``rewards/*`` and ``logps/*`` by step.
    """
    unsloth_engine().for_training(model)
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback
    from trl import DPOConfig, DPOTrainer

    dpo = settings.dpo
    weighted = dpo.sft_weight > 0
    config = DPOConfig(
        output_dir=str(folder),
        max_steps=dpo.max_steps,
        per_device_train_batch_size=dpo.batch_size,
        gradient_checkpointing=settings.model.device != "cpu",
        learning_rate=dpo.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(0.1 * dpo.max_steps),
        beta=dpo.beta,
        # The SFT term keeps the chosen side likely while the margin grows.
        loss_type=["sigmoid", "sft"] if weighted else ["sigmoid"],
        loss_weights=[1.0, dpo.sft_weight] if weighted else None,
        max_length=settings.model.max_seq_length,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=settings.seed,
        data_seed=settings.seed,
    )
    rows = [
        {
            "prompt": pair.prompt,
            "chosen": [{"role": "assistant", "content": pair.chosen}],
            "rejected": [{"role": "assistant", "content": pair.rejected}],
        }
        for pair in pairs
    ]
    trainer = DPOTrainer(
        model=model,
        processing_class=tokenizer,
        args=config,
        train_dataset=Dataset.from_list(rows),
        callbacks=progress_callbacks(ledger, "10_preference_alignment", False),
    )
    trainer.remove_callback(PrinterCallback)
    if ledger is not None:
        ledger.clear_metrics("10_preference_alignment")
    began = time.monotonic()
    trainer.train()
    print(f"{len(pairs)} pairs, {dpo.max_steps} steps in {time.monotonic() - began:.0f} s")
    return [entry for entry in trainer.state.log_history if "rewards/margins" in entry]


def alarms(log: Sequence[dict[str, Any]]) -> list[str]:
    """Return what the training log warns of, in words; an empty list is the good case."""
    rows = [numbers_in(entry) for entry in log]
    found = []
    early = rows[: max(1, len(rows) // 10)]
    if any(row["rewards/accuracies"] >= 1.0 for row in early) and len(rows) >= 10:
        found.append("accuracy reached 1.0 in the first tenth: the rejected sides are too easy to tell")
    if rows[-1]["logps/chosen"] < rows[0]["logps/chosen"] * 1.1 and rows[-1]["rewards/margins"] > 0:
        found.append("the chosen scripts became less likely while the margin grew")
    if all(abs(row["rewards/margins"]) < 1e-4 for row in rows[1:]) and len(rows) > 1:
        found.append("the margin did not move: identical pairs, or a learning rate too low")
    return found


def verdict(before: dict[str, float], after: dict[str, float]) -> tuple[bool, list[str]]:
    """Decide whether the DPO adapter is kept: (keep, reasons).

    `before` and `after` are the figures of the SFT and DPO stages on the same briefs and seeds
    (see `measure.evaluation.summarize_stage`). The contract share must not fall, texts must still stop, and the mean
    length must not drift by more than 15%.
    """
    reasons = []
    if after["valid_tables"] < before["valid_tables"]:
        reasons.append(f"valid tables fell from {before['valid_tables']:.0%} to {after['valid_tables']:.0%}")
    if after["stopped"] < before["stopped"] - 0.05:
        reasons.append(f"fewer texts end by themselves: {before['stopped']:.0%} to {after['stopped']:.0%}")
    drift = after["mean_tokens"] / before["mean_tokens"] - 1
    if abs(drift) > 0.15:
        reasons.append(f"the length drifted by {drift:+.0%}")
    keep = not reasons
    if keep:
        reasons.append(
            f"valid tables {before['valid_tables']:.0%} before and {after['valid_tables']:.0%} after, "
            f"length drift {drift:+.0%}"
        )
    return keep, reasons
