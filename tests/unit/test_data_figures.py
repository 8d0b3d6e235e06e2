"""What notebook 03 shows of any file: what was left out and why, what the contract counts, how it was split."""

import pandas as pd

from lekhai_helpers.core.recipe import data_file, resolve
from lekhai_helpers.prepare.data_figures import counted_facts, left_out_counts, split_shares
from lekhai_helpers.prepare.dataset import load_table, split
from lekhai_helpers.prepare.sources.reading import LeftOut, read_source


def table_of(recipe: str) -> pd.DataFrame:
    data = resolve(recipe, "cpu").data
    return load_table(data_file(data.file), data.prompts, data.source, data.contract)[0]


def test_reasons_that_differ_only_in_the_place_they_name_are_one():
    left = [
        LeftOut("a.csv", 7, "the same as row 2", "one"),
        LeftOut("a.csv", 9, "the same as row 11", "two"),
        LeftOut("a.csv", 12, "nearly the same as book-03-01", "three"),
        LeftOut("b.txt", 1, "a part of 16 words; a piece has at least 200", "four"),
        LeftOut("b.txt", 5, "a part of 90 words; a piece has at least 200", "five"),
    ]
    counted = left_out_counts(left)
    assert list(counted["number"]) == [2, 1, 2]
    assert counted["reason"][0] == "the same as ..." and counted["text"][2] == "four"


def test_nothing_left_out_is_an_empty_table():
    assert left_out_counts([]).empty


def test_a_source_that_leaves_nothing_out_says_so_and_ours_leaves_out_its_six_copies():
    data = resolve("tutor", "cpu").data
    assert read_source(data.source)(data_file(data.file)).left_out == []
    read = read_source("twainbot_folder")(data_file("twainbot"))
    counted = left_out_counts(read.left_out).set_index("file")
    assert counted.loc["headlines.csv", "number"] == 6


def test_a_fact_that_only_some_answers_have_is_counted_over_those():
    """The tutor's paths have steps and its explanations a reading ease; a mean over all rows would be neither."""
    facts = counted_facts(table_of("tutor"), "tutor_json")
    assert facts.loc["words", "answers"] == 120 and facts.loc["rows", "answers"] == 20
    assert facts.loc["reading_ease", "answers"] == 70 and facts.loc["reading_ease", "mean"] > 60


def test_yes_and_no_become_a_share():
    facts = counted_facts(table_of("alignment"), "refusal")
    assert 0 < facts.loc["refuses", "mean"] < 1 and facts.loc["refuses", "most"] == 1


def test_a_table_without_usable_rows_has_no_facts():
    table = table_of("tutor").assign(usable=False)
    assert counted_facts(table, "tutor_json").empty


def test_the_shares_of_a_split_add_up_and_unused_rows_count_nowhere():
    table = table_of("alignment")
    table.loc[table.index[:4], "usable"] = False
    table["split"] = split(table, 0.05, 0.05, 42)
    shares = split_shares(table)
    assert list(shares.index) == ["train", "validation", "test"]
    assert shares["rows"].sum() == 196 and abs(shares["share"].sum() - 1) < 1e-9
    assert shares.loc["train", "groups"] == table["industry"].nunique()
