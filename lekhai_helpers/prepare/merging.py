"""Merging two models: the preflight before, mergekit itself, the repair after. Taught in notebook 02.

mergekit checks architecture and tensor shapes and nothing else; different rotary bases or tied embeddings pass
silently and give a model that speaks garbage. `check_mergeable` looks at what it does not.
SLERP: Shoemake 1985, "Animating rotation with quaternion curves"; here over flattened tensors, as mergekit does.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from lekhai_helpers.core.run_folder import write_text

ModelConfig = dict[str, Any]


class MergeError(RuntimeError):
    """The two models cannot be merged, or the merged folder is not whole; the text says why."""


@dataclass(frozen=True)
class Check:
    """One row of the preflight: what was compared, what each side has, and what follows."""

    what: str
    first: Any
    second: Any
    verdict: Literal["pass", "warn", "block"]
    consequence: str


# What must be equal, and what happens when it is not.
_SHAPES = {
    "num_hidden_layers": "one model has layers the other lacks: there is nothing to blend them with",
    "hidden_size": "the tensors have different widths and cannot be added",
    "num_attention_heads": "the attention tensors have different shapes",
    "num_key_value_heads": "the key and value tensors have different shapes",
    "head_dim": "the attention heads have different widths",
    "intermediate_size": "the MLP tensors have different shapes",
}


def read_config(name: str | Path, recorded: bool = False) -> ModelConfig:
    """Return a model's config: from a folder, or from the hub (that file only).

    With `recorded` it is one of the few written down here, for showing a pair without a network; a merge that will
    really be made is never decided by those.
    """
    folder = Path(name)
    if (folder / "config.json").exists():
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if recorded:
        known = (files("lekhai_helpers") / "prepare" / "known_configs.json").read_text(encoding="utf-8")
        return json.loads(known)[str(name)]
    from huggingface_hub import hf_hub_download

    return json.loads(Path(hf_hub_download(str(name), "config.json")).read_text(encoding="utf-8"))


def check_mergeable(first: ModelConfig, second: ModelConfig) -> list[Check]:
    """Compare two models by their configs alone, before anything large is downloaded.

    A ``block`` means: do not merge. A ``warn`` means: it will merge, and here is what to watch.
    """
    first, second = _text_part(first), _text_part(second)
    checks = [_compare("architectures", first, second, "block", "the two models are built differently")]
    checks += [_compare(key, first, second, "block", why) for key, why in _SHAPES.items()]
    checks.append(
        _compare("vocab_size", first, second, "warn", "the dictionaries differ: a token means two different things")
    )
    checks.append(_check_rope(first, second))
    checks.append(
        _compare("tie_word_embeddings", first, second, "block", "one model shares its first and last layer, one not")
    )
    checks.append(_compare("dtype", first, second, "warn", "the number formats differ; the merge is written in one"))
    checks.append(_check_quantized(first, second))
    return checks


def preflight_table(checks: list[Check]):
    """Return the preflight as a pandas table."""
    import pandas as pd

    rows = [(c.what, c.first, c.second, c.verdict, c.consequence if c.verdict != "pass" else "") for c in checks]
    return pd.DataFrame(rows, columns=["what", "first", "second", "verdict", "consequence"]).set_index("what")


def blocks(checks: list[Check]) -> list[str]:
    """Return the reasons not to merge; an empty list means the pair can be merged."""
    return [f"{c.what}: {c.first} against {c.second}, so {c.consequence}" for c in checks if c.verdict == "block"]


def rope_bases(config: ModelConfig) -> dict[str, float]:
    """Return the rotary base by kind of layer: {"full_attention": 1000000.0, ...} or {"all": 10000.0}."""
    parameters = config.get("rope_parameters") or {}
    if "rope_theta" in parameters:
        return {"all": float(parameters["rope_theta"])}
    if parameters:
        return {kind: float(values["rope_theta"]) for kind, values in parameters.items()}
    base = float(config.get("rope_theta", 10_000.0))
    if local := config.get("rope_local_base_freq"):  # how Gemma 3 wrote the same before transformers 5
        return {"full_attention": base, "sliding_attention": float(local)}
    return {"all": base}


def _text_part(config: ModelConfig) -> ModelConfig:
    """Return a config as transformers 5 writes it: the text model's part laid open, `torch_dtype` called `dtype`."""
    flat = config | (config.get("text_config") or {}) | {"architectures": config.get("architectures")}
    return flat | {"dtype": flat.get("dtype") or flat.get("torch_dtype")}


