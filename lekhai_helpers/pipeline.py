"""The chain: the twelve notebooks, one after the other, headless, through papermill.

``lekhai run`` calls `run_chain`. It is stricter than papermill: parameters are checked before anything starts, a
lesson that ends without its manifest has failed, and nothing runs after a failure.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lekhai_helpers.closing import closing_summary, resume_command
from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.core.run_folder import PHASES, Run, RunError, cache_folder, runs_folder
from lekhai_helpers.progress import Lesson, Progress, Say, place

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
START_SECONDS = 180  # a kernel on two busy cores can take long to answer the first time


class ChainError(RuntimeError):
    """A lesson failed or cannot start; the text says where, what happened, and which command goes on from there."""


def run_chain(
    recipe: str = "lekhai",
    profile: str = "auto",
    name: str = "first",
    *,
    first: int = 1,
    last: int = 12,
    only: int | None = None,
    resume: bool = False,
    overrides: dict[str, Any] | None = None,
    console: Say = print,
    notebooks: Path = NOTEBOOKS,
) -> Run:
    """Run the lessons `first` to `last` (or `only` one) of a run, in order, and print where it is.

    `resume` keeps every phase whose manifest still holds. `overrides` are settings by dotted key. Executed notebooks
    go into the run's folder. Raises SettingsError, RunError (also where the run is in use) or ChainError; each says
    what to do next.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise RunError(f"the name {name!r} cannot be a folder's: use letters, digits, '-', '_' and '.'")
    profile = _chosen_profile(profile, console)
    overrides = _absolute_paths(overrides or {})
    run = Run(resolve(recipe, profile, overrides), name)
    lessons = choose_lessons(notebooks, *((only, only) if only else (first, last)))
    parameters = {"RECIPE": recipe, "PROFILE": profile, "RUN": name, "OVERRIDES": overrides}
    for lesson in lessons:
        check_parameters(lesson.path, parameters)
    go_on = _command(run, overrides, first, last, only)
    lock = run.lock()
    try:
        _run_lessons(run, lessons, parameters, resume, console, go_on)
    finally:
        lock.release()
    console(closing_summary(run))
    return run


def choose_lessons(notebooks: Path, first: int, last: int) -> list[Lesson]:
    """Return the lessons of a range, all of them present. Raises ChainError where one is missing."""
    keys = [key for key in PHASES if first <= int(key[:2]) <= last]
    if not keys:
        raise ChainError(f"no notebook from {first:02} to {last:02}: they are numbered 01 to {len(PHASES)}")
    missing = [f"{key}.ipynb" for key in keys if not (notebooks / f"{key}.ipynb").exists()]
    if missing:
        raise ChainError(f"missing in {notebooks}: {', '.join(missing)}. Write them with `lekhai publish --build`.")
    return [Lesson(key, notebooks / f"{key}.ipynb", _code_cells(notebooks / f"{key}.ipynb")) for key in keys]


def check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    """Refuse parameters that the notebook does not know: papermill would only log a warning and run without them.

    Raises ChainError with the nearest name that the notebook does have.
    """
    from papermill import inspect_notebook

    known = list(inspect_notebook(notebook))
    for name in parameters:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {close[0]!r}?" if close else f"its parameters: {', '.join(known) or 'none'}."
            raise ChainError(f"{notebook.name} has no parameter {name!r}; {hint} Correct its cell tagged parameters.")


@dataclass
class _Attempt:
    """One execution of a lesson: written beside its final name, renamed when it is complete."""

    lesson: Lesson
    run: Run
    mark: int = field(init=False)

    def __post_init__(self) -> None:
        self.mark = self._manifest_time()

    @property
    def final(self) -> Path:
        return self.run.folder / f"{self.lesson.key}.ipynb"

    @property
    def partial(self) -> Path:
        return self.run.folder / f"{self.lesson.key}.partial.ipynb"

    def finished(self) -> bool:
        """Say whether the lesson wrote a manifest since this attempt began."""
        return self._manifest_time() not in (0, self.mark)

    def _manifest_time(self) -> int:
        path = self.run.folder / self.lesson.key / "manifest.json"
        return path.stat().st_mtime_ns if path.exists() else 0


def _run_lessons(
    run: Run, lessons: list[Lesson], parameters: dict[str, Any], resume: bool, say: Say, go_on: str
) -> None:
    promise = run.settings.promise
    say(f"{run.label}: {len(lessons)} notebooks into {run.folder}")
    figures = f"{promise.minutes} min, {promise.memory_gb} GB of memory, {promise.disk_gb} GB of disk"
    say(f"What the profile promises for all twelve: {figures}")
    progress = Progress(say, lessons, _seconds_per_cell(run, lessons[0].path.parent))
    for lesson in lessons:
        reason = run.stale_reason(lesson.key) if resume else "asked"
        if reason is None:
            progress.kept(lesson)
            continue
        if resume:
            say(f"{place(lesson)}  runs: {reason}")
        _run_lesson(run, lesson, parameters, progress, go_on)


