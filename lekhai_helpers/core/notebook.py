"""What a notebook shows, and to whom: widgets and live plots are for people, plain lines for headless runs."""

import os
import sys
from typing import Any


def is_interactive() -> bool:
    """Say whether this runs in a notebook that a person has open (not under papermill, not in a script)."""
    return "ipykernel" in sys.modules and not os.environ.get("LEKHAI_HEADLESS")


class _AsItStands(str):
    """A text whose lines are shown as lines, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def readable(shown: Any) -> Any:
    """Return what a contract shows of a text, fit for the last line of a cell: a table, or the text's lines."""
    return _AsItStands(shown) if isinstance(shown, str) else shown
