"""What a run came to, read from its ledger and manifests. Printed at the end of `lekhai run`.

`newest_run` finds the run that other commands (`lekhai write`, `lekhai report`) speak of.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.core.run_folder import PHASES, Run, RunError, runs_folder
from lekhai_helpers.core.words import Words


def newest_run(label: str | None = None, recipe: str | None = None) -> Run:
    """Return the run with this label (its folder's name), or the one that finished a phase last, of `recipe` or of any.

    Raises RunError where there is none.
    """
    pattern = label or (f"{recipe}-*" if recipe else "*")
    manifests = sorted(runs_folder().glob(f"{pattern}/*/manifest.json"), key=lambda path: path.stat().st_mtime)
    manifests = [path for path in manifests if path.parent.name in PHASES]
    if not manifests:
        wanted = f"the run {label!r}" if label else f"a run of {recipe}" if recipe else "any run"
        how = f"lekhai run --recipe {recipe}" if recipe else "lekhai run"
        raise RunError(f"{wanted} was not found in {runs_folder()}: make one with `{how}`")
    folder, settings = manifests[-1].parents[1], _settings_of(manifests[-1])
    return Run(settings, folder.name.removeprefix(f"{settings.recipe}-{settings.profile}-"))


def closing_summary(run: Run) -> str:
    """Return what the run came to, read from ledger and manifests: before and after, kept contracts, files."""
    from lekhai_helpers.prepare.contracts import words_of

    with run.open_ledger() as ledger:
        parts = [*_before_and_after(run, ledger), *_validity(ledger, words_of(run.settings))]
    return "\n".join([f"\n{run.label}", *parts, *_files(run)])


def recommended_gguf(run: Run) -> Path | None:
    """Return the GGUF file that notebook 12 recommends, or None before it is finished."""
    manifest, path = run.manifest("12_portability"), run.output("gguf")
    if manifest is None or path is None or path.is_file():
        return path
    return path / manifest["figures"]["recommended"]


def resume_command(run: Run, *options: str) -> str:
    """Return the command line that goes on with a run; `options` stand before --resume."""
    words = ["--recipe", run.settings.recipe, "--profile", run.settings.profile, "--name", run.name]
    return shlex.join(["lekhai", "run", *words, *options, "--resume"])


def _settings_of(manifest: Path) -> Settings:
    """Return the settings a manifest was made with."""
    return Settings.model_validate(json.loads(manifest.read_text(encoding="utf-8"))["settings"])


def _before_and_after(run: Run, ledger: Any) -> list[str]:
    """Return a script of the untrained and one of the kept model, for the first brief that both answered."""
    stages = ledger.stages()
    judged = run.manifest("10_preference_alignment") or {"figures": {}}
    before = next((stage for stage in ("merged", "base") if stage in stages), None)
    after = next((stage for stage in (judged["figures"].get("kept"), "sft") if stage in stages), None)
    if before is None or after is None:
        return []
    old, new = ledger.responses(before), ledger.responses(after)
    common = [brief for brief in old["brief_id"] if brief in set(new["brief_id"])]
    if not common:
        return []
    texts = [table[table["brief_id"] == common[0]].iloc[0] for table in (old, new)]
    heads = (f"Before training ({before}, brief {common[0]}):", f"After ({after}, the same brief):")
    return [part for head, row in zip(heads, texts, strict=True) for part in ("", head, row["text"].strip())]


def _validity(ledger: Any, words: Words) -> list[str]:
    table = ledger.summary()
    rows = table[table["metric"] == "valid_tables"].dropna(subset=["value", "low", "high"])
    lines = [f"  {r.stage:<14}{r.value:>5.0%}   {r.low:.0%} to {r.high:.0%}, of {r.n}" for r in rows.itertuples()]
    head = f"{words.heading} by stage (share, its interval, {words.units} counted):"
    return ["", head, *lines] if lines else []


def _files(run: Run) -> list[str]:
    found = (("GGUF", recommended_gguf(run)), ("Report", run.folder / "report.html"))
    lines = [f"{name}: {path}" for name, path in found if path is not None and path.exists()]
    return ["", *lines] if lines else []
