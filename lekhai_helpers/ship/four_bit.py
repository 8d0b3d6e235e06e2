"""The bitsandbytes export: a folder with 4-bit weights (NF4) that Transformers loads as it is. Taught in notebook 08.

``save_4bit(merged, target, texts)`` writes it, loads it again and says how far its predictions moved, and by the rule
of the GGUF files (`ship.choice`) whether it still does its job. It needs no card: bitsandbytes
quantises and computes NF4 on a processor too, there a little slower than 16 bits.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lekhai_helpers.core.hardware import card_holds
from lekhai_helpers.learn.model import unsloth_engine
from lekhai_helpers.learn.shapes import read_config, weights_from_shapes
from lekhai_helpers.ship.atomic import new_folder
from lekhai_helpers.ship.budgets import PLACES, four_bit_budget
from lekhai_helpers.ship.choice import DISTANCE
from lekhai_helpers.ship.errors import ExportError

_TOKENIZER = ("tokenizer*", "chat_template*", "special_tokens_map.json", "generation_config.json")


@dataclass(frozen=True)
class FourBit:
    """What came of the 4-bit export, against the 16-bit model on the same texts.

    `distance` is the mean KL divergence a token (nats), `same_next` the share of places with the same likeliest next
    token, `changed` the largest difference of a log-probability between writing and reloading (0: nothing was lost).
    `perplexity` and `sixteen_bit_perplexity` are of the tokens that follow at the same places.
    """

    folder: Path
    size_mb: float
    sixteen_bit_mb: float
    distance: float
    same_next: float
    changed: float
    places: int
    texts: int
    perplexity: float
    sixteen_bit_perplexity: float

    @property
    def holds(self) -> bool:
        """Say whether the predictions are near enough, by the rule that the GGUF files are held to."""
        return self.distance <= DISTANCE

    @property
    def sentence(self) -> str:
        """Say size, distance, perplexity, whether it reloads, and the verdict, in one line."""
        verdict = "it holds" if self.holds else "it does not hold: use the 16-bit model, or a GGUF file of notebook 12"
        return (
            f"{self.size_mb:.0f} MB instead of {self.sixteen_bit_mb:.0f}; reloaded, it predicts what was written; "
            f"{self.distance:.3f} nats a token from the 16-bit model (KL divergence, {self.places} places of "
            f"{self.texts} texts), where the likeliest next token is the same at {self.same_next:.0%}; perplexity "
            f"{self.perplexity:.1f}, in 16 bits {self.sixteen_bit_perplexity:.1f}. By the rule of {DISTANCE:g} nats "
            f"{verdict}."
        )


def save_4bit(source: Path, target: Path, texts: Sequence[str]) -> FourBit:
    """Write the 16-bit model in `source` with 4-bit weights to `target`, load it again and compare.

    Linear layers become NF4 with scales that are themselves rounded (Dettmers et al. 2023); dictionary and norms stay
    in 16 bits. `texts` are what the predictions are compared on: take several held-out scripts. Raises ExportError
    where the source is no 16-bit model, where disk or memory is too small, and where the folder does not reload to
    what was written; then nothing stands under `target`'s name, and an earlier folder is kept.
    """
    source, target = Path(source), Path(target)
    _check_source(source, texts)
    four_bit_budget(read_config(source)).check(target)
    with new_folder(target) as place:
        written = _write(source, place, texts)
        again, follows = _predictions(place, texts), _following(source, texts)
        changed = max(float((a - b).abs().max()) for a, b in zip(written, again, strict=True))
        if not changed < 1e-3:  # also where it is not a number
            raise ExportError(
                f"the 4-bit folder does not reload to what was written (a log-probability differs by {changed:.3g}): "
                "run `lekhai doctor`, which checks the 4-bit arithmetic, and export again"
            )
        plain = _predictions(source, texts)
        distance, same = _apart(plain, again)
        surprise = [_perplexity(predicted, follows) for predicted in (again, plain)]
    places = sum(len(predicted) for predicted in plain)
    return FourBit(target, _mb(target), _mb(source), distance, same, changed, places, len(texts), *surprise)


def _check_source(source: Path, texts: Sequence[str]) -> None:
    config = source / "config.json"
    if not config.exists():
        raise ExportError(f"{source.name} holds no config.json: give the folder of merged weights (notebook 08)")
    if json.loads(config.read_text(encoding="utf-8")).get("quantization_config"):
        raise ExportError(f"{source.name} is quantised already: export from the merged 16-bit weights (notebook 08)")
    if not texts:
        raise ExportError("no texts to compare on: give a few held-out scripts")


def _write(source: Path, place: Path, texts: Sequence[str]) -> list[Any]:
    """Quantise, save, copy the tokenizer, and return the predictions of the model as it was saved."""
    unsloth_engine()  # before transformers, which it patches
    import torch
    from transformers import BitsAndBytesConfig

    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model, tokenizer = _load(source, quantization_config=nf4)
    model.save_pretrained(place)
    for pattern in _TOKENIZER:  # copied and not saved anew: byte for byte the one the model was trained with
        for path in source.glob(pattern):
            shutil.copy2(path, place)
    return _predict(model, tokenizer, texts)


def _predictions(folder: Path, texts: Sequence[str]) -> list[Any]:
    gc.collect()  # the model before this one
    model, tokenizer = _load(folder)
    return _predict(model, tokenizer, texts)


def _load(folder: Path, quantization_config: Any = None):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = read_config(folder)
    rounded = quantization_config is not None or "quantization_config" in config
    place = {"": 0 if card_holds(weights_from_shapes(config, four_bit=rounded)) else "cpu"}
    if quantization_config is None:  # naming it, even as None, would hide the one that a 4-bit folder has
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, device_map=place)
    else:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.bfloat16, device_map=place, quantization_config=quantization_config
        )
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def _predict(model, tokenizer, texts: Sequence[str]) -> list[Any]:
    """Return, for each text, the log-probabilities (places, dictionary) in 32 bits, in the main memory.

    The places are those of `_places`: whole texts over a large dictionary would fill the memory.
    """
    import torch

    found = []
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").to(model.device)
        length = ids.input_ids.shape[1]
        places = _places(length, len(texts))
        with torch.inference_mode():
            scores = model(**ids, logits_to_keep=length - places[0]).logits[0]
        found.append(scores[[place - places[0] for place in places]].float().log_softmax(-1).cpu())
    return found


def _places(length: int, texts: int) -> list[int]:
    """Return which places of a text are compared: at even steps in its second half, where the script is.

    Not the last, which nothing follows. About `PLACES` in all, so the more texts, the fewer of each: places of one
    text are alike, other texts are news.
    """
    first, last, each = length // 2, length - 2, max(1, PLACES // texts)
    step = max(1, -(-(last - first + 1) // each))
    return list(range(min(first, last), last + 1, step))


def _following(folder: Path, texts: Sequence[str]) -> list[Any]:
    """Return, for each text, the tokens that really follow at the places compared."""
    import torch
    from transformers import AutoTokenizer

    tokenizer, found = AutoTokenizer.from_pretrained(folder), []
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        found.append(torch.tensor([ids[place + 1] for place in _places(len(ids), len(texts))]))
    return found


def _perplexity(predicted: Sequence[Any], follows: Sequence[Any]) -> float:
    """Return exp of the mean surprise, in nats, at the tokens that follow."""
    import torch

    rows = [scores.gather(1, ids[:, None])[:, 0] for scores, ids in zip(predicted, follows, strict=True)]
    return float(torch.cat(rows).neg().mean().exp())


def _apart(plain: Sequence[Any], other: Sequence[Any]) -> tuple[float, float]:
    """Return (mean KL divergence in nats, share of places with the same likeliest token) over all places."""
    import torch

    distances = torch.cat([(a.exp() * (a - b)).sum(-1) for a, b in zip(plain, other, strict=True)])
    same = torch.cat([a.argmax(-1) == b.argmax(-1) for a, b in zip(plain, other, strict=True)])
    return float(distances.mean()), float(same.float().mean())


def _mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 1e6
