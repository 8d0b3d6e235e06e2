"""What of a cell's output may be published: no progress bars, no colours of a terminal, no paths of a machine.

Used by `publish.py`, which `lekhai publish --run NAME` calls.
"""

from __future__ import annotations

import re
from typing import Any

WIDGET = "application/vnd.jupyter.widget-view+json"

# A path that begins at the root of some machine. Not inside a URL or a word: hence what may not stand before it.
_FOLDERS = "home|root|work|tmp|content|Users|usr|opt|mnt|media|var|srv|private|kaggle"
MACHINE_PATH = re.compile(
    rf"(?:(?<![\w./…~+-])/(?:{_FOLDERS})(?=[/\s\"'<>)\],;:]|$)[^\s\"'<>|)\]}},;:]*|(?<!\w)[A-Za-z]:\\[^\s\"'<>|]*)"
)
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def scrub(output: dict[str, Any]) -> dict[str, Any] | None:
    """Return an output as it may be published, or None where it is only noise of the machine it ran on.

    Progress bars (stderr, widgets) go, terminal colours go, and machine paths become "…/name".
    """
    if output["output_type"] == "stream":
        text = _settle(output["text"])
        return None if output["name"] == "stderr" or not text.strip() else {**output, "text": _scrub_text(text)}
    if output["output_type"] not in ("display_data", "execute_result"):
        return output
    data = {mime: value for mime, value in output["data"].items() if mime != WIDGET}
    if len(data) < len(output["data"]) and set(data) <= {"text/plain"}:
        return None
    return {**output, "data": {mime: _scrub_value(mime, value) for mime, value in data.items()}}


def find_machine_path(output: dict[str, Any]) -> str | None:
    """Return the first machine path in an output's texts (pictures are not looked at), or None."""
    texts = [output.get("text", "")] + [
        str(value) for mime, value in output.get("data", {}).items() if not _is_picture(mime)
    ]
    hits = (MACHINE_PATH.search(text) for text in texts)
    return next((hit.group() for hit in hits if hit), None)


def _is_picture(mime: str) -> bool:
    return mime.startswith("image/") and mime != "image/svg+xml"


def _settle(text: str) -> str:
    """Show a stream as a terminal would leave it: no colours, and of a rewritten line only its last state."""
    lines = _ANSI.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def _scrub_value(mime: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _scrub_value(mime, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_scrub_value(mime, inner) for inner in value]
    return _scrub_text(_ANSI.sub("", value)) if isinstance(value, str) and not _is_picture(mime) else value


def _scrub_text(text: str) -> str:
    return MACHINE_PATH.sub(_last_name, text)


def _last_name(match: re.Match[str]) -> str:
    """Keep of a machine path only the last name, which is what a reader can use: …/config.yaml."""
    parts = [part for part in re.split(r"[/\\]", match.group()) if part]
    return f"…/{parts[-1]}" if len(parts) > 1 else "…"
