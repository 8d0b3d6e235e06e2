"""The first megabytes of a GGUF file, read in milliseconds: ``read_header(path)``. Used before a model is swapped.

The reader of the `gguf` package (see `ship.gguf_facts`) makes an array of every piece of the dictionary, which takes
seconds; a service that is answering people cannot wait that long.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_WHOLE_NUMBERS = (4, 5)
_STRING, _ARRAY = 8, 9
_MOST = 10_000_000  # entries of a list or bytes of a text: more than any model has means that the file is broken


class ModelFileError(RuntimeError):
    """A file is no usable GGUF; the text says what is wrong with it and is fit for whoever asked."""


@dataclass(frozen=True)
class GgufHeader:
    """What decides whether one file can stand in for another. `vocabulary` counts the dictionary's pieces."""

    architecture: str
    vocabulary: int
    layers: int
    kv_width: int  # numbers that one token leaves in the keys of one layer; the values take as many
    context: int
    chat_template: str
    size: int  # of the file, in bytes

    def memory(self, tokens: int) -> int:
        """Return about how many bytes llama.cpp takes with room for so many tokens: weights, KV cache, working room.

        KV cache: 2 · layers · kv_heads · head_dim · 2 bytes a token. Working room: the scores of 512 tokens over the
        dictionary in 32 bits, which is the largest thing llama.cpp computes at once, and 64 MB for the rest.
        """
        cache = 2 * self.layers * self.kv_width * 2 * tokens
        return self.size + cache + 512 * self.vocabulary * 4 + 64_000_000


def read_header(path: Path) -> GgufHeader:
    """Return a file's header. Raises ModelFileError where it is no GGUF file or not a whole one."""
    try:
        with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _header(_Reader(data), path)
    except (struct.error, ValueError, KeyError, TypeError, ZeroDivisionError, RecursionError, OSError) as error:
        # What the bytes said instead does not help anyone.
        raise ModelFileError(f"{path.name} is no whole GGUF file ({type(error).__name__}): copy it again") from None


def _header(reader: _Reader, path: Path) -> GgufHeader:
    entries, tensors = reader.entries()
    kind = str(entries["general.architecture"])
    heads = entries.get(f"{kind}.attention.head_count_kv", entries[f"{kind}.attention.head_count"])
    width = entries.get(f"{kind}.attention.key_length") or (
        entries[f"{kind}.embedding_length"] // entries[f"{kind}.attention.head_count"]
    )
    size = path.stat().st_size
    needed = reader.end_of_tensors(tensors, int(entries.get("general.alignment", 32)))
    if size < needed:
        raise ModelFileError(f"{path.name} is cut short: {size} of {needed} bytes; copy it again")
    return GgufHeader(
        architecture=kind,
        vocabulary=int(entries["tokenizer.ggml.tokens"]),
        layers=int(entries[f"{kind}.block_count"]),
        kv_width=int(heads) * int(width),
        context=int(entries[f"{kind}.context_length"]),
        chat_template=str(entries.get("tokenizer.chat_template", "")),
        size=size,
    )


class _Reader:
    """Reads from front to back. Of a list only its length is kept, or (a number for each layer) its largest."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 0

    def entries(self) -> tuple[dict[str, Any], int]:
        """Return the metadata and the number of tensors. Raises ValueError where this is no GGUF version 2 or 3."""
        if self._data[:4] != b"GGUF":
            raise ValueError("no GGUF")
        self._at = 4
        version, tensors, count = self._unpack("<IQQ")
        if version not in (2, 3):
            raise ValueError(f"version {version}")
        return {self._text(): self._value(self._unpack("<I")[0]) for _ in range(_sane(count))}, _sane(tensors)

    def end_of_tensors(self, count: int, alignment: int) -> int:
        """Return the byte after the last tensor's last. Called right after `entries`, because the list follows it."""
        ends = [self._end_of_tensor() for _ in range(count)]
        start = -(-self._at // alignment) * alignment
        return start + max(ends, default=0)

    def _end_of_tensor(self) -> int:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        self._text()
        numbers = 1
        for length in self._unpack(f"<{_sane(self._unpack('<I')[0])}Q"):
            numbers *= length
        kind, offset = self._unpack("<IQ")
        in_block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        return offset + numbers // in_block * block_bytes

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return self._list()
        return self._unpack(f"<{_SCALARS[kind]}")[0]

    def _list(self) -> int:
        """Step over a list; return its length, of few whole numbers the largest."""
        kind, length = self._unpack("<IQ")
        if kind == _STRING:
            for _ in range(_sane(length)):
                self._skip(self._unpack("<Q")[0])
            return length
        if kind == _ARRAY:
            return max((self._list() for _ in range(_sane(length))), default=0)
        values = self._unpack(f"<{_sane(length)}{_SCALARS[kind]}")
        return max(values, default=0) if length < 1000 and kind in _WHOLE_NUMBERS else length

    def _text(self) -> str:
        length = _sane(self._unpack("<Q")[0])
        start = self._at
        self._skip(length)
        return self._data[start : self._at].decode("utf-8")

    def _skip(self, length: int) -> None:
        self._at += _sane(length)
        if self._at > len(self._data):
            raise ValueError("the file ends in the middle")

    def _unpack(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return values


def _sane(number: int) -> int:
    if number > _MOST:
        raise ValueError("a length that cannot be")
    return number