def _check_rope(first: ModelConfig, second: ModelConfig) -> Check:
    a, b = rope_bases(first), rope_bases(second)
    why = "the models count positions differently; mergekit merges them without a word, into garbage"
    return Check("rope base", a, b, "pass" if a == b else "block", why)


def _check_quantized(first: ModelConfig, second: ModelConfig) -> Check:
    found = [bool(config.get("quantization_config")) for config in (first, second)]
    return Check("already quantised", *found, "block" if any(found) else "pass", "merge the 16-bit weights instead")


def _compare(key: str, first: ModelConfig, second: ModelConfig, verdict: Literal["warn", "block"], why: str) -> Check:
    a, b = first.get(key), second.get(key)
    if (a is None) != (b is None):
        return Check(key, a, b, "warn", "only one model's config says it: look the other one up before you merge")
    return Check(key, a, b, "pass" if a == b else verdict, why)


def slerp_config(language: Path, structure: Path, t: float) -> dict[str, Any]:
    """Return mergekit's configuration for SLERP: `t` is the share of the structure donor (0 all language, 1 none).

    A donor is a folder, which mergekit wants absolute, or a hub id, which it fetches itself.
    """
    first, second = (str(donor.resolve()) if donor.is_dir() else donor.as_posix() for donor in (language, structure))
    return {
        "merge_method": "slerp",
        "base_model": first,
        "models": [{"model": first}, {"model": second}],
        "parameters": {"t": t},
        "dtype": "bfloat16",
        "tokenizer": {"source": "base"},
    }


def run_merge(config: dict[str, Any], folder: Path) -> Path:
    """Run mergekit and repair what it leaves out; the merged model stands in `folder`.

    Raises MergeError where the language donor and the merge disagree on where a text ends.
    """
    from mergekit.config import MergeConfiguration
    from mergekit.merge import MergeOptions
    from mergekit.merge import run_merge as merge

    write_text(folder.with_name(f"{folder.name}.yaml"), yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    shutil.rmtree(folder, ignore_errors=True)
    options = MergeOptions(lazy_unpickle=True, low_cpu_memory=False, write_model_card=False, quiet=True)
    merge(MergeConfiguration.model_validate(config), str(folder), options)
    repair_merge(_small_files(config["base_model"]), folder)
    return folder


def _small_files(donor: str) -> Path:
    """Return a folder with the donor's config, template and tokenizer: its own, or fetched from the hub."""
    if Path(donor).is_dir():
        return Path(donor)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(donor, allow_patterns=["*.json", "*.jinja", "tokenizer*"]))


def repair_merge(donor: Path, merged: Path) -> list[str]:
    """Put right what mergekit leaves out with a ``tokenizer`` block; return what was repaired, in words.

    It writes no generation_config.json and can shrink the list of end tokens, and then a model never stops.
    The chat template is taken from the donor, never from a vote.
    """
    repaired = []
    for name in ("generation_config.json", "chat_template.jinja"):
        source, target = donor / name, merged / name
        if source.exists() and (not target.exists() or source.read_bytes() != target.read_bytes()):
            shutil.copy(source, target)
            repaired.append(f"{name} copied from the language donor")
    theirs = json.loads((donor / "config.json").read_text(encoding="utf-8"))
    ours = json.loads((merged / "config.json").read_text(encoding="utf-8"))
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if ours.get(key) != theirs.get(key):
            ours[key] = theirs.get(key)
            repaired.append(f"config.json: {key} set back to {theirs.get(key)}")
    write_text(merged / "config.json", json.dumps(ours, indent=2) + "\n")
    _check_dictionary(donor, merged, ours)
    return repaired


def _check_dictionary(donor: Path, merged: Path, config: ModelConfig) -> None:
    from transformers import AutoTokenizer

    before, after = AutoTokenizer.from_pretrained(donor), AutoTokenizer.from_pretrained(merged)
    rows = config["vocab_size"]

    # Gemma 3 lists one piece more than its text model has rows (a picture's placeholder); mergekit leaves it out.
    def used(tokenizer) -> dict[str, int]:
        return {piece: number for piece, number in tokenizer.get_vocab().items() if number < rows}

    if len(after) > max(rows, len(before)):
        raise MergeError(f"the tokenizer has {len(after)} pieces but the model {rows} rows")
    if used(before) != used(after):
        raise MergeError("the merge changed the dictionary: some token ids mean other pieces than before")
    if before.eos_token_id != after.eos_token_id:
        raise MergeError("the merge changed the token that ends a text")
