"""The report of a run: one self-contained HTML file of what was made and how good it is, for any browser.

``build_report(run, ledger, {"12_portability": figures})`` writes ``report.html`` into the run's folder. It reads
the ledger and the manifests only, and says of every phase that is missing that it is missing. Taught in notebook 12.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core import plots
from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.run_folder import PHASES, Run, versions, write_text
from lekhai_helpers.measure.judge import heatmap_table
from lekhai_helpers.prepare.contracts.ad_script import parse_ad_script

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

TEMPLATE = Path(__file__).with_name("report.html.j2")

STAGE_NAMES = {"base": "the base model", "merged": "the merged base", "sft": "after fine-tuning (SFT)"}
STAGE_NAMES |= {"dpo": "after preference alignment (DPO)"}
SHARES = ("valid_tables", "stopped")  # written as percent, as is everything that ends in "share"

Figures = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Script:
    """One response as the report shows it: its rows where it is a table, its raw text always."""

    stage: str
    seed: int
    text: str
    rows: list[tuple[str, str]]
    ok: bool
    problems: list[str]


@dataclass(frozen=True)
class Pair:
    """The same brief before and after training; either side is None where that stage did not answer it."""

    brief_id: str
    prompt: str
    before: Script | None
    after: Script | None


def build_report(run: Run, ledger: Ledger, figures: Figures | None = None) -> Path:
    """Write ``report.html`` into the run's folder and return its path.

    `figures` are those of a phase that has not written its manifest yet, by the phase's key; they go before what
    an older manifest says. Raises KeyError where a key is no phase.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    known = gather_figures(run, figures)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"shown": shown, "png": _png, "named": stage_name}
    page = environment.get_template(TEMPLATE.name).render(_content(run, ledger, known, running=set(figures or {})))
    return write_text(run.folder / "report.html", page)


def gather_figures(run: Run, running: Figures | None = None) -> dict[str, Mapping[str, Any] | None]:
    """Return the figures of every phase: those given, else those of its manifest, else None (it is missing)."""
    running = running or {}
    unknown = sorted(set(running) - set(PHASES))
    if unknown:
        raise KeyError(f"no phase {', '.join(unknown)}: give figures by phase, e.g. {{'12_portability': figures}}")
    manifests = {key: run.manifest(key) for key in PHASES}
    return {key: running.get(key, manifest["figures"] if manifest else None) for key, manifest in manifests.items()}


def stages_to_compare(figures: Mapping[str, Mapping[str, Any] | None], stages: list[str]) -> tuple[str, str]:
    """Return the stage before training and the stage whose adapter is kept, as far as they have responses.

    Before is the merged base where it wrote, else the base. After is DPO where notebook 10 keeps it, else SFT.
    """
    kept = (figures.get("10_preference_alignment") or {}).get("verdict") == "keep"
    before = "merged" if "merged" in stages else "base"
    return before, "dpo" if kept and "dpo" in stages else "sft"


def side_by_side(responses: DataFrame, before: str, after: str) -> list[Pair]:
    """Return every brief with its script of both stages, drawn with the same seed wherever both have one."""
    pairs = []
    for brief_id in responses.loc[responses["stage"].isin([before, after]), "brief_id"].unique():
        answers = responses[responses["brief_id"] == brief_id]
        seeds = {stage: set(answers.loc[answers["stage"] == stage, "seed"]) for stage in (before, after)}
        seeds_to_try = sorted(seeds[before] & seeds[after]) + sorted(seeds[before] | seeds[after])
        sides = [_script(answers, stage, seeds_to_try) for stage in (before, after)]
        pairs.append(Pair(str(brief_id), str(answers["prompt"].iloc[0]), *sides))
    return pairs


def stage_name(stage: str) -> str:
    """Return what a reader calls a stage."""
    return STAGE_NAMES.get(stage, stage)


def shown(value: Any, name: str = "") -> str:
    """Return a figure as a reader wants it: shares as percent, few digits, a dash for what is not there."""
    if value is None or value != value:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float | int) and (name in SHARES or name.endswith("share")):
        return f"{value:.0%}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        return ", ".join(shown(item) for item in value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _script(answers: DataFrame, stage: str, seeds: list[int]) -> Script | None:
    for seed in seeds:
        found = answers[(answers["stage"] == stage) & (answers["seed"] == seed)]
        if len(found):
            row = found.iloc[0]
            rows = parse_ad_script(row["text"])[0].rows
            return Script(stage, int(seed), row["text"], rows, bool(row["ok"]), row["problems"])
    return None


