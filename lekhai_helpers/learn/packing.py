"""Are rows kept apart when several share one sequence? Measured on the model itself, never assumed.

``apart, sentence = rows_kept_apart(model, tokenizer)``; `train_sft` asks before it packs. Notebook 03 names the idea,
no notebook calls this.

On a processor there is one thing more to know: Unsloth turns packing off there, whatever was measured (`turned_off`).
Where that switch is taken out, a packed step of the trainer has the loss of the same rows unpacked: the rows are kept
apart in its real batches too. On a card Unsloth tells its attention the lengths of the rows as well, which this
measurement does not; there it may say no where the trainer would keep them apart.
"""

from __future__ import annotations

from typing import Any

_FIRST, _OTHER, _SECOND = "চা", "বৃষ্টি", "ছবি ও কথা"


def rows_kept_apart(model: Any, tokenizer: Any) -> tuple[bool, str]:
    """Return whether the second of two packed rows is read as if it stood alone, and a sentence with the figures.

    Two short rows go into one sequence as TRL's padding-free collator lays them: no attention mask, positions that
    begin again at 0. Two things must hold: another first row of the same length must not move the second row's
    logits at all beyond rounding, and they must be those of the row alone. The first test is the sharp one, for the
    arithmetic is the same both times. Rounding is judged by the model's own precision, and is 1e-4 of the largest
    logit in 32 bits.
    """
    import torch

    first, other, second = (_ids(tokenizer, text) for text in (_FIRST, _OTHER, _SECOND))
    length = min(len(first), len(other))
    was_training = model.training
    model.eval()
    with torch.no_grad():
        alone = _logits(model, [second])
        packed = _logits(model, [first[:length], second])
        changed = _logits(model, [other[:length], second])
    model.train(was_training)
    scale = alone.abs().max().item()
    leak = (packed - changed).abs().max().item() / scale
    gap = (packed - alone).abs().max().item() / scale
    return _verdict(leak, gap, _rounding(model))


def turned_off() -> str:
    """Return why the trainer would not pack here although asked to, or "" where it would.

    Unsloth changes the trainer's settings and goes on, so they are made once and looked at.
    """
    from lekhai_helpers.learn.model import unsloth_engine

    unsloth_engine()
    from trl import SFTConfig

    if SFTConfig(output_dir="not-written", packing=True, report_to="none").packing:
        return ""
    return "Unsloth packs no rows on this device and would train on single ones: leave sft.packing off"


def _verdict(leak: float, gap: float, rounding: float) -> tuple[bool, str]:
    figures = f"another first row moves the second by {leak:.1e}, alone it differs by {gap:.1e}"
    figures += f" (rounding: {rounding:.0e})"
    if leak > rounding / 10 or gap > rounding:
        return False, f"Packed rows read each other: {figures}. Leave sft.packing off."
    return True, f"Packed rows are kept apart: {figures}."


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def _logits(model: Any, rows: list[list[int]]) -> Any:
    """Return the last row's logits in 32 bits, shape (its tokens, dictionary)."""
    import torch

    ids = torch.tensor([[token for row in rows for token in row]], device=model.device)
    places = torch.tensor([[place for row in rows for place in range(len(row))]], device=model.device)
    # As the trainer does: a cache would make the library take all rows for one.
    out = model(input_ids=ids, position_ids=places, use_cache=False)
    return out.logits[0, -len(rows[-1]) :].float()


def _rounding(model: Any) -> float:
    """Return the share of the largest logit that rounding may move: 1e-4 in 32 bits, about 6 steps in 16."""
    import torch

    return max(1e-4, 6 * torch.finfo(next(model.parameters()).dtype).eps)
