"""A file written beside its final name and renamed when it is whole: ``with replacing(path) as file: ...``."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Yield a UTF-8 file that takes the place of `path` at the end, and leaves nothing where the writing fails.

    Its own name is drawn and must be new: a file or a link that lies beside `path` is never followed or removed.
    """
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.writing")
    file = beside.open("x", encoding="utf-8", newline="\n")
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
