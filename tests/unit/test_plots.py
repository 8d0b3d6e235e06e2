"""Pictures: Bengali is shaped as Bengali, every letter has a glyph, and no label lies on another."""

import subprocess
import sys
import warnings
from itertools import combinations
from pathlib import Path

import matplotlib
import pandas as pd
import pytest

from lekhai_helpers.core import plots

matplotlib.use("Agg")

INDUSTRIES = [
    *("রং ও গৃহসজ্জা (Paint & Home)", "স্বাস্থ্য (Health)", "বিজ্ঞাপন ক্ষেত্র (Advertising)", "ব্যাংক ও আর্থিক সেবা (Banking)"),
    *("সৌন্দর্য ও ব্যক্তিগত যত্ন (Beauty)", "জ্বালানি ও বিদ্যুৎ (Energy)", "কৃষি (Farming)", "দাম ৳৫০০। (Price)"),
]


def metrics(values: dict[str, list[float]]) -> pd.DataFrame:
    rows = [(step, name, value) for name, line in values.items() for step, value in enumerate(line, start=1)]
    return pd.DataFrame(rows, columns=["step", "name", "value"])


def summary() -> pd.DataFrame:
    rows = [
        ("base", "valid_tables", 0.0, 0.0, 0.1, 36, ""),
        ("sft", "valid_tables", 0.79, 0.63, 0.9, 36, ""),
        ("dpo", "valid_tables", 1.0, 0.9, 0.9999, 36, ""),
        ("gguf-q4_k_m", "valid_tables", 0.5, None, None, None, "no interval"),
        ("sft", "bengali_share", 0.8, None, None, 36, ""),
    ]
    table = pd.DataFrame(rows, columns=["stage", "metric", "value", "low", "high", "n", "note"])
    return table.astype({"low": float, "high": float, "n": "Int64"})


def scores() -> tuple[pd.DataFrame, pd.DataFrame]:
    table = pd.DataFrame(
        {"fluency": range(1, 9), "structure": 6.5, "tone": [None, *range(3, 10)]}, index=INDUSTRIES, dtype=float
    )
    return table, table.notna().astype(int) * 4


def files() -> pd.DataFrame:
    names = [f"lekhai-{kind}.gguf" for kind in ("f16", "q8_0", "q5_k_m", "q4_k_m")]
    speeds = [120.0, 180.0, 200.0, None]
    return pd.DataFrame(
        {"file": names, "size_mb": [246, 131, 101, 93], "tokens_per_second": speeds, "valid_share": [0.8, 0.8, 0.78, 0]}
    )


def variants() -> pd.DataFrame:
    names = ["rank 8, all linear layers", "rank 16, all linear layers", "rank 16, attention only"]
    columns = {"trained": [949_248, 1_898_496, 737_280], "validation_lowest": [2.41, 2.395, 2.52]}
    return pd.DataFrame(columns | {"tokens_per_second": [310.0, 298.0, 355.0]}, index=names)


