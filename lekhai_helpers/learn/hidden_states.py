"""What a model makes of a prompt inside: its hidden states, layer by layer. Taught in notebook 11.

``base, tuned = base_and_tuned(model, tokenizer, prompts)`` reads the same prompts with the adapter off and on;
``measure_states(name, model, tokenizer, prompts)`` reads one model. Nothing is trained and nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lekhai_helpers.prepare.safety_prompts import SafetyPrompt, fingerprint

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

POOLING = "mean over the prompt's tokens"


class HiddenStateError(RuntimeError):
    """The hidden states of a model cannot be read; the text says why and what to do next."""


@dataclass(frozen=True)
class States:
    """Hidden states of one model. `values`: float32, (prompts, layers + 1, hidden size), layer 0 = the embeddings.

    `prompts` is the fingerprint of the texts read, `architecture` the class of the model: what must agree before two
    models are compared.
    """

    name: str
    values: np.ndarray
    architecture: str
    prompts: str
    pooling: str = POOLING

    @property
    def layers(self) -> int:
        """Return the number of layers, the embeddings not counted."""
        return self.values.shape[1] - 1


def base_and_tuned(
    model,
    tokenizer,
    prompts: Sequence[SafetyPrompt],
    batch_size: int = 16,
    names: tuple[str, str] = ("base", "sft"),
) -> tuple[States, States]:
    """Return the states of one PEFT model with its adapter off and with it on: same weights, same prompts.

    Raises HiddenStateError where the model has no adapter; two models loaded apart are read by `measure_states`.
    """
    if not hasattr(model, "disable_adapter"):
        raise HiddenStateError("the model has no adapter to switch off: load both models and use measure_states twice")
    with model.disable_adapter():
        base = measure_states(names[0], model, tokenizer, prompts, batch_size)
    return base, measure_states(names[1], model, tokenizer, prompts, batch_size)


def measure_states(name: str, model, tokenizer, prompts: Sequence[SafetyPrompt], batch_size: int = 16) -> States:
    """Return the pooled states of every prompt, with what is needed to know whom they may be compared with."""
    values = extract(model, tokenizer, prompts, batch_size)
    return States(name, values, type(_decoder(model)).__name__, fingerprint(prompts))


def extract(model, tokenizer, prompts: Sequence[SafetyPrompt], batch_size: int = 16) -> np.ndarray:
    """Return the mean hidden state of every prompt at every layer: float32, (prompts, layers + 1, hidden size).

    The mean goes over the tokens of the prompt (and of its answer, where it has one) and never over the template's
    marks or the begin-of-text token, whose state is so long that short prompts would stand apart by length alone.
    Padding stands on the right, where no token of a prompt can see it. The last layer is taken after the final norm,
    as Transformers gives it. Raises HiddenStateError.
    """
    import numpy as np
    import torch

    if not prompts:
        raise HiddenStateError("no prompts were given: load them with prepare.safety_prompts.load_prompts")
    model.eval()
    read = []
    with torch.inference_mode():
        for start in range(0, len(prompts), batch_size):
            read.append(_read_batch(model, tokenizer, prompts[start : start + batch_size]))
    values = np.concatenate(read)
    broken = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))
    if broken.size:
        raise HiddenStateError(
            f"the hidden states of {prompts[broken[0]].id} (and {broken.size - 1} more) hold numbers that are not "
            "finite: the weights are damaged, or 16-bit arithmetic overflowed; load the model with exact=True"
        )
    return values


def _read_batch(model, tokenizer, prompts: Sequence[SafetyPrompt]) -> np.ndarray:
    import torch

    texts = [_render(tokenizer, prompt) for prompt in prompts]
    encoded = tokenizer(
        texts,
        add_special_tokens=not tokenizer.chat_template,
        padding=True,
        padding_side="right",
        return_offsets_mapping=True,
        return_tensors="pt",
    )
    counted = torch.stack(
        [
            _inside(places, text, prompt)
            for places, text, prompt in zip(encoded["offset_mapping"], texts, prompts, strict=True)
        ]
    )
    inputs = {name: encoded[name].to(model.device) for name in ("input_ids", "attention_mask")}
    states = _decoder(model)(**inputs, output_hidden_states=True, use_cache=False).hidden_states
    mask = (counted & encoded["attention_mask"].bool()).to(model.device).unsqueeze(-1)
    # A sum over chosen tokens and not a product with 0 and 1: a state of a padding token may be no number at all.
    pooled = [state.float().masked_fill(~mask, 0).sum(dim=1) / mask.sum(dim=1) for state in states]
    return torch.stack(pooled, dim=1).cpu().numpy()


def _render(tokenizer, prompt: SafetyPrompt) -> str:
    """Return the prompt as the model is asked it in use: as a chat where it knows chats, else as it stands."""
    messages = [{"role": "user", "content": prompt.prompt}]
    if prompt.answer:
        messages.append({"role": "assistant", "content": prompt.answer})
    if not tokenizer.chat_template:
        return "\n".join(message["content"] for message in messages)
    return tokenizer.apply_chat_template(messages, add_generation_prompt=not prompt.answer, tokenize=False)


def _inside(places: Tensor, text: str, prompt: SafetyPrompt) -> Tensor:
    """Say of each token whether it belongs to prompt or answer. `places`: (tokens, 2), where it begins and ends."""
    found = text.rfind(prompt.prompt, 0, text.rfind(prompt.answer) if prompt.answer else None)
    if found < 0 or prompt.answer not in text:
        raise HiddenStateError(f"the chat template does not keep the text of {prompt.id} as it is: it cannot be found")
    spans = [(found, found + len(prompt.prompt))]
    if prompt.answer:
        begin = text.rfind(prompt.answer)
        spans.append((begin, begin + len(prompt.answer)))
    first, last = places[:, 0], places[:, 1]
    inside = first < 0
    for begin, end in spans:
        inside = inside | ((last > begin) & (first < end) & (last > first))
    if not inside.any():
        raise HiddenStateError(f"the tokenizer gives no token of {prompt.id} its place: a fast tokenizer is needed")
    return inside


def _decoder(model) -> Any:
    """Return the layers without the head that predicts tokens: its logits would take most of the memory."""
    return model.get_decoder()
