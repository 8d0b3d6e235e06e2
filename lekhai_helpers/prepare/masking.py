"""The mask view: which tokens of an example are learned, and which are only read.

``check_masks(examples, tokenizer, 1024)`` counts, ``failures(...)`` says what is wrong, ``render_mask(...)``
shows one example in colours. Taught in notebook 03.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML

IGNORED = -100  # the label torch's cross entropy passes over


@dataclass(frozen=True)
class MaskedExample:
    """One example as the trainer sees it.

    ``ids`` and ``labels`` are equally long; a label is the token's own id where it is learned, IGNORED where
    not. ``pieces`` is each token as text. ``runs`` are neighbouring tokens of one kind (read, learn, end) decoded
    together, because a byte-level tokenizer cuts a Bengali letter into tokens that are no text by themselves.
    ``full_length`` is the number of tokens before the cut to `max_length`, ``ends`` are the ids that end a turn,
    ``bos`` is the id that begins a text (None where there is none).
    """

    id: str
    ids: list[int]
    labels: list[int]
    pieces: list[str]
    runs: list[tuple[str, str]]
    full_length: int
    ends: frozenset[int]
    bos: int | None


def tokenize_example(example: dict[str, Any], tokenizer: Any, max_length: int) -> MaskedExample:
    """Render prompt and completion once through the chat template, as TRL's SFTTrainer does, and mask the prompt.

    The completion begins where the rendered prompt and the rendered whole part ways; what exceeds `max_length`
    is cut at the end, silently, in the trainer too. Raises ValueError where the tokenizer has no chat template.
    """
    ids = rendered_ids(example, tokenizer)
    prompt = _render(tokenizer, example["prompt"], add_generation_prompt=True)
    start = _common_prefix(prompt, ids)
    kept, labels = ids[:max_length], ([IGNORED] * start + ids[start:])[:max_length]
    ends = _turn_ends(tokenizer)
    return MaskedExample(
        id=name_of(example),
        ids=kept,
        labels=labels,
        pieces=[tokenizer.decode([token]) for token in kept],
        runs=[(tokenizer.decode(run), kind) for run, kind in _runs(kept, labels, ends)],
        full_length=len(ids),
        ends=ends,
        bos=tokenizer.bos_token_id,
    )


def name_of(example: dict[str, Any]) -> str:
    """Return the name of an example in tables and messages: the row's id and which of its prompts."""
    return f"{example.get('id', '')}/{example.get('prompt_key', 'prompt')}"


def rendered_ids(example: dict[str, Any], tokenizer: Any) -> list[int]:
    """Return prompt and completion as token ids, rendered once through the chat template and not cut.

    Raises ValueError where the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise ValueError("the tokenizer has no chat template: take the tokenizer of notebook 01, or an -it model's")
    return _render(tokenizer, [*example["prompt"], *example["completion"]], add_generation_prompt=False)


def _render(tokenizer: Any, messages: list[dict[str, str]], add_generation_prompt: bool) -> list[int]:
    rendered = tokenizer.apply_chat_template(
        messages, add_generation_prompt=add_generation_prompt, tokenize=True, return_dict=True
    )
    return list(rendered["input_ids"])


def _common_prefix(a: list[int], b: list[int]) -> int:
    for place, (left, right) in enumerate(zip(a, b, strict=False)):
        if left != right:
            return place
    return min(len(a), len(b))


def _turn_ends(tokenizer: Any) -> frozenset[int]:
    """Return the ids that end an answer: the tokenizer's eos and the end-of-turn marks its vocabulary has."""
    marks = ("<end_of_turn>", "<|im_end|>", "<|eot_id|>", "<|end|>")
    known = tokenizer.get_vocab()
    return frozenset(({tokenizer.eos_token_id} - {None}) | {known[mark] for mark in marks if mark in known})


def _runs(ids: list[int], labels: list[int], ends: frozenset[int]) -> list[tuple[list[int], str]]:
    runs: list[tuple[list[int], str]] = []
    for token, label in zip(ids, labels, strict=True):
        kind = "read" if label == IGNORED else "end" if token in ends else "learn"
        if runs and runs[-1][1] == kind:
            runs[-1][0].append(token)
        else:
            runs.append(([token], kind))
    return runs