TRAINING = {
    "loss": [4.0, 2.0, 1.0],
    "eval_loss": [4.2, 2.5, 1.9],
    "grad_norm": [12.0, 3.0, 1.5],
    "learning_rate": [0.0002, 0.0008, 0.00003],
    "tokens_per_second": [290.0, 1310.0, 305.0],
    "memory_mb": [2100.0, 2350.0, 12350.0],
}
REWARDS = {
    "rewards/chosen": [0.1, 0.2],
    "rewards/rejected": [-0.1, -0.3],
    "rewards/margins": [0.2, 0.5],
    "rewards/accuracies": [0.5, 1.0],
}
PAIR_LENGTHS = {
    "source": ["the model's own sample", "the model's own sample, cut at a row end", "planted: a row is repeated"],
    "chosen": [300, 420, 500],
    "rejected": [290, 480, 500],
}
BY_BRIEF = ({"brief-01": 0.0, "brief-02": 0.33, "gone": 1.0}, {"brief-02": 0.33, "brief-01": 1.0})
MERGE = {"bengali_perplexity": [30.0, 32.0, 40.0, 31.0], "outline_perplexity": [22.0, 15.0, 12.0, 25.0]}
STOPS = {"stopped_share": [0.2, 0.6, 1.0, 0.4]}
AQI_COLUMNS = ["stage", "layer", "metric", "value", "low", "high"]
LAYERS = [
    (s, layer, m, 0.1 * layer, 0.0, 0.9)
    for s in ("base", "sft")
    for layer in range(-1, 7)
    for m in ("separation", "silhouette")
]
DOTS = pd.DataFrame({"x": [0, 1, 2, 3], "y": [3, 1, 2, 0], "side": ["safe", "unsafe"] * 2, "language": list("eebb")})
PICTURES = {
    "token_lengths": lambda: plots.token_lengths({"Gemma 3": [300, 420, 500], "Qwen 2.5": [1500, 1700, 2100]}, 1024),
    "loss_curves": lambda: plots.loss_curves(metrics({"loss": [4, 2, 1], "eval_loss": [4.2, 2.5, 1.9]})),
    "training_curves": lambda: plots.training_curves(metrics(TRAINING)),
    "training_curves of two": lambda: plots.training_curves(metrics({"loss": [4, 2], "grad_norm": [2.5, 0.5]})),
    "lora_comparison": lambda: plots.lora_comparison(variants()),
    "lora_comparison with scripts": lambda: plots.lora_comparison(variants().assign(valid_share=[0.5, 1.0, None])),
    "reward_curves": lambda: plots.reward_curves(metrics(REWARDS)),
    "reward_curves of kto": lambda: plots.reward_curves(metrics({n: v for n, v in REWARDS.items() if "acc" not in n})),
    "pair_lengths": lambda: plots.pair_lengths(pd.DataFrame(PAIR_LENGTHS)),
    "validity_by_stage": lambda: plots.validity_by_stage(summary()),
    "paired_by_brief": lambda: plots.paired_by_brief(*BY_BRIEF, ("the merged base", "after fine-tuning")),
    "merge_curve": lambda: plots.merge_curve(pd.DataFrame(MERGE, index=[0, 0.5, 1, "no merge"])),
    "merge_curve, stops": lambda: plots.merge_curve(pd.DataFrame(MERGE | STOPS, index=[0, 0.5, 1, "no merge"])),
    "merge_curve, no merge": lambda: plots.merge_curve(pd.DataFrame(MERGE | STOPS, index=["a", "b", "c", "no merge"])),
    "heatmap": lambda: plots.heatmap(*scores()),
    "aqi_layers": lambda: plots.aqi_layers(pd.DataFrame(LAYERS, columns=AQI_COLUMNS)),
    "aqi_clusters": lambda: plots.aqi_clusters({"base": DOTS, "sft": DOTS.assign(x=DOTS["x"] * 2)}),
    "counts": lambda: plots.counts(pd.Series([*INDUSTRIES, INDUSTRIES[0]]), "Rows by industry"),
}


