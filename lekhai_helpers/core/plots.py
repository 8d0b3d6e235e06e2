"""Every picture LekhAI draws, as matplotlib figures with Bengali labels. Used by the notebooks and the report.

Each function returns a closed figure: a notebook cell that ends with it shows it once. Colours are told apart
by people who do not see red and green alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core.words import Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

FONT_FILE = Path(__file__).with_name("fonts") / "NotoSansBengali-Regular.ttf"
OLDEST_MATPLOTLIB = (3, 11)

# Okabe and Ito's palette.
BLUE, ORANGE, GREEN, PINK, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#8A8A8A"
_COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, GREY)


class PlotError(RuntimeError):
    """A picture cannot be drawn rightly; the text says why and names the remedy."""


class NothingToDraw(PlotError):
    """The figures this picture needs are not there yet; the text names the notebook that makes them."""


def use_bengali_font() -> str:
    """Make matplotlib draw Bengali letters with the font that ships here, and return its name.

    Latin letters stay in matplotlib's own font. Raises PlotError before matplotlib 3.11, which puts conjuncts
    (ক্ষ, জ্ঞ) and vowel signs in the wrong order without a word.
    """
    import matplotlib
    from matplotlib import font_manager

    if matplotlib.__version_info__[:2] < OLDEST_MATPLOTLIB:
        raise PlotError(
            f"matplotlib {matplotlib.__version__} draws Bengali wrongly. Remedy: run `bash colab_setup.sh`, "
            'or `pip install "matplotlib>=3.11"`, and restart the notebook.'
        )
    family = font_manager.get_font(FONT_FILE).family_name
    if family not in font_manager.fontManager.get_font_names():
        font_manager.fontManager.addfont(FONT_FILE)
    matplotlib.rcParams["font.family"] = ["DejaVu Sans", family]
    return family


def token_lengths(lengths: Mapping[str, Sequence[int]], limit: int) -> Figure:
    """Draw how many tokens the examples take, per tokenizer, and the limit beyond which they would be cut.

    `lengths`: tokenizer's name to one number of tokens per example; `limit`: tokens of max_seq_length.
    """
    import numpy as np

    figure, axes = _canvas(rows=len(lengths), height=1.1 + 1.25 * len(lengths), sharex=True)
    highest = max([limit, *(max(values) for values in lengths.values())])
    for ax, (name, values), colour in zip(axes, lengths.items(), _endless(len(lengths)), strict=True):
        ax.hist(values, bins=np.linspace(0, highest * 1.02, 52).tolist(), color=colour)
        ax.axvline(limit, color="black", linestyle="--", linewidth=1)
        too_long = sum(value > limit for value in values) / len(values)
        ax.set_title(f"{name}: half of them under {np.median(values):.0f}, {too_long:.0%} over {limit}", fontsize=10)
        ax.set_ylabel("examples")
    axes[-1].set_xlim(left=0)
    axes[-1].set_xlabel(f"tokens in one example (dashed: the limit, {limit})")
    figure.suptitle("How long are the examples?")
    return _done(figure)


def loss_curves(metrics: DataFrame, words: Words | None = None) -> Figure:
    """Draw training and validation loss by step. `metrics`: step, name, value, as `ledger.metrics` returns it."""
    units = (words or Words()).units
    names = {"loss": f"training: the {units} it learns from", "eval_loss": f"validation: {units} it never saw"}
    found = _logged(metrics, names, "06_fine_tuning")
    figure, (ax,) = _canvas()
    _lines(ax, metrics, found)
    ax.set(xlabel="training step", ylabel="loss (nats per token)", title="Does it learn, or only memorise?")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False)
    return _done(figure)


def training_curves(metrics: DataFrame) -> Figure:
    """Draw everything a training logs, one panel each: losses, gradient norm, learning rate, speed, memory.

    `metrics`: step, name, value, as `ledger.metrics` returns it. A panel without figures is left out.
    """
    panels = {words: names for words, names in _TRAINING_PANELS.items() if metrics["name"].isin(names).any()}
    every = {name: words for names in _TRAINING_PANELS.values() for name, words in names.items()}
    _logged(metrics, every, "06_fine_tuning")
    figure, axes = _canvas(rows=len(panels), height=1.2 + 1.7 * len(panels), sharex=True)
    for ax, (words, names) in zip(axes, panels.items(), strict=True):
        found = {name: label for name, label in names.items() if (metrics["name"] == name).any()}
        _lines(ax, metrics, found)
        ax.set_title(words, fontsize=10, loc="left")
        ax.set_ylim(bottom=0)
        _plain_numbers(ax)
        if len(names) > 1:
            ax.legend(frameon=False, fontsize=8)
    axes[-1].set_xlabel("training step")
    figure.suptitle("What happened during training?")
    return _done(figure)


_TRAINING_PANELS = {
    "loss (nats per token)": {"loss": "training", "eval_loss": "validation"},
    "gradient norm (how hard each step pulls)": {"grad_norm": "gradient norm"},
    "learning rate": {"learning_rate": "learning rate"},
    "speed (tokens per second)": {"tokens_per_second": "speed"},
    "memory (MB)": {"memory_mb": "memory"},
}


def reward_curves(metrics: DataFrame, words: Words | None = None) -> Figure:
    """Draw rewards and accuracy of preference alignment by step. `metrics`: step, name, value, as `ledger.metrics`.

    The panel of the accuracy is left out where none was logged: KTO knows no pairs to rank.
    """
    rewards = {"rewards/chosen": "chosen", "rewards/rejected": "rejected", "rewards/margins": "chosen minus rejected"}
    found = _logged(metrics, rewards, "10_preference_alignment")
    ranked = (metrics["name"] == "rewards/accuracies").any()
    figure, (top, *below) = _canvas(rows=2 if ranked else 1, height=5.2 if ranked else 3.2, sharex=True)
    _lines(top, metrics, found)
    top.legend(frameon=False)
    top.axhline(0, color="black", linewidth=0.8)
    unit = (words or Words()).unit
    top.set(ylabel="reward (β · log ratio)", title=f"Does it come to prefer the better {unit}?")
    for bottom in below:
        _lines(bottom, metrics, {"rewards/accuracies": "pairs ranked rightly"})
        bottom.set(ylabel="pairs ranked rightly", ylim=(-0.03, 1.05))
        _percent(bottom.yaxis)
    [top, *below][-1].set_xlabel("training step")
    return _done(figure)


def pair_lengths(table: DataFrame) -> Figure:
    """Draw the tokens of the better and the worse side of every preference pair, and the band they must lie in.

    `table`: columns source, chosen, rejected (tokens), as `learn.pairs.check_pairs` returns its rows.
    """
    if table.empty:
        raise NothingToDraw("there are no pairs: raise dpo.pairs and run notebook 10 again")
    figure, (ax,) = _canvas(width=6.4, height=4.6)
    ends = [0, max(table["chosen"].max(), table["rejected"].max()) * 1.1]
    ax.plot(ends, ends, color="black", linewidth=0.8, label="equal length")
    ax.fill_between(ends, [0, ends[1] * 0.8], [0, ends[1] * 1.2], color=GREY, alpha=0.2, label="a fifth more or less")
    kinds = table["source"].str.split(":").str[0]
    for kind, colour, marker in zip(sorted(kinds.unique()), _COLOURS, "os^Dv", strict=False):
        part = table[kinds == kind]
        label = f"{kind} ({len(part)})"
        ax.scatter(part["chosen"], part["rejected"], color=colour, marker=marker, s=26, alpha=0.8, label=label)
    ax.set(xlabel="better side (tokens)", ylabel="worse side (tokens)", xlim=(0, ends[1]), ylim=(0, ends[1]))
    ax.set_title("Are both sides of a pair about as long?")
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    return _done(figure)


def validity_by_stage(summary: DataFrame, words: Words | None = None) -> Figure:
    """Draw the share of sound texts of every stage with its interval. `summary`: as `ledger.summary` returns it."""
    said = words or Words()
    table = summary[(summary["metric"] == "valid_tables") & summary["value"].notna()].reset_index(drop=True)
    if table.empty:
        raise NothingToDraw(f"no stage has its {said.many} counted yet: run notebook 05 first")
    figure, (ax,) = _canvas(height=1.3 + 0.55 * len(table))
    ax.barh(table.index, table["value"], color=BLUE, height=0.62)
    # A Wilson interval may end a rounding error on the wrong side of 0% or 100%: hence the clip.
    reach = [(table["value"] - table["low"]).clip(lower=0), (table["high"] - table["value"]).clip(lower=0)]
    ax.errorbar(table["value"], table.index, xerr=reach, fmt="none", ecolor="black", capsize=4)
    ends = table["high"].fillna(table["value"]).clip(lower=table["value"])
    for row, (value, end) in enumerate(zip(table["value"], ends, strict=True)):
        ax.annotate(f"{value:.0%}", (end, row), xytext=(6, 0), textcoords="offset points", va="center")
    sizes = ["" if n is None else f" (n={n})" for n in table["n"].astype(object).where(table["n"].notna(), None)]
    _names_on_y(ax, [stage + size for stage, size in zip(table["stage"], sizes, strict=True)])
    ax.set(
        xlim=(0, 1.14), xticks=[0, 0.25, 0.5, 0.75, 1], xlabel=f"{said.units} that are {said.one} (line: 95% interval)"
    )
    ax.set_title(f"How many {said.units} are {said.many}, stage by stage?")
    _percent(ax.xaxis)
    return _done(figure)


def paired_by_brief(
    before: Mapping[str, float], after: Mapping[str, float], names: tuple[str, str], words: Words | None = None
) -> Figure:
    """Draw the share of sound texts of every brief before and after, joined by a line; a brief is its own control.

    `before`, `after`: brief to share (0 to 1), as `measure.evaluation.valid_by_brief` returns it; `names` says what
    the two are.
    """
    shared = [brief for brief in before if brief in after]
    if not shared:
        raise NothingToDraw("the two stages have no brief in common: write both with the same briefs")
    figure, (ax,) = _canvas(height=1.5 + 0.3 * len(shared))
    places = range(len(shared))
    ends = [[stage[brief] for brief in shared] for stage in (before, after)]
    ax.hlines(places, ends[0], ends[1], color=GREY, linewidth=1.5)
    ax.scatter(ends[0], places, facecolor="white", edgecolor=ORANGE, s=70, zorder=2, label=names[0])
    ax.scatter(ends[1], places, color=BLUE, s=26, zorder=3, label=names[1])
    _names_on_y(ax, shared)
    said = f"texts that are {(words or Words()).one}"
    ax.set(xlim=(-0.03, 1.03), xlabel=said, title="Which briefs gained, and which did not?")
    _percent(ax.xaxis)
    figure.legend(frameon=False, loc="outside lower center", ncols=2)
    return _done(figure)


def merge_curve(table: DataFrame) -> Figure:
    """Draw the merge's perplexity on Bengali and on outlines by share t of the structure donor, and how often it stops.

    `table`: index t (0 to 1), columns bengali_perplexity and outline_perplexity (lower is better) and, where it was
    counted, stopped_share (0 to 1). A row whose index is a name ("no merge") is drawn as a dashed line to compare with.
    """
    import pandas as pd

    shares = pd.to_numeric(pd.Series(table.index, index=table.index), errors="coerce")
    curve = table[shares.notna().values].set_axis(shares.dropna().values).sort_index()
    panels = {
        "bengali_perplexity": ("on Bengali text", "perplexity (lower is better)"),
        "outline_perplexity": ("on outlines of a brief", "perplexity (lower is better)"),
        "stopped_share": ("ends by itself", "answers that end (higher is better)"),
    }
    drawn = [column for column in panels if column in table]
    figure, axes = _canvas(columns=len(drawn), width=3.6 * len(drawn), height=3.6)
    for ax, column, colour in zip(axes, drawn, _COLOURS, strict=False):
        ax.plot(curve.index, curve[column], marker="o", color=colour, label="merge" if len(curve) else None)
        for (name, value), style in zip(
            table.loc[shares.isna().values, column].items(), ("--", ":", "-."), strict=False
        ):
            ax.axhline(value, color="black", linestyle=style, linewidth=1, label=str(name))
        title, label = panels[column]
        ax.set(title=title, xlabel="share t of the structure donor", ylabel=label)
        ax.set_xlim(-0.06, 1.06)
        if column == "stopped_share":
            ax.set_ylim(-0.05, 1.05)
            _percent(ax.yaxis)
        if len(ax.get_legend_handles_labels()[0]) > 1:
            ax.legend(fontsize=8)
    figure.suptitle("What does each share of the two donors cost?")
    return _done(figure)


def heatmap(
    table: DataFrame,
    counts: DataFrame,
    low: float = 1,
    high: float = 10,
    label: str = "mean score (1 to 10)",
    words: Words | None = None,
) -> Figure:
    """Draw the mean score of every group (rows) on every criterion (columns); grey where nothing was scored.

    `counts` has the same shape: how many scores stand behind each cell. `low` and `high` are the ends of the
    scale, which do not follow the data, so that two heatmaps can be compared.
    """
    import seaborn as sns

    counts = counts.reindex_like(table).fillna(0).astype(int)
    texts = table.copy().astype(object)
    for column in range(table.shape[1]):
        for row in range(table.shape[0]):
            value, n = table.iat[row, column], counts.iat[row, column]
            texts.iat[row, column] = f"{value:.1f}  (n={n})" if value == value else ""
    # Explicit width: Bengali row names are long and must leave the cells room for their text.
    figure, (ax,) = _canvas(width=3.4 + 1.5 * table.shape[1], height=1.6 + 0.36 * len(table))
    ax.set_facecolor("#D9D9D9")
    sns.heatmap(
        table.astype(float), annot=texts, fmt="", vmin=low, vmax=high, cmap="YlGnBu", linewidths=1, ax=ax,
        annot_kws={"fontsize": 9}, cbar_kws={"label": label},
    )  # fmt: skip
    said = f"Where are the {(words or Words()).units} good, and where not?"
    ax.set(xlabel="", ylabel="", title=f"{said}\n(grey: nothing scored)")
    ax.tick_params(length=0, rotation=0)
    return _done(figure)


def quality_size_speed(table: DataFrame, recommended: str | None = None, words: Words | None = None) -> Figure:
    """Draw every file as a bubble: size to the right, quality up, speed as area. The best place is the upper left.

    `table`: file, size_mb, tokens_per_second, valid_share (0 to 1) and, where it was measured, distance (mean KL
    divergence from the 16-bit file, nats a token), which then gets a panel of its own. `recommended` is ringed.
    """
    from matplotlib.ticker import PercentFormatter

    said = words or Words()
    panels = [("valid_share", f"{said.units} that are {said.one}")]
    if "distance" in table and table["distance"].notna().any():
        panels.append(("distance", "distance from the 16-bit file (nats a token)"))
    figure, axes = _canvas(columns=len(panels), width=4.8 * len(panels), height=3.9 + 0.24 * len(table))
    for ax, (column, title) in zip(axes, panels, strict=True):
        _bubbles(ax, table, column, recommended)
        ax.set(xlabel="size (MB)", ylabel=title, xlim=(0, table["size_mb"].max() * 1.15))
    axes[0].set(ylim=(-0.12, 1.15), yticks=[0, 0.25, 0.5, 0.75, 1])
    axes[0].yaxis.set_major_formatter(PercentFormatter(xmax=1))
    for ax in axes[1:]:
        most = max(table["distance"].max(), 0.01)
        ax.set_ylim(most * 1.2, -most * 0.2)  # up is better in both panels
        ax.set_yticks([tick for tick in ax.get_yticks() if 0 <= tick <= most * 1.2])
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize=9, labelspacing=0.9
    )
    title = "Quality against size; the larger a bubble, the faster"
    figure.suptitle(f"{title}. Ringed: {recommended}" if recommended else title, fontsize=11)
    return _done(figure)


def _bubbles(ax: Axes, table: DataFrame, column: str, recommended: str | None) -> None:
    fastest = table["tokens_per_second"].max()
    for row, colour in zip(table.to_dict("records"), _endless(len(table)), strict=True):
        speed, place = row["tokens_per_second"], (row["size_mb"], row[column])
        told = f"{speed:.0f} tokens/s" if speed == speed else "speed not measured"
        area = 60 + 340 * (speed / fastest if speed == speed and fastest else 0)
        label = f"{row['file']}: {row['size_mb']:.0f} MB, {told}"
        ax.scatter(*place, s=area, color=colour, alpha=0.75, linewidths=0, label=label)
        if row["file"] == recommended:
            ax.scatter(*place, s=area * 1.8, facecolors="none", edgecolors="black", linewidths=1.4)


def lora_comparison(table: DataFrame, words: Words | None = None) -> Figure:
    """Draw what each LoRA variant costs and gives: numbers trained, validation loss, speed, valid share if counted.

    `table`: index variant, columns trained, validation_lowest, tokens_per_second and, where it was measured,
    valid_share, as `learn.lora_comparison.table` returns it. `words` are those of the recipe that was measured.
    """
    said = words or Words()
    panels = [
        ("trained", "numbers trained (millions)", "{:.2f}"),
        ("validation_lowest", "lowest validation loss", "{:.3f}"),
        ("tokens_per_second", "speed (tokens per second)", "{:.0f}"),
        ("valid_share", f"{said.units} that are {said.one}", "{:.0%}"),
    ]
    panels = [panel for panel in panels if panel[0] in table]
    figure, axes = _canvas(columns=len(panels), width=3.4 * len(panels), height=1.4 + 0.45 * len(table), sharey=True)
    for ax, (column, title, form), colour in zip(axes, panels, _endless(len(panels)), strict=True):
        values = table[column] / 1e6 if column == "trained" else table[column].astype(float)
        bars = ax.barh(range(len(table)), values.fillna(0), color=colour, height=0.62)
        labels = [form.format(value) if value == value else "not measured" for value in values]
        ax.bar_label(bars, labels=labels, padding=4, fontsize=9)
        ax.set_xlabel(title)
        ax.margins(x=0.35)
        ax.locator_params(axis="x", nbins=4)
        if column == "valid_share":
            ax.set(xlim=(0, 1.35), xticks=[0, 0.5, 1])
            _percent(ax.xaxis)
    _names_on_y(axes[0], [str(name) for name in table.index])
    figure.suptitle("How many strips, and where?")
    figure.set_layout_engine("constrained", wspace=0.06)
    return _done(figure)


def aqi_layers(scores: DataFrame) -> Figure:
    """Draw how far safe and unsafe prompts lie apart at every layer, one line a stage with its 95% interval.

    `scores`: stage, layer, metric, value, low, high, as `ledger.aqi` returns it; drawn are the metrics separation and
    silhouette, layers from 0 (the embeddings) on.
    """
    panels = {"separation": "1/XBI (higher: farther apart)", "silhouette": "silhouette (0: no clusters, 1: well apart)"}
    drawn = scores[scores["metric"].isin(panels) & (scores["layer"] >= 0)].astype({"low": float, "high": float})
    if drawn.empty:
        raise NothingToDraw("no separation or silhouette by layer in the ledger: run notebook 11_judge first")
    figure, axes = _canvas(columns=2, width=10.5, height=4.2)
    stages = list(dict.fromkeys(drawn["stage"]))
    for ax, (metric, label) in zip(axes, panels.items(), strict=True):
        for stage, colour in zip(stages, _endless(len(stages)), strict=True):
            line = drawn[(drawn["stage"] == stage) & (drawn["metric"] == metric)].sort_values("layer")
            ax.plot(line["layer"], line["value"], marker="o", markersize=4, color=colour, label=stage)
            ax.fill_between(line["layer"], line["low"], line["high"], color=colour, alpha=0.18, linewidth=0)
        ax.set(xlabel="layer (0: the embeddings)", ylabel=label)
        _whole_numbers(ax)
    axes[1].axhline(0, color="black", linestyle="--", linewidth=1)
    axes[0].legend(frameon=False)
    figure.suptitle("Do safe and unsafe prompts lie apart, and from which layer on?")
    return _done(figure)


def aqi_clusters(pictures: Mapping[str, DataFrame]) -> Figure:
    """Draw safe and unsafe prompts as each model sees them, side by side, in the same two directions.

    `pictures`: stage to x, y, side, language, as `measure.aqi_compare.picture` returns it. Colour is the side, the
    shape of a point its language: where the languages lie apart, that is not alignment.
    """
    figure, axes = _canvas(columns=len(pictures), width=5.2 * len(pictures), height=4.8, sharex=True, sharey=True)
    shapes = dict(zip(sorted({name for one in pictures.values() for name in one["language"]}), "o^sD", strict=False))
    for ax, (stage, points) in zip(axes, pictures.items(), strict=True):
        for side, colour in (("safe", BLUE), ("unsafe", ORANGE)):
            for language, shape in shapes.items():
                own = points[(points["side"] == side) & (points["language"] == language)]
                ax.scatter(own["x"], own["y"], s=26, c=colour, marker=shape, alpha=0.65, label=f"{side}, {language}")
        shown = points.attrs.get("shown")
        ax.set_title(stage if shown is None else f"{stage} ({shown:.0%} of the spread is shown)", fontsize=11)
        ax.set(xlabel="first direction", xticks=[], yticks=[])
    axes[0].set_ylabel("second direction")
    figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=4)
    figure.suptitle("The prompts as the model sees them")
    return _done(figure)


def counts(series: Series, title: str) -> Figure:
    """Draw how often each label occurs, commonest first.

    `series`: one label per row (groups, tones), or numbers already counted, with the labels as index.
    """
    from pandas.api.types import is_numeric_dtype

    counted = series if is_numeric_dtype(series) else series.value_counts()
    figure, (ax,) = _canvas(height=1.2 + 0.32 * len(counted))
    _count_bars(ax, counted, title)
    return _done(figure)


def data_overview(table: DataFrame, words: Words | None = None) -> Figure:
    """Draw a data set at a glance: rows per group, rows per tone, words of the texts by length of the film.

    `table`: columns industry (the group), tone, script and duration_seconds. Where no row names a tone, that panel is
    left out; where none names a length, the last shows how many words the texts have.
    """
    said, toned = words or Words(), table["tone"].astype(bool).any()
    counted = {f"Rows per {said.group}": table["industry"].value_counts()}
    if toned:
        counted["Rows per tone"] = table["tone"].replace("", "(none)").value_counts()
    height = 1.4 + 0.32 * max(map(len, counted.values()))
    figure, axes = _canvas(columns=len(counted) + 1, width=5 * (len(counted) + 1), height=height)
    for ax, (title, labels) in zip(axes, counted.items(), strict=False):
        _count_bars(ax, labels, title)
    _lengths_panel(axes[-1], table, said.unit)
    return _done(figure)


def _lengths_panel(ax: Axes, table: DataFrame, unit: str) -> None:
    """Draw the words of each text over the length of its film, or how many texts are how long."""
    from lekhai_helpers.core.bengali import words

    lengths, seconds = [len(words(text)) for text in table["script"]], table["duration_seconds"]
    if seconds.notna().any():
        ax.scatter(seconds.fillna(0).astype(float), lengths, color=BLUE, alpha=0.5)
        ax.set(xlabel="length of the film (seconds)", ylabel=f"words in the {unit}", title="Words by length")
        ax.set_ylim(bottom=0)
    else:
        ax.hist(lengths, bins=30, color=BLUE)
        ax.set(xlabel=f"words in the {unit}", ylabel="rows", title=f"Words in the {unit}")


def before_after(brief: str, before: str, after: Sequence[tuple[str, str]]) -> Figure:
    """Draw the same brief answered twice: the text from before as it was, the script from after as a table.

    `after`: (visual, audio) pairs of a valid script; no more than about eight fit.
    """
    from textwrap import fill

    from matplotlib.transforms import Bbox

    figure, (left, right) = _canvas(columns=2, width=14, height=7.5)
    figure.suptitle(fill(brief, 110), fontsize=12)
    for ax, title in ((left, "before training"), (right, "after training")):
        ax.set_axis_off()
        ax.set_title(title, fontsize=13, loc="left")
    left.text(0, 0.98, _first_lines(before), va="top", fontsize=11, linespacing=1.5, transform=left.transAxes)
    rows = [("Visual", "Audio"), *((fill(visual, 40), fill(audio, 36)) for visual, audio in after)]
    heights = [max(cell.count("\n") + 1 for cell in row) for row in rows]
    table = right.table(
        [list(row) for row in rows], cellLoc="left", bbox=Bbox.from_bounds(0, 0, 1, 0.98), colWidths=[0.53, 0.47]
    )
    table.auto_set_font_size(False)
    table.set_fontsize(10.5)
    for (row, _), cell in table.get_celld().items():
        cell.set_height((heights[row] + 0.6) / (sum(heights) + 0.6 * len(rows)))
        cell.set_edgecolor("lightgrey")
        cell.set_facecolor("whitesmoke" if row == 0 else "white")
    return _done(figure)


def _first_lines(text: str, lines: int = 20, width: int = 56) -> str:
    """Wrap a text as it stands and cut it to what fits a panel."""
    from textwrap import wrap

    wrapped = [part for line in text.split("\n") for part in (wrap(line, width) or [""])]
    return "\n".join([*wrapped[:lines], "…"] if len(wrapped) > lines else wrapped)


def _count_bars(ax: Axes, counted: Series, title: str) -> None:
    counted = counted.sort_values(ascending=False, kind="stable")
    ax.bar_label(ax.barh(range(len(counted)), counted.values, color=BLUE, height=0.7), padding=4)
    _names_on_y(ax, [str(label) for label in counted.index])
    ax.margins(x=0.1)
    _whole_numbers(ax)
    ax.set(xlabel="rows", title=title)


def _canvas(
    rows: int = 1,
    columns: int = 1,
    width: float = 7.2,
    height: float = 3.8,
    sharex: bool = False,
    sharey: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Return a figure (inches) and its axes in one flat list, without the frame's top and right."""
    import matplotlib.pyplot as plt

    use_bengali_font()
    figure, grid = plt.subplots(
        rows, columns, figsize=(width, height), layout="constrained", squeeze=False, sharex=sharex, sharey=sharey
    )
    axes = list(grid.flat)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _done(figure: Figure) -> Figure:
    """Close the figure, so that a notebook shows it once: where the cell returns it."""
    import matplotlib.pyplot as plt

    plt.close(figure)
    return figure


