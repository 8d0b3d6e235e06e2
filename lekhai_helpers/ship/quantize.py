"""From Hugging Face weights to GGUF files that run anywhere, whole or smaller.

Called in notebook 12: ``convert_to_gguf(folder, target)``, ``quantize(source, target, "q5_k_m")``. llama.cpp does the
work, carried by two packages; this module is the one thin place that calls them. The server over a file is in
`ship.llama_server`, Ollama's Modelfile in `ship.ollama_template`, the proof that all are one model in `ship.parity`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lekhai_helpers.ship.atomic import new_file
from lekhai_helpers.ship.errors import QuantizeError
from lekhai_helpers.ship.llama_server import LlamaServer, template_differences, token_differences
from lekhai_helpers.ship.ollama_template import modelfile, write_modelfile

__all__ = [
    "FILE_TYPES",
    "SENSITIVE",
    "TENSOR_TYPES",
    "LlamaServer",
    "QuantizeError",
    "convert_to_gguf",
    "exl_sentence",
    "modelfile",
    "needs_sentencepiece",
    "quantize",
    "template_differences",
    "token_differences",
    "write_modelfile",
    "write_sentencepiece",
]

# llama.cpp's numbers for file types (include/llama.h, enum llama_ftype) and for those of single tensors (ggml.h).
FILE_TYPES = {"f16": 1, "q8_0": 7, "q6_k": 18, "q5_k_m": 17, "q4_k_m": 15}
TENSOR_TYPES = {"f16": 1, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q4_k": 12, "q5_k": 13, "q6_k": 14}
# What mends a Q4_K_M best (measured on the fine-tuned embedded base, 12 held-out briefs): the whole attention and the
# way back out of the feed-forward part kept larger. 92.8 MB, 0.21 nats from 16 bits and 7 valid tables became 107.8 MB,
# 0.10 and 11. Patterns are searched for in the tensors' names.
SENSITIVE = (("attn_", "q8_0"), ("ffn_down", "q6_k"))
_UNKNOWN_LAYOUT = 3  # exit status of ship.quantize_process


def write_sentencepiece(folder: Path) -> Path:
    """Write the tokenizer.model that llama.cpp's converter asks for, from the folder's tokenizer.json.

    A piece's score is the place of the merge that makes it: the earlier the better, so the cuts are the same.
    """
    from sentencepiece import sentencepiece_model_pb2

    sentencepiece: Any = sentencepiece_model_pb2  # its classes are made when it is imported

    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = spec["model"]["vocab"]
    score: dict[str, float] = {}
    for place, (left, right) in enumerate(spec["model"]["merges"]):
        score.setdefault(left + right, -float(place))
    added = {token["content"] for token in spec["added_tokens"]}
    special = {token["content"] for token in spec["added_tokens"] if token["special"]}
    proto = sentencepiece.ModelProto()
    for piece, _ in sorted(vocabulary.items(), key=lambda item: item[1]):
        entry = proto.pieces.add()
        entry.piece, entry.score = piece, score.get(piece, -1e6)
        entry.type = _piece_type(piece, special, added)
    trainer = proto.trainer_spec
    trainer.model_type, trainer.byte_fallback = sentencepiece.TrainerSpec.BPE, True
    trainer.vocab_size = len(vocabulary)
    trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = (
        vocabulary[name] for name in ("<unk>", "<bos>", "<eos>", "<pad>")
    )
    trainer.bos_piece, trainer.eos_piece, trainer.pad_piece = "<bos>", "<eos>", "<pad>"
    normal = proto.normalizer_spec
    normal.name, normal.add_dummy_prefix, normal.remove_extra_whitespaces = "identity", False, False
    target = folder / "tokenizer.model"
    target.write_bytes(proto.SerializeToString())
    return target


def _piece_type(piece: str, special: set[str], added: set[str]) -> int:
    """Return SentencePiece's type of a piece: 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte."""
    if piece == "<unk>":
        return 2
    if piece.startswith("<0x"):
        return 6
    if piece in special:
        return 3
    return 4 if piece in added else 1