def drawn_labels(figure) -> list:
    """Return every text that is really drawn, with its box in pixels.

    A figure also holds the labels of ticks outside the axes, which are laid out and never drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas, drawn = FigureCanvasAgg(figure), []
    draw = Text.draw

    def note_and_draw(text, renderer):
        if text.get_text().strip():
            drawn.append(text)
        draw(text, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", note_and_draw)
        canvas.draw()
    return [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in drawn]


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_has_a_glyph_for_every_letter_and_is_closed(name, tmp_path):
    import matplotlib.pyplot as plt

    plt.close("all")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "Glyph 2453 missing from font" is only a warning
        figure = PICTURES[name]()
        figure.savefig(tmp_path / "picture.png")
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", PICTURES)
def test_no_label_lies_on_another_or_outside_the_picture(name):
    figure = PICTURES[name]()
    labels = drawn_labels(figure)
    page = figure.bbox
    for text, box in labels:
        assert page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1, f"{text!r} is cut off"
    for (first, a), (second, b) in combinations(labels, 2):
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 1 or down <= 1, f"{first!r} lies on {second!r}"


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_has_a_title_and_named_axes(name):
    figure = PICTURES[name]()
    assert figure.get_suptitle() or figure.axes[0].get_title()
    if name != "heatmap":
        assert any(ax.get_xlabel() for ax in figure.axes)


@pytest.mark.parametrize(("joined", "parts"), [("ক্ষ", "কষ"), ("জ্ঞ", "জঞ"), ("স্থ্য", "সথয"), ("ত্র", "তর")])
def test_a_conjunct_is_drawn_as_one_sign_and_not_as_its_parts(joined, parts):
    """Before matplotlib 3.11 the virama was a mark of its own, and a conjunct as wide as its parts."""
    assert width(joined) < width(parts)


def test_the_vowel_sign_i_stands_before_its_consonant():
    """কি is typed ক, then ি, and drawn the other way round: its right half must look like a bare ক."""
    vowel_first, bare = pixels("কি"), pixels("ক")
    tail = vowel_first[:, -bare.shape[1] :]
    same = (tail[-bare.shape[0] :] > 128) == (bare > 128)
    assert same.mean() > 0.9


def width(text: str) -> int:
    return pixels(text).shape[1]


def pixels(text: str):
    """Return `text` as a grey image (0 to 255), cut to its ink."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plots.use_bengali_font()
    figure = Figure(figsize=(3, 2), dpi=100)
    canvas = FigureCanvasAgg(figure)
    figure.text(0.3, 0.4, text, fontsize=60)
    canvas.draw()
    ink = 255 - np.asarray(canvas.buffer_rgba())[:, :, 0]
    rows, columns = np.where(ink.max(axis=1) > 0)[0], np.where(ink.max(axis=0) > 0)[0]
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def test_the_font_ships_with_its_licence_and_is_small():
    assert plots.FONT_FILE.stat().st_size < 500_000
    assert "SIL OPEN FONT LICENSE" in (plots.FONT_FILE.parent / "OFL.txt").read_text(encoding="utf-8")
    assert plots.use_bengali_font() == "Noto Sans Bengali"


def test_an_old_matplotlib_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(matplotlib, "__version_info__", (3, 10, 8, "final", 0))
    with pytest.raises(plots.PlotError, match="colab_setup.sh"):
        plots.use_bengali_font()


def test_nothing_to_draw_names_the_notebook_that_makes_it_and_leaves_no_figure_open():
    import matplotlib.pyplot as plt

    plt.close("all")
    empty = metrics({})
    with pytest.raises(plots.NothingToDraw, match="06_fine_tuning"):
        plots.loss_curves(empty)
    with pytest.raises(plots.NothingToDraw, match="06_fine_tuning"):
        plots.training_curves(empty)
    with pytest.raises(plots.NothingToDraw, match="10_preference_alignment"):
        plots.reward_curves(empty)
    with pytest.raises(plots.NothingToDraw, match="notebook 05"):
        plots.validity_by_stage(summary().query("metric == 'nothing'"))
    assert plt.get_fignums() == []


def test_a_training_draws_a_panel_for_every_figure_it_logged_and_no_empty_one():
    whole = plots.training_curves(metrics(TRAINING))
    titles = [ax.get_title(loc="left").split(" (")[0] for ax in whole.axes]
    assert titles == ["loss", "gradient norm", "learning rate", "speed", "memory"]
    drawn = [line.get_ydata().tolist() for ax in whole.axes for line in ax.get_lines()]
    assert drawn == list(TRAINING.values())
    early = plots.training_curves(metrics({"loss": [4.0], "learning_rate": [1e-4], "epoch": [0.1]}))
    assert [ax.get_title(loc="left").split(" (")[0] for ax in early.axes] == ["loss", "learning rate"]
    assert [text.get_text() for text in early.axes[0].get_legend().get_texts()] == ["training"]


