"""The parts of a report that are read from the ledger and the manifests: scripts, contract, cost, alignment quality.

Called by `measure.report`; what judges said is read in `measure.report_judges`. Everything here may be missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core.run_folder import Run
from lekhai_helpers.measure import memorising
from lekhai_helpers.prepare.contracts.ad_script import parse_ad_script

if TYPE_CHECKING:
    from pandas import DataFrame

STAGE_NAMES = {"base": "the base model", "merged": "the merged base", "sft": "after fine-tuning (SFT)"}
STAGE_NAMES |= {"quantized": "the recommended file"}
STAGE_NAMES |= {"dpo": "after preference alignment (DPO)", "sft+grammar": "fine-tuned, held to the grammar"}
CONTRACT = ("valid_tables", "stopped", "bengali_share", "mean_tokens")
SHARES = ("valid_tables", "stopped")  # written as percent, as is everything that ends in "share"
FILE = "gguf-"  # what the stages of the files of notebook 12 begin with
SERVED = (FILE, "quantized")  # stages that a server wrote, several texts at once
POOLED = -1  # the ledger's layer for "all layers with learned weights"

Rows = list[dict[str, Any]]


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


def _script(answers: DataFrame, stage: str, seeds: list[int]) -> Script | None:
    for seed in seeds:
        found = answers[(answers["stage"] == stage) & (answers["seed"] == seed)]
        if len(found):
            row = found.iloc[0]
            rows = parse_ad_script(row["text"])[0].rows
            return Script(stage, int(seed), row["text"], rows, bool(row["ok"]), row["problems"])
    return None


def stage_name(stage: str) -> str:
    """Return what a reader calls a stage."""
    return STAGE_NAMES.get(stage, f"the file {stage.removeprefix(FILE)}" if stage.startswith(FILE) else stage)


def shown(value: Any, name: str = "") -> str:
    """Return a figure as a reader wants it: shares as percent, few digits, a dash for what is not there."""
    if value is None or value != value:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float | int) and _is_share(name):
        return f"{value:.0%}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        return ", ".join(shown(item) for item in value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _is_share(name: str) -> bool:
    return name in SHARES or name.endswith("share") or name.startswith(("accuracy", "position flip", "flip"))


def with_interval(figure: Mapping[str, Any] | None, name: str = "") -> str:
    """Return "86% (71% to 94%, n=36)", leaving out what was not counted."""
    if figure is None or figure["value"] is None:
        return "–"
    around = f"{shown(figure['low'], name)} to {shown(figure['high'], name)}" if figure["low"] is not None else ""
    counted = f"n={figure['n']}" if figure["n"] is not None else ""
    inside = ", ".join(part for part in (around, counted) if part)
    return shown(figure["value"], name) + (f" ({inside})" if inside else "")


def records(table: DataFrame) -> Rows:
    """Return the rows as dicts, with None where nothing was measured (pandas has two other words for it)."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def phase_row(run: Run, key: str, running: set[str]) -> dict[str, Any]:
    """Return one line of what was run: phase, state, when it finished, how many minutes it took."""
    manifest = run.manifest(key)
    state = "complete" if manifest else "missing"
    return {
        "phase": key,
        "state": "being written" if key in running else state,
        "finished": manifest["finished"][:16].replace("T", " ") + " UTC" if manifest else None,
        "minutes": round(manifest["seconds"] / 60, 1) if manifest else None,
    }


