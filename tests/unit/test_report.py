"""The report: it shows what is there, says what is missing, and never lets a model's text act as HTML."""

import html
import re

import pytest

from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.core.run_folder import PHASES, Run, write_json
from lekhai_helpers.measure import comparisons
from lekhai_helpers.measure.report import build_report, stages_to_compare
from lekhai_helpers.measure.report_judges import judge_heatmap, judge_reports
from lekhai_helpers.measure.report_parts import shown, side_by_side, with_interval

TABLE = "| Visual | Audio |\n|---|---|\n| ছাদে মা | ভিও: রোদ। |\n| ঘরে আলো | ভিও: আলো। |\n| প্যাকশট | ভিও: আজই কিনুন। |"
NASTY = '<script>alert("x")</script><img src=x onerror=alert(1)>'
FILES = [
    {"file": "lekhai-f16.gguf", "size_mb": 246.1, "load_seconds": 0.5, "tokens_per_second": 120.2, "valid_share": 0.8},
    {
        "file": "lekhai-q8_0.gguf",
        "size_mb": 131.0,
        "load_seconds": 0.3,
        "tokens_per_second": 180.0,
        "valid_share": 0.79,
    },
]
FIGURES = {
    "01_environment": {"tokens_per_word": 1.43},
    "02_sutro_fusion": {
        "merge_table": [
            {"t": 0.0, "bengali_perplexity": 30.1, "outline_perplexity": 20.0},
            {"t": 1.0, "bengali_perplexity": 40.0, "outline_perplexity": 12.0},
        ],
        "winner": "no merge",
    },
    "10_preference_alignment": {"verdict": "drop", "reasons": ["the scripts grew 30% longer"]},
    "11_judge": {"judge": None, "scored": 0, "asked": 0},
    "12_portability": {"files": FILES, "recommended": "lekhai-q8_0.gguf"},
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("LEKHAI_RUNS", str(tmp_path / "runs"))
    made = Run(resolve("lekhai", "smoke"), "test")
    made.folder.mkdir(parents=True)
    return made


@pytest.fixture
def ledger(run):
    with run.open_ledger() as opened:
        yield opened


def response(brief_id: str = "b1", seed: int = 1, text: str = TABLE, **changes) -> dict:
    row = dict(brief_id=brief_id, seed=seed, industry="স্বাস্থ্য", tone="উষ্ণ", prompt=f"{brief_id}: লিখুন", text=text)
    return row | dict(ok=True, problems=[], facts={}, tokens=9, seconds=0.5, stopped=True) | changes


def finish(run: Run, phase: str, figures: dict) -> None:
    write_json(
        run.folder / phase / "manifest.json",
        {"finished": "2026-11-20T05:00:00+00:00", "seconds": 90.0, "figures": figures, "outputs": {}, "inputs": {}},
    )


def fill(run: Run, ledger) -> None:
    """Write what a whole run would have left."""
    broken = response(text=NASTY, ok=False, problems=["there is no table"])
    ledger.add_responses("base", [broken, response("b2", text="", ok=False, problems=["there is no table"])])
    ledger.add_responses("sft", [response(seed=2), response(), response("b2")])
    ledger.summarize("base", "valid_tables", 0.0, 0.0, 0.1, 36)
    ledger.summarize("sft", "valid_tables", 0.79, 0.63, 0.9, 36, NASTY)
    for step in range(1, 5):
        ledger.log_metrics("06_fine_tuning", step, {"loss": 4 / step, "eval_loss": 5 / step})
    for phase in PHASES:
        finish(run, phase, FIGURES.get(phase, {}))


def read(run: Run, ledger, figures=None) -> str:
    return build_report(run, ledger, figures).read_text(encoding="utf-8")


def visible(page: str) -> str:
    """Return the text a reader sees, without tags, styles and pictures."""
    page = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_a_run_with_nothing_in_it_gives_a_report_that_says_so_for_every_phase(run, ledger):
    text = visible(read(run, ledger))
    assert "This report is not whole" in text and "lekhai run --only 06" in text
    for phase in PHASES:
        assert f"{phase} missing" in text


def test_a_whole_run_is_reported_without_a_word_of_missing(run, ledger):
    fill(run, ledger)
    page = read(run, ledger)
    text = visible(page)
    assert page.count('class="absent"') == 1 and "No judge was configured" in text
    assert page.count("data:image/png;base64,") == 4  # validity, merge, loss, files
    assert "the scripts grew 30% longer" in text and "79%" in text and "63% to 90%" in text


def test_what_follows_from_the_figures_stands_at_the_head(run, ledger):
    fill(run, ledger)
    finish(run, "07_refinement", {"difference": {"difference": 0.0, "low": -0.2, "high": 0.2, "briefs": 12}})
    ledger.add_aqi("sft", -1, "separation", 0.4, 0.3, 0.5, 64)
    ledger.add_aqi("sft", -1, "delta_separation", -0.2, -0.3, -0.1, 64)
    page = html.unescape(build_report(run, ledger).read_text(encoding="utf-8"))
    short = page[page.index('id="short"') : page.index('id="made"')]
    assert "No gain shown: +0% valid tables (-20% to +20%)" in short and "closer together inside" in short
    assert "Use lekhai-q8_0.gguf." in short and short.index("No gain shown") < short.index("Use lekhai-q8_0")


def test_right_answers_and_the_voice_are_reported_where_they_were_measured(run, ledger):
    difference = {"difference": 0.5, "low": 0.2, "high": 0.8, "briefs": 18}
    side = {"right": 12, "of": 18, "low": 0.4, "high": 0.8}
    right = {"before": side | {"right": 3}, "after": side, "difference": difference, "p": 0.004}
    voice = {"sentence": "The tuned voice can be told from the base.", "p": 0.01, "closer": side, "known": side}
    finish(run, "07_refinement", {"right": right, "voice": voice})
    page = html.unescape(build_report(run, ledger).read_text(encoding="utf-8"))
    assert "12 of 18 after" in page.replace("\n", " ") and voice["sentence"] in page
    finish(run, "07_refinement", {"right": {}, "voice": {"sentence": "none is made"}})
    page = build_report(run, ledger).read_text(encoding="utf-8")
    assert "How many answers are right" not in page and "Whose voice is it" not in page


def test_before_and_after_stand_side_by_side_as_tables(run, ledger):
    fill(run, ledger)
    page = read(run, ledger)
    assert '<table class="shots">' in page and "<td>ছাদে মা</td><td>ভিও: রোদ।</td>" in page
    assert "b1: লিখুন" in page and "brief b2" in page and "✓ a valid table" in page


def test_a_text_of_the_model_cannot_act_as_html(run, ledger):
    """A 270M model writes anything; its text was once pasted into the page as it was."""
    fill(run, ledger)
    page = read(run, ledger)
    assert "<script" not in page and "onerror=alert(1)>" not in page
    assert html.escape(NASTY, quote=True).replace("&quot;", "&#34;").replace("&#x27;", "&#39;") in page


def test_a_script_that_is_no_valid_table_is_shown_as_it_was_written(run, ledger):
    """The parsed rows hide cells that are too many, which are the fault: the raw text must be there."""
    broken = TABLE.replace("| ভিও: আলো। |", "| ভিও: আলো। | বাড়তি |")
    row = response(text=broken, ok=False, problems=["row 2 has 3 cell(s) instead of 2"])
    ledger.add_responses("sft", [row])
    page = read(run, ledger)
    assert "বাড়তি" in page and "row 2 has 3 cell(s) instead of 2" in page and "<td>ছাদে মা</td>" in page


def test_the_report_is_one_file_that_asks_the_network_for_nothing(run, ledger):
    fill(run, ledger)
    page = read(run, ledger)
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", page)
    assert not re.search(r"url\((?!data:)", page) and "@import" not in page
    assert str(run.folder) not in page and not list(run.folder.glob("*.writing"))


def test_the_bengali_font_stands_first_in_every_list_of_fonts(run, ledger):
    """After system-ui a browser without a Bengali font of its own drew an industry's name as four boxes."""
    page = read(run, ledger)
    lists = re.findall(r"font(?:-family)?: ([^;]*Noto Sans Bengali Report[^;]*);", page)
    used = [fonts for fonts in lists if "," in fonts]
    assert len(used) == 2 and all(fonts.split('"Noto')[0].strip() in ("", "1rem/1.6") for fonts in used)


def test_figures_of_a_phase_that_is_still_running_are_shown(run, ledger):
    fill(run, ledger)
    finish(run, "12_portability", {"files": [], "recommended": "old.gguf"})
    text = visible(read(run, ledger, {"12_portability": FIGURES["12_portability"]}))
    assert "lekhai-q8_0.gguf" in text and "old.gguf" not in text and "12_portability being written" in text


def test_figures_under_no_phase_are_refused(run, ledger):
    with pytest.raises(KeyError, match="give figures by phase"):
        build_report(run, ledger, {"files": FILES})


def test_tables_with_other_columns_are_shown_without_their_picture(run, ledger):
    finish(run, "12_portability", {"files": [{"file": "a.gguf", "size_mb": 10}]})
    finish(run, "02_sutro_fusion", {"merge_table": [{"t": 0.5, "bengali_perplexity": 30.0}]})
    page = read(run, ledger)
    assert "a.gguf" in page and "bengali perplexity" in page and "data:image/png" not in page


def test_a_figure_without_interval_and_count_is_shown_without_them(run, ledger):
    ledger.summarize("sft", "valid_tables", 0.5)
    ledger.add_aqi("sft", 4, "silhouette", 0.25)
    text = visible(read(run, ledger))
    assert "50% n=–" in text and "silhouette" in text and " nan" not in text and "<NA>" not in text


def test_no_judge_is_said_and_a_judge_is_counted(run, ledger):
    fill(run, ledger)
    assert "No judge was configured" in visible(read(run, ledger))
    scored = [
        dict(stage="sft", brief_id="b1", seed=1, criterion=name, status="scored", score=7, reason="") for name in "ab"
    ]
    ledger.add_verdicts("gpt-4o", [*scored, scored[0] | {"brief_id": "b2", "status": "failed", "score": None}])
    finish(run, "11_judge", {"judge": "gpt-4o", "scored": 2, "asked": 3})
    page = read(run, ledger)
    assert "Scored: 2 of 3 asked for" in visible(page) and page.count("data:image/png;base64,") == 5


@pytest.mark.parametrize(
    ("verdict", "stages", "expected"),
    [
        ("keep", ["base", "merged", "sft", "dpo"], ("merged", "dpo")),
        ("drop", ["base", "merged", "sft", "dpo"], ("merged", "sft")),
        ("keep", ["base", "sft"], ("base", "sft")),
        (None, [], ("base", "sft")),
    ],
)
def test_the_stages_compared_follow_the_verdict_of_notebook_10(verdict, stages, expected):
    figures = {"10_preference_alignment": {"verdict": verdict} if verdict else None}
    assert stages_to_compare(figures, stages) == expected


def test_both_sides_of_a_pair_are_drawn_with_the_same_seed_where_they_can_be(ledger):
    ledger.add_responses("base", [response(seed=2), response("b2", seed=9)])
    ledger.add_responses("sft", [response(seed=1), response(seed=2), response("b3")])
    first, second, third = side_by_side(ledger.responses(), "base", "sft")
    assert first.before.seed == first.after.seed == 2
    assert second.before.seed == 9 and second.after is None
    assert third.before is None and third.after.seed == 1


@pytest.mark.parametrize(
    ("value", "name", "expected"),
    [
        (None, "", "–"),
        (float("nan"), "valid_share", "–"),
        (0.785, "valid_share", "78%"),
        (True, "", "yes"),
        (212.434, "", "212.4"),
        (34567.8, "", "34,568"),
        (34567, "", "34567"),
        ([1, 2], "", "1, 2"),
        ({"a": "ক"}, "", '{"a": "ক"}'),
    ],
)
def test_figures_are_written_for_a_reader(value, name, expected):
    assert shown(value, name) == expected


# --- what was added to the report with the judges' audits

SFT = {"memory": {"estimated_mb": 4512.3, "measured_mb": 4100.2, "measured_share": 0.91}, "seconds": 346.2}
SFT |= {"tokens_per_second": 382.2, "peak_memory_mb": 5170, "valid_answers": [[40, 0.0], [160, 0.9]]}
_COUNTS = [("written by the model", 0.02, 0.01, 0.03, 12, 4, 14), ("held-out scripts", 0.015, 0.01, 0.02, 20, 6, 11)]
_NAMES = ("what", "share", "low", "high", "texts", "texts_with_copy", "longest")
SFT["copied"] = [dict(zip(_NAMES, row, strict=True)) for row in _COUNTS]
TONE = {
    "between": 0.74,
    "within": 0.73,
    "p": 0.31,
    "least_p": 0.0014,
    "briefs": 6,
    "words": "no effect of the tone shown",
}
REFUSED = "weak-judge is not to be trusted here: 38 of 60 choices change when the two texts are swapped"


def judged(ledger, name: str, passed: bool, sentence: str) -> None:
    figures = [{"metric": "accuracy: all", "value": 0.8 if passed else 0.5, "low": 0.4, "high": 0.9, "n": 60}]
    ledger.add_audit(name, figures, passed=passed, sentence=sentence)
    rows = [
        dict(stage=stage, brief_id=brief, seed=1, criterion="tone", status="scored", score=score, reason="")
        for stage, score in (("base", 2), ("sft", 7))
        for brief in ("b1", "b2")
    ]
    ledger.add_verdicts(name, rows)


def test_cost_copying_tone_and_alarms_are_told_where_the_phases_measured_them(run, ledger):
    fill(run, ledger)
    finish(run, "06_fine_tuning", SFT)
    finish(
        run, "07_refinement", {"tone": TONE, "difference": {"difference": 0.1, "low": -0.1, "high": 0.3, "briefs": 12}}
    )
    refused = {"verdict": "drop", "alarms": ["length drift: +23%"], "comparison": "of 36 texts sft wins 9"}
    finish(run, "10_preference_alignment", refused)
    text = visible(read(run, ledger))
    for words in (
        "estimated 4,512 MB, measured 4,100 MB",
        "382.2 tokens a second",
        "step 160: 90%",
        "length drift: +23%",
    ):
        assert words in text
    assert "No more copying shown" in text and "p = 0.31" in text and "No effect of the tone shown" in text
    assert "-10% to 30%) : no difference shown" in text or "-10% to 30%): no difference shown" in text
    assert "Whether it copies" not in text


def test_an_older_run_says_at_the_end_what_it_did_not_measure(run, ledger):
    fill(run, ledger)
    finish(run, "07_refinement", {"tone": {"between": 0.74, "within": 0.78, "texts": 18}})
    end = visible(read(run, ledger)).split("What this does not show")[-1]
    assert "Whether it copies its training scripts: not measured" in end and "tone that is asked for" in end
    assert "Alignment quality" in end


def test_a_judge_s_audit_stands_before_its_scores_and_the_better_judge_leads(run, ledger):
    fill(run, ledger)
    judged(ledger, "weak-judge", False, REFUSED)
    judged(ledger, "good-judge", True, "good-judge passed its audit")
    text = visible(read(run, ledger))
    assert text.index("good-judge passed its audit") < text.index("accuracy: all") < text.index("Mean scores by stage")
    assert text.index("good-judge passed") < text.index(REFUSED)
    assert "7.0 (n=2)" in text


def test_the_judge_notebook_11_names_leads(run, ledger):
    fill(run, ledger)
    judged(ledger, "good-judge", True, "good-judge passed its audit")
    judged(ledger, "weak-judge", False, REFUSED)
    finish(run, "11_judge", {"judge": "weak-judge", "scored": 4, "asked": 4})
    text = visible(read(run, ledger))
    assert text.index(REFUSED) < text.index("good-judge passed")


def test_the_heatmap_of_a_judge_that_failed_its_audit_carries_the_sentence_in_the_picture(run, ledger):
    """A picture is copied into slides without the text around it."""
    fill(run, ledger)
    judged(ledger, "weak-judge", False, REFUSED)
    judged(ledger, "good-judge", True, "passed")
    reports = judge_reports(ledger.verdicts(), ledger.audits(), ledger.responses(), ("base", "sft"))
    good, weak = (judge_heatmap(report).get_suptitle() for report in reports)
    assert good == "" and " ".join(weak.split()) == REFUSED


def test_a_judge_that_was_never_audited_is_not_trusted(run, ledger):
    fill(run, ledger)
    rows = [dict(stage="sft", brief_id="b1", seed=1, criterion="tone", status="scored", score=9, reason="")]
    ledger.add_verdicts("unknown", rows)
    (report,) = judge_reports(ledger.verdicts(), ledger.audits(), ledger.responses(), ("base", "sft"))
    assert not report.trusted and "was not audited" in visible(read(run, ledger))


def test_the_intervals_are_drawn_with_the_run_s_seed(ledger):
    """Notebook and report once gave two intervals for one figure: the report drew with seed 0."""
    briefs = [f"b{number}" for number in range(6)]
    ledger.add_responses("base", [response(brief) for brief in briefs])
    ledger.add_responses("sft", [response(brief) for brief in briefs])
    rows = [
        dict(stage=stage, brief_id=brief, seed=1, criterion="tone", status="scored", score=score, reason="")
        for stage, scores in (("base", (1.3, 9.1, 3.7, 2.2, 7.9, 1.4)), ("sft", (2.9, 5.6, 9.8, 1.7, 8.1, 6.5)))
        for brief, score in zip(briefs, scores, strict=True)
    ]
    ledger.add_verdicts("judge", rows)
    tables = ledger.verdicts(), ledger.audits(), ledger.responses(), ("base", "sft")
    (report,) = judge_reports(*tables, seed=3407)
    (expected,) = comparisons.differences(ledger.verdicts(), "base", seed=3407)
    (other,) = comparisons.differences(ledger.verdicts(), "base", seed=0)
    assert report.differences[1] == expected.sentence != other.sentence


def test_the_files_are_compared_among_themselves_and_not_with_the_stage_before_training(run, ledger):
    """They answer the held-out briefs: with the other stages they share not one."""
    fill(run, ledger)
    judged(ledger, "good-judge", True, "good-judge passed its audit")
    ledger.add_responses("gguf-q8_0", [response("held-out")])
    row = dict(stage="gguf-q8_0", brief_id="held-out", seed=1, criterion="tone", status="scored", score=5, reason="")
    ledger.add_verdicts("good-judge", [row])
    told = ["no difference shown in any of 6 comparisons", "brand_named: no difference shown between f16 and q8_0"]
    figures = FIGURES["12_portability"] | {"comparisons": told, "graded": "Graded by good-judge, which passed."}
    figures["development"] = "71% of 24"
    finish(run, "12_portability", figures)
    text = visible(read(run, ledger))
    assert "share no scored brief" not in text and "the file q8_0" not in text.split("Mean scores by stage")[1][:200]
    assert all(
        words in text.split("Which file for which machine?")[1] for words in (*told, figures["graded"], "71% of 24")
    )


def test_comparisons_of_the_judge_stand_there_once(run, ledger):
    fill(run, ledger)
    judged(ledger, "good-judge", True, "good-judge passed its audit")
    (told,) = [one.sentence for one in comparisons.differences(ledger.verdicts(), "base")]
    finish(run, "11_judge", {"judge": "good-judge", "scored": 4, "asked": 4, "comparisons": [told]})
    text = visible(read(run, ledger).split("What was run")[0])
    assert text.count(told) == 1


def test_a_judge_that_scored_nothing_shows_its_audit_and_its_count(run, ledger):
    fill(run, ledger)
    ledger.add_audit("down", [], passed=False, sentence="down is not to be trusted here: no answer came")
    failed = dict(stage="sft", brief_id="b1", seed=1, criterion="tone", status="failed", score=None, reason="no answer")
    ledger.add_verdicts("down", [failed])
    text = visible(read(run, ledger))
    assert "0 of 1 scored, 1 failed" in text and "no answer came" in text


def test_alignment_quality_says_in_words_where_no_difference_is_shown(run, ledger):
    fill(run, ledger)
    for layer in (-1, 0, 1):
        for stage in ("base", "sft"):
            ledger.add_aqi(stage, layer, "separation", 0.1, 0.05, 0.2, 96)
    ledger.add_aqi("sft", -1, "permutation_p", 0.002, n=96)
    ledger.add_aqi("sft", -1, "delta_separation", 0.02, -0.01, 0.05, 96)
    ledger.add_aqi("sft", -1, "delta_silhouette", 0.05, 0.01, 0.09, 96)
    page = read(run, ledger)
    text = visible(page)
    assert "no difference shown: the interval holds 0" in text and "differs: the interval leaves 0 out" in text
    assert "permutation_p" in text and "learned weights" in text and "Alignment quality by layer" in page


def test_what_was_made_and_from_what_stands_at_the_top(run, ledger):
    finish(run, "01_environment", {"base": "Gemma 3 270M (embedded)", "licence": "gemma"})
    finish(run, "04_base_model", {"trained": 3796992, "all": 76146048})
    text = visible(read(run, ledger)).split("Did training help")[0]
    assert "Gemma 3 270M (embedded)" in text and "3,796,992 of 76,146,048 numbers (5.0%)" in text


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        (None, "–"),
        ({"value": None, "low": None, "high": None, "n": 3}, "–"),
        ({"value": 0.5, "low": None, "high": None, "n": None}, "50%"),
        ({"value": 0.5, "low": 0.25, "high": 0.75, "n": 12}, "50% (25% to 75%, n=12)"),
    ],
)
def test_a_figure_is_shown_with_what_is_known_of_it(figure, expected):
    assert with_interval(figure, "valid_tables") == expected
