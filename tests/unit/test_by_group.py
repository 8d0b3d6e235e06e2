"""Answers by group, what the contract counted, the style test of a run, and G-Eval in the ledger."""

import random

import pandas as pd
import pytest

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.recipe import data_file, resolve
from lekhai_helpers.measure.by_group import by_group, mean_facts
from lekhai_helpers.measure.geval import record_geval
from lekhai_helpers.measure.style_test import FEWEST
from lekhai_helpers.measure.voice import voice_test
from lekhai_helpers.prepare.dataset import briefs_of, load_table, split
from lekhai_helpers.ship.card import model_card

COMPANION = resolve("companion", "cpu")


def row(group: str, ok: bool = True, text: str = "x", brief_id: str = "b1", **facts) -> dict:
    return {"industry": group, "ok": ok, "text": text, "brief_id": brief_id, "facts": facts}


def test_each_group_has_its_own_count_and_a_missing_one_is_no_zero():
    """A mean over all hid that the tool was never called right."""
    before = [row("persona"), row("persona"), row("tool", False)]
    table = by_group({"before": before, "after": [row("persona", False), row("joke")]})
    assert list(table.index) == ["persona", "tool", "joke"]
    assert table.loc["persona", "before"].startswith("2 of 2 (34% to 100%)")
    assert table.loc["tool", "before"].startswith("0 of 1")
    assert table.loc["tool", "after"] == table.loc["joke", "before"] == "–"


def test_a_fact_is_a_mean_over_the_texts_that_have_it():
    rows = [row("a", words=10, reading_ease=70.0), row("a", words=20, note="no number")]
    table = mean_facts({"sft": rows})
    assert table.loc["words", "sft"] == 15 and table.loc["reading_ease", "sft: texts"] == 1
    assert "note" not in table.index


# --- the style test of a run

OWN = "I think, and then again I think: perhaps not. It rained; I waited, and nobody came, as nobody does. "
PLAIN = "The user should consider the options. The options are listed. The decision depends on the situation. "


def written(text: str, prompts: int = 8) -> list[dict]:
    dice = random.Random(1)
    return [
        row("decision", text=" ".join(dice.sample(text.split(". "), 3)) + text, brief_id=f"q{number}")
        for number in range(prompts)
    ]


def rows_of_file(held_out: int = 8) -> pd.DataFrame:
    parts = ["test"] * held_out + ["train"] * 10
    return pd.DataFrame(
        {
            "id": [f"n{number}" for number in range(len(parts))],
            "script": [f"{OWN}{OWN}Number {number}." for number in range(len(parts))],
            "split": parts,
            "usable": True,
        }
    )


def test_a_tuned_model_that_writes_as_the_writer_does_is_nearer_to_her():
    found = voice_test(rows_of_file(), written(PLAIN), written(OWN), COMPANION)
    assert (
        found["closer"]["value"] > 0.9 and found["closer"]["low"] > 0.5 and "nearer to the writer" in found["sentence"]
    )


def test_a_model_that_did_not_change_is_not_called_nearer():
    found = voice_test(rows_of_file(), written(PLAIN), written(PLAIN), COMPANION)
    assert not found["distinguishable"] and "was not shown to be told from the base" in found["sentence"]


def test_only_held_out_writing_is_used():
    """Sentences learned by heart would count as style: a table without held-out rows gives no test."""
    found = voice_test(rows_of_file(held_out=0), written(PLAIN), written(OWN), COMPANION)
    assert found == {"sentence": found["sentence"]} and "0 texts of the writer" in found["sentence"]


def test_rows_that_chose_the_weights_do_not_judge_them():
    table = rows_of_file(held_out=8).replace({"split": {"test": "validation"}})
    assert "0 texts of the writer" in voice_test(table, written(PLAIN), written(OWN), COMPANION)["sentence"]


def test_the_recipes_own_rows_are_enough_for_the_test():
    """The smoke profile once asked so few questions that no test of the chain ever made the style test."""
    settings = resolve("companion", "smoke")
    data = settings.data
    table, _ = load_table(data_file(data.file), data.prompts, data.source, data.contract)
    table["split"] = split(table, data.validation_share, data.test_share, settings.seed)
    asked = [brief.id for brief in briefs_of(settings)]
    before, after = ([row("x", text=text, brief_id=name) for name in asked] for text in (PLAIN * 3, OWN * 3))
    found = voice_test(table, before, after, settings)
    assert len(asked) >= FEWEST <= found["known"]["n"] and found["closer"]["n"] == len(asked)


