"""Loading a model through Unsloth, attaching LoRA, writing text, giving memory back. Taught in notebooks 04 and 05.

This is the one place that imports Unsloth, and it does so before trl, transformers and peft, which Unsloth patches.
"""

from __future__ import annotations

import gc
import json
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lekhai_helpers.core.hardware import card_holds
from lekhai_helpers.core.recipe import Decoding, Lora, Settings
from lekhai_helpers.core.run_folder import cache_folder
from lekhai_helpers.prepare.templates import fix_tokenizer

Message = dict[str, str]


class EngineError(RuntimeError):
    """The training engine cannot be used; the text names the remedy."""


@dataclass(frozen=True)
class Generation:
    """One text from the model: `tokens` counts the new ones, `stopped` says it ended by itself."""

    text: str
    tokens: int
    stopped: bool
    seconds: float


def unsloth_engine():
    """Import Unsloth first and return its FastLanguageModel.

    Raises EngineError where Unsloth is missing, or where trl came first (its patches would then be lost).
    """
    if "unsloth" not in sys.modules:
        if "trl" in sys.modules:
            raise EngineError("trl was imported before unsloth: restart the kernel and run the notebook from the top")
        # Unsloth writes compiled helper files; they belong in the cache, not beside the notebook.
        os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(cache_folder() / "unsloth"))
        os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
        _hush_imports()
    try:
        import unsloth
    except ModuleNotFoundError as error:
        if error.name not in ("unsloth", "unsloth_zoo"):
            raise
        raise EngineError("Unsloth is missing: run `bash colab_setup.sh` once") from None
    _quiet_libraries()
    return unsloth.FastLanguageModel


def _hush_imports() -> None:
    """Keep remarks about kernels that only a graphics card has out of the notebook; errors still come through."""
    for name in ("torchao", "bitsandbytes", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _quiet_libraries() -> None:
    """Keep the libraries' progress bars out of executed notebooks: one line a step is all a reader needs."""
    import datasets
    import transformers

    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def load_model(
    path: str | Path,
    settings: Settings,
    adapter: Path | None = None,
    four_bit: bool | None = None,
    exact: bool = False,
):
    """Load a model and its tokenizer, with an adapter on top where one is given.

    `path` is a folder or a hub id; `four_bit` overrides ``settings.model.load_in_4bit``; `exact` computes in 32 bits,
    for comparisons that the rounding of 16-bit arithmetic would drown. Returns (model, tokenizer).
    """
    import torch

    engine = unsloth_engine()
    model, tokenizer = engine.from_pretrained(
        model_name=str(_on_this_base(adapter, path) if adapter else path),
        max_seq_length=settings.model.max_seq_length,
        load_in_4bit=settings.model.load_in_4bit if four_bit is None else four_bit,
        dtype=torch.float32 if exact else None,
        revision=settings.model.revision if str(path) == settings.model.name else None,
    )
    if model.device.type == "cpu":
        decode_without_copies(model)
    return model, fix_tokenizer(tokenizer)


def load_plain(path: str | Path):
    """Load a model for writing and reading, with plain Transformers and no training engine.

    It goes to the card where that has room for its weights as they are, and else stays in the main memory.
    """
    _hush_imports()
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(path)
    megabytes = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()) / 1e6
    device = "cuda" if card_holds(megabytes) else "cpu"
    model.to(device)
    if device == "cpu":
        decode_without_copies(model)
    return model, load_tokenizer(path)


def load_to_read(path: str | Path, settings: Settings, adapter: Path):
    """Load a model with an adapter to look inside, with plain Transformers: no engine may change what is measured.

    In 4 bits where the settings say so. Returns (model, tokenizer); PEFT's `disable_adapter` shows the base.
    """
    _hush_imports()
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    four_bit = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    model: Any = AutoModelForCausalLM.from_pretrained(
        path,
        revision=settings.model.revision if str(path) == settings.model.name else None,
        quantization_config=four_bit if settings.model.load_in_4bit else None,
        device_map=settings.model.device,
    )
    reader = PeftModel.from_pretrained(model, str(_on_this_base(adapter, path)))
    return reader, load_tokenizer(adapter)


