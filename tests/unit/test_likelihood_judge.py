"""The judge without a key, on the real training scripts; the model is a stand-in that knows which letters follow.

Each planted fault is told from the script people wrote, and a text that loops is not called fluent.
"""

import csv
import math
import random
from collections import Counter
from functools import cache

import pytest

from lekhai_helpers.core.recipe import data_file, resolve
from lekhai_helpers.learn.likelihood import Reading
from lekhai_helpers.measure.judge import grade_all, pairwise, rubric_of
from lekhai_helpers.measure.likelihood_judge import MEASURED, LikelihoodJudge, gold_scripts
from lekhai_helpers.measure.rubric_figures import cells_text, common_stems
from lekhai_helpers.prepare.contracts.ad_script import AdScript
from lekhai_helpers.prepare.contracts.ad_script_rubric import adherence, structure
from lekhai_helpers.prepare.dataset import Brief, load_table, split

SETTINGS = resolve("lekhai", "cpu")
CRITERIA = SETTINGS.judge.criteria
BRIEF = Brief("b", "চা", "শান্ত (Calm)", 15, "ধোঁয়াতলা", "চা-পাতা", "ধোঁয়াতলা চা-পাতার শান্ত ফিল্ম, বৃষ্টির বিকেলে দাদুর গল্প")
ROWS = [
    ("ওয়াইড শট: বৃষ্টির বিকেল, বারান্দায় দাদু।", "SFX: টিনের চালে বৃষ্টি।"),
    ("ক্লোজ-আপ: কেটলি থেকে ধোঁয়া ওঠে।", "দাদু: একটা গল্প শুনবি?"),
    ("মিড শট: নাতনি চা-পাতার কৌটা এগিয়ে দেয়।", "নাতনি: আগে চা, পরে গল্প।"),
    ("প্যাকশট: ধোঁয়াতলা চা-পাতার কৌটা।", "ভিও: ধোঁয়াতলা। গল্পের আগে এক কাপ। আজই আনুন।"),
]
GOOD = AdScript(ROWS).to_markdown()


@cache
def training_table():
    table, _ = load_table(data_file(SETTINGS.data.file), SETTINGS.data.prompts)
    table["split"] = split(table, SETTINGS.data.validation_share, SETTINGS.data.test_share, SETTINGS.seed)
    return table


@cache
def letter_pairs():
    text = "".join(cells_text(row["script"]) for row in training_table().to_dict("records"))
    return Counter(zip(text, text[1:], strict=False)), Counter(text)


def reads(texts):
    """Read letter by letter; like a real model it expects what it has just read to come again."""
    pairs, letters = letter_pairs()
    found = []
    for text in texts:
        seen: set[str] = set()
        values = []
        for end, letter in enumerate(text):
            before, run = text[end - 1 : end], text[max(0, end - 7) : end + 1]
            chance = (pairs[before, letter] + 0.01) / (letters[before] + 1)
            values.append(-0.01 if run in seen and len(run) == 8 else math.log(chance))
            seen.add(run)
        found.append(Reading(tuple(map(ord, text)), tuple(values)))
    return found


@pytest.fixture(scope="module")
def judge():
    return LikelihoodJudge(gold_scripts(training_table()), reads, "google")


def graded(judge, text, brief=BRIEF):
    return {score.criterion: score for score in judge.grade(text, brief, CRITERIA)}


def test_every_criterion_gets_a_verdict_and_ideas_no_number(judge):
    scores = graded(judge, GOOD)
    assert list(scores) == list(CRITERIA)
    assert scores["idea"].status == "failed" and scores["idea"].score is None
    assert "no measure of ideas" in scores["idea"].reason
    for name in MEASURED:
        assert scores[name].status == "scored" and 1 <= scores[name].score <= 10 and scores[name].reason


def test_in_a_grading_it_is_not_asked_for_ideas(judge):
    rows = [{"stage": "sft", "brief_id": "b", "seed": 1, "text": GOOD}]
    verdicts = grade_all(judge, rows, CRITERIA, briefs=[BRIEF])
    assert tuple(row["criterion"] for row in verdicts) == judge.measures == MEASURED
    assert {row["status"] for row in verdicts} == {"scored"}


