"""One chain for any recipe: a stand-in contract goes through all that counts, shows, plants and judges texts.

Nothing here may know an ad script; where something still did, a text of another recipe was counted as no table.
"""

import json
import random
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from lekhai_helpers.core import plots
from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.recipe import SettingsError, resolve
from lekhai_helpers.core.run_folder import Run
from lekhai_helpers.core.words import Words, plural
from lekhai_helpers.learn.alarms import drift_alarms
from lekhai_helpers.learn.defects import plant_defect
from lekhai_helpers.learn.donors import donor_texts
from lekhai_helpers.learn.likelihood import Reading
from lekhai_helpers.learn.model import Generation
from lekhai_helpers.measure import memorising
from lekhai_helpers.measure.counting import counted_table
from lekhai_helpers.measure.evaluation import shown_figures, summarize_stage, text_figures, write_scripts
from lekhai_helpers.measure.gallery import worst
from lekhai_helpers.measure.judge_forms import Wording, wording_of
from lekhai_helpers.measure.judge_pairs import AuditError, audit_material, audit_pairs, plant_pairs
from lekhai_helpers.measure.likelihood_judge import LikelihoodJudge, gold_scripts
from lekhai_helpers.measure.local_judge import local_wording
from lekhai_helpers.measure.pairwise import compare, counting, verdict
from lekhai_helpers.measure.report import build_report
from lekhai_helpers.prepare.checks import strict_checks
from lekhai_helpers.prepare.contracts import Contract, Verdict, base, get_contract, words_of
from lekhai_helpers.prepare.dataset import Brief

LESSONS = Path(__file__).parents[2] / "notebooks" / "src"
GOOD = "The river rose. It fell again."
BRIEFS = [
    Brief(f"b{n}", ("water", "fire")[n % 2], "", None, "", "", f"Tell me of {n}", '{"most": 9}') for n in range(8)
]


def check(text, expected=None):
    most = (expected or {}).get("most", 20)
    count = len(text.split())
    problems = ["it does not end in a full stop"] if not text.endswith(".") else []
    problems += [f"{count} words; at most {most}"] if count > most else []
    return Verdict(not problems, problems, {"words": count, "short_share": 1.0 if count < 9 else 0.5})


def count(text, brief):
    return {
        "kept": check(text, json.loads(brief.expected or "null")).ok,
        "short": len(text) / 100 if text else None,
        "names_river": "river" in text,
        "never_told": None,
    }


TALE = Contract(
    name="tale",
    check=check,
    one="a whole tale",
    many="whole tales",
    show=lambda text: text,
    count=count,
    defects={
        "the stop is missing": lambda text: [text[:-1]] if text.endswith(".") else [],
        "the first word is lost": lambda text: [text.split(" ", 1)[-1]],
        "nothing to spoil": lambda text: [],
    },
    rule="A tale ends in a full stop.",
)


@pytest.fixture(autouse=True)
def tale(monkeypatch):
    monkeypatch.setitem(sys.modules, "stand_in_tale", SimpleNamespace(CONTRACT=TALE))
    monkeypatch.setitem(base._CONTRACTS, "tale", "stand_in_tale")


@pytest.fixture
def settings():
    changes = {"data.contract": "tale", "data.unit": "tale", "data.group": "country", "judge.audit_file": None}
    changes |= {
        "evaluation.tones": [],
        "judge.examples": None,
        "judge.wording": None,
        "language": "en",
        "title": "Tales",
    }
    return resolve("lekhai", "smoke", changes)


def answers(text):
    return lambda prompts, seed: [Generation(text, 5, True, 0.1) for _ in prompts]


def table(n=12):
    texts = [f"The river rose on day {day} and nobody saw it coming {'up ' * day}at all." for day in range(n)]
    rows = [
        {"id": f"r{day}", "row": day + 2, "industry": "water", "tone": "", "prompt_1": f"Day {day}?", "script": text}
        | {"split": "train", "usable": True, "duration_seconds": None, "expected": ""}
        for day, text in enumerate(texts)
    ]
    return pd.DataFrame(rows)