def made_of(run: Run, figures: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Say what was made and from what: base, donors, data, adapter, briefs. A line that is not known is left out."""
    base, data, adapter = (figures[key] for key in ("01_environment", "03_data", "04_base_model"))
    settings, t = run.settings, figures["02_sutro_fusion"].get("merge_t")
    lines: dict[str, Any] = {"base model": base.get("base") or settings.model.name, "its licence": base.get("licence")}
    if t is not None:
        donors = f"{settings.merge.language.title} and {settings.merge.structure.title}"
        lines["merged from"] = f"{donors}, with a share of {shown(t)} of the second"
    lines["data"] = Path(settings.data.file).name
    if data.get("usable") is not None:
        lines["data"] += (
            f": {data['usable']} of {data.get('rows')} rows used, {data.get('train_examples')} to learn from"
        )
    if adapter.get("trained"):
        share = adapter["trained"] / adapter["all"]
        lines["trained"] = (
            f"{adapter['trained']:,} of {adapter['all']:,} numbers ({share:.1%}), LoRA rank {settings.lora.r}"
        )
    seeds = len(settings.evaluation.seeds)
    lines["measured on"] = f"{Path(settings.evaluation.briefs).name}, {seeds} answer(s) to each brief"
    return {name: str(words) for name, words in lines.items() if words}


def contract_rows(summary: DataFrame) -> Rows:
    """Return one row a stage with the figures of the contract, each with its interval and n."""
    figures = {(row["stage"], row["metric"]): row for row in records(summary) if row["metric"] in CONTRACT}
    stages = list(dict.fromkeys(stage for stage, _ in figures))
    return [
        {"stage": stage_name(stage)} | {name: with_interval(figures.get((stage, name)), name) for name in CONTRACT}
        for stage in stages
    ]


def speed_rows(responses: DataFrame) -> Rows:
    """Return for each stage how fast it wrote: texts, tokens, tokens a second.

    Not for the files: a server writes several texts at once, so their seconds do not add up. Notebook 12 has those.
    """
    rows = []
    for stage, part in responses[~responses["stage"].str.startswith(SERVED)].groupby("stage", sort=False):
        tokens, seconds = int(part["tokens"].sum()), float(part["seconds"].sum())
        speed = round(tokens / seconds, 1) if seconds else None
        rows.append({"stage": stage_name(str(stage)), "texts": len(part), "tokens": tokens, "tokens_per_second": speed})
    return rows


def copying(figures: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what notebook 06 counted of copied word runs, as a sentence and rows; None where it did not."""
    found: Sequence[Mapping[str, Any]] = figures.get("copied") or []
    return {"sentence": memorising.in_words(*found), "rows": [dict(row) for row in found]} if len(found) == 2 else None


def grammar(figures: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what notebook 07 found of writing within a grammar: its price, and both ways of writing side by side."""
    found = figures.get("grammar") or {}
    sides = {name: values for name, values in found.items() if isinstance(values, Mapping)}
    names = dict.fromkeys(name for values in sides.values() for name in values)
    rows = [
        {"figure": name} | {side: shown(values.get(name), name) for side, values in sides.items()} for name in names
    ]
    return {"price": {k: v for k, v in found.items() if k not in sides}, "rows": rows} if found else None


def alignment(table: DataFrame) -> dict[str, Any] | None:
    """Return alignment quality: figures by stage with learned layer weights, and the differences of two stages.

    `table` as `Ledger.aqi` returns it: layer -1 is the pooled one, a metric that begins with ``delta_`` a difference.
    Where no pooled figures are there, those of the last layer stand in.
    """
    if table.empty:
        return None
    layer = POOLED if (table["layer"] == POOLED).any() else int(table["layer"].max())
    rows = records(table[table["layer"] == layer])
    plain = [row for row in rows if not row["metric"].startswith("delta_")]
    stages = list(dict.fromkeys(row["stage"] for row in plain))
    found = {(row["metric"], row["stage"]): row for row in plain}
    metrics = list(dict.fromkeys(row["metric"] for row in plain))
    by_metric = [{"figure": m} | {stage_name(s): with_interval(found.get((m, s))) for s in stages} for m in metrics]
    differences = [_difference(row) for row in rows if row["metric"].startswith("delta_")]
    where = "all layers, with learned weights" if layer == POOLED else f"layer {layer}"
    return {"where": where, "rows": by_metric, "differences": differences}


def _difference(row: Mapping[str, Any]) -> dict[str, str]:
    found = "without an interval, so nothing is shown"
    if row["low"] is not None and row["high"] is not None:
        held = row["low"] <= 0 <= row["high"]
        found = "no difference shown: the interval holds 0" if held else "differs: the interval leaves 0 out"
    metric = row["metric"].removeprefix("delta_")
    return {"figure": metric, "stage": stage_name(row["stage"]), "difference": with_interval(row), "found": found}


def unshown(figures: Mapping[str, Mapping[str, Any]], judged: bool, aqi: bool) -> list[str]:
    """Name what this run did not measure, for the end of the report. Phases that are missing are named elsewhere."""
    tuned, refined = figures["06_fine_tuning"], figures["07_refinement"]
    asked = {
        "Whether it copies its training scripts": "copied" in tuned,
        "How far the estimate of memory was from the measured one": "memory" in tuned,
        "Whether the tone that is asked for changes the words": "p" in (refined.get("tone") or {}),
        "Whether two stages differ text against text": "comparison" in figures["10_preference_alignment"],
        "Any judgement of language, structure or tone: no judge was asked, and no person": judged,
        "Alignment quality (do safe and unsafe requests lie apart inside the model?)": aqi,
    }
    return [words for words, known in asked.items() if not known]
