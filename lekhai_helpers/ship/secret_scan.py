"""Does a file hold a token, a key or a password? Asked for every file before anything is sent to a hub."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

_PATTERNS = {
    "a Hugging Face token": rb"hf_[A-Za-z0-9]{30,}",
    "an API key (sk-...)": rb"sk-[A-Za-z0-9_-]{32,}",
    "an AWS key": rb"\bAKIA[0-9A-Z]{16}\b",
    "a GitHub token": rb"\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_[A-Za-z0-9_]{40,}",
    "a Google API key": rb"\bAIza[0-9A-Za-z_-]{35}",
    "a Slack token": rb"\bxox[abprs]-[0-9A-Za-z-]{20,}",
    "a private key": rb"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "an address with a password": rb"[a-z][a-z0-9+.-]{2,15}://[^\s/:@\"'<>]{1,64}:[^\s/:@\"'<>{}$]{3,128}@[a-z0-9]",
}
_KINDS = {name: re.compile(pattern) for name, pattern in _PATTERNS.items()}
_SECRET_NAME = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD|PASSWD|DATABASE_URL)$")
# Weights hold their words in a header at the front; what follows are numbers.
_HEADER_ONLY = {".safetensors", ".gguf", ".bin", ".pt", ".pth"}
_HEADER_BYTES = 16 * 1024**2
_PIECE, _OVERLAP = 8 * 1024**2, 4096


def find_secret(path: Path, environment: Mapping[str, str] | None = None) -> str | None:
    """Return what kind of secret a file seems to hold, never the secret itself, or None.

    Looked for: the forms of well-known tokens and keys, addresses with a password in them, and the values of this
    machine's own variables whose names end in TOKEN, KEY, SECRET, PASSWORD or DATABASE_URL. Text is read whole, weights
    as far as their header goes. A secret of an unknown form that is in no variable is not found.
    """
    own = _own_secrets(os.environ if environment is None else environment)
    left = _HEADER_BYTES if path.suffix.lower() in _HEADER_ONLY else None
    with path.open("rb") as handle:
        before = b""
        while piece := handle.read(_PIECE if left is None else min(_PIECE, left)):
            if found := _in_bytes(before + piece, own):
                return found
            before = piece[-_OVERLAP:]
            left = None if left is None else left - len(piece)
            if left == 0:
                break
    return None


def _in_bytes(text: bytes, own: Mapping[str, bytes]) -> str | None:
    for kind, pattern in _KINDS.items():
        if pattern.search(text):
            return kind
    return next((f"the value of {name}" for name, value in own.items() if value in text), None)


def _own_secrets(environment: Mapping[str, str]) -> dict[str, bytes]:
    """Return the secrets of the environment; short values would be found in any text."""
    return {
        name: value.encode() for name, value in environment.items() if _SECRET_NAME.search(name) and len(value) >= 12
    }
