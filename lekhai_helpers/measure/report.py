"""The report of a run: one self-contained HTML file of what was made and how good it is, for any browser.

``build_report(run, ledger, {"12_portability": figures})`` writes ``report.html`` into the run's folder. It reads
the ledger and the manifests only, and says of every phase that is missing that it is missing. Taught in notebook 12.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core import plots
from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.run_folder import PHASES, Run, versions, write_text
from lekhai_helpers.core.words import Words
from lekhai_helpers.measure import report_parts as parts
from lekhai_helpers.measure.recommendations import executive_summary
from lekhai_helpers.measure.report_judges import judge_heatmap, judge_reports
from lekhai_helpers.measure.report_parts import Rows, records
from lekhai_helpers.prepare.contracts import get_contract, words_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

TEMPLATE = Path(__file__).with_name("report.html.j2")

Figures = Mapping[str, Mapping[str, Any]]


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
    environment.filters |= {"shown": parts.shown, "png": _png, "named": parts.stage_name}
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


def _content(run: Run, ledger: Ledger, known: dict[str, Any], running: set[str]) -> dict[str, Any]:
    """Return everything the template shows. Figures of a phase that is missing are an empty mapping."""
    figures = {key: found or {} for key, found in known.items()}
    summary, responses, words = ledger.summary(), ledger.responses(), words_of(run.settings)
    before, after = stages_to_compare(figures, ledger.stages())
    leading, seed = figures["11_judge"].get("judge"), run.settings.seed
    judges = judge_reports(ledger.verdicts(), ledger.audits(), responses, (before, after), leading, seed)
    inside = ledger.aqi()
    aqi, judged = parts.alignment(inside), any(judge.scores for judge in judges)
    return {
        "run": run,
        "words": words,
        "rule": get_contract(run.settings.data.contract).rule,
        "advice": executive_summary(figures, inside, words),
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": versions(),
        "font": base64.b64encode(plots.FONT_FILE.read_bytes()).decode(),
        "figures": figures,
        "phases": [parts.phase_row(run, key, running) for key in PHASES],
        "missing": [key for key, found in known.items() if found is None],
        "made_of": parts.made_of(run, figures),
        "before": before,
        "after": after,
        "valid": {stage: _figure_of(summary, stage, "valid_tables") for stage in (before, after)},
        "pairs": parts.side_by_side(responses, before, after, run.settings.data.contract),
        "contract": parts.contract_rows(summary, words),
        "summary": parts.summary_rows(summary, words),
        "speed": parts.speed_rows(responses),
        "copied": parts.copying(figures["06_fine_tuning"], words),
        "judges": judges,
        "heatmaps": {judge.name: judge_heatmap(judge, words) for judge in judges},
        "aqi": aqi,
        "grammar": parts.grammar(figures["07_refinement"]),
        "plots": _plots(ledger, summary, figures, words),
        "unshown": parts.unshown(figures, judged, aqi is not None, bool(run.settings.evaluation.tones), words),
        "settings": run.settings.flat(),
        "origin": run.settings.origin,
    }


def _figure_of(summary: DataFrame, stage: str, metric: str) -> dict[str, Any] | None:
    found = summary[(summary["stage"] == stage) & (summary["metric"] == metric) & summary["value"].notna()]
    return records(found)[0] if len(found) else None


def _plots(ledger: Ledger, summary: DataFrame, figures: dict[str, Any], words: Words) -> dict:
    """Return the pictures that can be drawn from what is there, by name; the others are None."""
    makers: dict[str, Callable[[], Figure | None]] = {
        "validity": partial(plots.validity_by_stage, summary, words),
        "training": partial(plots.training_curves, ledger.metrics("06_fine_tuning")),
        "rewards": partial(plots.reward_curves, ledger.metrics("10_preference_alignment"), words),
        "layers": partial(plots.aqi_layers, ledger.aqi()),
        "merge": partial(_merge_plot, figures["02_sutro_fusion"].get("merge_table") or []),
        "files": partial(_files_plot, figures["12_portability"].get("files") or [], words),
    }
    return {name: _drawn(maker) for name, maker in makers.items()}


def _drawn(maker: Callable[[], Figure | None]) -> Figure | None:
    try:
        return maker()
    except plots.NothingToDraw:  # the template says that it is missing
        return None


def _merge_plot(rows: Rows) -> Figure | None:
    table = _table_with(rows, {"t", "bengali_perplexity", "outline_perplexity"})
    return None if table is None else plots.merge_curve(table.set_index("t"))


def _files_plot(rows: Rows, words: Words) -> Figure | None:
    table = _table_with(rows, {"file", "size_mb", "tokens_per_second", "valid_share"})
    return None if table is None else plots.quality_size_speed(table, words=words)


def _table_with(rows: Rows, needed: set[str]) -> DataFrame | None:
    """Return the rows as a table, or None where a column is missing that the picture needs."""
    import pandas as pd

    table = pd.DataFrame(rows)
    return table if needed <= set(table.columns) else None


def _png(figure: Figure) -> str:
    """Return a picture as a data address, so that the report is one file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
