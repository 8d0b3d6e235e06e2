"""The figures every stage is compared by: intervals that are honest, briefs that are compared with themselves."""

from dataclasses import replace

import pytest

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.learn.model import Generation
from lekhai_helpers.measure.evaluation import (
    paired_difference,
    problem_counts,
    summarize_stage,
    text_figures,
    valid_by_brief,
    wilson,
    write_scripts,
)
from lekhai_helpers.prepare.dataset import Brief

GOOD = "| Visual | Audio |\n|---|---|\n" + "\n".join(f"| ছবি {n} | ভিও: কথা {n} |" for n in "কখগঘ")


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_a_share_is_the_published_one(successes, n, low, high):
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3."""
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_the_interval_stays_between_0_and_1_and_no_trials_say_nothing():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(36, 36)[1] == 1.0 and wilson(36, 36)[0] > 0.9
    assert wilson(36, 36)[0] == pytest.approx(1 - wilson(0, 36)[1])


def texts(**shares):
    """Return rows of briefs, each with a list of verdicts: b1=[True, False] is two texts, one of them valid."""
    return [{"brief_id": brief, "ok": ok} for brief, hits in shares.items() for ok in hits]


def test_the_difference_of_two_stages_is_taken_brief_by_brief():
    before, after = texts(a=[False, False], b=[False, True]), texts(b=[True, True], a=[False, True])
    found = paired_difference(before, after, seed=1)
    assert found["difference"] == 0.5 and found["briefs"] == 2
    assert found == paired_difference(before, after, seed=1)


def test_equal_stages_differ_by_nothing_and_a_clear_gain_excludes_nothing():
    briefs = {f"b{n}": [n % 2 == 0] for n in range(12)}
    assert paired_difference(texts(**briefs), texts(**briefs), seed=1) == {
        "difference": 0.0,
        "low": 0.0,
        "high": 0.0,
        "briefs": 12,
    }
    gain = paired_difference(texts(**briefs), texts(**{name: [True] for name in briefs}), seed=1)
    assert gain["difference"] == 0.5 and 0 < gain["low"] < 0.5 < gain["high"] < 1


def test_briefs_are_drawn_and_not_texts():
    """Ten texts of one brief are alike; counting each as a trial would make the interval far too narrow."""
    few = paired_difference(texts(a=[False], b=[False]), texts(a=[True], b=[False]), seed=1)
    many = paired_difference(texts(a=[False] * 10, b=[False] * 10), texts(a=[True] * 10, b=[False] * 10), seed=1)
    assert many == few and (few["low"], few["high"]) == (0.0, 1.0)


def test_stages_without_a_common_brief_cannot_be_compared():
    with pytest.raises(ValueError, match="no brief in common"):
        paired_difference(texts(a=[True]), texts(b=[True]), seed=1)


BRIEFS = [Brief(f"b{n}", "রং", "উষ্ণ", 30, "ঝিলমাটি", "রং", f"লিখুন {n}") for n in range(2)]


def writer(prompts, seed):
    """Answer the first brief with a script and every other with nothing of the kind."""
    places = [0 if prompt[1]["content"] == BRIEFS[0].prompt else 1 for prompt in prompts]
    return [Generation("না" if place else GOOD, 10 + place, place == 0, 0.5) for place in places]


@pytest.fixture
def settings():
    return resolve("lekhai", "smoke")


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "l.db", experiment="e", recipe="lekhai", profile="smoke", settings="{}") as opened:
        yield opened


def test_every_brief_is_written_once_per_seed_with_the_recipes_system_prompt(settings):
    seen = []

    def watch(prompts, seed):
        seen.extend(prompts)
        return writer(prompts, seed)

    rows = write_scripts(watch, BRIEFS, settings, [1, 2])
    assert [(row["brief_id"], row["seed"], row["ok"]) for row in rows] == [
        ("b0", 1, True),
        ("b1", 1, False),
        ("b0", 2, True),
        ("b1", 2, False),
    ]
    assert seen[1] == [
        {"role": "system", "content": settings.system_prompt},
        {"role": "user", "content": BRIEFS[1].prompt},
    ]


def test_a_writer_that_loses_an_answer_is_found(settings):
    with pytest.raises(ValueError, match="zip"):
        write_scripts(lambda prompts, seed: writer(prompts, seed)[:1], BRIEFS, settings, [1])


def test_a_stage_is_summed_up_in_the_ledger(settings, ledger):
    rows = write_scripts(writer, BRIEFS, settings, [1, 2])
    figures = summarize_stage(ledger, "sft", rows)
    low, high = wilson(2, 4)
    assert figures == {
        "texts": 4,
        "valid_tables": 0.5,
        "valid_tables_low": round(low, 4),
        "valid_tables_high": round(high, 4),
        "stopped": 0.5,
        "stopped_low": round(low, 4),
        "stopped_high": round(high, 4),
        "bengali_share": 1.0,
        "mean_tokens": 10.5,
    }
    table = ledger.summary().set_index("metric")
    assert table.loc["valid_tables", ["value", "low", "high", "n"]].tolist() == [0.5, low, high, 4]
    assert table.loc["bengali_share", "note"] == "of 4 texts 2 hold a table row"
    assert ledger.responses("sft")["text"].tolist().count(GOOD) == 2


def test_a_stage_without_any_table_has_no_share_of_bengali_rather_than_0(settings, ledger):
    rows = write_scripts(lambda prompts, seed: [Generation("না", 1, True, 0.1)] * 2, BRIEFS, settings, [1])
    figures = summarize_stage(ledger, "base", rows)
    assert "bengali_share" not in figures and figures["valid_tables"] == 0.0
    assert ledger.summary().set_index("metric").loc["bengali_share", "n"] == 0


def test_the_same_stage_again_replaces_its_texts(settings, ledger):
    rows = write_scripts(writer, BRIEFS, settings, [1])
    summarize_stage(ledger, "sft", rows)
    summarize_stage(ledger, "sft", rows)
    assert len(ledger.responses("sft")) == 2
    assert ledger.summary()["metric"].is_unique


def test_problems_are_counted_without_what_differs_from_text_to_text():
    rows = [
        {"problems": ["row 1 has an empty cell", "2 line(s) stand outside the table"]},
        {"problems": ["row 3 has an empty cell", "the levels run [8, 9], not 1 to 2 in order"]},
        {"problems": ["the levels run [2], not 1 to 1 in order", "“I can't 1” stands there more than once"]},
        {"problems": ["figures that nobody gave: 18, 2026-08-10", "figures that nobody gave: 7"]},
    ]
    assert problem_counts(rows) == {
        "row … has an empty cell": 2,
        "… line(s) stand outside the table": 1,
        "the levels run …, not … to … in order": 2,
        "… stands there more than once": 1,
        "figures that nobody gave: …": 2,
    }


def test_each_brief_is_held_to_its_own_grammar_and_only_where_asked(settings):
    given = []

    def held(prompts, seed, grammars=None):
        given.append(grammars)
        return writer(prompts, seed)

    briefs = [replace(BRIEFS[0], prompt="একটা witty ad"), replace(BRIEFS[1], brand="Rongdhonu")]
    write_scripts(held, briefs, settings, [1])
    write_scripts(held, briefs, settings, [1, 2], constrained=True)
    assert given[0] is None and len(given) == 2, "all seeds are asked for at once"
    first, second, *again = (grammar.words for grammar in given[1])
    assert again == [first, second]
    assert {"witty", "ad"} <= set(first) and "Rongdhonu" not in first and "Rongdhonu" in second


def test_a_writer_without_grammars_cannot_be_constrained(settings):
    with pytest.raises(TypeError, match="positional argument"):
        write_scripts(writer, BRIEFS, settings, [1], constrained=True)


def test_the_shares_of_each_brief_come_in_the_order_of_the_briefs():
    rows = texts(b=[True, False], a=[True])
    assert list(valid_by_brief(rows).items()) == [("b", 0.5), ("a", 1.0)]


def test_two_ways_of_writing_are_counted_alike(settings):
    rows = write_scripts(writer, BRIEFS, settings, [1])
    twice = write_scripts(
        lambda p, s: [Generation(GOOD + "\n" + GOOD.split("\n")[2], 40, True, 2.0)] * 2, BRIEFS, settings, [1]
    )
    assert text_figures(rows) == {
        "valid_share": 0.5,
        "stopped_share": 0.5,
        "tokens_per_second": 21.0,
        "bengali_share": 1.0,
        "rows": 2.0,
        "repeated_rows": 0.0,
        "words_per_cell": 2.5,
    }
    assert text_figures(twice)["repeated_rows"] == 1.0 and text_figures(twice)["tokens_per_second"] == 20.0


def test_texts_without_a_table_have_no_words_per_cell_rather_than_0(settings):
    rows = write_scripts(lambda prompts, seed: [Generation("না", 1, True, 0.0)] * 2, BRIEFS, settings, [1])
    figures = text_figures(rows)
    assert figures["rows"] == 0 and all(
        figures[name] != figures[name] for name in ("words_per_cell", "bengali_share", "tokens_per_second")
    )