def _content(run: Run, ledger: Ledger, figures: dict[str, Any], running: set[str]) -> dict[str, Any]:
    """Return everything the template shows."""
    summary, responses = ledger.summary(), ledger.responses()
    before, after = stages_to_compare(figures, ledger.stages())
    judged = _judged(ledger.verdicts(), responses, after)
    return {
        "run": run,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": versions(),
        "font": base64.b64encode(plots.FONT_FILE.read_bytes()).decode(),
        "figures": {key: found or {} for key, found in figures.items()},
        "phases": [_phase_row(run, key, running) for key in PHASES],
        "missing": [key for key, found in figures.items() if found is None],
        "before": before,
        "after": after,
        "valid": {stage: _figure_of(summary, stage, "valid_tables") for stage in (before, after)},
        "pairs": side_by_side(responses, before, after),
        "summary": _records(summary),
        "judged": judged,
        "aqi": _records(ledger.aqi()),
        "plots": _plots(ledger, summary, figures, judged),
        "settings": run.settings.flat(),
        "origin": run.settings.origin,
    }


def _phase_row(run: Run, key: str, running: set[str]) -> dict[str, Any]:
    manifest = run.manifest(key)
    state = "complete" if manifest else "missing"
    if key in running:
        state = "being written"
    return {
        "phase": key,
        "state": state,
        "finished": manifest["finished"][:16].replace("T", " ") + " UTC" if manifest else None,
        "minutes": round(manifest["seconds"] / 60, 1) if manifest else None,
    }


def _figure_of(summary: DataFrame, stage: str, metric: str) -> dict[str, Any] | None:
    found = summary[(summary["stage"] == stage) & (summary["metric"] == metric) & summary["value"].notna()]
    return _records(found)[0] if len(found) else None


def _records(table: DataFrame) -> list[dict[str, Any]]:
    """Return the rows as dicts, with None where nothing was measured (pandas has two other words for it)."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def _judged(verdicts: DataFrame, responses: DataFrame, stage: str) -> dict[str, Any] | None:
    """Return what the judge said of one stage: mean scores and counts, industry by criterion."""
    rows = verdicts[verdicts["stage"] == stage]
    scored = rows[rows["status"] == "scored"]
    if scored.empty:
        return None
    table, counts = heatmap_table(rows, dict(zip(responses["brief_id"], responses["industry"], strict=True)))
    by_criterion = scored.groupby("criterion", sort=False)["score"].agg(["mean", "count"]).reset_index()
    return {"table": table, "counts": counts, "criteria": _records(by_criterion)}


def _plots(ledger: Ledger, summary: DataFrame, figures: dict[str, Any], judged: dict[str, Any] | None) -> dict:
    """Return the pictures that can be drawn from what is there, by name; the others are None."""
    makers: dict[str, Callable[[], Figure | None]] = {
        "validity": partial(plots.validity_by_stage, summary),
        "loss": partial(plots.loss_curves, ledger.metrics("06_fine_tuning")),
        "rewards": partial(plots.reward_curves, ledger.metrics("10_preference_alignment")),
        "merge": partial(_merge_plot, _rows(figures, "02_sutro_fusion", "merge_table")),
        "files": partial(_files_plot, _rows(figures, "12_portability", "files")),
        "heatmap": partial(_heatmap, judged),
    }
    return {name: _drawn(maker) for name, maker in makers.items()}


def _drawn(maker: Callable[[], Figure | None]) -> Figure | None:
    try:
        return maker()
    except plots.NothingToDraw:  # the template says that it is missing
        return None


def _rows(figures: dict[str, Any], phase: str, name: str) -> DataFrame:
    import pandas as pd

    return pd.DataFrame((figures[phase] or {}).get(name) or [])


def _merge_plot(table: DataFrame) -> Figure | None:
    needed = {"t", "bengali_perplexity", "outline_perplexity"}
    return plots.merge_curve(table.set_index("t")) if needed <= set(table.columns) else None


def _files_plot(table: DataFrame) -> Figure | None:
    needed = {"file", "size_mb", "tokens_per_second", "valid_share"}
    return plots.quant_tradeoff(table) if needed <= set(table.columns) else None


def _heatmap(judged: dict[str, Any] | None) -> Figure | None:
    return plots.heatmap(judged["table"], judged["counts"]) if judged else None


def _png(figure: Figure) -> str:
    """Return a picture as a data address, so that the report is one file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
