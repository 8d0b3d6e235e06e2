"""What a GGUF file says of itself: template, dictionary, start and end tokens. No weight is read.

``read_facts(path)`` is used by `ship.parity`; ``rewrite(source, target, changes)`` writes a copy with other metadata,
as ``gguf-new-metadata`` does, to mend a file (or, in the tests, to plant a fault).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lekhai_helpers.ship.errors import QuantizeError

_TOKENIZER = "tokenizer.ggml."


@dataclass(frozen=True)
class GgufFacts:
    """`rows` is the height of the embedding table; `bos`, `eos` and `eot` are token ids, None where not written.

    `kind` is llama.cpp's kind of tokenizer ("llama" for SentencePiece, "gpt2" for byte-level BPE), `pre` the name of
    its pre-tokenizer, `add_bos` None where the file leaves it to the kind.
    """

    architecture: str
    kind: str
    pre: str
    pieces: tuple[str, ...]
    rows: int
    bos: int | None
    eos: int | None
    eot: int | None
    add_bos: bool | None
    template: str | None


def read_facts(file: Path) -> GgufFacts:
    """Return what `file` says of itself. Raises QuantizeError where it is no GGUF file or was cut short."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
    except (ValueError, OSError, IndexError) as error:
        raise QuantizeError(f"{file.name} is no whole GGUF file: {error}") from None

    def said(key: str, otherwise: Any = None) -> Any:
        field = reader.get_field(key)
        return otherwise if field is None else field.contents()

    rows = next((int(tensor.shape[-1]) for tensor in reader.tensors if tensor.name == "token_embd.weight"), 0)
    return GgufFacts(
        architecture=said("general.architecture", ""),
        kind=said(f"{_TOKENIZER}model", ""),
        pre=said(f"{_TOKENIZER}pre", ""),
        pieces=tuple(said(f"{_TOKENIZER}tokens", [])),
        rows=rows,
        bos=said(f"{_TOKENIZER}bos_token_id"),
        eos=said(f"{_TOKENIZER}eos_token_id"),
        eot=said(f"{_TOKENIZER}eot_token_id"),
        add_bos=said(f"{_TOKENIZER}add_bos_token"),
        template=said("tokenizer.chat_template"),
    )


def rewrite(source: Path, target: Path, changes: Mapping[str, Any]) -> Path:
    """Write a copy of a GGUF with other metadata: a value of None takes the key out. Returns `target`.

    The weights are copied as they are. A key that the file does not have is added with the type of the Python value.
    """
    from gguf import GGUFReader, GGUFValueType, GGUFWriter

    reader = GGUFReader(source)
    beside = target.with_suffix(".writing")
    writer = GGUFWriter(beside, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture" or name in changes:
            continue
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    for name, value in changes.items():
        if value is not None:
            _add(writer, reader, name, value)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_shape=tensor.data.shape, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return beside.replace(target)


def _add(writer: Any, reader: Any, name: str, value: Any) -> None:
    """Write one value, of the type the file had for it, else of the type that fits Python's."""
    from gguf import GGUFValueType

    known = reader.get_field(name)
    if known is not None:
        inner = known.types[-1] if known.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, known.types[0], sub_type=inner)
    elif isinstance(value, bool):
        writer.add_bool(name, value)
    elif isinstance(value, int):
        writer.add_uint32(name, value)
    elif isinstance(value, str):
        writer.add_string(name, value)
    else:
        writer.add_array(name, value)