def _run_lesson(run: Run, lesson: Lesson, parameters: dict[str, Any], progress: Progress, go_on: str) -> None:
    """Execute one notebook. Raises ChainError with the cell, the exception in a few lines, and the remedy."""
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    attempt = _Attempt(lesson, run)
    try:
        with progress.during(lesson):
            _execute(lesson, attempt.partial, parameters, progress)
    except PapermillExecutionError as error:
        raise ChainError(_failure(attempt, progress, error.source, _few_lines(error), go_on)) from None
    except DeadKernelError:
        source = progress.output.source if progress.output else ""
        raise ChainError(_failure(attempt, progress, source, [_DEAD], go_on)) from None
    if not attempt.finished():
        text = "  it ended without finishing its phase: was phase.finish(...) skipped, or sys.exit() called?"
        raise ChainError(_failure(attempt, progress, "", [text], go_on))
    attempt.partial.replace(attempt.final)


def _execute(lesson: Lesson, output: Path, parameters: dict[str, Any], progress: Progress) -> None:
    import papermill

    from lekhai_helpers import engine

    papermill.execute_notebook(
        lesson.path,
        output.resolve(),
        parameters=parameters,
        engine_name=engine.NAME,
        kernel_name="python3",
        progress_bar=False,
        cwd=lesson.path.parent,
        start_timeout=START_SECONDS,
        on_cell=progress.on_cell,
        env=kernel_environment(),
    )


def kernel_environment() -> dict[str, str]:
    """Return the environment of the lessons' kernels: ours, with the folders fixed and progress bars off.

    Kernels work in the notebooks' folder, so folders given relative to the user's own must become absolute.
    """
    project = str(Path(__file__).resolve().parents[1])
    paths = [project, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "LEKHAI_RUNS": str(runs_folder().resolve()),
        "LEKHAI_CACHE": str(cache_folder().resolve()),
        "UNSLOTH_COMPILE_LOCATION": str(cache_folder().resolve() / "unsloth"),
        "MPLBACKEND": os.environ.get("MPLBACKEND") or "module://matplotlib_inline.backend_inline",
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "LEKHAI_HEADLESS": "1",
        "TQDM_DISABLE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


_DEAD = (
    "  the notebook's Python was killed, most often for want of memory: close other programs or use a smaller profile"
)


def _failure(attempt: _Attempt, progress: Progress, source: str, what: list[str], go_on: str) -> str:
    lesson = attempt.lesson
    code = [f"    {line}" for line in source.splitlines()[:4]] + (["    ..."] if source.count("\n") >= 4 else [])
    return "\n".join(
        [
            f"{place(lesson)}  stopped at code cell {progress.cell} of {lesson.cells}:",
            *code,
            *what,
            f"Executed so far: {attempt.partial}",
            f"Put it right, then go on from here: {go_on}",
        ]
    )


def _few_lines(error: Any) -> list[str]:
    """Return the last places of a traceback, each with its line of code, and the exception."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
    places = [line.strip() for line in text.splitlines() if re.match(r"\s*(File |Cell In|-+> ?\d)", line)]
    return [*(f"  {line}" for line in places[-6:]), f"  {error.ename}: {error.evalue}"]


def _command(run: Run, overrides: dict[str, Any], first: int, last: int, only: int | None) -> str:
    """Return the command line that goes on with this run."""
    words = ["--only", f"{only:02}"] if only else []
    if not only and (first, last) != (1, len(PHASES)):
        words = ["--from", f"{first:02}", "--to", f"{last:02}"]
    for key, value in overrides.items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"]
    return resume_command(run, *words)


def _chosen_profile(profile: str, say: Say) -> str:
    if profile != "auto":
        return profile
    from lekhai_helpers.core.hardware import pick_profile

    profile, reason = pick_profile()
    say(f"Profile {profile}: {reason}")
    return profile


def _absolute_paths(overrides: dict[str, Any]) -> dict[str, Any]:
    """Make files and folders of the user's absolute: the notebooks do not run where the command was given."""
    files = {key for spec in PHASES.values() for key in spec.files}
    files |= {"model.name", "merge.language.name", "merge.structure.name"}
    return {
        key: str(Path(value).expanduser().resolve())
        if key in files and isinstance(value, str) and Path(value).expanduser().exists()
        else value
        for key, value in overrides.items()
    }


def _code_cells(path: Path) -> int:
    import nbformat

    return sum(cell.cell_type == "code" for cell in nbformat.read(path, as_version=4).cells)


def _seconds_per_cell(run: Run, notebooks: Path) -> float | None:
    """Spread the minutes the profile promises over all code cells; None where nobody has measured them."""
    minutes = run.settings.promise.minutes
    paths = [notebooks / f"{key}.ipynb" for key in PHASES]
    cells = sum(_code_cells(path) for path in paths if path.exists())
    return None if minutes == "unmeasured" else minutes * 60 / max(cells, 1)
