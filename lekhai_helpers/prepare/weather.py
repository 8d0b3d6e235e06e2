"""The weather: one tool, get_weather(location, date), and two clients that answer it. Taught in notebooks 05 and 09.

``client()`` is the real one where the environment has OPENWEATHER_API_KEY, else a mock that makes up the same weather
for the same place and day. Both answer with a dict of the same shape, and a failure is an answer too: {"error": ...}.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import regex

if TYPE_CHECKING:
    import httpx

KEY = "OPENWEATHER_API_KEY"
TOOLS: tuple[Mapping[str, Any], ...] = (
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of one place on one day. Temperatures are in Celsius.",
            "parameters": {
                "type": "object",
                "properties": {
                    "location": {"type": "string", "minLength": 1, "description": "town, with its country if in doubt"},
                    "date": {
                        "type": "string",
                        "pattern": r"^(today|tomorrow|\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01]))$",
                        "description": "today, tomorrow or YYYY-MM-DD",
                    },
                },
                "required": ["location"],
            },
        },
    },
)
_CONDITIONS = ("sunny", "partly cloudy", "overcast", "light rain", "thunderstorms", "fog", "wind and cloud")
_NO_PLACES = frozenset({"atlantis", "el dorado", "narnia", "nowhere", "the moon"})
_API = "https://api.openweathermap.org"
_DAYS_AHEAD = 5  # what the free forecast holds


class _HideKey(logging.Filter):
    """Masks the key in the addresses that a library logs; a filter, for it holds in every thread and at any level."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = regex.sub(r"(?<=appid=)[^&\s\"']+", "***", record.getMessage()), ()
        return True


_HIDE_KEY = _HideKey()


class WeatherClient(Protocol):
    """What answers get_weather. A reply is {"location", "date", "condition", "temperature_c", ...} or {"error"}."""

    def get_weather(self, location: str, date: str = "today") -> dict[str, Any]:
        """Return the weather of a place on "today", "tomorrow" or a day YYYY-MM-DD."""


def client(environment: Mapping[str, str] | None = None) -> WeatherClient:
    """Return the real client where the environment has a key, else the mock."""
    key = (os.environ if environment is None else environment).get(KEY, "").strip()
    return OpenWeather(key) if key else MockWeather()


def answer_call(name: str, arguments: Mapping[str, Any], weather: WeatherClient) -> dict[str, Any]:
    """Make a model's call and return the reply; a call that cannot be made is answered with the error it makes."""
    from lekhai_helpers.prepare.tools import Call, call_problems

    problems = call_problems(Call(name, dict(arguments)), TOOLS)
    if problems:
        return {"error": "; ".join(problems)}
    return weather.get_weather(arguments["location"], arguments.get("date", "today"))


@dataclass(frozen=True)
class MockWeather:
    """Made-up weather, always the same for a place and a day: for tests, notebooks and machines without a network."""

    missing: frozenset[str] = _NO_PLACES

    def get_weather(self, location: str, date: str = "today") -> dict[str, Any]:
        """Return made-up weather; an error for a place that is in `missing`."""
        if location.strip().casefold() in self.missing:
            return {"error": f"location not found: {location}"}
        dice = hashlib.sha256(f"{location.strip().casefold()}/{date}".encode()).digest()
        return {
            "location": location,
            "date": date,
            "condition": _CONDITIONS[dice[0] % len(_CONDITIONS)],
            "temperature_c": dice[1] % 40 - 4,
            "humidity_percent": 30 + dice[2] % 65,
        }


@dataclass(frozen=True)
class OpenWeather:
    """OpenWeather's free service: today and the next five days. The key is never shown, logged or put into an error."""

    key: str = field(repr=False)
    transport: httpx.BaseTransport | None = field(default=None, repr=False)
    timeout_seconds: float = 10.0

    def get_weather(self, location: str, date: str = "today") -> dict[str, Any]:
        """Ask for a place by name, then for its weather; two or three requests. Never raises for the service's sake."""
        import httpx

        logging.getLogger("httpx").addFilter(_HIDE_KEY)  # at INFO it writes every address; twice is once
        with httpx.Client(base_url=_API, transport=self.transport, timeout=self.timeout_seconds) as http:
            try:
                place = self._place(http, location)
                if place is None:
                    return {"error": f"location not found: {location}"}
                return self._weather(http, place, location, date)
            except httpx.HTTPStatusError as error:
                return {"error": _status_words(error.response.status_code)}
            except httpx.HTTPError as error:  # the address of the request holds the key: only the kind of error is told
                return {"error": f"the weather service cannot be reached ({type(error).__name__})"}
            except (KeyError, IndexError, TypeError, ValueError) as error:
                return {"error": f"the weather service answered in an unknown form ({type(error).__name__})"}

    def _get(self, http: httpx.Client, path: str, **asked: Any) -> Any:
        reply = http.get(path, params=asked | {"appid": self.key})
        reply.raise_for_status()
        return reply.json()

    def _place(self, http: httpx.Client, location: str) -> dict[str, float] | None:
        found = self._get(http, "/geo/1.0/direct", q=regex.sub(r"\s*,\s*", ",", location.strip()), limit=1)
        return {"lat": found[0]["lat"], "lon": found[0]["lon"]} if found else None

    def _weather(self, http: httpx.Client, place: dict[str, float], location: str, day: str) -> dict[str, Any]:
        if day == "today":
            return _reply(location, day, [self._get(http, "/data/2.5/weather", **place, units="metric")])
        forecast = self._get(http, "/data/2.5/forecast", **place, units="metric")
        shift = timedelta(seconds=forecast["city"]["timezone"])
        wanted = _local_date(day, shift)
        hours = [hour for hour in forecast["list"] if _local(hour["dt"], shift) == wanted]
        if not hours:
            return {"error": f"no forecast for {day}: it reaches {_DAYS_AHEAD} days ahead"}
        return _reply(location, day, hours)


def _local(seconds: int, shift: timedelta) -> date:
    return (datetime.fromtimestamp(seconds, UTC) + shift).date()


def _local_date(day: str, shift: timedelta) -> date:
    """Return the day that is meant at the place itself, where it may be tomorrow already."""
    if day == "tomorrow":
        return (datetime.now(UTC) + shift).date() + timedelta(days=1)
    return date.fromisoformat(day)


def _reply(location: str, day: str, hours: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum up the three-hour steps of a day: the warmest temperature, the condition at its middle, the rain in all."""
    middle = hours[len(hours) // 2]
    reply: dict[str, Any] = {
        "location": location,
        "date": day,
        "condition": middle["weather"][0]["description"],
        "temperature_c": round(max(hour["main"]["temp"] for hour in hours)),
        "humidity_percent": round(middle["main"]["humidity"]),
        "wind_kmh": round(middle["wind"]["speed"] * 3.6),
    }
    rain = sum(sum(hour.get("rain", {}).values()) for hour in hours)
    return reply | ({"rain_mm": round(rain, 1)} if rain else {})


def _status_words(status: int) -> str:
    words = {
        401: f"the weather service refuses the key in {KEY}",
        404: "location not found",
        429: "the weather service has been asked too often, try again later",
    }
    return words.get(status, f"service unavailable ({status}), try again later")
