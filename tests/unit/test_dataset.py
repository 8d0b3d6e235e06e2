"""The user's own file: whatever a spreadsheet wrote is read, or refused in a sentence that says what to do."""

import csv
import io
import unicodedata
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lekhai_helpers.core.bengali import char_ngrams, jaccard
from lekhai_helpers.prepare.dataset import (
    SPLITS,
    UNUSED,
    Brief,
    DatasetError,
    load_briefs,
    load_examples,
    load_rows,
    load_table,
    report,
    save,
    split,
    to_examples,
)
from lekhai_helpers.prepare.leakage import leakage
from lekhai_helpers.prepare.sources import get_source

SHOTS = ["চুলায় কেটলি।", "জানালায় বৃষ্টি।", "উঠানে ভেজা ছাতা।", "কাপের পাশে প্যাকেট।"]
COLUMNS = ["id", "industry", "brand", "duration_seconds", "prompt_1", "script"]


def script(mark: str) -> str:
    rows = "\n".join(f"| মিড শট: {shot} | ভিও: {mark} আসছে। |" for shot in SHOTS)
    return f"| Visual | Audio |\n|---|---|\n{rows}"


def row(number: int, **changes: str) -> dict[str, str]:
    word = "কখগঘচছজঝটঠডঢতথদধ"[number % 16] * (1 + number // 16) + "লা"
    good = {"id": f"row-{number}", "industry": f"শিল্প {number % 3}", "brand": word, "duration_seconds": "15"}
    return good | {"prompt_1": f"{word} নিয়ে বিজ্ঞাপন লিখুন।", "script": script(word)} | changes


def write(path, rows, columns=None, encoding="utf-8", **options):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns or list(rows[0]), **options)
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_way_a_spreadsheet_writes_is_read(tmp_path, encoding, delimiter, newline):
    """Quoted line breaks inside the script, byte-order mark, semicolons of a European Excel, its Unicode text."""
    path = write(tmp_path / "own.csv", [row(0), row(1)], encoding=encoding, delimiter=delimiter, lineterminator=newline)
    table, problems = load_table(path)
    assert problems == []
    assert list(table["script"]) == [row(0)["script"], row(1)["script"]]
    assert list(table["id"]) == ["row-0", "row-1"]
    assert table["usable"].all()


def test_line_breaks_of_windows_inside_a_cell_become_plain_ones(tmp_path):
    path = write(tmp_path / "own.csv", [row(0, script=row(0)["script"].replace("\n", "\r\n"))])
    assert load_table(path)[0]["script"][0] == row(0)["script"]


