"""What Hugging Face makes of the prompts and where it ends an answer: the side the parity gate trusts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lekhai_helpers.learn.model import Message
from lekhai_helpers.ship.parity_checks import Reference


def reference(folder: str | Path, tokenizer, prompts: Sequence[Sequence[Message]]) -> Reference:
    """Return what the tokenizer and the config files of `folder` make of the prompts; no weight is read."""
    rendered = [
        tokenizer.apply_chat_template(list(prompt), add_generation_prompt=True, tokenize=False) for prompt in prompts
    ]
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config", config)
    ends = end_ids(folder, tokenizer)
    return Reference(
        rendered=tuple(rendered),
        ids=tuple(tuple(tokenizer(text, add_special_tokens=False).input_ids) for text in rendered),
        pieces=tuple(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))),
        rows=int(config["vocab_size"]),
        bos=tokenizer.bos_token_id,
        ends=ends,
        turn_end=_turn_end(tokenizer, ends),
        special=frozenset(tokenizer.all_special_ids),
        added=frozenset(tokenizer.added_tokens_decoder),
        bos_text=tokenizer.bos_token or "",
    )


def end_ids(folder: Path, tokenizer) -> frozenset[int]:
    """Return every id at which Hugging Face ends an answer: of the generation settings, the config, the tokenizer."""
    found: set[int] = set() if tokenizer.eos_token_id is None else {tokenizer.eos_token_id}
    for name in ("generation_config.json", "config.json"):
        file = folder / name
        listed = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.exists() else None
        if listed is not None:
            return frozenset(found | set(listed if isinstance(listed, list) else [listed]))
    return frozenset(found)


def _turn_end(tokenizer, ends: frozenset[int]) -> int | None:
    """Return the token the chat template writes behind an answer; None where it writes none."""
    turn = [{"role": "user", "content": "a"}]
    asked = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template([*turn, {"role": "assistant", "content": "b"}], tokenize=False)
    tail = tokenizer(whole[len(asked) :], add_special_tokens=False).input_ids
    marks = set(tokenizer.all_special_ids) | ends
    return next((token for token in tail if token in marks), None)