# --- words


def test_the_words_of_a_recipe_come_from_its_settings_and_its_contract(settings):
    words = words_of(settings)
    assert words == Words("tale", "a whole tale", "whole tales", "country")
    assert (words.units, words.groups, words.heading) == ("tales", "countries", "Whole tales")
    assert words_of(resolve("lekhai", "smoke")) == Words(), "what is written without words is LekhAI's own"


@pytest.mark.parametrize(("one", "many"), [("industry", "industries"), ("day", "days"), ("script", "scripts")])
def test_a_plural_is_regular(one, many):
    assert plural(one) == many


def test_pictures_and_verdicts_speak_the_words_of_the_recipe(settings):
    words = words_of(settings)
    rows = [("sft", "valid_tables", 0.5, 0.4, 0.6, 9, "")]
    summary = pd.DataFrame(rows, columns=["stage", "metric", "value", "low", "high", "n", "note"])
    ax = plots.validity_by_stage(summary, words).axes[0]
    assert ax.get_title() == "How many tales are whole tales, stage by stage?"
    assert ax.get_xlabel().startswith("tales that are a whole tale")
    before = {"valid_tables": 1.0, "stopped": 1.0, "mean_tokens": 9.0}
    after = before | {"valid_tables": 0.0}
    assert (
        drift_alarms(before, after, words)[1].words == "fewer texts are whole tales: 100% whole tales before, 0% after"
    )
    rows = [{"brief_id": "b0", "seed": 1, "text": GOOD}]
    same = compare(rows, rows, BRIEFS, counting("tale"))
    assert verdict(before, after, same, words)[1] == ["whole tales fell from 100% to 0%"]


def test_data_without_tones_and_lengths_is_drawn_without_their_panels():
    figure = plots.data_overview(table(), Words("tale", group="country"))
    assert [ax.get_title() for ax in figure.axes] == ["Rows per country", "Words in the tale"]
    toned = table().assign(tone="calm", duration_seconds=15)
    titles = [ax.get_title() for ax in plots.data_overview(toned).axes]
    assert titles == ["Rows per industry", "Rows per tone", "Words by length"]


# --- counting


def test_answers_are_held_against_what_their_brief_expects(settings):
    rows = write_scripts(answers(GOOD + " And once more it rose."), BRIEFS, settings, [1])
    assert [row["problems"] for row in rows] == [["11 words; at most 9"]] * 8
    assert all(row["ok"] for row in write_scripts(answers(GOOD), BRIEFS, settings, [1]))


def test_a_stage_is_summed_up_by_the_facts_of_its_contract_and_named_in_its_words(settings, tmp_path):
    rows = write_scripts(answers(GOOD), BRIEFS, settings, [1])
    with Ledger(tmp_path / "l.db", experiment="e", recipe="tale", profile="smoke", settings="{}") as ledger:
        figures = summarize_stage(ledger, "sft", rows)
        assert "bengali_share" not in set(ledger.summary()["metric"])
    assert figures["short_share"] == 1.0 and "bengali_share" not in figures
    shown = shown_figures(figures, words_of(settings))
    assert shown["whole_tales"] == 1.0 and shown["whole_tales_low"] < 1 and "valid_tables" not in shown
    assert text_figures(rows, "tale")["words_per_text"] == 6.0


def test_what_a_text_has_nothing_of_to_count_gives_no_row_and_no_zero(settings):
    rows = [{"stage": "a"} | row for row in write_scripts(answers(GOOD), BRIEFS, settings, [1])]
    counted = counted_table(rows, BRIEFS, "tale")
    assert list(dict.fromkeys(counted["criterion"])) == ["kept", "short", "names_river"]
    assert set(counted["industry"]) == {"water", "fire"}