def test_a_line_sep_of_excel_is_no_header(tmp_path):
    path = write(tmp_path / "own.csv", [row(0)], delimiter=";")
    path.write_text("sep=;\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert len(load_table(path)[0]) == 1


def test_an_old_windows_encoding_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "own.csv"
    path.write_bytes("prompt_1,script\ncaf\xe9,\x93na\x94\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"line 2.*cp1252.*no Bengali.*CSV UTF-8"):
        load_table(path)


def test_question_marks_instead_of_letters_are_told(tmp_path):
    """Excel's plain CSV turns every Bengali letter into a question mark, and the file is then valid ASCII."""
    path = write(tmp_path / "own.csv", [row(0, script="| ????? ??? | ????: ???? |")])
    table, problems = load_table(path)
    assert "question marks" in problems[0].problem
    assert not table["usable"].any()


@pytest.mark.parametrize(
    ("name", "start"), [("own.xlsx", b"PK\x03\x04"), ("own.csv", b"PK\x03\x04xx"), ("own.xls", b"\xd0\xcf\x11\xe0")]
)
def test_a_workbook_is_refused_with_the_way_to_save_it(tmp_path, name, start):
    path = tmp_path / name
    path.write_bytes(start)
    with pytest.raises(DatasetError, match=r"workbook.*CSV UTF-8"):
        load_table(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("prompt_1,script\n", "no row under it"),
        ("prompt_1,prompt_1,script\na,b,c\n", "column prompt_1 more than once"),
        ('prompt_1,script\na,"open\nb,c\n', "starts at line 2"),
        ("promt_1,script\na,b\n", "nearest is 'promt_1'"),
        ("prompt_1,scripts\na,b\n", "nearest is 'scripts'"),
        ("one,two\na,b\n", "Columns found: one, two"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, text, problem):
    path = tmp_path / "own.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=problem):
        load_table(path)


def test_only_the_first_prompt_is_needed_and_absent_ones_are_reported(tmp_path):
    path = write(tmp_path / "own.csv", [row(0)])
    table, problems = load_table(path, ("prompt_1", "prompt_2"))
    assert table["usable"].all()
    assert [(problem.column, problem.level) for problem in problems] == [("prompt_2", "warning")]
    table["split"] = "train"
    assert [example["prompt_key"] for example in to_examples(table, ("prompt_1", "prompt_2"), "s")] == ["prompt_1"]


def test_the_first_prompt_is_needed(tmp_path):
    path = write(tmp_path / "own.csv", [row(0)])
    with pytest.raises(DatasetError, match="'prompt_3'"):
        load_table(path, ("prompt_3",))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere\.csv was not found"):
        load_table(tmp_path / "nowhere.csv")


def test_header_names_are_taken_as_people_write_them(tmp_path):
    rows = [{"Prompt 1": "লিখুন।", " SCRIPT ": script("ক")}]
    assert load_table(write(tmp_path / "own.csv", rows))[1] == []


def test_columns_we_do_not_know_are_kept_and_ours_are_filled_in(tmp_path):
    rows = [{"prompt_1": "লিখুন।", "script": script("ক"), "client": "রহমান", "split": "mine"}]
    table = load_table(write(tmp_path / "own.csv", rows))[0]
    assert table["client"][0] == "রহমান"
    assert table["split_in_file"][0] == "mine"
    assert (table["id"][0], table["industry"][0], table["system_prompt"][0]) == ("2", "অন্যান্য", "")


def test_rows_without_a_group_have_one_in_the_language_of_the_file(tmp_path):
    file = tmp_path / "own.jsonl"
    file.write_text('{"instruction": "What is a half?", "input": "", "output": "One of two.", "task": "tutoring"}')
    assert load_table(file, ("prompt_1",), "tutor_jsonl", "tutor_json")[0]["industry"][0] == "other"


@pytest.mark.parametrize(
    ("changes", "column", "problem", "level"),
    [
        ({"script": ""}, "script", "the answer is empty", "error"),
        ({"script": "শুধু একটি বাক্য।"}, "script", "there is no table", "error"),
        ({"script": row(0)["script"]}, "script", "the same script as in row 2", "error"),
        ({"id": "row-0"}, "id", "the same id as in row 2", "error"),
        ({"prompt_1": " "}, "prompt_1", "the prompt is empty", "error"),
        ({"prompt_1": "", "script": ""}, "", "neither prompt nor answer", "error"),
        ({"duration_seconds": "60"}, "script", "a film of 60 s has 10 to 14", "warning"),
        ({"duration_seconds": "লম্বা"}, "duration_seconds", "no number of seconds", "warning"),
    ],
)
def test_each_faulty_row_is_reported_and_none_is_dropped(tmp_path, changes, column, problem, level):
    path = write(tmp_path / "own.csv", [row(0), row(1, **changes), row(2)])
    table, problems = load_table(path)
    assert len(table) == 3
    assert [(p.row, p.column, p.level) for p in problems] == [(3, column, level)]
    assert problem in problems[0].problem
    assert list(table["usable"]) == [True, level == "warning", True]
    assert list(report(problems)["row"]) == [3]


def test_cells_too_many_are_reported_and_kept(tmp_path):
    """An unquoted comma shifts a row; the shifted cells used to vanish."""
    path = write(tmp_path / "own.csv", [row(0)])
    path.write_text(path.read_text(encoding="utf-8").rstrip() + ",আরও,কিছু\n", encoding="utf-8")
    table, problems = load_table(path)
    assert "2 cell(s) more" in problems[0].problem
    assert "আরও" in table["surplus_cells"][0]


def test_bengali_digits_and_units_are_read_as_seconds(tmp_path):
    path = write(tmp_path / "own.csv", [row(0, duration_seconds="১৫ সেকেন্ড"), row(1, duration_seconds="")])
    assert list(load_table(path)[0]["duration_seconds"].fillna(0)) == [15, 0]


def test_text_is_normalised_on_reading(tmp_path):
    prompt = "\u09df\u200b বিজ্ঞাপন"
    table = load_table(write(tmp_path / "own.csv", [row(0, prompt_1=prompt)]))[0]
    assert table["prompt_1"][0] == unicodedata.normalize("NFC", "\u09df বিজ্ঞাপন")


CELLS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0\r"), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5), st.sampled_from([",", ";", "\t"]))
def test_no_cell_of_any_csv_is_lost(tmp_path, pairs, delimiter):
    path = tmp_path / "any.csv"
    rows = [{"prompt_1": prompt, "script": text} for prompt, text in pairs]
    write(path, rows, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    read = [row.cells for row in get_source("ad_script_csv")(path)]
    assert read == rows


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: f"prompt_1,script\n{text}".encode())))
def test_no_file_breaks_the_reader_in_any_other_way(tmp_path, data):
    """Whatever lies in the file, the answer is a table or a DatasetError, never a traceback from within."""
    path = tmp_path / "any.csv"
    path.write_bytes(data)
    try:
        table, _ = load_table(path)
    except DatasetError:
        return
    assert len(table) > 0


# --- from rows to examples


@pytest.fixture
def table(tmp_path):
    rows = [row(n) | {"prompt_2": f"বড় ব্রিফ {n}"} for n in range(30)] + [row(40, script="") | {"prompt_2": "x"}]
    rows += [row(41, industry="একা") | {"prompt_2": ""}]
    return load_table(write(tmp_path / "own.csv", rows), ("prompt_1", "prompt_2"))[0]


def test_a_split_is_by_row_and_leaves_every_industry_a_training_row(table):
    parts = split(table, 0.1, 0.1, seed=3407)
    assert Counter(parts) == {"train": 25, "validation": 3, "test": 3, UNUSED: 1}
    trained = set(table.loc[parts == "train", "industry"])
    assert trained == set(table.loc[table["usable"], "industry"])


def test_a_split_is_spread_over_the_industries(table):
    parts = split(table, 0.1, 0.1, seed=3407)
    assert Counter(table.loc[parts.isin(["validation", "test"]), "industry"]) == {f"শিল্প {n}": 2 for n in range(3)}


def test_a_split_depends_on_ids_and_seed_and_not_on_the_order(table):
    first = split(table, 0.1, 0.1, seed=1)
    shuffled = split(table.sample(frac=1, random_state=5), 0.1, 0.1, seed=1)
    assert dict(first) == dict(shuffled)
    assert dict(first) != dict(split(table, 0.1, 0.1, seed=2))


def test_a_file_too_small_to_split_says_so(tmp_path):
    table = load_table(write(tmp_path / "own.csv", [row(0), row(1), row(2)]))[0]
    with pytest.raises(DatasetError, match="3 usable row"):
        split(table, 0.1, 0.1, seed=1)


def test_examples_are_messages_and_one_for_each_prompt(table):
    table["split"] = split(table, 0.1, 0.1, seed=1)
    examples = to_examples(table, ["prompt_1", "prompt_2"], "আপনি কপিরাইটার।")
    assert len(examples) == 30 * 2 + 1
    first = examples[0]
    assert [message["role"] for message in first["prompt"]] == ["system", "user"]
    assert first["prompt"][0]["content"] == "আপনি কপিরাইটার।"
    assert first["completion"] == [{"role": "assistant", "content": row(0)["script"]}]
    assert (first["id"], first["prompt_key"]) == ("row-0", "prompt_1")


def test_the_prompts_of_a_row_never_part(table):
    """A script seen in training under one prompt made the validation loss of its other prompt look wonderful."""
    table["split"] = split(table, 0.1, 0.1, seed=1)
    parts = {}
    for example in to_examples(table, ["prompt_1", "prompt_2"], "x"):
        parts.setdefault(example["id"], set()).add(example["split"])
    assert all(len(found) == 1 for found in parts.values())


def test_a_rows_own_system_prompt_comes_first(table):
    table["split"], table["system_prompt"] = "train", "নিজের নির্দেশ"
    assert to_examples(table, ["prompt_1"], "x")[0]["prompt"][0]["content"] == "নিজের নির্দেশ"


def test_what_is_saved_is_loaded_again(table, tmp_path):
    table["split"] = split(table, 0.1, 0.1, seed=1)
    examples = to_examples(table, ["prompt_1"], "x")
    save(examples, table, tmp_path / "out")
    assert sum((load_examples(tmp_path / "out", part) for part in SPLITS), []) == sorted(
        examples, key=lambda example: SPLITS.index(example["split"])
    )
    again = load_rows(tmp_path / "out")
    for column in ("row", "id", "script", "usable", "split", "duration_seconds"):
        assert list(again[column]) == list(table[column])
    with pytest.raises(KeyError, match="known: train"):
        load_examples(tmp_path / "out", "dev")
    with pytest.raises(DatasetError, match="notebook 03"):
        load_examples(tmp_path, "train")


def test_a_copied_script_shows_as_leakage(table):
    table["split"] = split(table, 0.1, 0.1, seed=1)
    examples = to_examples(table, ["prompt_1"], "x")
    train = [example for example in examples if example["split"] == "train"]
    brief = Brief("b1", "", "", 30, "", "", train[3]["prompt"][-1]["content"])
    found = leakage(train, [brief, *[e for e in examples if e["split"] == "test"]])
    assert (found["id"][0], found["nearest"][0], found["jaccard"][0]) == ("b1", f"{train[3]['id']}/prompt_1", 1)
    assert len(found) == 4


def test_briefs_are_read_and_limited(tmp_path):
    rows = [{"id": f"b{n}", "prompt": "লিখুন।", "duration_seconds": "৩০", "brand": "ক"} for n in range(3)]
    briefs = load_briefs(write(tmp_path / "briefs.csv", rows), limit=2)
    assert [brief.id for brief in briefs] == ["b0", "b1"]
    assert briefs[0].duration_seconds == 30


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"id": "a", "prompt": ""}], "row 2: the prompt is empty"),
        ([{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}], "row 3: the id a stands there twice"),
        ([{"id": "a", "promt": "x"}], "nearest is 'promt'"),
    ],
)
def test_faulty_briefs_are_named_by_row(tmp_path, rows, problem):
    with pytest.raises(DatasetError, match=problem):
        load_briefs(write(tmp_path / "briefs.csv", rows))


