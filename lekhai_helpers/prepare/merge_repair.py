"""What mergekit leaves out or changes, put right after a merge. Taught in notebook 02."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from lekhai_helpers.core.run_folder import write_text
from lekhai_helpers.prepare.model_facts import MergeError, text_part


def repair_merge(donor: Path, merged: Path) -> list[str]:
    """Put right what mergekit leaves out with a ``tokenizer`` block; return what was repaired, in words.

    It writes no generation_config.json and can shrink the list of end tokens, and then a model never stops.
    The chat template is taken from the language donor, never from a vote. Raises MergeError where the dictionary
    was changed, which nothing can repair afterwards.
    """
    repaired = []
    source, target = donor / "generation_config.json", merged / "generation_config.json"
    if source.exists() and (not target.exists() or source.read_bytes() != target.read_bytes()):
        shutil.copy(source, target)
        repaired.append("generation_config.json copied from the language donor")
    theirs, ours, config_repaired = _repair_config(donor, merged)
    repaired += config_repaired + _repair_template(donor, merged)
    _check_dictionary(donor, merged, rows_before=text_part(theirs)["vocab_size"], rows=ours["vocab_size"])
    return repaired


def _repair_config(donor: Path, merged: Path) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Put right the ends and the number of rows in config.json; return the donor's config, the merge's, the words."""
    repaired = []
    theirs, ours = (json.loads((place / "config.json").read_text(encoding="utf-8")) for place in (donor, merged))
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if ours.get(key) != theirs.get(key):
            ours[key] = theirs.get(key)
            repaired.append(f"config.json: {key} set back to {theirs.get(key)}")
    rows = _embedding_rows(merged)
    if rows is not None and ours.get("vocab_size") != rows:
        ours["vocab_size"] = rows
        repaired.append(f"config.json: vocab_size set to the {rows} rows the model has")
    write_text(merged / "config.json", json.dumps(ours, indent=2) + "\n")
    return theirs, ours, repaired


def _repair_template(donor: Path, merged: Path) -> list[str]:
    """Give the merge the donor's chat template; older models keep it in tokenizer_config.json, so both are loaded."""
    from transformers import AutoTokenizer

    before, after = AutoTokenizer.from_pretrained(donor), AutoTokenizer.from_pretrained(merged)
    if before.chat_template == after.chat_template:
        return []
    after.chat_template = before.chat_template
    (merged / "chat_template.jinja").unlink(missing_ok=True)  # it would stay where the donor has no template
    after.save_pretrained(merged)
    return ["chat template set to the language donor's"]


def _embedding_rows(folder: Path) -> int | None:
    """Return how many rows the embedding of a model has, read from the header of its weights."""
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (no mapping: it cannot be iterated)
                if name.endswith("embed_tokens.weight"):
                    return tensors.get_slice(name).get_shape()[0]
    return None


def _check_dictionary(donor: Path, merged: Path, rows_before: int, rows: int) -> None:
    """Every piece of the language donor must be there under its own id; a union may have more behind them."""
    from transformers import AutoTokenizer

    before, after = AutoTokenizer.from_pretrained(donor), AutoTokenizer.from_pretrained(merged)
    # Gemma 3 lists one piece more than its text model has rows (a picture's placeholder); mergekit leaves it out.
    had = {piece: number for piece, number in before.get_vocab().items() if number < rows_before}
    has = after.get_vocab()
    if len(after) > max(rows, len(before)):
        raise MergeError(f"the tokenizer has {len(after)} pieces but the model {rows} rows")
    lost = [piece for piece, number in had.items() if has.get(piece) != number]
    if lost:
        raise MergeError(
            f"the merge changed the dictionary: {len(lost)} pieces of the language donor are gone or have another "
            f"id, {lost[0]!r} among them. Set merge.tokenizer to language"
        )
    if before.eos_token_id != after.eos_token_id:
        raise MergeError("the merge changed the token that ends a text")
