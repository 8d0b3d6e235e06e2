"""JSON as a model writes it: depth, digits and double keys once crashed the contract, the loop and the service."""

import json

import pytest

from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.prepare.dataset import Brief
from lekhai_helpers.prepare.model_json import DEEPEST, NoJson, read_json
from lekhai_helpers.prepare.tools import parse_replies
from lekhai_helpers.prepare.weather import TOOLS
from lekhai_helpers.ship.forms import shown_table
from lekhai_helpers.ship.tool_loop import replies_to

JUDGED = {"classification": "story", "engagement_score": 7, "educational_value": 7}
STEP = {"level": 1, "title": "Halves", "goal": "know a half", "minutes": 5}
WILD = {
    "open brackets": "[" * 1200,
    "very many": "[" * 100_000,
    "closed brackets": "[" * 600 + "]" * 600,
    "objects": '{"a":' * 600 + "1" + "}" * 600,
    "digits": '{"minutes":' + "1" * 5000 + "}",
    "a key twice": '{"a": 1, "a": 2}',
    "half a text": '{"a": ',
}


@pytest.mark.parametrize("text", WILD.values(), ids=WILD)
def test_what_a_model_may_write_is_no_json_and_no_crash(text):
    with pytest.raises(NoJson):
        read_json(text)
    assert "no JSON" in get_contract("tutor_json")(text, {"task": "path"}).problems[0]
    assert shown_table(text, "tutor_json") is None
    assert "the call is no JSON" in replies_to(f"<tool_call>{text}</tool_call>", TOOLS)
    assert parse_replies(f"<tool_response>{text}</tool_response>") == [text.strip()]


@pytest.mark.parametrize("depth", [1, DEEPEST])
def test_ordinary_depth_is_read(depth):
    assert json.dumps(read_json("[" * depth + "]" * depth)) == "[" * depth + "]" * depth


def test_what_is_wrong_is_said():
    with pytest.raises(NoJson, match="the key 'a' stands in it twice"):
        read_json(WILD["a key twice"])
    with pytest.raises(NoJson, match="at character 7"):
        read_json(WILD["half a text"])


@pytest.mark.parametrize("blank", [" ", "\n\t", "\u200b", "..."])
def test_a_step_without_words_is_no_step(blank):
    problems = get_contract("tutor_json")(json.dumps([STEP | {"title": blank}]), {"task": "path"}).problems
    assert problems == ["0.title: there are no words in it"]
    assert get_contract("tutor_json")(json.dumps([STEP | {"title": "ভগ্নাংশ"}])).ok


@pytest.mark.parametrize(("score", "near"), [(7.0, 1.0), (True, 0.5), ("7", 0.5)])
def test_a_score_is_near_as_a_number_of_either_kind(score, near):
    """7.0 keeps the schema, and once counted as far."""
    brief = Brief("b", "", "", None, "", "", "?", expected=json.dumps({"task": "classification", "answer": JUDGED}))
    text = json.dumps(JUDGED | {"engagement_score": score})
    assert get_contract("tutor_json").count(text, brief)["near_scores"] == near