def test_its_marks_are_old_where_model_or_gold_are_others(judge):
    """A mark is a place among the gold scripts: among others it is another mark."""
    same = LikelihoodJudge(gold_scripts(training_table()), reads, "google")
    fewer = LikelihoodJudge(judge.gold[:-1], reads, "google")
    other = LikelihoodJudge(judge.gold, reads, "google", weights="another base")
    assert rubric_of(same, CRITERIA) == rubric_of(judge, CRITERIA)
    assert len({rubric_of(one, CRITERIA) for one in (judge, fewer, other)}) == 3


def test_it_learns_from_the_training_split_only():
    """Rows held out for the last exam were once part of the scale they are examined on."""
    table = training_table()
    held = set(table[table["split"] != "train"]["id"])
    assert held and held.isdisjoint(gold.id for gold in gold_scripts(table))
    with pytest.raises(ValueError, match="run notebook 03"):
        gold_scripts(table[table["split"] == "test"])


def test_a_looped_text_is_not_fluent(judge):
    """Loops have the highest likelihood of all: read naively they were the best Bengali."""
    for loop in ([ROWS[0]] * 12, [("চা চা চা " * 30, "ভিও: চা চা চা " * 30)] * 4):
        text = AdScript(loop).to_markdown()
        (reading,) = reads([cells_text(text)])
        assert sum(reading.logprobs) / len(reading.logprobs) > judge._scale("likely", frozenset()).values[-1]
        fluency = graded(judge, text)["fluency"]
        assert fluency.score < 3 and "repetition, worse than every gold script" in fluency.reason


def test_shuffled_letters_are_less_likely_than_every_gold_script(judge):
    letters = list(cells_text(GOOD))
    random.Random(1).shuffle(letters)
    fluency = graded(judge, f"| Visual | Audio |\n|---|---|\n| {''.join(letters)} | ভিও: ক |".replace("\n\n", "\n"))
    assert fluency["fluency"].score < 3


def test_english_is_not_fluent_bengali(judge):
    text = AdScript([("Wide shot: a rainy veranda", "VO: tea for everyone")] * 4).to_markdown()
    fluency = graded(judge, text)["fluency"]
    assert fluency.score <= 3 and "0% is Bengali" in fluency.reason


@pytest.mark.parametrize("text", ["", "   ", "| Visual | Audio |\n|---|---|", "|||", "!!!"])
def test_a_text_without_a_script_gets_the_lowest_marks_and_no_error(judge, text):
    scores = graded(judge, text)
    assert all(scores[name].score <= 3 for name in ("structure", "adherence"))
    assert scores["fluency"].score <= 3 or text.startswith("| V")


def test_the_reason_says_what_is_missing(judge):
    broken = GOOD.replace("ধোঁয়াতলা", "আমাদের") + "\nআশা করি ভালো লাগবে!"
    scores = graded(judge, broken)
    assert "a valid table" in scores["structure"].reason and "the brand" in scores["structure"].reason
    assert scores["structure"].score <= 3 and scores["adherence"].score <= 3
    assert graded(judge, GOOD)["structure"].reason.startswith("form, counted: nothing that can be counted is missing")


def test_gold_scripts_themselves_stand_inside_the_scale(judge):
    for gold in judge.gold[:10]:
        scores = graded(judge, gold.text, gold.brief)
        assert scores["structure"].score == 7.0 and scores["fluency"].score > 1 and scores["adherence"].score > 1


def test_the_script_that_answers_the_brief_is_left_out(judge):
    """The audit is made of training scripts: the judge would know the better side by heart."""
    gold = judge.gold[0]
    other = Brief("x", gold.brief.industry, gold.brief.tone, 15, gold.brief.brand, "", sorted(gold.prompts)[-1])
    assert judge._same_brief(other) == {gold.id}
    known, honest = (graded(judge, gold.text, brief)["tone"].score for brief in (BRIEF_LIKE(gold), other))
    assert known > honest


def BRIEF_LIKE(gold):
    return Brief("y", "", gold.brief.tone, 15, gold.brief.brand, "", "কোনো প্রশিক্ষণের ব্রিফ নয়")


