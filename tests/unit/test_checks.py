"""The quality checks find each planted fault, and only that."""

import csv

import pytest

from lekhai_helpers.prepare.checks import Denylist, check_briefs, check_file, load_denylist, opening, tagline
from lekhai_helpers.prepare.dataset import Brief

SCENES = [
    ["পুরান ঢাকার ছাদে ঘুড়ি।", "নাটাই হাতে দাদি।", "মেঘের গায়ে সুতা।", "কাটা ঘুড়ি পড়ে।"],
    ["সিলেটের চা-বাগানে বৃষ্টি।", "ঝুড়ি মাথায় মেয়েরা।", "ছাতা উল্টে যায়।", "সবাই হেসে ওঠে।"],
    ["কমলাপুরের প্ল্যাটফর্ম।", "ব্যাগ হাতে সৈনিক।", "বাবা দূরে দাঁড়িয়ে।", "ট্রেন থামে ধীরে।"],
]
LINES = [
    ["বাকাট্টা বলব কে?", "আমি বলব, আমি!", "আস্তে ধর সুতা।", "উড়ান কমে না।"],
    ["ভিজলে ভিজুক পাতা।", "লিকার হবে কড়া।", "ছাতা কার কাছে?", "এক চুমুকে রোদ।"],
    ["তিন মাস পর ফেরা।", "চিনতে পারছ, আব্বা?", "গোঁফটা নতুন দেখি।", "ঘর মানে অপেক্ষা।"],
]
BRANDS = ["উড়ালি", "ঝরাপাতি", "ফিরতি"]


def script(number: int) -> str:
    pairs = list(zip(SCENES[number], LINES[number], strict=True))
    rows = [f"| মিড শট: {scene} | ভিও: {line} |" for scene, line in pairs[:3]]
    scene, line = pairs[3]
    rows.append(f"| প্যাকশট: {scene} সুপার: {line} | ভিও: {BRANDS[number]}। {line} আজই নিন। |")
    return "\n".join(["| Visual | Audio |", "|---|---|", *rows])


def row(number: int) -> dict[str, str]:
    brand = BRANDS[number]
    prompts = {f"prompt_{n}": f"{brand} নিয়ে {n} নম্বর ব্রিফ।" for n in (1, 2, 3)}
    return {
        "id": f"r{number}", "industry": f"শিল্প {number}", "format": "জিঙ্গেল", "tone": "শান্ত", "brand": brand,
        "product": "পণ্য", "duration_seconds": "15", **prompts, "script": script(number), "source": "original-sample",
    }  # fmt: skip


@pytest.fixture
def check(tmp_path):
    def run(rows):
        path = tmp_path / "own.csv"
        with path.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return check_file(path)

    return run


def test_three_sound_rows_have_no_problem(check):
    table, problems = check([row(0), row(1), row(2)])
    assert problems == []
    assert len(table) == 3


def change(number: int, column: str, old: str, new: str) -> dict[str, str]:
    changed = row(number)
    assert old in changed[column]
    return changed | {column: changed[column].replace(old, new)}


@pytest.mark.parametrize(
    ("third", "column", "problem"),
    [
        (change(2, "script", "ফিরতি", "ওরা"), "script", "the brand ফিরতি is not named"),
        (change(2, "prompt_3", "ফিরতি", "ওদের"), "prompt_3", "the brand ফিরতি is not named"),
        (change(2, "prompt_2", "ব্রিফ", "ব্রিফ, ওয়ালটনের মতো"), "prompt_2", "ওয়ালটন is a real brand"),
        (change(2, "script", "ভিও: তিন মাস পর ফেরা।", "ভিও: বাকাট্টা বলব কে?"), "script", "same opening line as row 2"),
        (change(2, "script", "কমলাপুরের প্ল্যাটফর্ম।", "পুরান ঢাকার ছাদে ঘুড়ি।"), "script", "same first picture as row 2"),
        (change(2, "script", "সুপার: ঘর মানে অপেক্ষা।", "সুপার: উড়ান কমে না।"), "script", "same tagline as row 2"),
        (row(2) | {"industry": "শিল্প 0"}, "format", "same pair of industry and format as row 2"),
        (change(2, "script", "গোঁফটা নতুন দেখি।", "Welcome home my dear son, welcome back."), "script", "are Bengali"),
        (row(2) | {"industry": "ব্যাংক (Bank)"}, "script", "disclaimer"),
        (row(2) | {"prompt_1": "ফিরতি \u09df।"}, "prompt_1", "NFC"),
    ],
)  # fmt: skip
def test_each_planted_fault_is_found_in_its_row(check, third, column, problem):
    problems = check([row(0), row(1), third])[1]
    assert [(found.row, found.column, found.level) for found in problems] == [(4, column, "warning")]
    assert problem in problems[0].problem


