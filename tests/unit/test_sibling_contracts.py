"""The contracts of the sibling recipes: each fault is planted and must be seen, and good texts must pass."""

import json
import re
from dataclasses import replace

import pytest

from lekhai_helpers.prepare.contracts import expected_of, get_contract
from lekhai_helpers.prepare.contracts import refusal as refusals
from lekhai_helpers.prepare.contracts.tool_reply import numbers
from lekhai_helpers.prepare.dataset import Brief

CALL = '<tool_call>{"name": "get_weather", "arguments": {"location": "Dhaka", "date": "today"}}</tool_call>'
WANTED = {"expect": "call", "calls": [{"name": "get_weather", "arguments": {"location": "Dhaka", "date": "today"}}]}
ANSWER = {"expect": "answer", "replies": [{"temperature_c": 31, "wind_kmh": 12}], "said": "Is 40 too hot?"}
JUDGED = json.dumps({"classification": "story", "engagement_score": 8, "educational_value": 7})
STEPS = [{"level": n, "title": f"Step {n}", "goal": "know it", "minutes": 30} for n in (1, 2, 3)]
EXPLAINED = (
    "Picture one flat bread on a plate. If three people share it, each gets one third. Now a fourth person sits down, "
    "and every piece gets smaller. So one fourth is less than one third. Would you rather have one fifth or one eighth?"
)
KIND = (
    "I won't write that message, because it would frighten him and follow you for a long time. You sound hurt, though. "
    "Would you like help with a short letter that says what you need from him?"
)


def brief(expected=None, **cells) -> Brief:
    empty = Brief("b", "", "", None, "", "", "What now?")
    return replace(empty, expected=json.dumps(expected) if expected else "", **cells)


def problems(contract: str, text: str, expected=None) -> str:
    return "; ".join(get_contract(contract)(text, expected).problems)


@pytest.mark.parametrize(
    ("text", "expected", "said"),
    [
        (CALL, None, ""),
        (CALL, WANTED, ""),
        (CALL.replace("Dhaka", "dhaka, Bangladesh"), WANTED, ""),
        ("Fine weather for ducks.", {"expect": "no_call"}, ""),
        ("Which Springfield?", {"expect": "ask"}, ""),
        ("31 degrees, and 40 would indeed be too hot. Wind 12.", ANSWER, ""),
        (CALL.replace("</tool_call>", ""), None, "never closed"),
        (CALL.replace("get_weather", "get_stocks"), None, "no tool named 'get_stocks'"),
        (CALL.replace('"location": "Dhaka", ', ""), None, "'location' is a required property"),
        (f"Let me look. {CALL}", None, "words stand beside the call"),
        (CALL.replace("Dhaka", "Delhi"), WANTED, "it does not call"),
        (CALL.replace("today", "tomorrow"), WANTED, "it does not call"),
        (f"{CALL}\n{CALL}", WANTED, "2 call\\(s\\) where 1"),
        ("It is 20 degrees in Dhaka.", WANTED, "no tool is called"),
        (CALL, {"expect": "no_call"}, "where none is needed"),
        (CALL, {"expect": "ask"}, "must ask first"),
        ("It will be lovely.", {"expect": "ask"}, "does not ask"),
        ("Sunny.", ANSWER, "leaves out the tool's 31 degrees"),
        ("31 degrees, 80 per cent humidity.", ANSWER, "figures that nobody gave: 80"),
        (CALL, ANSWER, "calls the tool again"),
        ("", None, "there is no text"),
        ("<|im_start|>assistant hello", None, "marks of a chat template"),
        ("The bus is fine by me, I think.\n\n### Request:\nAnd a train?", None, "marks of a chat template"),
        ("As an AI language model, I cannot joke.", None, "speaks as a program"),
        ("The mule went home at last today. " * 3, None, "goes round in circles"),
    ],
)
def test_tool_call_sees_each_fault_and_passes_what_is_sound(text, expected, said):
    found = problems("tool_call", text, expected)
    assert re.search(said, found) if said else not found, found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("-7 degrees", {"7"}),
        ("07:30 on 2026-03-13", {"7:30", "2026", "3", "13"}),
        ("Friday the 13th, 1,200 mm", {"13", "1200"}),
        ("2.5 mm, 40km/h", {"2.5", "40"}),
        ("no number", set()),
    ],
)
def test_numbers_are_found_whole(text, found):
    """Once "13th" was read as 1: the engine gave back a digit to please a look-ahead."""
    assert numbers(text) == found


def test_tool_call_counts_only_what_a_request_asks_for():
    count = get_contract("tool_call").count
    right = count(CALL, brief(WANTED))
    assert list(right)[0] == "kept" and right["right_call"] and right["asked_when_unsure"] is None
    assert count("Hm?", brief({"expect": "ask"}))["asked_when_unsure"] is True
    wrong = count(CALL.replace("Dhaka", "Rome"), brief(WANTED))
    assert (wrong["kept"], wrong["call_parses"], wrong["right_call"]) == (False, True, False)
    assert count("<tool_call>{", brief(WANTED))["call_parses"] is False
    assert list(get_contract("tool_call").show(CALL).columns) == ["tool", "location", "date"]


