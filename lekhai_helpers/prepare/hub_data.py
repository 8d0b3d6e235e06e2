"""Where a recipe's examples lie: a file or folder of yours, or a data set on a hub, downloaded because you named it.

``examples_path(settings.data)`` is what notebook 03 reads. `data.file` may be a path, a name inside the data folder,
or a set's id on the Hugging Face hub, "owner/name" or "owner/name@revision". Nothing is downloaded for any other
value; what was downloaded once is kept by the hub's own cache and read again without a network.
"""

from __future__ import annotations

from pathlib import Path

from lekhai_helpers.core.recipe import Data, data_file, is_hub_set
from lekhai_helpers.prepare.sources.base import DatasetError, reads_folders

TEXTS = ("*.jsonl", "*.json", "*.csv", "*.tsv", "*.parquet", "*.txt", "README.md")
_SUFFIXES = (".jsonl", ".csv")  # what the sources of single files read


def examples_path(data: Data) -> Path:
    """Return the file or folder of examples. Raises FileNotFoundError or DatasetError with the remedy."""
    if not is_hub_set(data.file):
        return data_file(data.file)
    folder = _downloaded(data.file)
    return folder if reads_folders(data.source) else _only_file(folder, data.file)


def _downloaded(name: str) -> Path:
    """Return the folder of a set's files: from the hub's cache, or fetched now."""
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    where, _, revision = name.partition("@")
    try:
        found = snapshot_download(where, repo_type="dataset", revision=revision or None, allow_patterns=list(TEXTS))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, httpx.HTTPError, OSError) as error:
        raise DatasetError(
            f"data.file names {name}, which is no file here, and as a data set of the hub it cannot be had "
            f"({type(error).__name__}). Check the spelling and the network, accept the set's terms where it has any "
            "(HF_TOKEN), or download its files into a folder and set data.file to that folder"
        ) from error
    return Path(found)


def _only_file(folder: Path, name: str) -> Path:
    """Return the one file of examples among a set's files. Raises DatasetError for none, or for several."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if len(files) == 1:
        return files[0]
    found = ", ".join(str(file.relative_to(folder)) for file in files) or "none"
    raise DatasetError(
        f"{name} holds these files of examples: {found}; one is needed. They lie in {folder}: set data.file to the one "
        "you mean"
    )