def test_the_gallery_names_what_the_contract_found_and_counted(settings):
    rows = write_scripts(answers("A fire burned"), BRIEFS[:1], settings, [1])
    (exhibit,) = worst(rows, BRIEFS, contract="tale")
    assert [fault.what for fault in exhibit.faults] == ["it does not end in a full stop", "names river: no"]
    assert worst(write_scripts(answers(GOOD), BRIEFS, settings, [1]), BRIEFS, contract="tale") == []


@pytest.mark.parametrize(
    ("better", "worse", "why"),
    [
        (GOOD, "The river", "kept"),
        ("The river rose." * 2, "The river.", "short"),
        (GOOD, "A hot wind rose and fell again.", "names_river"),
    ],
)
def test_the_first_count_that_differs_decides_and_a_small_gap_of_a_share_does_not(better, worse, why):
    decide = counting("tale")
    assert decide({"text": better}, {"text": worse}, BRIEFS[0]) == ("first", why)
    assert decide({"text": worse}, {"text": better}, BRIEFS[0]) == ("second", why)
    assert decide({"text": GOOD}, {"text": GOOD.replace("rose", "roses")}, BRIEFS[0]) == ("tie", "")


def test_copies_are_looked_for_in_every_word_where_there_is_no_header():
    text = "visual audio one two three four five six"
    assert memorising.verbatim_share([text], [text], contract="tale")["copied"] == 1
    assert memorising.verbatim_share(["Visual audio\n" + text], [text])["ngrams"] == 1, "a header is nobody's words"


def test_nearly_equal_answers_are_advised_against_and_the_same_short_call_in_two_conversations_is_not():
    rows = table(3)
    rows.loc[1, "script"] = rows.loc[0, "script"].replace("nobody", "no man")
    assert [problem.row for problem in strict_checks(rows, "tale")] == [3]
    calls = table(2).assign(script="<tool_call>{}</tool_call>", messages="[]")
    calls["prompt_1"] = ["Is it raining in Dhaka at all today?", "Should my sister take a coat to Oslo tomorrow?"]
    assert strict_checks(calls, "tale") == []


# --- planting and judging


def test_a_defect_is_planted_as_the_contract_knows_how_and_a_broken_text_is_refused():
    found = {plant_defect(GOOD, random.Random(seed), contract="tale")[1] for seed in range(20)}
    assert found == {"the stop is missing", "the first word is lost"}
    with pytest.raises(ValueError, match="not a whole tale"):
        plant_defect("no stop", random.Random(1), contract="tale")
    assert plant_defect(GOOD, random.Random(1), lambda text: False, "tale") is None


def test_without_an_audit_file_faults_are_planted_in_the_training_rows_evenly(settings):
    rows = table()
    rows.loc[0, "split"] = "test"
    pairs = audit_pairs(settings, rows)
    assert Counter(pair.defect for pair in pairs) == {"the stop is missing": 6, "the first word is lost": 5}
    assert "planted-r0" not in {pair.id for pair in pairs}
    assert all(pair.better != pair.worse and pair.brief.prompt.startswith("Day") for pair in pairs)
    assert pairs == audit_pairs(settings, rows)
    assert len(plant_pairs(rows, "tale", 1, most=4)) == 4


def test_a_contract_that_can_spoil_nothing_says_what_to_do(settings):
    with pytest.raises(AuditError, match=r"judge\.audit_file"):
        plant_pairs(table().assign(script=""), "tale", 1)


def test_the_pair_a_small_judge_is_shown_is_not_in_its_audit(settings):
    pairs, shown = audit_material(settings, table())
    assert shown is not None and shown not in pairs and len(pairs) == 11
    wording = local_wording(settings.judge, shown)
    asked = [
        json.loads(message["content"])["script"] for message in wording.grading_examples if message["role"] == "user"
    ]
    assert asked[0] == shown.better and asked[2] == shown.worse and shown.better.startswith(asked[1])
    assert audit_material(resolve("lekhai", "smoke"))[1] is None, "LekhAI brings examples of its own"
    assert local_wording(settings.judge).grading_examples == ()