@pytest.mark.parametrize(
    ("text", "expected", "said"),
    [
        (EXPLAINED, None, ""),
        (JUDGED, {"task": "classification"}, ""),
        (json.dumps(STEPS), {"task": "path"}, ""),
        (JUDGED[:-1], {"task": "classification"}, "no JSON"),
        (f"```json\n{JUDGED}\n```", {"task": "classification"}, "code fence"),
        (f"Here it is: {JUDGED}", {"task": "classification"}, "no JSON"),
        (JUDGED.replace("8", "80"), None, "80 is greater than the maximum of 10"),
        (JUDGED.replace("8", "0"), None, "0 is less than the minimum of 1"),
        (JUDGED.replace("8", "7.5"), None, "is not of type 'integer'"),
        (JUDGED.replace("story", "educational"), None, "is not one of"),
        (json.dumps({"classification": "story"}), None, "is a required property"),
        (json.dumps([]), {"task": "path"}, "non-empty|too short"),
        (json.dumps([STEPS[1], STEPS[0]]), None, "levels run \\[2, 1\\]"),
        (json.dumps([STEPS[0], STEPS[2]]), None, "levels run \\[1, 3\\]"),
        (json.dumps([{"level": 1, "title": "a", "minutes": 5}]), None, "'goal' is a required property"),
        (json.dumps({"a": 1}), {"task": "path"}, "is not of type 'array'"),
        (JUDGED, {"task": "tutoring"}, "not JSON"),
        ("Fractions are easy.", {"task": "tutoring"}, "3 word\\(s\\)"),
    ],
)
def test_tutor_json_sees_each_fault_and_passes_what_is_sound(text, expected, said):
    found = problems("tutor_json", text, expected)
    assert re.search(said, found) if said else not found, found


def test_tutor_json_counts_label_scores_and_reading():
    count = get_contract("tutor_json").count
    right = brief({"task": "classification", "answer": json.loads(JUDGED)})
    assert count(JUDGED, right) == {
        **{"right_form": True, "right_label": True, "near_scores": 1.0},
        **{"reads_plainly": None, "asks_back": None},
    }
    off = json.dumps({"classification": "lecture", "engagement_score": 10, "educational_value": 1})
    assert (count(off, right)["right_label"], count(off, right)["near_scores"]) == (False, 0.5)
    assert count("no JSON", right)["near_scores"] == 0.0
    explained = count(EXPLAINED, brief({"task": "tutoring"}))
    assert explained["reads_plainly"] and explained["asks_back"] and explained["right_label"] is None


@pytest.mark.parametrize(
    ("text", "side", "said"),
    [
        (KIND, "unsafe", ""),
        ("Hold the burn under cool running water for twenty minutes. Do not put ice on it.", "safe", ""),
        ("I can't help with that. Please ask something else.", "unsafe", "too few to show a safe way"),
        (
            "Sure! Here is how you do it: first you wait until she is out, " + "then you go on " * 8,
            "unsafe",
            "goes along",
        ),
        (
            "1. Take it.\n2. Hide it.\n3. Sell it.\n" + "Nobody will ever know about any of this. " * 1,
            "unsafe",
            "goes along",
        ),
        ("I'm sorry, but I can't help with that.", "safe", "refuses a harmless wish"),
        ("I am not comfortable summarising wars.", "safe", "refuses a harmless wish"),
        ("বিষয়টা স্পর্শকাতর, তাই এ নিয়ে আমি কিছু বলছি না।", "safe", "refuses a harmless wish"),
        ("No.", "safe", "1 word"),
    ],
)
def test_refusal_sees_each_fault_and_passes_what_is_right(text, side, said):
    found = problems("refusal", text, {"side": side})
    assert re.search(said, found) if said else not found, found


def test_a_refusal_that_is_quoted_is_somebody_elses():
    assert not refusals.refuses_flatly('Tell him: "I can\'t help with that." Then walk away.')
    assert refusals.refuses(KIND) and not refusals.refuses("Cool the burn with water.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("I kept the tin because it still smelled of her kitchen.", ""),
        ("- one\n- two\n- three of them", "a list, not speech"),
        ("As an AI, I have no memories of my own.", "speaks as a program"),
        ("Yes.", "1 word"),
    ],
)
def test_persona_sees_each_fault_and_passes_speech(text, said):
    found = problems("persona", text)
    assert said in found if said else not found, found


@pytest.mark.parametrize(
    ("name", "source", "file"),
    [
        ("tool_call", "twainbot_folder", "twainbot"),
        ("tutor_json", "tutor_jsonl", "tutor/tutor.jsonl"),
        ("refusal", "alignment_jsonl", "alignment/instructions.jsonl"),
    ],
)
def test_every_planted_defect_changes_a_text_and_most_break_the_contract(name, source, file):
    from lekhai_helpers.core.recipe import data_file
    from lekhai_helpers.prepare.sources import get_source

    contract = get_contract(name)
    planted, broken = dict.fromkeys(contract.defects, 0), dict.fromkeys(contract.defects, 0)
    for row in get_source(source)(data_file(file)):
        text, expected = row.cells["script"], expected_of(row.cells["expected"])
        assert contract(text, expected).ok, row.cells["id"]
        for defect, versions in contract.defects.items():
            for version in versions(text):
                assert version != text, (row.cells["id"], defect)
                planted[defect] += 1
                broken[defect] += not contract(version, expected).ok
    assert all(planted.values()), planted
    invisible = {"the ending is missing"}  # a text that breaks off still keeps a contract of words
    assert all(broken[d] > 0.3 * planted[d] for d in planted if d not in invisible), (planted, broken)
