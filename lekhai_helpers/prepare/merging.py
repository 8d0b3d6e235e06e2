"""Merging two models: mergekit's configuration, the run, and the repair after it. Taught in notebook 02.

The look before it is `prepare.preflight`, the dictionaries are in `prepare.tokenizer_sync`.
Methods: SLERP (Shoemake 1985, "Animating rotation with quaternion curves", here over flattened tensors), linear
(Wortsman et al. 2022, "Model soups"), task arithmetic (Ilharco et al. 2023), TIES (Yadav et al. 2023), DARE (Yu et
al. 2024), all as mergekit does them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lekhai_helpers.core.recipe import Merge
from lekhai_helpers.core.run_folder import write_text
from lekhai_helpers.prepare.model_facts import MergeError, read_config, read_tokens, text_part

__all__ = ["MergeError", "linked_copy", "local_folder", "merge_config", "repair_merge", "run_merge"]

# These add what each donor has learned since a common base; without that base they mean nothing.
FROM_A_BASE = ("task_arithmetic", "ties", "dare_ties", "dare_linear")
_SPARSE = ("ties", "dare_ties", "dare_linear")


def merge_config(
    method: str,
    language: str | Path,
    structure: str | Path,
    base: str | Path | None,
    t: float,
    merge: Merge,
    tokens: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return mergekit's configuration for one blend; `t` is the share of the structure donor (0 none, 1 nothing else).

    A model is a folder, which mergekit wants absolute, or a hub id, which it fetches itself. `base` is the donors'
    common ancestor, asked for by the methods in FROM_A_BASE. `tokens` names for pieces of a union whose row they
    take (see `tokenizer_sync.token_sources`). Raises MergeError where a method lacks what it needs.
    """
    first, second = _place(language), _place(structure)
    config: dict[str, Any] = {"merge_method": method, "base_model": first}
    if method == "slerp":
        config |= {"models": [{"model": first}, {"model": second}], "parameters": {"t": _shares(t, merge)}}
    elif method == "linear":
        config["models"] = [_weighted(first, 1 - t), _weighted(second, t)]
    elif method in FROM_A_BASE:
        if base is None:
            raise MergeError(f"{method} needs the donors' common base and none is known: set merge.method to slerp")
        density = {"density": merge.density} if method in _SPARSE else {}
        config["base_model"] = _place(base)
        config["models"] = [_weighted(first, 1 - t, **density), _weighted(second, t, **density)]
    else:
        raise MergeError(f"there is nothing to configure for merge.method {method!r}: it makes no merge")
    return config | {"dtype": "bfloat16", "tokenizer": _tokenizer(merge, first, config["base_model"], tokens)}


def _weighted(model: str, weight: float, **more: float) -> dict[str, Any]:
    return {"model": model, "parameters": {"weight": weight} | more}


def _shares(t: float, merge: Merge) -> Any:
    """Return SLERP's t: one number, or one by module (from the first layer to the last) with `t` for the rest."""
    if not merge.t_by_module:
        return t
    return [{"filter": name, "value": values} for name, values in merge.t_by_module.items()] + [{"value": t}]


def _tokenizer(merge: Merge, language: str, base_model: str, tokens: Mapping[str, str] | None) -> dict[str, Any]:
    """Return whose dictionary the merge has: the language donor's, or the pieces of both with a named source each."""
    if merge.tokenizer == "union":
        if base_model != language:
            raise MergeError(
                "mergekit puts a union in the common base's order, and every id of the language donor would change: "
                "set merge.tokenizer to language, or merge.method to slerp or linear"
            )
        sources = {piece: {"source": _place(owner)} for piece, owner in (tokens or {}).items()}
        return {"source": "union"} | ({"tokens": sources} if sources else {})
    return {"source": "base" if base_model == language else language}


def _place(model: str | Path) -> str:
    path = Path(model)
    return str(path.resolve()) if path.is_dir() else path.as_posix()


def run_merge(config: dict[str, Any], folder: Path, language: str | Path, seed: int = 0) -> Path:
    """Run mergekit and repair what it leaves out; the merged model stands in `folder`.

    `seed` decides which changes DARE drops. Raises MergeError where a dictionary has pieces without a row, and where
    the language donor and the merge disagree on a piece, its id, or where a text ends.
    """
    from mergekit.config import MergeConfiguration
    from mergekit.merge import MergeOptions
    from mergekit.merge import run_merge as merge
    from transformers import set_seed

    _check_rows(config)
    write_text(folder.with_name(f"{folder.name}.yaml"), yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    shutil.rmtree(folder, ignore_errors=True)
    options = MergeOptions(lazy_unpickle=True, low_cpu_memory=False, write_model_card=False, quiet=True)
    # mergekit's own random_seed is read by its command line only, together with settings of the log.
    set_seed(seed)
    merge(MergeConfiguration.model_validate(config), str(folder), options)
    repair_merge(_small_files(language), folder)
    return folder


def _check_rows(config: Mapping[str, Any]) -> None:
    """Refuse what mergekit fails on with a bare KeyError: pieces beyond the model's rows, in a dictionary it reads.

    Only where it keeps its base model's own dictionary does it leave such pieces out by itself.
    """
    source = config["tokenizer"]["source"]
    if source == "base":
        return
    models = [entry["model"] for entry in config["models"]] if source == "union" else [source]
    for model in models:
        rows, tokens = text_part(read_config(model)).get("vocab_size"), read_tokens(model)
        if rows and tokens and max(tokens.values()) >= rows:
            raise MergeError(
                f"{Path(model).name} lists {max(tokens.values()) + 1} pieces and has {rows} rows; mergekit cannot "
                "align those: set merge.tokenizer to language and merge.method to slerp or linear"
            )


def local_folder(model: str | Path) -> Path:
    """Return a model's folder, weights and all; a hub id is fetched (from the hub's cache, where it is there)."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(model), allow_patterns=["*.json", "*.jinja", "tokenizer*", "*.safetensors"]))


def linked_copy(folder: Path, target: Path) -> Path:
    """Return `target` with a link to every file of `folder`: a tool may add files there and takes no disk."""
    target.mkdir(parents=True)
    for file in folder.iterdir():
        if file.is_file():
            (target / file.name).symlink_to(file.resolve())
    return target


def _small_files(donor: str | Path) -> Path:
    """Return a folder with the donor's config, template and tokenizer: its own, or fetched from the hub."""
    if Path(donor).is_dir():
        return Path(donor)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(donor), allow_patterns=["*.json", "*.jinja", "tokenizer*"]))


def repair_merge(donor: Path, merged: Path) -> list[str]:
    """Put right what mergekit leaves out with a ``tokenizer`` block; return what was repaired, in words.

    It writes no generation_config.json and can shrink the list of end tokens, and then a model never stops.
    The chat template is taken from the language donor, never from a vote. Raises MergeError where the dictionary
    was changed, which nothing can repair afterwards.
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
    rows = _embedding_rows(merged)
    if rows is not None and ours.get("vocab_size") != rows:
        ours["vocab_size"] = rows
        repaired.append(f"config.json: vocab_size set to the {rows} rows the model has")
    write_text(merged / "config.json", json.dumps(ours, indent=2) + "\n")
    _check_dictionary(donor, merged, rows_before=text_part(theirs)["vocab_size"], rows=ours["vocab_size"])
    return repaired


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
