"""What is known of a model before any of its weights is here: config, dictionary, licence, ancestors.

Read from the small files of a folder or of a hub repository, or from `known_models.json`, where the models this
project talks about are written down. Used by the preflight of notebook 02.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

ModelConfig = dict[str, Any]
SPECIAL = ("bos_token", "eos_token", "pad_token")
_FAMILY_DEPTH = 4  # how many generations of base models are looked up on a hub

# config.json leaves out what is the default of its model type: these are transformers' defaults.
_GEMMA = {"head_dim": 256, "tie_word_embeddings": True, "rms_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh"}
_PLAIN = {"tie_word_embeddings": False, "rms_norm_eps": 1e-6, "hidden_act": "silu", "rope_theta": 10_000.0}
DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma2": _GEMMA | {"rope_theta": 10_000.0},
    "gemma3_text": _GEMMA | {"rope_theta": 1_000_000.0, "rope_local_base_freq": 10_000.0},
    "qwen2": _PLAIN,
    "llama": _PLAIN,
}


class MergeError(RuntimeError):
    """The two models cannot be merged, or the merged folder is not whole; the text says why."""


@dataclass(frozen=True)
class ModelFacts:
    """A model's sheet. None means: not known. `ancestors` begins with the model itself, its root stands last.

    `tokens` maps every piece of the dictionary to its id; `uncertain` names fields recorded from second hand.
    """

    name: str
    config: ModelConfig
    tokens: dict[str, int] | None = None
    special: dict[str, str | None] | None = None
    licence: str | None = None
    ancestors: tuple[str, ...] = ()
    uncertain: frozenset[str] = frozenset()


def read_facts(name: str | Path, licence: str | None = None, parent: str | None = None) -> ModelFacts:
    """Return a model's facts from a folder, or from the hub (its small files only, never the weights).

    `licence` and `parent` are for a model made here, whose folder does not say them. Raises MergeError where
    there is no such folder and the hub does not answer.
    """
    front = _front_matter(_text(name, "README.md"))
    # A folder's name means nothing to another model's card, so a donor made here begins with its parent.
    own = () if Path(name).is_dir() else (str(name),)
    parent = parent or _base_model(front)
    return ModelFacts(
        name=Path(name).name if Path(name).is_dir() else str(name),
        config=read_config(name),
        tokens=read_tokens(name),
        special=_special(_text(name, "tokenizer_config.json")),
        licence=licence or _licence(front),
        ancestors=(*own, *_family(parent)),
    )


def read_licence(name: str | Path) -> str | None:
    """Return the licence a model's card names, or None where it has no card or names none."""
    return _licence(_front_matter(_text(name, "README.md")))


def read_config(name: str | Path) -> ModelConfig:
    """Return a model's config.json, from a folder or from the hub. Raises MergeError where there is none."""
    text = _text(name, "config.json")
    if text is None:
        raise MergeError(f"{Path(name).name} has no config.json: is it a model's folder, or its hub id?")
    return json.loads(text)


def read_tokens(name: str | Path) -> dict[str, int] | None:
    """Return the dictionary of a model's tokenizer.json, piece to id, or None where it has no such file."""
    text = _text(name, "tokenizer.json")
    if text is None:
        return None
    spec = json.loads(text)
    pieces = spec["model"]["vocab"]
    if isinstance(pieces, list):  # a unigram model lists pairs of piece and score, in the order of their ids
        pieces = {piece: number for number, (piece, _) in enumerate(pieces)}
    return pieces | {token["content"]: token["id"] for token in spec["added_tokens"]}


def recorded_facts(name: str) -> ModelFacts:
    """Return what is written down here about a model: for looking at a pair without a network.

    A merge that will really be made is decided by `read_facts`, never by these. Raises MergeError for a model
    that is not written down.
    """
    known = _known()
    if name not in known:
        raise MergeError(f"{name} is not recorded; recorded are: {', '.join(known)}. With a network: read_facts")
    entry = known[name]
    ancestors = [name]
    while base := known.get(ancestors[-1], {}).get("base_model"):
        ancestors.append(base)
    return ModelFacts(
        name=name,
        config=entry["config"],
        special=entry["special"],
        licence=entry["licence"],
        ancestors=tuple(ancestors),
        uncertain=frozenset(entry["uncertain"]),
    )


def text_part(config: ModelConfig) -> ModelConfig:
    """Return a config as transformers 5 writes it, defaults filled in: the text model's part laid open,
    `torch_dtype` called `dtype`, and Gemma's `hidden_activation` called `hidden_act`."""
    inner = config.get("text_config") or {}
    flat = config | inner | {"architectures": config.get("architectures")}
    flat["dtype"] = flat.get("dtype") or flat.get("torch_dtype")
    flat["hidden_act"] = flat.get("hidden_activation") or flat.get("hidden_act")
    default = DEFAULTS.get(str(flat.get("model_type")), {})
    if flat.get("rope_parameters"):
        default = {key: value for key, value in default.items() if not key.startswith("rope")}
    flat |= {key: value for key, value in default.items() if flat.get(key) is None}
    if flat.get("head_dim") is None and flat.get("num_attention_heads"):
        flat["head_dim"] = flat["hidden_size"] // flat["num_attention_heads"]
    return flat