def test_a_recipe_without_words_for_its_judge_gets_plain_ones(settings):
    assert wording_of(settings.judge) == Wording() and "advertis" not in Wording().grading
    assert "agency in Dhaka" in wording_of(resolve("lekhai", "smoke").judge).grading


def reads(texts):
    return [Reading(tuple(map(ord, text)), tuple(-1.0 - (ord(c) % 7) / 7 for c in text)) for text in texts]


def test_the_likelihood_judge_measures_what_the_contract_counts_and_no_tone_where_rows_name_none():
    judge = LikelihoodJudge(gold_scripts(table()), reads, contract="tale", unit="tale")
    assert judge.measures == ("fluency", "structure")
    broken, sound = (judge.grade(text, BRIEFS[0], {"structure": "", "tone": ""}) for text in ("no stop", GOOD))
    assert broken[0].score < sound[0].score
    assert "missing: kept, short (7%), names river" in broken[0].reason and "gold tale" in broken[0].reason
    assert sound[1].status == "failed" and "no measure of tone" in sound[1].reason


# --- settings


def test_a_recipe_that_merges_nothing_needs_no_donors_although_the_profile_gives_them_steps():
    none = {"title": ""}
    settings = resolve("lekhai", "smoke", {"merge.method": "none", "merge.language": none, "merge.structure": none})
    assert donor_texts(settings.merge) == {}
    with pytest.raises(SettingsError, match="set method to none"):
        resolve("lekhai", "smoke", {"merge.language": none})


@pytest.mark.parametrize("tones", [["calm"], ["calm", "calm"], ["a", "b", "c"]])
def test_tones_are_two_or_none(tones):
    with pytest.raises(SettingsError, match="two different tones"):
        resolve("lekhai", "smoke", {"evaluation.tones": tones})
    assert resolve("lekhai", "smoke", {"evaluation.tones": []}).evaluation.tones == []


def test_a_grading_that_forgets_the_criteria_is_refused():
    with pytest.raises(SettingsError, match="rubric"):
        resolve("lekhai", "smoke", {"judge.wording.grading": "Grade this."})


# --- the report, the lessons


def test_the_report_of_another_recipe_shows_texts_as_they_are_and_none_of_lekhais_words(
    settings, tmp_path, monkeypatch
):
    monkeypatch.setenv("LEKHAI_RUNS", str(tmp_path / "runs"))
    run = Run(settings, "test")
    run.folder.mkdir(parents=True)
    with run.open_ledger() as ledger:
        for stage in ("base", "sft"):
            summarize_stage(ledger, stage, write_scripts(answers(GOOD), BRIEFS, settings, [1]))
        page = build_report(run, ledger).read_text(encoding="utf-8").split("<h2>What was run</h2>")[0]
        page = page.partition("</style>")[2]
    assert "A tale ends in a full stop. Code counts this." in page and "✓ a whole tale" in page
    assert f'<pre lang="en">{GOOD}</pre>' in page and "whole tales, the base model" in page
    words = ("valid table", "Visual", "script ", "scripts", "film", "brand")
    assert [word for word in words if word in page] == []


@pytest.mark.parametrize("number", ["03", "05", "06", "07", "10", "11"])
def test_a_lesson_says_nothing_that_is_true_of_one_recipe_only(number):
    """What the recipe writes comes from a cell's output; words beside it would be wrong for the next recipe."""
    (path,) = LESSONS.glob(f"{number}_*.py")
    prose = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    words = ("script", "film", "brand", "industr", "Visual", "advert", "valid table", "Berger", "Dhaka")
    assert [line for line in prose if any(word.lower() in line.lower() for word in words)] == []
    assert "if RECIPE" not in path.read_text(encoding="utf-8")


def test_the_stand_in_is_a_contract_like_any_other():
    assert get_contract("tale")(GOOD).ok and get_contract("tale").grammar is None
