"""Merging two models: mergekit's configuration and the run. Taught in notebook 02.

The look before it is `prepare.preflight`, the repair after it `prepare.merge_repair`, the dictionaries are in
`prepare.tokenizer_sync`.
Methods: SLERP (Shoemake 1985, "Animating rotation with quaternion curves", here over flattened tensors), linear
(Wortsman et al. 2022, "Model soups"), task arithmetic (Ilharco et al. 2023), TIES (Yadav et al. 2023), DARE (Yu et
al. 2024), all as mergekit does them.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from lekhai_helpers.core.recipe import Merge
from lekhai_helpers.core.run_folder import write_text
from lekhai_helpers.prepare.merge_repair import repair_merge
from lekhai_helpers.prepare.model_facts import MergeError, read_config, read_tokens, text_part

__all__ = ["MergeError", "delete_models", "exact_ends", "linked_copy", "local_folder", "merge_config", "run_merge"]

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
    """Return SLERP's t: one number, or one by module (from the first layer to the last) with `t` for the rest.

    mergekit takes the first filter that is part of a tensor's name. "layers" is part of all but the dictionary's and
    the last norm's, so it stands behind the modules, whichever way they were written.
    """
    if not merge.t_by_module:
        return t
    ordered = sorted(merge.t_by_module.items(), key=lambda item: item[0] == "layers")
    return [{"filter": name, "value": values} for name, values in ordered] + [{"value": t}]


def exact_ends(merge: Merge, alike: bool) -> dict[str, str]:
    """Return which merge must be which donor again: {"0": "language donor", "1": "structure donor"}, by its t.

    Empty where that does not hold: the other methods blend changes, a t by module is no single t, and donors that do
    not read alike (`tokenizer_sync.read_alike`) sit their exams over other tokens than the merge.
    """
    if merge.method not in ("slerp", "linear") or (merge.method == "slerp" and merge.t_by_module) or not alike:
        return {}
    return {f"{t:g}": donor for t, donor in ((0, "language donor"), (1, "structure donor")) if t in merge.t}


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


def delete_models(models: Iterable[str | Path], inside: Path, keep: Collection[str | Path]) -> None:
    """Delete the models that lie in the folder `inside`, but for those to keep; hub ids and others' are left alone."""
    kept = {Path(model) for model in keep}
    for model in map(Path, models):
        if model.is_relative_to(inside) and model not in kept and model.exists():
            shutil.rmtree(model)


def _small_files(donor: str | Path) -> Path:
    """Return a folder with the donor's config, template and tokenizer: its own, or fetched from the hub."""
    if Path(donor).is_dir():
        return Path(donor)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(donor), allow_patterns=["*.json", "*.jinja", "tokenizer*"]))
