"""Which model the verbs at work take, and with which settings: the newest run's, or a file of the user's.

Used by ``lekhai serve``, ``write`` and ``chat``. Everything heavy is imported inside the functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lekhai_helpers.core.recipe import Settings
    from lekhai_helpers.ship.engines import Engine

RunLabel = Annotated[str | None, typer.Option("--run", help="A folder in runs/; without it, the newest run.")]
Gguf = Annotated[Path | None, typer.Option("--gguf", help="This file instead of the one that the run recommends.")]
Recipe = Annotated[
    str | None, typer.Option("--recipe", help="The newest run of this recipe; with --gguf and no run, how it is asked.")
]


class ServeError(RuntimeError):
    """A verb of the model at work cannot be done; the text says what to do."""


def served_model(
    label: str | None, gguf: Path | None, overrides: list[str], remote: bool = False, recipe: str | None = None
) -> tuple[Settings, Path | None, Path | None]:
    """Return the settings, the folder that models may come from, and the file; a remote engine needs no file.

    What a run was made with stays as it was; `serving` is about today's service and comes from the recipe as it is now.
    Raises RunError where there is no run to take a file from. Where there is none but a file, it is asked as the recipe
    says (LekhAI's where none is named).
    """
    from lekhai_helpers.closing import newest_run, recommended_gguf, resume_command
    from lekhai_helpers.core.recipe import resolve
    from lekhai_helpers.core.run_folder import RunError

    try:
        run = newest_run(label, recipe)
    except RunError:
        if label or not (gguf or remote):
            raise
        return _with_serving(resolve(recipe or "lekhai", "cpu"), overrides), gguf and gguf.resolve().parent, gguf
    settings = _with_serving(run.settings, overrides)
    if gguf or remote:
        return settings, gguf.resolve().parent if gguf else None, gguf
    file = recommended_gguf(run)
    if file is None:
        raise RunError(f"{run.label} has no GGUF yet: notebook 12 makes it, `{resume_command(run)}`")
    return settings, run.folder, file


def _with_serving(settings: Settings, overrides: list[str]) -> Settings:
    from lekhai_helpers.core.recipe import SettingsError, parse_override, resolve

    changes = dict(parse_override(text) for text in overrides)
    foreign = [key for key in changes if not key.startswith("serving.")]
    if foreign:
        raise SettingsError(
            f"{', '.join(foreign)}: only serving.* can be set here; the rest is what the run was made with"
        )
    serving = resolve(settings.recipe, settings.profile, changes).serving
    return settings.model_copy(update={"serving": serving})


def load_engine(file: Path | None, settings: Settings, slots: int) -> Engine:
    """Load a file as the service would, with the settings' room for each of `slots` requests. Raises ServeError."""
    from lekhai_helpers.ship.engines import local_engine

    if file is None or not file.is_file():
        raise ServeError(f"there is no file {file}: give a GGUF file, or a run that has one")
    return local_engine(file, settings.model.max_seq_length, slots)