def rope_parameters(config: ModelConfig) -> dict[str, dict[str, Any]]:
    """Return how a model counts positions, whole: kind of layer to base, type and scaling. Empty where not said."""
    config = text_part(config)
    written = config.get("rope_parameters") or {}
    if "rope_theta" in written:
        return {"all": {"rope_type": "default"} | written}
    if written:
        return {kind: {"rope_type": "default"} | values for kind, values in written.items() if values}
    if config.get("rope_theta") is None:
        return {}
    scaling = dict(config.get("rope_scaling") or {})
    kind = {"rope_type": scaling.pop("rope_type", scaling.pop("type", "default"))}
    scaling.pop("type", None)
    whole = {"rope_theta": float(config["rope_theta"])} | kind | scaling
    if local := config.get("rope_local_base_freq"):  # how Gemma 3 wrote the same before transformers 5
        return {
            "full_attention": whole,
            "sliding_attention": {"rope_theta": float(local), "rope_type": "default"},
        }
    return {"all": whole}


def count_parameters(config: ModelConfig) -> int:
    """Return how many numbers a model of these shapes holds: embedding, attention, gated MLP, norms.

    For Gemma 2 and 3, Qwen 2 and Llama, whose published counts it gives exactly.
    """
    c = text_part(config)
    width, kind = c["hidden_size"], str(c.get("model_type"))
    queries, keys = c["num_attention_heads"] * c["head_dim"], c["num_key_value_heads"] * c["head_dim"]
    norms = {"gemma2": 4 * width, "gemma3_text": 4 * width + 2 * c["head_dim"]}.get(kind, 2 * width)
    bias = queries + 2 * keys if kind == "qwen2" else 0
    layer = 2 * width * (queries + keys) + 3 * width * c["intermediate_size"] + norms + bias
    dictionary = c["vocab_size"] * width * (1 if c.get("tie_word_embeddings") else 2)
    return dictionary + c["num_hidden_layers"] * layer + width


@cache
def _known() -> dict[str, dict[str, Any]]:
    return json.loads((files("lekhai_helpers") / "prepare" / "known_models.json").read_text(encoding="utf-8"))


def _text(name: str | Path, file: str) -> str | None:
    """Return a small file of a model as text, or None where the model has no such file."""
    if Path(name).is_dir():
        path = Path(name) / file
        return path.read_text(encoding="utf-8") if path.exists() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(str(name), file)).read_text(encoding="utf-8")
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise MergeError(f"{name} is no folder here and the hub did not give {file}: {type(error).__name__}") from None
    except EntryNotFoundError:
        return None
    except HfHubHTTPError as error:
        raise MergeError(
            f"the hub did not give {file} of {name} ({type(error).__name__}): is the name right, and have you "
            "accepted its terms and logged in?"
        ) from None


def _front_matter(text: str | None) -> dict[str, Any]:
    """Return the YAML block a model card begins with; a stranger's block that is no YAML says nothing."""
    if not text or not text.startswith("---"):
        return {}
    try:
        loaded = yaml.safe_load(text.split("---", 2)[1])
    except (yaml.YAMLError, ValueError):  # a ValueError for what looks like a date and is none
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _base_model(front: dict[str, Any]) -> str | None:
    named = front.get("base_model")
    first = named[0] if isinstance(named, list) and named else named
    return first if isinstance(first, str) and first else None


def _licence(front: dict[str, Any]) -> str | None:
    named = front.get("license_name") or front.get("license")
    return " and ".join(map(str, named)) if isinstance(named, list) else named


def _family(parent: str | None) -> tuple[str, ...]:
    """Return a base model and its own base models, as far as their cards say."""
    chain: list[str] = []
    while parent and parent not in chain and len(chain) < _FAMILY_DEPTH:
        chain.append(parent)
        if Path(parent).is_dir() or parent.count("/") != 1:
            break
        try:
            parent = _base_model(_front_matter(_text(parent, "README.md")))
        except MergeError:  # a gated or vanished ancestor ends what can be known, not the preflight
            break
    return tuple(chain)


def _special(text: str | None) -> dict[str, str | None] | None:
    if text is None:
        return None
    config = json.loads(text)
    values = {role: config.get(role) for role in SPECIAL}
    return {role: value.get("content") if isinstance(value, dict) else value for role, value in values.items()}
