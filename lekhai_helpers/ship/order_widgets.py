"""Fields for an order in a notebook, the same as on the page. Taught in notebook 09.

``interact_manual(order, **controls(choices, request))``; `choices` is what ``GET /v1/choices`` answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def controls(choices: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a widget for every field of an order, by name, filled in as in `request`; a stream is not asked for."""
    from ipywidgets import IntSlider, SelectionSlider, Text, Textarea

    made: dict[str, Any] = {}
    for name, value in request.items():
        offered = choices[{"industry": "industries", "tone": "tones"}[name]] if name in ("industry", "tone") else []
        if name == "duration_seconds":
            lengths = choices["duration_seconds"]
            made[name] = IntSlider(value, lengths["least"], lengths["most"], 5)
        elif name == "message":
            made[name] = Textarea(value)
        elif offered:
            made[name] = SelectionSlider(options=offered, value=value if value in offered else offered[0])
        elif name != "stream" and isinstance(value, str):
            made[name] = Text(value)
    return made
