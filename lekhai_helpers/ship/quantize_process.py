"""Quantising with more than a file type, as a process of its own: ``python -m lekhai_helpers.ship.quantize_process``.

Started by `ship.quantize.quantize` with one JSON argument where it is given an importance matrix or tensors to keep at
another type. cyllama shows llama.cpp's settings for both (``imatrix``, ``tt_overrides`` of
``llama_model_quantize_params`` in llama.h), but lets nobody set them, so their two pointers are written into its
object. That is done only where the object looks exactly as known, and here rather than in the notebook: a crash ends
this process alone. What llama.cpp says of the matrix comes out on standard error, where the caller reads it.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys
from pathlib import Path
from typing import Any

from lekhai_helpers.ship.imatrix import read_imatrix

# llama.h, llama_model_quantize_params: four numbers, six switches, two bytes of padding, then four pointers.
_STRUCT_BYTES, _IMATRIX_AT, _OVERRIDES_AT = 56, 24, 40
_UNKNOWN_LAYOUT = 3  # the exit status that says so


class _ImatrixEntry(ctypes.Structure):
    """llama.h, llama_model_imatrix_data: one tensor's mean squared input, a number for each of its columns."""

    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.POINTER(ctypes.c_float)), ("size", ctypes.c_size_t)]


class _Override(ctypes.Structure):
    """llama.h, llama_model_tensor_override: the tensors whose name matches a pattern get this type."""

    _fields_ = [("pattern", ctypes.c_char_p), ("type", ctypes.c_int)]


def struct_at(parameters: Any) -> int:
    """Return the address of llama.cpp's settings inside cyllama's object; 0 where they are not where they should be.

    They are looked for by values set through cyllama's own attributes.
    """
    parameters.nthread, parameters.output_tensor_type, parameters.token_embedding_type = 77, 41, 40
    parameters.allow_requantize, parameters.pure, parameters.keep_split = True, False, True
    offset = type(parameters).__basicsize__ - _STRUCT_BYTES
    address = id(parameters) + offset
    expected = struct.pack("4i", 77, parameters.ftype, 41, 40) + bytes([1, parameters.quantize_output_tensor, 0, 0, 1])
    found = ctypes.string_at(address, _STRUCT_BYTES) if offset >= 16 else b""
    pointers = found[_IMATRIX_AT:]
    return address if found.startswith(expected) and pointers == bytes(len(pointers)) else 0


def _imatrix(file: Path) -> tuple[Any, dict[str, Any]]:
    """Return the matrix as llama.cpp takes it, ended by an empty entry, and what must outlive it."""
    import numpy as np

    columns = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in read_imatrix(file).items()}
    entries = (_ImatrixEntry * (len(columns) + 1))()
    for place, (name, values) in enumerate(columns.items()):
        pointer = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        entries[place] = _ImatrixEntry(name.encode(), pointer, values.size)
    return entries, columns


def _overrides(keep: list[tuple[str, int]]) -> Any:
    entries = (_Override * (len(keep) + 1))()
    for place, (pattern, kind) in enumerate(keep):
        entries[place] = _Override(pattern.encode(), kind)
    return entries


def main() -> None:
    from cyllama.llama import llama_cpp

    asked = json.loads(sys.argv[1])
    parameters = llama_cpp.LlamaModelQuantizeParams()
    default = {name: getattr(parameters, name) for name in ("output_tensor_type", "token_embedding_type")}
    address = struct_at(parameters)
    if not address:
        sys.exit(_UNKNOWN_LAYOUT)
    parameters.allow_requantize = parameters.keep_split = False
    parameters.nthread, parameters.ftype = 0, asked["ftype"]
    for name, value in default.items():
        setattr(parameters, name, value)
    kept: list[Any] = []
    if asked["imatrix"]:
        kept += _imatrix(Path(asked["imatrix"]))
        ctypes.c_void_p.from_address(address + _IMATRIX_AT).value = ctypes.addressof(kept[0])
    if asked["keep"]:
        kept.append(_overrides(asked["keep"]))
        ctypes.c_void_p.from_address(address + _OVERRIDES_AT).value = ctypes.addressof(kept[-1])
    llama_cpp.model_quantize(asked["source"], asked["target"], parameters)


if __name__ == "__main__":
    main()