def check_masks(examples: Sequence[dict[str, Any]], tokenizer: Any, max_length: int) -> pd.DataFrame:
    """Return one line for each example.

    Columns: tokens, learned (both after the cut), learned_share (0 to 1), truncated (tokens cut off), double_bos and
    double_eos (more than one in the example, wherever), ends_with_eos: a model that never sees its end token never
    stops. Each fault is a failure (`failures`), none a mere warning: training runs on with all of them, and the model
    is spoilt.
    """
    import pandas as pd

    rows = [_facts(tokenize_example(example, tokenizer, max_length)) for example in examples]
    columns = ["id", "tokens", "learned", "learned_share", "truncated", "double_bos", "double_eos", "ends_with_eos"]
    return pd.DataFrame(rows, columns=columns).set_index("id")


def _facts(masked: MaskedExample) -> dict[str, Any]:
    learned = _learned(masked)
    # Some templates (Gemma, ChatML) write a line break after the mark that ends the turn.
    while learned and not masked.pieces[learned[-1]].strip():
        learned.pop()
    tail = [masked.ids[place] for place in learned]
    return {
        "id": masked.id,
        "tokens": len(masked.ids),
        "learned": len(_learned(masked)),
        "learned_share": round(len(_learned(masked)) / max(len(masked.ids), 1), 3),
        "truncated": masked.full_length - len(masked.ids),
        "double_bos": masked.bos not in masked.ends and sum(token == masked.bos for token in masked.ids) > 1,
        "double_eos": sum(token in masked.ends for token in tail) > 1,
        "ends_with_eos": bool(tail) and tail[-1] in masked.ends,
    }


def _learned(masked: MaskedExample) -> list[int]:
    return [place for place, label in enumerate(masked.labels) if label != IGNORED]


def failures(checked: pd.DataFrame) -> list[str]:
    """Return what is wrong with the masks, one sentence a kind with the examples it touches; empty is good."""
    kinds = {
        "have nothing to learn: the prompt alone fills the length; raise model.max_seq_length": checked.learned == 0,
        "are cut and lose their end; raise model.max_seq_length or shorten the answer": checked.truncated > 0,
        "have two BOS tokens: the text was rendered before it was tokenized": checked.double_bos,
        "have two end tokens to learn: the template adds one and so does the data": checked.double_eos,
        "do not teach the end token, so the model would not stop": ~checked.ends_with_eos & (checked.truncated == 0),
    }
    return [_sentence(checked.index[wrong], text) for text, wrong in kinds.items() if wrong.any()]


def _sentence(names: Any, text: str) -> str:
    shown = ", ".join(str(name) for name in list(names)[:5])
    return f"{len(names)} example(s) {text} ({shown}{', ...' if len(names) > 5 else ''})"


def render_mask(masked: MaskedExample) -> HTML:
    """Return the example for a notebook: learned tokens coloured, read ones grey, end of turn marked.

    ``mask_text(masked)`` is the same in plain text.
    """
    from IPython.display import HTML

    spans = "".join(_span(text, kind) for text, kind in masked.runs)
    return HTML(f'<div style="white-space:pre-wrap;line-height:1.7" lang="bn">{spans}</div>')


def mask_text(masked: MaskedExample) -> str:
    """Return the example as text: [read ...] and [learn ...] parts, the end of turn as [end]."""
    words = {"read": "[read] ", "learn": "[learn] ", "end": "[end] "}
    return "\n".join(words[kind] + text for text, kind in masked.runs)


def _span(text: str, kind: str) -> str:
    style = {
        "read": "color:#888",
        "learn": "background:#1b7f5c33",
        "end": "background:#c2410c;color:#fff;border-radius:3px;padding:0 3px",
    }[kind]
    title = {"read": "read, not learned", "learn": "learned", "end": "learned: stop here"}[kind]
    return f'<span style="{style}" title="{title}">{html.escape(text)}</span>'
