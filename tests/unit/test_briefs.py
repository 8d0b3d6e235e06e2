"""Briefs and conversations: read from JSON lines, kept whole in split and examples, held to their answers."""

import json

import pandas as pd
import pytest

from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.measure.evaluation import brief_messages
from lekhai_helpers.prepare.briefs import brief_of_row, conversation
from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.prepare.dataset import (
    Brief,
    DatasetError,
    briefs_of,
    load_briefs,
    split,
    to_examples,
)
from lekhai_helpers.prepare.leakage import leakage
from lekhai_helpers.prepare.row_checks import duplicates, row_problems

SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": "Where?"},
    {"role": "user", "content": "Dhaka."},
    {"role": "assistant", "content": "Rain."},
]


def lines(tmp_path, *rows):
    path = tmp_path / "briefs.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


# --- briefs in JSON lines


def test_briefs_in_json_lines_are_read_with_their_group_part_and_what_is_expected(tmp_path):
    path = lines(
        tmp_path,
        {"id": "a", "prompt": "Explain rain.", "subject": "physics", "expected": {"task": "tutoring"}},
        {"id": "b", "instruction": "Judge this.", "input": "A text.", "kind": "dull", "part": "heldout"},
        {"id": "c", "prompt": "And now?", "messages": TURNS[:3]},
    )
    briefs = {brief.id: brief for brief in load_briefs(path, part=None)}
    assert (briefs["a"].industry, json.loads(briefs["a"].expected)) == ("physics", {"task": "tutoring"})
    assert (briefs["b"].prompt, briefs["b"].industry, briefs["b"].expected) == ("Judge this.\n\nA text.", "dull", "")
    assert briefs["c"].asked("Be brief.") == [SYSTEM, *TURNS[:3]]
    assert [brief.id for brief in load_briefs(path, part="heldout")] == ["b"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": "a", "kind": "joke"}], "line 1 asks nothing"),
        ([{"prompt": "x", "id": "a"}, {"prompt": "y", "id": "a"}], "the id a stands there twice"),
        ([{"prompt": "x", "part": "exam"}], "part is 'exam'"),
        ([{"prompt": 5}], "line 1 asks nothing"),
    ],
)
def test_a_line_that_is_no_brief_is_named(tmp_path, rows, said):
    with pytest.raises(DatasetError, match=said):
        load_briefs(lines(tmp_path, *rows))


def test_a_broken_line_is_named_by_its_number(tmp_path):
    path = lines(tmp_path, {"prompt": "x"})
    path.write_text(path.read_text() + '{"prompt": "y"\n', encoding="utf-8")
    with pytest.raises(DatasetError, match="line 2"):
        load_briefs(path)


def test_the_limit_is_for_one_part_and_not_for_all(tmp_path):
    path = lines(
        tmp_path, *({"prompt": f"p{n}", "id": f"{n}", "part": ("development", "heldout")[n % 2]} for n in range(8))
    )
    settings = resolve("lekhai", "smoke", {"evaluation.briefs": str(path), "evaluation.limit": 2})
    read = settings.model_copy(update={"data": settings.data.model_copy(update={"source": "briefs_jsonl"})})
    assert [len(briefs_of(read, part)) for part in ("development", "heldout", None)] == [2, 2, 8]


# --- conversations


def test_a_conversation_gets_the_recipes_system_prompt_unless_it_brings_its_own():
    own = {"role": "system", "content": "Be long."}
    assert conversation(json.dumps(TURNS), "Be brief.")[0] == SYSTEM
    assert conversation(json.dumps([own, *TURNS]), "Be brief.") == [own, *TURNS]
    settings = resolve("lekhai", "smoke", {"system_prompt": "Be brief."})
    asked = Brief("b", "", "", None, "", "", "Dhaka.", messages=json.dumps(TURNS[:3]))
    assert brief_messages(asked, settings) == [SYSTEM, *TURNS[:3]]
    assert brief_messages("Weather?", settings) == [SYSTEM, TURNS[0]]