def _logged(metrics: DataFrame, names: Mapping[str, str], phase: str) -> dict[str, str]:
    """Return the names that were logged. Asked before a figure is opened, which an error would leave open."""
    found = {name: words for name, words in names.items() if (metrics["name"] == name).any()}
    if not found:
        raise NothingToDraw(f"no {' or '.join(names)} in the ledger: run notebook {phase} first")
    return found


def _lines(ax: Axes, metrics: DataFrame, names: Mapping[str, str]) -> None:
    """Draw one line for every metric of `names`, with its plain name for a legend."""
    for name, colour in zip(names, _COLOURS, strict=False):
        line = metrics[metrics["name"] == name].sort_values("step")
        marker = "o" if len(line) <= 30 else None
        ax.plot(line["step"], line["value"], marker=marker, markersize=4, color=colour, label=names[name])
    _whole_numbers(ax)


def _names_on_y(ax: Axes, names: Sequence[str]) -> None:
    """Name the horizontal bars 0, 1, 2 ... from the top down."""
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(names) - 0.5, -0.5)


def _whole_numbers(ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _plain_numbers(ax: Axes) -> None:
    """Write 0.0002 on the y axis, not 2 with a power of ten in another corner."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ax.yaxis.set_major_locator(MaxNLocator(nbins=4))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _percent(axis: Any) -> None:
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(xmax=1))


def _endless(length: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(length)]
