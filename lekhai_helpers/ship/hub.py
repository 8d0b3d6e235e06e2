"""The Hugging Face hub: is there a token, what would be sent, send it. Taught in notebook 08.

``login_state()`` says where a token comes from, ``push_plan(folder)`` is the dry run, ``push(folder, hub_id)`` sends
exactly that list. Nothing here is called unless you ask for it.
"""

from __future__ import annotations

import json
import os
import re
from fnmatch import fnmatch
from pathlib import Path

from lekhai_helpers.ship.errors import ExportError

# Never sent: what only training needs, copies of other models, and anything that smells of a secret.
LEFT_OUT_FILES = (
    *("optimizer*", "scheduler*", "scaler*", "rng_state*", "training_args.bin", "trainer_state.json"),
    *("*.env", "*.key", "*.pem", "*.p12", "id_rsa*", "secrets*", "credentials*", "*.db", "*.lock", "*.writing"),
)
LEFT_OUT_FOLDERS = ("ref", "checkpoint-*", "__pycache__", "*.writing", "*.partial", "*.previous")
_SECRET = re.compile(rb"hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{32,}|-----BEGIN [A-Z ]*PRIVATE KEY-----")
_SCANNED = {".json", ".jsonl", ".md", ".txt", ".yaml", ".yml", ".jinja", ".py", ".toml", ""}
_SCANNED_BYTES = 2_000_000  # longer text files are vocabularies
_NO_TOKEN = (
    "no hub token found. Make one with write access at https://huggingface.co/settings/tokens, then either set the "
    "environment variable HF_TOKEN before starting, or on Colab add it as the secret HF_TOKEN (the key in the left "
    "bar) and allow this notebook to read it. LekhAI takes no token as a parameter: it would stay in the notebook."
)


def login_state() -> str:
    """Say whether a hub token is there and where it comes from, never what it is."""
    found = _token()
    if found is None:
        return "no hub token: nothing can be uploaded, and nothing else needs one"
    return f"a hub token is present ({found[1]})"


def push_plan(folder: Path) -> list[tuple[str, float]]:
    """Return what `push` would send, as (path inside the folder, size in MB), sorted by path.

    Raises ExportError where the folder holds nothing to send, a text file looks as if it held a secret, or a
    link leads out of the folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ExportError(f"there is no folder {folder.name} to send: run notebook 08 first")
    plan = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_dir() or _left_out(inside):
            continue
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ExportError(f"{inside} is a link to a file outside {folder.name}: replace it by a copy, or delete it")
        _refuse_secret(path, inside)
        plan.append((inside.as_posix(), path.stat().st_size / 1e6))
    if not plan:
        raise ExportError(f"{folder.name} holds nothing that should be sent: run notebook 08 first")
    return plan


def push(folder: Path, hub_id: str | None, private: bool = True) -> str:
    """Send exactly what `push_plan` lists, as one commit, and return the repository's address.

    The token comes from the environment (HF_TOKEN), Colab's secrets or a saved `hf auth login`. Raises ExportError
    without a token, without a model card, for an id the hub cannot have, where the hub refuses, and where a
    private upload would land in a repository that is public.
    """
    folder, plan = Path(folder), push_plan(folder)
    name = _hub_name(hub_id)
    if not (folder / "README.md").exists():
        raise ExportError(f"{folder.name} has no README.md: write the model card first (notebook 08)")
    found = _token()
    if found is None:
        raise ExportError(_NO_TOKEN)

    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(token=found[0])
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        if private and not api.repo_info(name).private:
            raise ExportError(f"{name} exists and is public: make it private, or push with private=False")
        operations = [_operation(folder, path) for path, _ in plan]
        api.create_commit(name, operations=operations, commit_message="Add the model")
    except HfHubHTTPError as error:
        raise ExportError(
            f"the hub refused {name}: {error}. Check that the name is yours and that the token may write to it "
            "(https://huggingface.co/settings/tokens), then push again"
        ) from error
    except httpx.TransportError as error:
        raise ExportError(f"the hub cannot be reached ({error}): check the network, then push again") from error
    return str(address)


def _hub_name(hub_id: str | None) -> str:
    """Return the id as it came, or raise ExportError where the hub cannot have it."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    remedy = "set export.hub_id to your-name/model-name, for example `--set export.hub_id=rahima/lekhai-270m`"
    if not hub_id or hub_id.count("/") != 1:
        raise ExportError(f"{hub_id or 'nothing'} is no hub id: {remedy}")
    try:
        validate_repo_id(hub_id)
    except HFValidationError as error:
        raise ExportError(f"{error} Remedy: {remedy}") from None
    return hub_id


def _operation(folder: Path, path: str):
    """Return one file of the commit. An adapter names its base by a path of this machine: only the name is sent."""
    from huggingface_hub import CommitOperationAdd

    content: str | bytes = str(folder / path)
    if Path(path).name == "adapter_config.json":
        config = json.loads((folder / path).read_text(encoding="utf-8"))
        base = str(config.get("base_model_name_or_path") or "")
        if os.path.isabs(base):
            config["base_model_name_or_path"] = Path(base).name
            content = json.dumps(config, indent=2).encode()
    return CommitOperationAdd(path_in_repo=path, path_or_fileobj=content)


def _left_out(inside: Path) -> bool:
    *folders, name = [part.lower() for part in inside.parts]
    hidden = any(part.startswith(".") for part in [*folders, name])
    return (
        hidden
        or any(fnmatch(part, pattern) for part in folders for pattern in LEFT_OUT_FOLDERS)
        or any(fnmatch(name, pattern) for pattern in LEFT_OUT_FILES)
    )


def _refuse_secret(path: Path, inside: Path) -> None:
    if path.suffix.lower() not in _SCANNED or path.stat().st_size > _SCANNED_BYTES:
        return
    if _SECRET.search(path.read_bytes()):
        raise ExportError(
            f"{inside} seems to hold a token or a private key: take it out, and revoke it where it is from"
        )


def _token() -> tuple[str, str] | None:
    """Return (token, where it comes from), or None."""
    given = os.environ.get("HF_TOKEN", "").strip()
    if given:
        return given, "environment variable HF_TOKEN"
    try:
        from google.colab import userdata  # only there on Colab
    except ImportError:
        return _saved_token()
    try:
        secret = userdata.get("HF_TOKEN")
    # Not set, not allowed, or no browser attached (a headless run): each means no token.
    except (userdata.SecretNotFoundError, userdata.NotebookAccessError, userdata.TimeoutException):
        return None
    return (secret.strip(), "Colab secret HF_TOKEN") if secret else None


def _saved_token() -> tuple[str, str] | None:
    from huggingface_hub import get_token

    saved = get_token()
    return (saved, "saved by `hf auth login`") if saved else None