def test_an_unknown_source_is_told_with_the_known_ones():
    with pytest.raises(KeyError, match="known: ad_script_csv"):
        get_source("ad_scripts")


def test_the_nearest_text_is_the_one_that_a_comparison_of_all_finds(table):
    """Counted through one sparse table, so that a public set of fifty thousand rows takes minutes and not hours."""
    table["split"] = split(table, 0.3, 0.3, seed=1)
    examples = to_examples(table, ["prompt_1"], "x")
    train, held = ([e for e in examples if (e["split"] == "train") == learned] for learned in (True, False))
    grams = {e["id"]: char_ngrams(e["completion"][0]["content"]) for e in examples}
    found = leakage(train, held).set_index("id")
    for one in held:
        most = max(jaccard(grams[one["id"]], grams[other["id"]]) for other in train)
        assert found.loc[one["id"], "jaccard"] == pytest.approx(most, abs=0.001)


def test_two_questions_may_have_one_answer_where_the_source_says_so(table):
    table["split"] = ["train"] + ["test"] * (len(table) - 1)
    table["script"] = "No, and here is what helps instead."
    train, *held = to_examples(table, ["prompt_1"], "x")
    assert leakage([train], held)["jaccard"].min() == 1
    assert leakage([train], held, one_row_a_script=False)["jaccard"].max() < 1