def load_tokenizer(path: str | Path, revision: str | None = None):
    """Load a tokenizer alone, of a folder or a hub id: padding on the left, a template that takes a system message."""
    from transformers import AutoTokenizer

    return fix_tokenizer(AutoTokenizer.from_pretrained(path, revision=revision))


def decode_without_copies(model) -> None:
    """Write two to three times faster on a processor, where a model shares key and value heads among its query heads.

    Transformers copies the shared heads once per query head for every token written, and on a processor those copies
    cost more than the arithmetic. For one new token the query heads of a group can be laid along the length axis
    instead: the same products, no copies (grouped-query attention: Ainslie et al. 2023).
    """
    import torch
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    def grouped(module, query, key, value, attention_mask, dropout=0.0, scaling=None, **kwargs):
        batch, heads, length, width = query.shape
        groups = key.shape[1]
        if length > 1 or groups == heads:
            return sdpa_attention_forward(
                module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
            )
        out = torch.nn.functional.scaled_dot_product_attention(
            query.view(batch, groups, heads // groups, width), key, value, attn_mask=attention_mask, scale=scaling
        )
        return out.reshape(batch, heads, 1, width).transpose(1, 2), None

    AttentionInterface.register("sdpa_grouped", grouped)
    AttentionMaskInterface.register("sdpa_grouped", sdpa_mask)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.set_attn_implementation("sdpa_grouped")


def fold_adapter(model):
    """Add the adapter into 16-bit weights in memory, which writes about twice as fast; never into 4-bit weights."""
    if getattr(model.config, "quantization_config", None):
        return model
    return model.merge_and_unload()


def _on_this_base(adapter: Path, base: str | Path) -> Path:
    """Return the adapter with `base` as its base: a run that was moved holds the path of its old place."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if config["base_model_name_or_path"] == str(base):
        return adapter
    moved = cache_folder() / "moved-adapter"
    shutil.rmtree(moved, ignore_errors=True)
    shutil.copytree(adapter, moved)
    config["base_model_name_or_path"] = str(base)
    (moved / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return moved


def attach_lora(model, lora: Lora, seed: int):
    """Return the model with fresh LoRA matrices on the modules the recipe names; everything else is frozen."""
    return unsloth_engine().get_peft_model(
        model,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        random_state=seed,
        # Trades time for memory: worth it on a card, not where memory is plenty and time is short.
        use_gradient_checkpointing="unsloth" if model.device.type == "cuda" else False,
    )


def count_parameters(model) -> dict[str, int]:
    """Return how many numbers the model holds and how many of them are trained."""
    return {
        "all": sum(p.numel() for p in model.parameters()),
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }


def weights_mb(model) -> float:
    """Return the memory the model's weights take, in MB, counted tensor by tensor (4-bit weights as stored)."""
    tensors = {t.data_ptr(): t for t in [*model.parameters(), *model.buffers()]}
    return sum(t.numel() * t.element_size() for t in tensors.values()) / 1e6


def generate(
    model,
    tokenizer,
    prompts: Sequence[Sequence[Message]],
    decoding: Decoding,
    seed: int,
    processors: Callable[[int, int], Any] | None = None,
) -> list[Generation]:
    """Write one text for each prompt (a list of messages), in batches of ``decoding.batch_size``.

    Temperature 0 is greedy: always the likeliest next token. `seconds` is the batch's time shared out evenly.
    `processors` is called for each batch with the places of its first prompt and of the one after its last, and
    returns the batch's logits processors (`learn.constrained`).
    """
    import torch

    if "unsloth" in sys.modules:
        unsloth_engine().for_inference(model)
    else:
        model.eval()
    written: list[Generation] = []
    for start in range(0, len(prompts), decoding.batch_size):
        batch = [list(prompt) for prompt in prompts[start : start + decoding.batch_size]]
        rendered = tokenizer.apply_chat_template(batch, add_generation_prompt=True, tokenize=False)
        # The template writes the BOS itself, so none is added here.
        encoded = tokenizer(rendered, add_special_tokens=False, padding=True, return_tensors="pt").to(model.device)
        sampling: dict[str, Any] = {"do_sample": False}
        if decoding.temperature > 0:
            sampling = {"do_sample": True, "temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
        torch.manual_seed(seed * 1000 + start)
        began = time.monotonic()
        with torch.inference_mode():
            out = model.generate(
                **encoded,
                max_new_tokens=decoding.max_new_tokens,
                repetition_penalty=decoding.repetition_penalty,
                pad_token_id=tokenizer.pad_token_id,
                logits_processor=processors and processors(start, start + len(batch)),
                **sampling,
            )
        seconds = (time.monotonic() - began) / len(batch)
        ends = end_ids(model, tokenizer)
        for row in out[:, encoded["input_ids"].shape[1] :].tolist():
            written.append(_read_row(row, tokenizer, ends, seconds))
    return written


def end_ids(model, tokenizer) -> set[int]:
    """Return every token id that ends an answer, from the generation settings and the tokenizer."""
    listed = model.generation_config.eos_token_id
    ids = set(listed if isinstance(listed, list) else [listed])
    return {number for number in ids | {tokenizer.eos_token_id} if number is not None}


def _read_row(row: list[int], tokenizer, ends: set[int], seconds: float) -> Generation:
    place = next((i for i, token in enumerate(row) if token in ends), None)
    body = row if place is None else row[:place]
    text = tokenizer.decode(body, skip_special_tokens=True)
    return Generation(text, len(body), place is not None, round(seconds, 3))


def perplexity(model, tokenizer, texts: Iterable[str | tuple[str, str]]) -> float:
    """Return the perplexity per token over `texts`; lower means less surprised, 1 would be certainty.

    A text may be a pair (prompt, answer): then only the answer's tokens count.
    exp(mean negative log-likelihood), see Jelinek et al. 1977, "Perplexity, a measure of the difficulty of speech
    recognition tasks".
    """
    import torch

    total, count = 0.0, 0
    model.eval()
    for text in texts:
        prompt, answer = text if isinstance(text, tuple) else ("", text)
        head = tokenizer(prompt, add_special_tokens=False).input_ids
        if tokenizer.bos_token_id is not None and head[:1] != [tokenizer.bos_token_id]:
            head = [tokenizer.bos_token_id, *head]
        tail = tokenizer(answer, add_special_tokens=False).input_ids
        ids = torch.tensor([head + tail], device=model.device)
        with torch.inference_mode():
            logits = model(input_ids=ids).logits.float()
        first = max(len(head), 1)
        loss = torch.nn.functional.cross_entropy(logits[0, first - 1 : -1], ids[0, first:], reduction="sum")
        total += loss.item()
        count += ids.shape[1] - first
    return math.exp(total / count)


def device_memory_mb(peak: bool = False) -> float:
    """Return the memory the model's device has in use by this process, or the most it had, in MB.

    On a card what torch holds there, else this process's memory.
    """
    import torch

    from lekhai_helpers.core.hardware import memory_mb, peak_memory_mb

    if torch.cuda.is_available():
        return (torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()) / 1e6
    return peak_memory_mb() if peak else memory_mb()


def release_memory(*holders: dict[str, Any]) -> float:
    """Let go of models, trainers and optimisers named in `holders` (for example ``globals()``) and tidy up.

    Returns the memory of this process afterwards, in MB.
    """
    import torch

    from lekhai_helpers.core.hardware import memory_mb

    heavy = ("Model", "Trainer", "PeftModel", "ForCausalLM")
    for holder in holders:
        for name in [n for n, v in holder.items() if type(v).__name__.endswith(heavy) and not isinstance(v, type)]:
            del holder[name]
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    else:
        _trim_heap()
    return memory_mb()


def _trim_heap() -> None:
    """Hand freed pages back to the system (glibc keeps them otherwise)."""
    import ctypes
    import platform

    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