def needs_sentencepiece(folder: Path) -> bool:
    """Say whether the converter will ask for a tokenizer.model: a Gemma whose tokenizer is byte-fallback BPE."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    gemma = str(config["model_type"]).startswith("gemma")
    return gemma and spec["model"].get("byte_fallback", False) and not (folder / "tokenizer.model").exists()


def convert_to_gguf(folder: Path, target: Path) -> Path:
    """Convert a Hugging Face folder to a 16-bit GGUF with llama.cpp's own converter.

    Raises QuantizeError with the converter's last lines where it fails.
    """
    if needs_sentencepiece(folder):
        write_sentencepiece(folder)
    with new_file(target) as beside:
        how = ["--outtype", "f16", "--outfile", str(beside)]
        command = [sys.executable, "-m", "convert_hf_to_gguf", str(folder), *how]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not beside.exists():
            last = "\n".join(done.stderr.strip().splitlines()[-4:])
            raise QuantizeError(f"llama.cpp's converter could not read {folder.name}:\n{last}")
    return target


def quantize(
    source: Path, target: Path, kind: str, imatrix: Path | None = None, keep: Sequence[tuple[str, str]] = ()
) -> Path:
    """Write a smaller copy of a 16-bit GGUF; `kind` is one of FILE_TYPES.

    `imatrix` is a file of `ship.imatrix.collect_imatrix`: rounding then spares the columns that carry much. `keep`
    holds pairs of a pattern and a type of TENSOR_TYPES: tensors whose name matches get that type. Where the rows of a
    tensor cannot be divided as a type wants, llama.cpp takes the next larger one.

    Raises QuantizeError where llama.cpp cannot read `source` or cannot write, and where the matrix or a pattern had
    no effect: a file that only seems better is worse than none.
    """
    with new_file(target) as beside:
        if imatrix is None and not keep:
            _quantize_here(source, beside, kind)
        else:
            _quantize_apart(source, beside, kind, imatrix, keep)
    return target


def _quantize_here(source: Path, beside: Path, kind: str) -> None:
    from cyllama.llama import llama_cpp

    try:
        with _quiet_output():
            parameters = llama_cpp.LlamaModelQuantizeParams()
            parameters.ftype = FILE_TYPES[kind]
            llama_cpp.model_quantize(str(source), str(beside), parameters)
    except RuntimeError:
        raise QuantizeError(f"llama.cpp wrote no {kind} file from {source.name}: is that file whole?") from None


def _quantize_apart(
    source: Path, beside: Path, kind: str, imatrix: Path | None, keep: Sequence[tuple[str, str]]
) -> None:
    """Quantise in a process of its own (see `ship.quantize_process`) and check what it says it did."""
    asked = {
        "source": str(source),
        "target": str(beside),
        "ftype": FILE_TYPES[kind],
        "imatrix": str(imatrix) if imatrix else None,
        "keep": [(pattern, TENSOR_TYPES[name]) for pattern, name in keep],
    }
    command = [sys.executable, "-m", "lekhai_helpers.ship.quantize_process", json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode == _UNKNOWN_LAYOUT:
        raise QuantizeError(
            "the installed cyllama takes neither an importance matrix nor types for single tensors from us: set "
            "export.imatrix to false and keep nothing, or install the version that requirements.txt names"
        )
    if done.returncode or not beside.exists():
        said = re.findall(r"failed to quantize: (.*)|Error: (.*)", done.stderr)
        why = next((part for pair in reversed(said) for part in pair if part), "is that file whole?").strip()
        raise QuantizeError(f"llama.cpp wrote no {kind} file from {source.name}: {why}")
    if imatrix and "importance matrix data with" not in done.stderr:
        raise QuantizeError(f"llama.cpp did not take {imatrix.name} in: the {kind} file would be the plain one")
    _check_effect(beside, imatrix, keep)


def _check_effect(file: Path, imatrix: Path | None, keep: Sequence[tuple[str, str]]) -> None:
    """Raise QuantizeError where the matrix names a tensor that the file lacks, or a pattern matches none."""
    from gguf import GGUFReader

    from lekhai_helpers.ship.imatrix import read_imatrix

    names = [tensor.name for tensor in GGUFReader(file).tensors]
    strange = sorted(set(read_imatrix(imatrix)) - set(names)) if imatrix else []
    strange += [pattern for pattern, _ in keep if not any(re.search(pattern, name) for name in names)]
    if strange:
        raise QuantizeError(f"no tensor is named like {strange[0]!r}: names are such as {', '.join(names[:3])}")


@contextlib.contextmanager
def _quiet_output() -> Iterator[None]:
    """Keep the hundreds of lines that llama.cpp prints from C out of the notebook."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)


def exl_sentence() -> str:
    """Say whether the EXL formats make sense on this machine: they need an Ampere card (capability 8.0) or newer."""
    from lekhai_helpers.core.hardware import has_bf16, machine

    facts = machine()
    card, capability = facts["gpu"], facts["compute_capability"]
    if card is None:
        return "EXL2 and EXL3 run on graphics cards only, and this machine has none: the GGUF files are what you need."
    if not has_bf16(capability):
        return (
            f"{card} (compute capability {capability}) is older than the Ampere cards (8.0) that EXL2 and EXL3 are "
            "made for: use the GGUF files, which run on it."
        )
    return (
        f"{card} could run EXL3, the living successor of EXL2 (exllamav3, to be installed by yourself with a "
        "CUDA toolkit). The GGUF files run on it as well."
    )
