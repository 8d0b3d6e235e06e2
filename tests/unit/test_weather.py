"""The weather tool: a mock and the real service behind one interface, and failures that are answers."""

import json
import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from lekhai_helpers.prepare.weather import KEY, MockWeather, OpenWeather, answer_call, client

SECRET = "s3cret-key"
PLACE = [{"lat": 23.7, "lon": 90.4, "name": "Dhaka"}]
NOW = {"main": {"temp": 30.6, "humidity": 70}, "weather": [{"description": "haze"}], "wind": {"speed": 5.0}}


def hour(when: datetime, temperature: float, rain: float = 0.0) -> dict:
    return {
        "dt": int(when.timestamp()),
        "main": {"temp": temperature, "humidity": 80},
        "weather": [{"description": "light rain"}],
        "wind": {"speed": 2.0},
    } | ({"rain": {"3h": rain}} if rain else {})


def service(replies: dict, seen: list | None = None) -> OpenWeather:
    def handle(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        reply = replies[request.url.path]
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(reply) if isinstance(reply, int) else httpx.Response(200, json=reply)

    return OpenWeather(SECRET, httpx.MockTransport(handle))


def test_a_key_in_the_environment_chooses_the_real_service():
    assert isinstance(client({KEY: SECRET}), OpenWeather)
    assert isinstance(client({KEY: "  "}), MockWeather) and isinstance(client({}), MockWeather)
    assert SECRET not in repr(client({KEY: SECRET}))


def test_the_mock_says_the_same_twice_and_knows_places_that_are_none():
    mock = MockWeather()
    assert mock.get_weather("Dhaka", "today") == mock.get_weather(" dhaka ", "today") | {"location": "Dhaka"}
    assert mock.get_weather("Dhaka", "today") != mock.get_weather("Dhaka", "tomorrow")
    assert mock.get_weather("Atlantis") == {"error": "location not found: Atlantis"}


def test_today_is_asked_by_place():
    seen: list[httpx.Request] = []
    reply = service({"/geo/1.0/direct": PLACE, "/data/2.5/weather": NOW}, seen).get_weather("Dhaka , Bangladesh")
    assert reply == {
        **{"location": "Dhaka , Bangladesh", "date": "today", "condition": "haze"},
        **{"temperature_c": 31, "humidity_percent": 70, "wind_kmh": 18},
    }
    assert seen[0].url.params["q"] == "Dhaka,Bangladesh"
    assert seen[1].url.params["units"] == "metric" and seen[1].url.params["lat"] == "23.7"


def test_tomorrow_is_the_places_own_day():
    """Far east it is tomorrow already: a day counted in UTC would be the wrong one for half of it."""
    shift = timedelta(hours=13)
    midnight = (
        datetime.combine((datetime.now(UTC) + shift).date() + timedelta(days=1), datetime.min.time(), UTC) - shift
    )
    hours = [hour(midnight + timedelta(hours=3 * n - 3), 10 + n, 0.5) for n in range(10)]
    forecast = {"city": {"timezone": int(shift.total_seconds())}, "list": hours}
    reply = service({"/geo/1.0/direct": PLACE, "/data/2.5/forecast": forecast}).get_weather("Apia", "tomorrow")
    assert reply["temperature_c"] == 18 and reply["rain_mm"] == 4.0


def test_a_day_beyond_the_forecast_is_said_so():
    forecast = {"city": {"timezone": 0}, "list": [hour(datetime.now(UTC), 10)]}
    weather = service({"/geo/1.0/direct": PLACE, "/data/2.5/forecast": forecast})
    assert weather.get_weather("Dhaka", "2099-01-01") == {
        "error": "no forecast for 2099-01-01: it reaches 5 days ahead"
    }


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        ({"/geo/1.0/direct": []}, "location not found: Dhaka"),
        ({"/geo/1.0/direct": 401}, f"refuses the key in {KEY}"),
        ({"/geo/1.0/direct": 429}, "asked too often"),
        ({"/geo/1.0/direct": 500}, r"service unavailable \(500\)"),
        ({"/geo/1.0/direct": httpx.ConnectTimeout(f"GET ...appid={SECRET}")}, r"cannot be reached \(ConnectTimeout\)"),
        ({"/geo/1.0/direct": PLACE, "/data/2.5/weather": {"weather": []}}, "unknown form"),
    ],
)
def test_a_failure_is_an_answer_without_the_key(replies, said):
    reply = service(replies).get_weather("Dhaka")
    assert list(reply) == ["error"]
    assert SECRET not in json.dumps(reply)
    assert re.search(said, reply["error"])


def test_a_call_that_cannot_be_made_is_answered_with_its_error():
    mock = MockWeather()
    assert answer_call("get_weather", {"location": "Dhaka"}, mock)["date"] == "today"
    assert "no tool named 'fly'" in answer_call("fly", {}, mock)["error"]
    assert "required" in answer_call("get_weather", {}, mock)["error"]


def test_the_key_is_not_in_the_log(caplog):
    """At INFO httpx writes the address of every request, and the service takes its key nowhere else."""
    with caplog.at_level("DEBUG"):
        service({"/geo/1.0/direct": PLACE, "/data/2.5/weather": NOW}).get_weather("Dhaka")
    assert "q=Dhaka" in caplog.text and SECRET not in caplog.text
