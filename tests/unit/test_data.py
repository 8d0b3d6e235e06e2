"""The committed data keeps every rule it is advertised with."""

import csv
import unicodedata
from collections import Counter

import pytest

from lekhai_helpers.core.recipe import data_file, resolve
from lekhai_helpers.prepare.checks import EXEMPT_BRANDS, check_briefs, check_file
from lekhai_helpers.prepare.contracts.ad_script import check, parse_ad_script
from lekhai_helpers.prepare.contracts.ad_script_counts import counted
from lekhai_helpers.prepare.dataset import Brief, load_briefs, report, split

SETTINGS = resolve("lekhai", "cpu")
ROWS = 102


@pytest.fixture(scope="module")
def checked():
    return check_file(data_file(SETTINGS.data.file))


@pytest.fixture(scope="module")
def briefs():
    return load_briefs(data_file(SETTINGS.evaluation.briefs), part=None)


def test_no_row_has_a_problem_or_a_warning(checked):
    table, problems = checked
    assert not problems, report(problems).to_string()
    assert table["usable"].all()


def test_every_industry_has_every_format_exactly_once(checked):
    table = checked[0]
    assert len(table) == ROWS
    assert table["industry"].nunique() == 17
    assert table["format"].nunique() == 6
    assert set(Counter(zip(table["industry"], table["format"], strict=True)).values()) == {1}


def test_tones_are_spread(checked):
    assert checked[0]["tone"].nunique() >= 10


def test_every_row_says_where_it_comes_from_and_who_writes(checked):
    table = checked[0]
    assert set(table["source"]) == {"original-sample"}
    assert set(table["system_prompt"]) == {SETTINGS.system_prompt}


def test_the_three_prompts_of_a_row_are_three_texts(checked):
    for row in checked[0].to_dict("records"):
        assert len({row["prompt_1"], row["prompt_2"], row["prompt_3"]}) == 3, row["id"]


def test_scripts_are_written_in_one_way(checked):
    """One way to write the table and to end a cell: a small model has nothing to guess there."""
    for row in checked[0].to_dict("records"):
        script, _ = parse_ad_script(row["script"])
        assert script.to_markdown() == row["script"], row["id"]
        assert all(cell[-1] in "।?!" for pair in script.rows for cell in pair), row["id"]
        assert script.rows[-1][0].startswith("প্যাকশট:") and "সুপার:" in script.rows[-1][0], row["id"]
        assert row["brand"] in script.rows[-1][1], row["id"]


@pytest.mark.parametrize("name", [SETTINGS.data.file, SETTINGS.evaluation.briefs])
def test_files_open_right_in_a_spreadsheet(name):
    """Excel takes a CSV without byte-order mark for the machine's old encoding and shows no Bengali letter."""
    data = data_file(name).read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    text = data.decode("utf-8-sig")
    assert unicodedata.is_normalized("NFC", text)
    with data_file(name).open(encoding="utf-8-sig", newline="") as handle:
        assert all(None not in row and None not in row.values() for row in csv.DictReader(handle, strict=True))


def test_the_data_can_be_split(checked):
    table = checked[0]
    parts = split(table, SETTINGS.data.validation_share, SETTINGS.data.test_share, SETTINGS.seed)
    assert Counter(parts) == {"train": 82, "validation": 10, "test": 10}


def test_briefs_are_fit_to_judge_by(briefs, checked):
    assert check_briefs(briefs, checked[0]) == []
    assert len(briefs) == 40
    assert all(brief.industry in set(checked[0]["industry"]) for brief in briefs)
    assert all(brief.duration_seconds in (15, 20, 30, 45, 60) for brief in briefs)


def test_the_berger_brief_of_the_plan_comes_first(briefs):
    assert briefs[0].brand in EXEMPT_BRANDS


def test_every_film_ends_on_a_call_to_action(checked):
    for row in checked[0].to_dict("records"):
        brief = Brief(row["id"], row["industry"], row["tone"], row["duration_seconds"], row["brand"], "", "")
        facts = counted(row["script"], brief)
        assert facts["call_to_action"] and facts["rows_fit"] and facts["repeated_rows"] == 0, row["id"]


def test_half_of_the_briefs_are_held_out(briefs):
    path = data_file(SETTINGS.evaluation.briefs)
    development, heldout = load_briefs(path), load_briefs(path, part="heldout")
    assert len(development) == len(heldout) == 20
    assert {brief.id for brief in development}.isdisjoint(brief.id for brief in heldout)
    for part in (development, heldout):
        assert len({brief.industry for brief in part}) == 17
        assert len({brief.tone for brief in part}) >= 10


def audit_pairs():
    with data_file("judge_audit.csv").open(encoding="utf-8-sig", newline="") as handle:
        return list(csv.DictReader(handle, strict=True))


def test_the_audit_has_ten_pairs_of_each_defect_from_sixty_rows(checked):
    pairs = audit_pairs()
    scripts = {row["id"]: row["script"].strip() for row in checked[0].to_dict("records")}
    assert set(Counter(pair["defect"] for pair in pairs).values()) == {10} and len(pairs) == 60
    assert len({pair["source_row"] for pair in pairs}) == 60
    assert all(pair["better"] == scripts[pair["source_row"]] for pair in pairs)


@pytest.mark.parametrize("pair", audit_pairs(), ids=lambda pair: pair["id"])
def test_the_worse_side_has_its_planted_defect_and_no_other_that_code_can_count(pair):
    seconds, defect = int(pair["duration_seconds"]), pair["defect"]
    better, worse = check(pair["better"], seconds), check(pair["worse"], seconds)
    assert better.ok and better.facts["bengali_share"] >= 0.85
    assert check(pair["worse"]).ok == (defect != "broken_table")
    assert worse.ok == (defect not in ("broken_table", "wrong_length"))
    assert (worse.facts["bengali_share"] < 0.9) == (defect == "english_leakage")
    assert (pair["brand"] in pair["worse"]) == (defect != "no_brand")
