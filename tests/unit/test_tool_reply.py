"""Whether an answer says what the tool replied: degrees with their sign and place, the sky, a failure admitted."""

import json

import pytest

from lekhai_helpers.prepare.contracts.tool_call import check, count, same_call
from lekhai_helpers.prepare.contracts.tool_reply import degrees, numbers
from lekhai_helpers.prepare.dataset import Brief
from lekhai_helpers.prepare.tools import Call

DHAKA = {"location": "Dhaka", "date": "today", "condition": "thunderstorms", "temperature_c": 31}
OSLO = {"location": "Oslo, Norway", "date": "today", "condition": "snow", "temperature_c": -4}
LOST = {"error": "location not found: Atlantis"}


def found(text, *replies, said="How is the weather in Atlantis?"):
    return "; ".join(check(text, {"expect": "answer", "replies": list(replies), "said": said}).problems)


@pytest.mark.parametrize(
    ("text", "replies", "said"),
    [
        ("Atlantis is lovely today, so pack your swimsuit.", [LOST], "does not say so"),
        ("I cannot find Atlantis, but it is sunny there.", [LOST], "tells weather though"),
        ("I cannot find it; say 20 degrees.", [LOST], "tells weather though"),
        ("Dhaka today: sunny and dry at 31 degrees, no umbrella needed.", [DHAKA], "another sky than the tool: fair"),
        ("Rain all day in Dhaka, 31 degrees.", [DHAKA | {"condition": "sunny"}], "another sky than the tool: wet"),
        ("It is a warm 4 degrees with snow.", [OSLO], "leaves out the tool's -4 degrees"),
        ("Thunderstorms, and -31 degrees.", [DHAKA], "leaves out the tool's 31 degrees"),
        ("The next 31 days are full of storms.", [DHAKA], "leaves out the tool's 31 degrees"),
        ("It is 90 degrees and 31 per cent humid.", [DHAKA | {"humidity_percent": 90}], "did not give: 90"),
        ("Storms: 32 degrees.", [DHAKA], "figures that nobody gave: 32"),
        ("Dhaka has -4 degrees and Oslo has 31 degrees, storms and snow.", [DHAKA, OSLO], "tells Dhaka with another"),
        ("Snow at -4 in Dhaka. Oslo: storms, 31 degrees.", [DHAKA, OSLO], "tells Oslo with another"),
    ],
)
def test_an_answer_that_departs_from_the_reply_is_seen(text, replies, said):
    assert said in found(text, *replies)


@pytest.mark.parametrize(
    ("text", "replies"),
    [
        ("The tool cannot find Atlantis. Name a town above the water.", [LOST]),
        ("Did you mean Athens?", [LOST]),
        ("Such a location is not found on my charts.", [LOST]),
        ("Thunder over Dhaka, thirty-one degrees, not a bit of sun.", [DHAKA]),
        ("No rain, only sun: 31 °C.", [DHAKA | {"condition": "sunny"}]),
        ("Storms at 31, bring a hat.", [DHAKA | {"temperature_c": 31.0}]),
        ("Four degrees below zero in Oslo, with snow.", [OSLO]),
        ("Dhaka thunders at 31 sultry degrees.", [DHAKA]),
        ("Snow in Oslo at minus 4 degrees.", [OSLO]),
        ("Oslo wins at -4 in the snow, against 31 for Dhaka.", [DHAKA, OSLO]),
        ("Dhaka 31 degrees and storms, Oslo -4 and snow.", [DHAKA, OSLO]),
        ("Storms in Dhaka, 31 degrees; Atlantis the tool cannot find.", [DHAKA, LOST]),
        ("Storms and 31 degrees, well past the -5 degrees you fear.", [DHAKA]),
        ("That is all clear: 31 degrees, take a fine coat.", [DHAKA]),
    ],
)
def test_an_answer_that_keeps_to_the_reply_is_sound(text, replies):
    assert not found(text, *replies, said="Atlantis? Dhaka? My plants fear -5 degrees.")


@pytest.mark.parametrize(
    ("text", "expect", "sound"),
    [
        ("It is 31 degrees, 70 percent humidity.", "no_call", False),
        ("Nice day! It is 30 degrees. Anything else?", "ask", False),
        ("Egg white sets somewhere over 60 degrees Celsius.", "no_call", True),
        ("When it is 5 degrees a wind feels colder.", "no_call", True),
    ],
)
def test_no_weather_is_told_that_nobody_gave(text, expect, sound):
    assert check(text, {"expect": expect}).ok is sound


@pytest.mark.parametrize(
    ("wanted", "made", "same"),
    [
        ("Paris, France", "Paris, Texas", False),
        ("Paris, France", "paris", True),
        ("Paris", "Paris, Texas", True),
        ("Vancouver, BC", "Vancouver, BC, Canada", True),
        ("", "", False),
    ],
)
def test_a_region_counts_where_both_name_one(wanted, made, same):
    assert same_call(Call("w", {"location": wanted}), Call("w", {"location": made})) is same


@pytest.mark.parametrize(
    ("made", "sound"),
    [
        (["Paris, Texas", "Paris, Texas"], False),
        (["Paris, Texas", "Paris, France"], True),
        (["Paris", "Paris, Texas"], True),
    ],
)
def test_every_wanted_call_needs_a_call_of_its_own(made, sound):
    """One call of Texas once answered for France and for Texas."""
    wanted = [{"name": "get_weather", "arguments": {"location": f"Paris, {land}"}} for land in ("France", "Texas")]
    text = "\n".join(Call("get_weather", {"location": place}).to_text() for place in made)
    assert check(text, {"expect": "call", "calls": wanted}).ok is sound


def test_a_needless_call_is_counted_in_any_form():
    """A call in a fence was counted as rightly spoken."""
    fenced = '```json\n{"name": "get_weather", "arguments": {"location": "Dhaka"}}\n```\nShall I?'
    for expect in ("no_call", "ask"):
        counted = count(fenced, Brief("b", "", "", None, "", "", "Hello?", json.dumps({"expect": expect})))
        assert counted["no_needless_call"] is False and not counted["asked_when_unsure"]


def test_degrees_and_numbers_are_read_by_value():
    assert degrees("7 days, -7 °C, twenty-one degrees, 3.5C, 05:12") == {-7.0, 21.0, 3.5}
    assert numbers("29.0, 2.50 and 18:00, 10 and 1.2.3") == {"29", "2.5", "18:00", "10", "1.2.3"}
