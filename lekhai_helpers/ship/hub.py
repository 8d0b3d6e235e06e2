"""The Hugging Face hub: is there a token, what would be sent, send it. Taught in notebook 08.

``login_state()`` says where a token comes from, ``push_plan(folder)`` is the dry run, ``push(folder, hub_id)`` sends
exactly that list; on the command line ``lekhai export`` and ``lekhai export --push``. Nothing is sent unless you ask.

What has been tried: a push, one broken off in the middle and one resumed, against a small stand-in of the hub's HTTP
interface on this machine (tests/unit/hub_stand_in.py), with the hub's own client library. The real hub stores large
files by pieces (Xet), which the stand-in does not speak: there the library itself finds what is already there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lekhai_helpers.ship.errors import ExportError
from lekhai_helpers.ship.hub_plan import content, kept_here, push_plan
from lekhai_helpers.ship.licences import card_header

__all__ = ["kept_here", "login_state", "push", "push_plan"]

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


def push(
    folder: Path,
    hub_id: str | None,
    private: bool = True,
    *,
    extra: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> str:
    """Send exactly what `push_plan` lists and return the repository's address.

    Large files go first, one after the other, and then a single commit names them all: others never see half a model.
    The hub keeps what has arrived, so a second push after a failure sends only what is missing, and one without any
    change sends nothing. `extra` is text to send that is no file here (name to text), `tell` gets a line for each step.

    The token comes from the environment (HF_TOKEN), Colab's secrets or a saved `hf auth login`. Raises ExportError
    without a token, without a model card that names a licence, for an id the hub cannot have, where the hub refuses or
    breaks off, and where a private upload would land in a repository that is public.
    """
    folder, plan = Path(folder), push_plan(folder)
    name = _hub_name(hub_id)
    card_header(folder)
    found = _token()
    if found is None:
        raise ExportError(_NO_TOKEN)

    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = HfApi(token=found[0])
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        _check_hidden(api, name, private)
        operations = _operations(folder, [path for path, _ in plan], extra or {})
        _upload(api, name, operations, tell)
        api.create_commit(name, operations=operations, commit_message="Add the model")
    except HfHubHTTPError as error:
        raise ExportError(
            f"the hub refused {name}: {error}. Check that the name is yours and that the token may write to it "
            "(https://huggingface.co/settings/tokens), then push again"
        ) from error
    except OfflineModeIsEnabled:
        raise ExportError("the hub may not be asked: HF_HUB_OFFLINE is set. Unset it, then push again") from None
    except httpx.TransportError as error:
        raise ExportError(f"the hub cannot be reached ({error}): check the network, then push again") from error
    return str(address)


def _check_hidden(api: Any, name: str, private: bool) -> None:
    if private and not api.repo_info(name).private:
        raise ExportError(f"{name} exists and is public: make it private, or push with private=False (--public)")


def _operations(folder: Path, paths: list[str], extra: Mapping[str, str]) -> list[Any]:
    from huggingface_hub import CommitOperationAdd

    sent: dict[str, str | bytes] = {path: content(folder, path) for path in paths}
    sent |= {path: text.encode() for path, text in extra.items() if path not in sent}
    return [CommitOperationAdd(path_in_repo=path, path_or_fileobj=what) for path, what in sent.items()]


def _upload(api: Any, name: str, operations: list[Any], tell: Callable[[str], None]) -> None:
    """Send the large files, one by one, so that what a failure leaves missing is as little as can be.

    Small files travel in the commit itself. Raises ExportError where a file does not arrive.
    """
    from huggingface_hub.errors import HfHubHTTPError

    for number, operation in enumerate(operations, 1):
        tell(f"{number} of {len(operations)}: {operation.path_in_repo}")
        try:
            api.preupload_lfs_files(name, [operation], free_memory=False)
        except HfHubHTTPError:
            raise
        except (RuntimeError, OSError) as error:  # how the library wraps what goes wrong in the middle of a file
            raise ExportError(
                f"{operation.path_in_repo} did not arrive ({error.__cause__ or error}); {number - 1} of "
                f"{len(operations)} files are done. Push again: what has arrived is not sent twice"
            ) from error


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