def test_the_lora_comparison_says_not_measured_and_never_zero():
    with_scripts = plots.lora_comparison(variants().assign(valid_share=[0.5, 1.0, None]))
    texts = [text for text, _ in drawn_labels(with_scripts)]
    assert {"not measured", "50%", "0.95", "2.395"} <= set(texts) and len(with_scripts.axes) == 4
    assert len(plots.lora_comparison(variants()).axes) == 3


def test_the_pairs_are_told_apart_by_where_their_worse_side_comes_from():
    figure = plots.pair_lengths(pd.DataFrame(PAIR_LENGTHS))
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert "the model's own sample (1)" in names and "planted (1)" in names
    with pytest.raises(plots.NothingToDraw, match="dpo.pairs"):
        plots.pair_lengths(pd.DataFrame({name: [] for name in PAIR_LENGTHS}))


def test_a_training_without_ranked_pairs_has_no_empty_panel():
    kto = plots.reward_curves(metrics({n: v for n, v in REWARDS.items() if "acc" not in n}))
    assert len(kto.axes) == 1 and len(plots.reward_curves(metrics(REWARDS)).axes) == 2


def test_an_empty_heatmap_cell_shows_no_number_and_others_show_their_count():
    texts = [text for text, _ in drawn_labels(plots.heatmap(*scores())) if "n=" in text]
    assert len(texts) == 3 * len(INDUSTRIES) - 1 and all("(n=4)" in text for text in texts)


def test_counts_takes_labels_and_numbers_alike():
    by_label = plots.counts(pd.Series(["চা", "চা", "কৃষি"]), "Rows")
    counted = plots.counts(pd.Series({"কৃষি": 1, "চা": 2}), "Rows")
    names = [[label.get_text() for label in figure.axes[0].get_yticklabels()] for figure in (by_label, counted)]
    assert names[0] == names[1] == ["চা", "কৃষি"]


def test_importing_the_plots_loads_no_matplotlib():
    root = Path(__file__).parents[2]
    code = "import sys, lekhai_helpers.core.plots; print({'matplotlib', 'pandas', 'seaborn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_merge_curve_has_a_panel_for_stopping_where_it_was_counted():
    """A candidate that never ends looks as good as any other in a picture of perplexities alone."""
    two = plots.merge_curve(pd.DataFrame(MERGE, index=[0, 0.5, 1, "no merge"]))
    three = plots.merge_curve(pd.DataFrame(MERGE | STOPS, index=[0, 0.5, 1, "no merge"]))
    assert [len(two.axes), len(three.axes)] == [2, 3]
    curve, dashed = three.axes[2].lines
    assert curve.get_ydata().tolist() == [0.2, 0.6, 1.0] and dashed.get_ydata()[0] == 0.4


def test_every_brief_is_drawn_with_its_own_two_shares_and_only_where_both_are_known():
    ax = PICTURES["paired_by_brief"]().axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["brief-01", "brief-02"]
    before, after = (points.get_offsets().tolist() for points in ax.collections[1:])
    assert before == [[0.0, 0.0], [0.33, 1.0]] and after == [[1.0, 0.0], [0.33, 1.0]]


def test_stages_without_a_common_brief_have_no_picture():
    with pytest.raises(plots.NothingToDraw, match="no brief in common"):
        plots.paired_by_brief({"a": 1.0}, {"b": 1.0}, ("before", "after"))


def test_the_layers_are_drawn_from_the_embeddings_on_one_line_a_stage():
    """Layer -1 is the mean over layers with learned weights: no place on the axis of layers."""
    figure = PICTURES["aqi_layers"]()
    lines = [line for line in figure.axes[0].get_lines() if line.get_label() in ("base", "sft")]
    assert [line.get_xdata().tolist() for line in lines] == [list(range(7))] * 2
    with pytest.raises(plots.NothingToDraw, match="11_judge"):
        plots.aqi_layers(pd.DataFrame(LAYERS[:2], columns=AQI_COLUMNS))


def test_the_clusters_tell_sides_by_colour_and_languages_by_shape():
    figure = PICTURES["aqi_clusters"]()
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert names == {"safe, b", "safe, e", "unsafe, b", "unsafe, e"}