def rows(n=12, turns=2):
    """Return `n` conversations of `turns` answers each, and one plain row."""
    found = [
        {"id": f"c{k}-{t}", "thread": f"c{k}", "industry": "tool", "prompt_1": f"Ask {k} {t}", "script": "Rain."}
        | {
            "messages": json.dumps(
                [{"role": "user", "content": f"Ask {k} {t}"}, {"role": "assistant", "content": "Rain."}]
            )
        }
        for k in range(n)
        for t in range(turns)
    ]
    plain = {"id": "p", "thread": "p", "industry": "joke", "prompt_1": "Joke", "script": "Ha.", "messages": ""}
    return pd.DataFrame([row | {"usable": True, "system_prompt": ""} for row in [*found, plain]])


@pytest.mark.parametrize("seed", range(8))
def test_the_turns_of_one_conversation_are_never_parted(seed):
    """The later turn holds the earlier one word for word: held out alone, it would have been read in the textbook."""
    table = rows()
    parts = split(table, 0.1, 0.1, seed)
    assert set(parts) == {"train", "validation", "test"}
    assert (parts.groupby(table["thread"]).nunique() == 1).all()
    assert parts[table["id"] == "p"].tolist() == ["train"], "a group keeps its last row"
    assert all(2 <= (parts == part).sum() <= 4 for part in ("validation", "test"))


def test_a_row_that_is_a_conversation_gives_one_example_of_its_turns():
    table = rows(2).assign(split="train", expected='{"expect": "answer"}')
    table.loc[0, "messages"] = json.dumps(TURNS)
    first, *_, last = to_examples(table, ["prompt_1"], "Be brief.")
    assert first["prompt"] == [SYSTEM, *TURNS[:3]] and first["completion"] == TURNS[3:]
    assert first["prompt_key"] == "messages" and first["expected"] == '{"expect": "answer"}'
    assert last["prompt_key"] == "prompt_1" and last["completion"][0]["content"] == "Ha."


def test_many_conversations_end_alike_and_only_the_whole_would_be_a_leak():
    table = rows(3, turns=1).assign(split="train")
    train, held = to_examples(table[:2], ["prompt_1"], "s"), to_examples(table[2:3], ["prompt_1"], "s")
    assert leakage(train, held)["jaccard"].max() < 0.8
    assert leakage(train, [train[0] | {"id": "copy"}])["jaccard"].max() == 1.0


def record(**changes):
    row = {"row": 2, "id": "a", "prompt_1": "Weather?", "script": "Rain.", "duration_seconds": None, "expected": ""}
    return row | {"messages": ""} | changes


def test_a_conversation_that_ends_otherwise_than_its_row_is_an_error():
    contract = get_contract("ad_script")
    said = [p.problem for p in row_problems(record(messages=json.dumps(TURNS[:3])), ["prompt_1"], contract)]
    assert any("does not end with the answer" in problem for problem in said)
    said = [p.problem for p in row_problems(record(messages=json.dumps(TURNS)), ["prompt_1"], contract)]
    assert said == ["there is no table"]


def test_equal_answers_of_different_conversations_are_no_duplicates():
    other = [{"role": "user", "content": "Rain or sun?"}, TURNS[3]]
    two = [record(messages=json.dumps(TURNS)), record(row=3, id="b", messages=json.dumps(other))]
    assert duplicates(two) == []
    assert [problem.row for problem in duplicates([two[0], two[0] | {"row": 3, "id": "b"}])] == [3]


def test_english_that_wonders_has_not_lost_its_letters():
    """Three question marks twice were taken for Bengali saved without Unicode."""
    contract = get_contract("ad_script")
    lost = "question marks stand where letters were"
    for script, found in (("What??? He moved the river??? Overnight.", False), ("| ????? ??? | ????: ???? |", True)):
        said = [problem.problem for problem in row_problems(record(script=script), ["prompt_1"], contract)]
        assert any(lost in problem for problem in said) == found


def test_a_row_becomes_the_brief_it_answers():
    brief = brief_of_row(
        {"id": "a", "messages": json.dumps(TURNS), "expected": "{}", "duration_seconds": pd.NA}, "Dhaka."
    )
    assert (brief.id, brief.duration_seconds, brief.expected) == ("a", None, "{}")
    assert json.loads(brief.messages) == TURNS[:3]
