"""The figures every stage is compared by: intervals that are honest, distances that are distances."""

import pytest

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.learn.model import Generation
from lekhai_helpers.measure.evaluation import (
    paired_difference,
    problem_counts,
    summarize_stage,
    tone_test,
    wilson,
    with_tone,
    word_distance,
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


def test_word_distance_is_0_for_the_same_words_and_1_for_none_shared():
    assert word_distance(["রং হাসে ঘর"], ["ঘর হাসে রং"]) == 0.0
    assert word_distance(["রং হাসে"], ["চা গরম"]) == 1.0
    assert word_distance(["রং"], []) == word_distance([], []) == 1.0


def test_word_distance_counts_shares_and_not_lengths():
    """Rounding must not make the root of a negative number, which is no number at all."""
    for words in ("ক", "ক খ গ", "ক ক খ গ ঘ ঙ চ"):
        for times in (2, 3, 7):
            assert word_distance([words], [words] * times) == pytest.approx(0.0, abs=1e-7)


def test_word_distance_is_symmetric_and_the_published_value():
    """Half the words shared: the divergence of (1, 0) and (1/2, 1/2) is 0.3113 bits, and its root is 0.5579."""
    a, b = ["ক"], ["ক খ"]
    assert word_distance(a, b) == word_distance(b, a) == pytest.approx(0.5579, abs=1e-4)


BRIEFS = [Brief(f"b{n}", "রং", "উষ্ণ", 30, "ঝিলমাটি", "রং", f"লিখুন {n}") for n in range(2)]


def writer(prompts, seed):
    """Answer the first brief with a script and every other with nothing of the kind."""
    return [Generation(GOOD if n == 0 else f"{seed} না", 10 + n, n == 0, 0.5) for n in range(len(prompts))]


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


def test_problems_are_counted_without_their_numbers():
    rows = [
        {"problems": ["row 1 has an empty cell", "2 line(s) stand outside the table"]},
        {"problems": ["row 3 has an empty cell"]},
    ]
    assert problem_counts(rows) == {"row has an empty cell": 2, "line(s) stand outside the table": 1}


def test_the_tone_test_hears_a_writer_that_listens_and_one_that_does_not(settings):
    def listens(prompts, seed):
        return [Generation("হাসি মজা" if "মজার" in p[1]["content"] else "চোখে জল", 2, True, 0.1) for p in prompts]

    heard = tone_test(listens, BRIEFS, ("উষ্ণ", "মজার"), settings)
    assert heard == {"between": 1.0, "within": 0.0, "texts": 6}
    deaf = tone_test(lambda prompts, seed: [Generation("একই কথা", 2, True, 0.1)] * 2, BRIEFS, ("ক", "খ"), settings)
    assert deaf["between"] == deaf["within"] == 0.0
    assert with_tone("লিখুন।", "উষ্ণ") == "লিখুন। টোন: উষ্ণ।"
