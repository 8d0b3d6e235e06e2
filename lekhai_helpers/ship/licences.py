"""LICENCES.md: under which terms base, data and model may be used. Sent to the hub beside the model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.ship.card import own_data
from lekhai_helpers.ship.errors import ExportError

# Where a licence is to be read, and the words that have to go along with a copy of the model.
_LICENCES = {
    "gemma": (
        "https://ai.google.dev/gemma/terms",
        "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms. Whoever "
        "gets this model from you has to get these terms too, and its use is bound by the prohibited use policy "
        "(https://ai.google.dev/gemma/prohibited_use_policy). The weights here were changed by fine-tuning.",
    ),
    "llama3": (
        "https://www.llama.com/llama3/license",
        "Meta Llama 3 is licensed under the Meta Llama 3 Community License, Copyright © Meta Platforms, Inc. All "
        "Rights Reserved. Built with Meta Llama 3: the name of the model has to begin with Llama 3.",
    ),
    "llama3.1": (
        "https://www.llama.com/llama3_1/license",
        "Llama 3.1 is licensed under the Llama 3.1 Community License, Copyright © Meta Platforms, Inc. All Rights "
        "Reserved. Built with Llama: the name of the model has to begin with it.",
    ),
    "apache-2.0": ("https://www.apache.org/licenses/LICENSE-2.0", "The weights here were changed by fine-tuning."),
    "mit": ("https://opensource.org/license/mit", ""),
    "cc-by-4.0": ("https://creativecommons.org/licenses/by/4.0/", "Name the makers where you pass it on."),
    "cc-by-nc-4.0": ("https://creativecommons.org/licenses/by-nc/4.0/", "Not for commercial use."),
}


def licences_text(settings: Settings, base_licence: str) -> str:
    """Return LICENCES.md for a model made with these settings; `base_licence` is the one its card names."""
    own = own_data(settings)
    data = "its maker's own; ask them" if own else settings.export.licence
    parts = ["# Licences", "", "## The model's weights", "", *_terms(base_licence), "", "## The training data", ""]
    return "\n".join([*parts, *([f"Licence: {data}."] if own else _terms(data)), ""])


def card_header(folder: Path) -> dict[str, Any]:
    """Return what the model card says to the hub. Raises ExportError where there is no card, or it names no licence."""
    card = folder / "README.md"
    if not card.exists():
        raise ExportError(f"{folder.name} has no README.md: write the model card first (notebook 08)")
    text = card.read_text(encoding="utf-8")
    try:
        header = yaml.safe_load(text.split("---", 2)[1]) if text.startswith("---") else None
    except (yaml.YAMLError, IndexError):
        header = None
    if not isinstance(header, dict) or not header.get("license"):
        raise ExportError(f"{folder.name}/README.md names no licence: write the model card again (notebook 08)")
    return header


def card_licence(folder: Path) -> str:
    """Return the licence the model card names, by its name where the hub knows it only as "other"."""
    header = card_header(folder)
    return str(header.get("license_name") or header["license"])


def _terms(licence: str) -> list[str]:
    address, words = _LICENCES.get(licence, ("", "This licence is not known here: read it before you pass this on."))
    return [f"Licence: {licence}{f', {address}' if address else ''}.", *([words] if words else [])]