def test_an_agencys_own_file_may_name_its_clients(check):
    """The deny-list is for the invented samples; an agency's rows are about real brands."""
    own = change(2, "prompt_2", "ব্রিফ", "ব্রিফ, ওয়ালটনের মতো") | {"source": "our archive"}
    assert check([row(0), row(1), own])[1] == []


def test_a_brand_in_two_industries_is_found(check):
    other = {key: value.replace("ফিরতি", "উড়ালি") for key, value in row(2).items()}
    assert "also stands in শিল্প 0" in check([row(0), row(1), other])[1][0].problem


def test_a_near_copy_is_found(check):
    """A second script with two words changed teaches nothing and leaks into validation."""
    copy = {key: value.replace("উড়ালি", "ফিরতি") for key, value in row(0).items()} | {"id": "r2", "industry": "শিল্প 2"}
    assert any("of its 5-grams with row 2" in found.problem for found in check([row(0), row(1), copy])[1])


def test_a_disclaimer_has_to_stand_on_the_screen(check):
    sound = change(2, "script", "সুপার: ঘর মানে অপেক্ষা।", "সুপার: ঘর মানে অপেক্ষা। শর্ত প্রযোজ্য।")
    assert check([row(0), row(1), sound | {"industry": "ব্যাংক (Bank)"}])[1] == []


def test_opening_and_tagline_are_read_without_labels():
    assert opening(script(1)) == "ভিজলে ভিজুক পাতা"
    assert tagline(script(1)) == "এক চুমুকে রোদ"
    assert opening("prose") == tagline("prose") == ""


def test_ordinary_words_are_refused_only_as_a_brand():
    deny = Denylist(["ওয়ালটন", "Walton"], ["নগদ", "প্রাণ"])
    assert deny.real_brands_in("নগদ টাকায় প্রাণ ফিরল, walton নয়, ওয়ালটনের ফ্রিজ") == ["walton", "ওয়ালটন"]
    assert deny.real_brands_in("ওয়ালটনিয়া") == []
    assert deny.is_real_brand("নগদ") and deny.is_real_brand("প্রাণ ফুডস")
    assert not deny.is_real_brand("প্রাণতলা")


def test_the_committed_list_knows_the_household_names():
    deny = load_denylist()
    assert all(deny.is_real_brand(name) for name in ("গ্রামীণফোন", "বিকাশ", "Daraz", "বার্জার", "রবি"))
    assert not deny.real_brands_in("রবি ও সোমবার পানের বাটা হাতে তীরে বসে আরোগ্য চাই")


def test_briefs_that_give_the_answer_away_are_found(check):
    table = check([row(0), row(1), row(2)])[0]
    good = Brief("b1", "", "", 30, "নতুনি", "পণ্য", "নতুনি নামের একটা দোকানের জন্য ত্রিশ সেকেন্ডের গল্প ভাবুন।")
    berger = Brief("b2", "", "", 30, "বার্জার", "রং", "বার্জার রঙের জন্য পারিবারিক একটি ছবি লিখে দিন।")
    assert check_briefs([good, berger], table) == []
    paraphrase = Brief("b3", "", "", 30, "উড়ালি", "পণ্য", row(0)["prompt_1"])
    unnamed = Brief("b4", "", "", 30, "ওয়ালটন", "ফ্রিজ", "একটা ঠান্ডা যন্ত্রের বিজ্ঞাপন লিখুন।")
    found = check_briefs([paraphrase, unnamed], table)
    assert "b3: the brand উড়ালি is in the training file" in found
    assert "b3: nearly the same words as prompt_1 of r0" in found
    assert [text for text in found if text.startswith("b4")] == [
        "b4: the prompt does not name ওয়ালটন",
        "b4: ওয়ালটন is a real brand",
    ]
