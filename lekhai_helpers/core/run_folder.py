"""A run is a folder; a phase is a sub-folder whose manifest, written last, says that it is complete.

Every notebook begins with ``phase = open_phase("06_fine_tuning", RECIPE, PROFILE, RUN, OVERRIDES)`` and ends
with ``phase.finish(outputs={...}, figures={...})``. Until then its files lie in ``06_fine_tuning.partial``,
so an interrupted phase never looks finished, and an older complete one is never lost.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lekhai_helpers.core import recipe as recipe_module
from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.recipe import Settings


class RunError(RuntimeError):
    """Something a phase needs is not there, or the run is in use; the text names the remedy."""


@dataclass(frozen=True)
class PhaseSpec:
    """One row of the chain: what a phase leaves, and which settings it depends on."""

    key: str
    outputs: tuple[str, ...]
    sections: tuple[str, ...]
    files: tuple[str, ...] = ()


# The chain. `files` are settings that name an input file of the user's, watched by hash.
PHASES = {
    spec.key: spec
    for spec in (
        PhaseSpec("01_environment", ("base",), ("model", "seed")),
        PhaseSpec(
            "02_sutro_fusion",
            ("merged_base",),
            ("model", "merge", "lora", "seed"),
            ("merge.language.data", "merge.structure.data"),
        ),
        PhaseSpec(
            "03_data",
            ("dataset",),
            ("model", "data", "system_prompt", "seed"),
            ("data.file", "data.labelled", "evaluation.briefs"),
        ),
        PhaseSpec("04_base_model", ("lora_config",), ("model", "lora", "sft", "seed")),
        PhaseSpec(
            "05_vibe_check",
            ("baseline",),
            ("model", "system_prompt", "decoding", "evaluation"),
            ("evaluation.briefs",),
        ),
        PhaseSpec(
            "06_fine_tuning",
            ("sft_adapter",),
            ("model", "data", "lora", "sft", "decoding", "system_prompt", "seed"),
        ),
        PhaseSpec("07_refinement", ("refinement",), ("model", "decoding", "evaluation"), ("evaluation.briefs",)),
        PhaseSpec("08_export", ("exported_model",), ("model", "export", "card", "decoding", "evaluation")),
        PhaseSpec("09_integration", ("integration",), ("model", "decoding", "serving")),
        PhaseSpec(
            "10_preference_alignment",
            ("kept_adapter", "kept_model"),
            ("model", "dpo", "system_prompt", "decoding", "evaluation", "seed"),
            ("evaluation.briefs", "dpo.thumbs"),
        ),
        # Reads the texts of all stages from the ledger: whatever makes them write anew makes the grades old.
        PhaseSpec(
            "11_judge",
            ("judgement",),
            ("model", "judge", "aqi", "system_prompt", "decoding", "evaluation", "seed"),
            ("evaluation.briefs", "aqi.prompts", "judge.audit_file"),
        ),
        PhaseSpec(
            "12_portability",
            ("gguf",),
            ("model", "export", "card", "judge", "system_prompt", "decoding", "evaluation", "seed"),
            ("evaluation.briefs",),
        ),
    )
}
_MAKER = {output: spec.key for spec in PHASES.values() for output in spec.outputs}


def runs_folder() -> Path:
    """Return the folder of all runs: ``LEKHAI_RUNS`` (a Drive folder on Colab), else ``runs`` in the project."""
    given = os.environ.get("LEKHAI_RUNS")
    return Path(given).expanduser() if given else recipe_module.data_folder().parent / "runs"


def cache_folder() -> Path:
    """Return the folder for what any run can use again (the unpacked base): ``LEKHAI_CACHE`` or ~/.cache/lekhai."""
    given = os.environ.get("LEKHAI_CACHE")
    folder = Path(given).expanduser() if given else Path.home() / ".cache" / "lekhai"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass
class Run:
    """One folder ``runs/<recipe>-<profile>-<name>``: twelve executed notebooks, a folder per phase, a report."""

    settings: Settings
    name: str

    @property
    def label(self) -> str:
        return f"{self.settings.recipe}-{self.settings.profile}-{self.name}"

    @property
    def folder(self) -> Path:
        return runs_folder() / self.label

    def open_ledger(self) -> Ledger:
        """Open the ledger all runs share, with this run entered in it."""
        return Ledger(
            runs_folder() / "centralized.db",
            experiment=self.label,
            recipe=self.settings.recipe,
            profile=self.settings.profile,
            settings=self.settings.model_dump_json(),
        )

    def lock(self) -> FileLock:
        """Take the run for one writer. Raises RunError where another process holds it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise RunError(
                f"{self.label} is being written by another process. Wait for it, or choose another --name."
            ) from None
        return lock

    def manifest(self, phase: str) -> dict[str, Any] | None:
        """Return what a phase wrote last, or None while it is not complete."""
        path = self.folder / phase / "manifest.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def output(self, name: str) -> Path | None:
        """Return the path of a finished output, or None."""
        manifest = self.manifest(_MAKER[name])
        return self.folder / _MAKER[name] / manifest["outputs"][name]["path"] if manifest else None

    def stale_reason(self, phase: str) -> str | None:
        """Say why a phase has to run (again), or None where its manifest still holds."""
        manifest = self.manifest(phase)
        if manifest is None:
            return "it is not complete"
        if manifest["settings_hash"] != self._settings_hash(phase):
            return "its settings changed"
        if manifest["files"] != self._file_hashes(phase):
            return "an input file changed"
        for name, sha in manifest["inputs"].items():
            maker = self.manifest(_MAKER[name])
            if maker is None or maker["outputs"][name]["sha256"] != sha:
                return f"{name} changed"
        return None

    def _settings_hash(self, phase: str) -> str:
        return self.settings.hash(*PHASES[phase].sections)

    def _file_hashes(self, phase: str) -> dict[str, str]:
        flat = self.settings.flat()
        names = {key: flat[key] for key in PHASES[phase].files if flat.get(key)}
        # The name of a set on a hub is no file that could be watched.
        files = {key: name for key, name in names.items() if name.partition(":")[0] not in recipe_module.PROMPT_SETS}
        # A set on a hub is no file of the user's: its name and revision stand in the settings.
        here = {key: name for key, name in files.items() if not recipe_module.is_hub_set(name)}
        return {key: sha256(recipe_module.data_file(name)) for key, name in here.items()}