def test_it_is_deterministic_and_blind_to_position(judge):
    again = LikelihoodJudge(gold_scripts(training_table()), reads, "google")
    assert graded(again, GOOD) == graded(judge, GOOD)
    worse = GOOD.replace("ধোঁয়াতলা", "আমাদের")
    assert judge.compare(GOOD, worse, BRIEF) == "first" and judge.compare(worse, GOOD, BRIEF) == "second"
    assert judge.compare(GOOD, GOOD, BRIEF) == "tie"


def audit():
    with data_file("judge_audit.csv").open(encoding="utf-8-sig", newline="") as handle:
        return list(csv.DictReader(handle, strict=True))


def test_it_tells_every_planted_fault_that_code_can_count(judge):
    for defect in ("broken_table", "no_brand", "wrong_length"):
        won = 0
        for pair in [pair for pair in audit() if pair["defect"] == defect]:
            seconds = int(pair["duration_seconds"])
            brief = Brief(pair["id"], pair["industry"], pair["tone"], seconds, pair["brand"], "", pair["prompt"])
            verdict = pairwise(judge, pair["better"], pair["worse"], brief)
            assert verdict.status == "scored" and not verdict.flipped
            won += verdict.winner == "better"
        assert won >= 8, defect


def test_a_tone_it_does_not_know_is_failed_and_not_guessed(judge):
    scores = graded(judge, GOOD, Brief("b", "চা", "রাগী (Angry)", 15, "ধোঁয়াতলা", "", "x"))
    assert scores["tone"].status == "failed" and "known:" in scores["tone"].reason


def test_without_skill_the_tone_is_left_out_and_said():
    """A classifier that had learnt nothing still gave numbers, and they went into the heatmap."""
    table = training_table().copy()
    tones = list(table["tone"])
    random.Random(2).shuffle(tones)
    table["tone"] = tones
    judge = LikelihoodJudge(gold_scripts(table), reads)
    assert not judge.tone_skill.shown
    tone = graded(judge, GOOD)["tone"]
    assert tone.status == "failed" and tone.score is None and "no better than guessing shown" in tone.reason


def test_scripts_without_tones_leave_tone_out():
    table = training_table().copy()
    table["tone"] = ""
    judge = LikelihoodJudge(gold_scripts(table), reads)
    assert graded(judge, GOOD)["tone"].status == "failed"
    assert judge.compare(GOOD, GOOD.replace("ধোঁয়াতলা", "আমাদের"), BRIEF) == "first"


def test_reading_ahead_asks_the_model_for_everything_at_once():
    asked = []

    def counting(texts):
        asked.append(list(texts))
        return reads(texts)

    judge = LikelihoodJudge(gold_scripts(training_table()), counting)
    judge.read_ahead([GOOD])
    assert len(asked) == 1 and asked[0][-1] == cells_text(GOOD)


def test_adherence_counts_brand_product_length_and_wishes():
    found = adherence(GOOD, BRIEF)
    assert found.value > 0.8
    assert adherence(GOOD.replace("ধোঁয়াতলা", "অন্য"), BRIEF).value < found.value
    assert "the product" in adherence(GOOD.replace("চা", "দুধ").replace("পাতা", "গুঁড়া"), BRIEF).missing
    assert adherence(GOOD, Brief("b", "", "", None, "", "", "")) is None


def test_words_that_stand_in_many_briefs_are_no_wish():
    prompts = [f"{name} নিয়ে একটি ফিল্ম লিখুন" for name in ("চা", "সাবান", "টিভি")]
    assert {"নিয়ে"[:4], "একটি", "ফিল্"} <= common_stems(prompts)
    assert "সাবা" not in common_stems(prompts)


def test_bengali_endings_do_not_hide_a_word():
    brief = Brief("b", "", "", None, "", "দেয়াল", "")
    assert adherence("| ক | দেয়ালের কথা |", brief).value == 1.0


def test_structure_without_a_table_meets_no_check_but_says_which():
    found = structure("শুধু কথা", BRIEF)
    assert found.value < 0.2 and len(found.missing) >= 6