def test_too_few_questions_and_empty_answers_are_said():
    blank = [dict(one, text=" ") for one in written(OWN)]
    assert (
        "0 questions answered by both are too few"
        in voice_test(rows_of_file(), written(PLAIN), blank, COMPANION)["sentence"]
    )


@pytest.mark.parametrize("recipe", ["lekhai", "twainbot", "tutor", "alignment"])
def test_a_recipe_without_a_writer_makes_no_style_test(recipe):
    found = voice_test(rows_of_file(), written(PLAIN), written(OWN), resolve(recipe, "cpu"))
    assert list(found) == ["sentence"] and "no style test is made" in found["sentence"]


# --- G-Eval


def verdict(stage: str, brief: int, score: float, how: str = "expectation", status: str = "scored") -> dict:
    return {
        "stage": stage, "brief_id": f"b{brief}", "seed": 1, "criterion": "kindness", "status": status,
        "score": score, "how": how,
    }  # fmt: skip


def recorded(tmp_path, rows: list[dict]) -> tuple[list[str], pd.DataFrame]:
    with Ledger(tmp_path / "l.db", experiment="e", recipe="alignment", profile="smoke", settings="{}") as ledger:
        return record_geval(ledger, {"a judge": rows}, ("merged", "sft"))["a judge"], ledger.summary()


def test_both_stages_and_their_difference_stand_in_the_ledger(tmp_path):
    rows = [verdict("merged", n, 3 + n / 10) for n in range(8)] + [verdict("sft", n, 6 + n / 10) for n in range(8)]
    told, summary = recorded(tmp_path, [*rows, verdict("quantized", 1, 9.0)])
    found = summary.set_index(["stage", "metric"])
    assert found.loc[("merged", "g-eval a judge: kindness"), "value"] == pytest.approx(3.35)
    difference = found.loc[("sft", "g-eval a judge: kindness, minus merged")]
    assert "judge a judge, not audited" in difference["note"]
    assert difference["value"] == pytest.approx(3.0) and difference["n"] == 8
    assert len(found) == 3 and "sft" in told[0]


def test_marks_that_were_written_are_not_mixed_in(tmp_path):
    """A written 10 beside expectations around 4 would look like a gain."""
    told, summary = recorded(tmp_path, [verdict("sft", n, 10, how="written") for n in range(8)])
    assert told == [] and summary.empty


def test_one_stage_alone_has_a_mean_and_no_difference(tmp_path):
    told, summary = recorded(tmp_path, [verdict("sft", n, 5.5) for n in range(8)])
    assert told == [] and list(summary["metric"]) == ["g-eval a judge: kindness"]


def both(low: float) -> list[dict]:
    return [verdict(stage, n, low + n / 10) for stage in ("merged", "sft") for n in range(8)]


def test_two_judges_keep_their_own_figures_and_a_rerun_leaves_none_of_the_first(tmp_path):
    with Ledger(tmp_path / "l.db", experiment="e", recipe="alignment", profile="smoke", settings="{}") as ledger:
        ledger.add_audit("strict", [], passed=True, sentence="it passed")
        ledger.add_audit("kind", [], passed=False, sentence="it failed")
        ledger.summarize("sft", "valid_tables", 0.5)
        record_geval(ledger, {"strict": both(2.0), "kind": both(7.0)}, ("merged", "sft"))
        found = ledger.summary().set_index(["stage", "metric"])
        record_geval(ledger, {"strict": [verdict("sft", 1, 3.0)]}, ("merged", "sft"))
        again = ledger.summary()["metric"]
    strict, kind = (found.loc[("sft", f"g-eval {name}: kindness")] for name in ("strict", "kind"))
    assert (strict["value"], kind["value"]) == (pytest.approx(2.35), pytest.approx(7.35))
    assert "judge strict, passed its audit" in strict["note"] and "judge kind, failed its audit" in kind["note"]
    assert list(again) == ["valid_tables", "g-eval strict: kindness"]


def test_the_card_prints_no_marks_of_a_judge(tmp_path):
    """It once printed them in its table, and wrote below that it prints none."""
    with Ledger(tmp_path / "l.db", experiment="e", recipe="alignment", profile="smoke", settings="{}") as ledger:
        ledger.summarize("sft", "valid_tables", 0.5, 0.2, 0.8, 8)
        record_geval(ledger, {"strict": both(2.0)}, ("merged", "sft"))
        card = model_card(resolve("alignment", "smoke"), ledger)
    assert "No judge was asked" in card or "No score of a judge" in card
    assert "| sft |" in card and "g-eval" not in card and "2.35" not in card