@dataclass
class Phase:
    """The work of one notebook: where it writes, what it reads, and the manifest it leaves."""

    key: str
    run: Run
    ledger: Ledger
    started: float = field(default_factory=time.monotonic)
    inputs: dict[str, str] = field(default_factory=dict)
    finished: bool = False

    @property
    def settings(self) -> Settings:
        return self.run.settings

    @property
    def folder(self) -> Path:
        """The folder to write to while the phase runs; afterwards the phase's own."""
        if self.finished:
            return self.run.folder / self.key
        folder = self.run.folder / f"{self.key}.partial"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def require(self, name: str) -> Path:
        """Return the path of an output of an earlier phase.

        Raises RunError that names the notebook to run first.
        """
        if name not in _MAKER:
            raise KeyError(f"no phase makes {name!r}; known: {', '.join(sorted(_MAKER))}")
        path = self.run.output(name)
        maker = _MAKER[name]
        if path is None or not path.exists():
            raise RunError(
                f"no {name} in {self.run.label}: run notebook {maker} first, "
                f"or `lekhai run --only {maker[:2]} --recipe {self.settings.recipe} "
                f"--profile {self.settings.profile} --name {self.run.name}`"
            )
        manifest = self.run.manifest(maker)
        assert manifest is not None
        self.inputs[name] = manifest["outputs"][name]["sha256"]
        return path

    def figures(self, phase: str) -> dict[str, Any]:
        """Return the figures an earlier phase left in its manifest (empty while it has none)."""
        manifest = self.run.manifest(phase)
        return manifest["figures"] if manifest else {}

    def opening(self) -> str:
        """Return the lines a notebook opens with: which run, which profile, what the whole chain takes on it."""
        promise = self.settings.promise
        takes = [
            f"{name} {value}" if value == recipe_module.UNMEASURED else f"{name} about {value:g} {unit}"
            for name, value, unit in (
                ("time", promise.minutes, "minutes"),
                ("memory", promise.memory_gb, "GB"),
                ("disk", promise.disk_gb, "GB"),
            )
        ]
        return (
            f"{self.settings.title}\nrun {self.run.label}, phase {self.key}\n"
            f"all twelve notebooks on profile {self.settings.profile}: {', '.join(takes)}"
        )

    def show(self, path: Path) -> str:
        """Return a path as the reader should see it: relative to the folder of runs."""
        for parent in (self.folder, self.run.folder.parent):
            if path.is_relative_to(parent):
                return str(path.relative_to(parent))
        return path.name

    def finish(self, outputs: dict[str, Path], figures: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write the manifest and give the folder its final name. Returns the manifest.

        Raises RunError where an output this phase owes is missing: a phase without its output is not complete.
        """
        owed = set(PHASES[self.key].outputs) - set(outputs)
        missing = [name for name, path in outputs.items() if not path.exists()]
        if owed or missing:
            raise RunError(f"{self.key} cannot finish: missing {', '.join(sorted(owed) + missing)}")
        manifest = {
            "phase": self.key,
            "run": self.run.label,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self.started, 1),
            "seed": self.settings.seed,
            "settings_hash": self.run._settings_hash(self.key),
            "settings": self.settings.model_dump(mode="json"),
            "inputs": self.inputs,
            "files": self.run._file_hashes(self.key),
            "outputs": {
                name: {"path": str(path.relative_to(self.folder)), "sha256": sha256(path)}
                for name, path in outputs.items()
            },
            "figures": figures or {},
            "versions": versions(),
        }
        write_json(self.folder / "manifest.json", manifest)
        self._take_final_name()
        return manifest

    def _take_final_name(self) -> None:
        final, previous = self.run.folder / self.key, self.run.folder / f"{self.key}.previous"
        if final.exists():
            shutil.rmtree(previous, ignore_errors=True)
            final.rename(previous)
        self.folder.rename(final)
        self.finished = True


def open_phase(key: str, recipe: str, profile: str, run: str, overrides: dict[str, Any] | None = None) -> Phase:
    """Open a phase of a run: resolve the settings, make its folder, open the ledger.

    `profile` "auto" takes the one that fits this machine (see `core.hardware.pick_profile`).
    """
    if key not in PHASES:
        raise KeyError(f"no phase {key!r}; known: {', '.join(PHASES)}")
    if profile == "auto":
        from lekhai_helpers.core.hardware import pick_profile

        profile = pick_profile()[0]
    settings = recipe_module.resolve(recipe, profile, overrides)
    _use_device(settings)
    this_run = Run(settings, run)
    this_run.folder.mkdir(parents=True, exist_ok=True)
    return Phase(key, this_run, this_run.open_ledger())


def _use_device(settings: Settings) -> None:
    """Hold a run to its profile's device: the libraries would take any card they see. Before torch is imported.

    Raises RunError where the profile needs a card and there is none.
    """
    if settings.model.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    from lekhai_helpers.core.hardware import machine

    if machine()["gpu"] is None:
        raise RunError(
            f"profile {settings.profile} needs an NVIDIA card and none was found here: use --profile cpu, "
            "or on Colab choose Runtime > Change runtime type > T4 GPU"
        )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's file names and contents."""
    if path.is_dir():
        total = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            total.update(f"{file.relative_to(path)}\0{sha256(file)}\n".encode())
        return total.hexdigest()
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> Path:
    """Write JSON beside its final name and rename it, so that no half file is ever found."""
    return write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_text(path: Path, text: str) -> Path:
    """Write a text file beside its final name and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".writing")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
    return path


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide what a run gives."""
    found = {"python": sys.version.split()[0]}
    for name in ("torch", "transformers", "trl", "peft", "unsloth", "datasets", "bitsandbytes", "mergekit"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found
