"""Whether an answer says what the weather tool replied: its degrees, its sky, and its failures.

Called by ``tool_call``'s contract as ``reply_problems(text, replies, said)``. What code can see is held: figures beside
their places, the kind of sky, an error admitted. A joke about rain is none of its business, so a word counts only
where nothing the tool said stands in the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import regex

from lekhai_helpers.core.bengali import words

_SMALL = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_ONES = [*_SMALL.split(), "seventeen", "eighteen", "nineteen"]
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50}
_WORDS = (
    {word: float(value) for value, word in enumerate(_ONES)}
    | {ten: float(value) for ten, value in _TENS.items()}
    | {f"{ten}-{_ONES[one]}": float(value + one) for ten, value in _TENS.items() for one in range(1, 10)}
)
_SPELT = "|".join(sorted(_WORDS, key=len, reverse=True))
_SIGN = r"(?P<sign>[-−–]|minus\s++)?"
_BEHIND = r"(?<![\p{L}\d.,:]|[\p{L}\d]-)"  # not within a word, a figure or a date
_BELOW = r"(?P<below>\s*+below(?!\s+(?:the|par|average|\d)))?"
_MARK = r"(?:°\s*C?\b|℃|º|(?:\p{L}++\s++)?degrees?\b|deg\b|celsius\b|C\b)(?:\s*+(?:celsius|C)\b)?"
_DEGREES = regex.compile(rf"{_BEHIND}{_SIGN}(?P<n>\d++(?:\.\d++)?|(?:{_SPELT})\b)\s*+{_MARK}{_BELOW}", regex.IGNORECASE)
# A bare figure is degrees only where no unit can follow: "clear at 3", "28 with 22 mm", but not "7 days".
_BARE = regex.compile(
    rf"{_BEHIND}{_SIGN}(?P<n>\d++(?:\.\d++)?){_BELOW}(?=\s*+(?:[,;:!?)\"]|\.(?!\d)|$|"
    r"(?:and|with|in|to|for|at|under|against|but|over|there|here|while|where|from)\b))",
    regex.IGNORECASE,
)
_SKIES = {
    "fair": regex.compile(r"\b(?:sun|sunny|sunshine|clear|cloudless|bright|fair|fine|dry)\b", regex.IGNORECASE),
    "cloud": regex.compile(
        r"\b(?:cloud|cloudy|clouds|overcast|gloomy|gr[ae]y|haze|hazy|fog|foggy|mist|misty)\b", regex.IGNORECASE
    ),
    "wet": regex.compile(
        r"\b(?:rain|rains|rainy|raining|drizzl\w*|showers?|showery|thunder\w*|storm\w*|wet|hail|snow\w*|sleet|flurries)"
        r"\b",
        regex.IGNORECASE,
    ),
}
# Words like fine, clear and bright have other uses: they make a sky fair, but accuse nobody.
_SUN = regex.compile(r"\b(?:sun|sunny|sunshine|cloudless|(?:clear|blue) sk(?:y|ies))\b", regex.IGNORECASE)
_DENIED = regex.compile(
    r"(?:\b(?:no|not|never|without|nor|neither|hardly|little|less)\b|n['’]t\b|(?<!\d)0 )[^.;!?]{0,40}$",
    regex.IGNORECASE,
)
_CLAIM = regex.compile(
    r"\b(?:sunny|sunshine|cloudless|cloudy|overcast|rainy|raining|snowing|drizzling|foggy|thunderstorms?"
    r"|clear (?:sky|skies))\b",
    regex.IGNORECASE,
)
_ADMITS = regex.compile(
    r"\b(?:I|we|tool|service|network|forecast)\b[^.;!?]{0,40}(?:\b(?:cannot|not|neither|only|nothing|held to|told to)\b"
    r"|n['’]t\b)|\b(?:no|without an?y?) (?:\w+ )?(?:weather|forecast|figure|reading|answer|report|word|data|such)\b"
    r"|\b(?:unavailable|offline|unreachable|refused|blocked|denied|garbled|stale|error|invalid|unknown|quota|nothing"
    r"|beyond me|(?:try|ask)(?: me)? (?:again|later)|sorry)\b",
    regex.IGNORECASE,
)
_NOW = regex.compile(
    r"(?<!\b(?:if|when|where|say|suppose)\b[^.;!?]{0,20})\b(?:it is|it['’]s|today|tomorrow|tonight|right now|currently"
    r"|at the moment|humidity)\b",
    regex.IGNORECASE,
)
NUMBER = regex.compile(r"(?<![\p{L}\d.,])[-−]?\d++(?:[.:]\d++)*+")


def reply_problems(text: str, replies: Sequence[Any], said: str = "") -> list[str]:
    """Return how an answer departs from the tool's `replies`; `said` is what the user said, whose figures are known."""
    weather = [one for one in replies if isinstance(one, Mapping) and _is_number(one.get("temperature_c"))]
    failed = [one for one in replies if isinstance(one, Mapping) and "error" in one]
    problems = _left_out(text, weather) + _swapped(text, weather) + _other_sky(text, weather)
    problems += _unadmitted(text, failed, said, alone=not weather) if failed else []
    known = numbers(json.dumps(replies, ensure_ascii=False)) | numbers(said)
    if made_up := sorted(numbers(text) - known):
        problems.append(f"figures that nobody gave: {', '.join(made_up)}")
    if wrong := sorted(degrees(text) - _temperatures(weather) - _given(said)):
        problems.append(f"degrees that the tool did not give: {', '.join(f'{n:g}' for n in wrong)}")
    return problems


def invented(text: str) -> list[str]:
    """Return the degrees that an answer gives as the weather of a day though no tool was asked.

    What is true of any day (an egg sets over 60 degrees) is knowledge, no weather.
    """
    told = [clause for clause in _clauses(text) if degrees(clause) and _NOW.search(clause)]
    return [f"degrees that nobody gave: {clause.strip()[:80]}" for clause in told]


def numbers(text: str) -> set[str]:
    """Return the numbers of a text without sign, leading zeros and empty decimals: "-7", "07" and "7.0" are one."""
    joined = regex.sub(r"(?<=\d)[-/](?=\d)", " ", regex.sub(r"(?<=\d),(?=\d{3})", "", text))
    return {_short(found) for found in NUMBER.findall(joined)}


def _short(number: str) -> str:
    whole = regex.sub(r"(?<=^\d++)\.0++$|(?<=^\d++\.\d*[1-9])0++$", "", number.lstrip("-−"))
    return whole.lstrip("0") or "0"


def degrees(text: str) -> set[float]:
    """Return the temperatures a text names as such, with their sign: "-7 °C", "34 sultry degrees"."""
    return {_value(found) for found in _DEGREES.finditer(text)}


def _figures(text: str) -> list[tuple[int, float]]:
    """Return place and value of every figure that may be a temperature, a unit beside it or none."""
    found = {match.start("n"): _value(match) for which in (_BARE, _DEGREES) for match in which.finditer(text)}
    return sorted(found.items())


def _value(found: Any) -> float:
    number = found["n"].casefold()
    value = _WORDS[number] if number in _WORDS else float(number)
    return -value if found["sign"] or found["below"] else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _temperatures(weather: Sequence[Mapping[str, Any]]) -> set[float]:
    """Return every temperature of the replies, the felt and the lowest too where they tell them."""
    named = regex.compile(r"temp|feels|_c$")
    return {float(n) for one in weather for key, n in one.items() if named.search(key) and _is_number(n)}


def _given(said: str) -> set[float]:
    """Return the figures of what the user said, of either sign: "my plants die at -5" is read as 5 too."""
    plain = {float(n) for n in numbers(said) if regex.fullmatch(r"\d+(?:\.\d+)?", n)}
    return plain | {-n for n in plain}


def _left_out(text: str, weather: Sequence[Mapping[str, Any]]) -> list[str]:
    told = {value for _, value in _figures(text)}
    missing = [one["temperature_c"] for one in weather if float(one["temperature_c"]) not in told]
    return [f"it leaves out the tool's {value:g} degrees" for value in missing]


def _swapped(text: str, weather: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the places told with another place's degrees, clause by clause.

    In a clause of one place every one of its figures cannot be another's; in one of several, where place and figure
    take turns, each figure is the place's beside it. Any other order is left to the reader.
    """
    own: dict[str, set[float]] = {}
    for one in weather:
        own.setdefault(_town(one), set()).add(float(one["temperature_c"]))
    own.pop("", None)
    if len(own) < 2:
        return []
    pairs = [pair for clause in _clauses(text) for pair in _pairs(clause, own)]
    return [f"it tells {town.title()} with another place's degrees" for town, told in pairs if not told & own[town]]


def _pairs(clause: str, own: Mapping[str, set[float]]) -> list[tuple[str, set[float]]]:
    known = set().union(*own.values())
    places = sorted(
        (found.start(), town)
        for town in own
        for found in regex.finditer(rf"\b{regex.escape(town)}\b", clause.casefold())
    )
    figures = [(place, value) for place, value in _figures(clause) if value in known]
    if len({town for _, town in places}) == 1 and figures:
        return [(places[0][1], {value for _, value in figures})]
    if not places or len(places) != len(figures):
        return []
    first, second = (places, figures) if places[0][0] < figures[0][0] else (figures, places)
    order = [one[0] for pair in zip(first, second, strict=True) for one in pair]
    if order != sorted(order):
        return []
    return [(town, {value}) for (_, town), (_, value) in zip(places, figures, strict=True)]


def _town(reply: Mapping[str, Any]) -> str:
    return " ".join(words(str(reply.get("location") or "").split(",")[0].casefold()))


def _clauses(text: str) -> list[str]:
    return regex.split(r"[;!?\n]|\.(?!\d)", text)


def _other_sky(text: str, weather: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the sky an answer names where it names nothing of the tool's: sun for a thunderstorm."""
    given = json.dumps([[key, value] for one in weather for key, value in one.items() if key != "location"])
    ours, named = _skies(given.replace("_", " ")), _skies(text)
    if not ours or not named or ours & named or (named == {"fair"} and not _SUN.search(text)):
        return []
    return [f"it names another sky than the tool: {', '.join(sorted(named))}"]


def _skies(text: str) -> set[str]:
    """Return the kinds of sky a text names and does not deny."""

    def meant(found: Any) -> bool:
        return not _DENIED.search(text, max(0, found.start() - 60), found.start())

    return {sky for sky, word in _SKIES.items() if any(map(meant, word.finditer(text)))}


def _unadmitted(text: str, failed: Sequence[Mapping[str, Any]], said: str, alone: bool) -> list[str]:
    """Hold an answer to a failure: it must admit the failure or ask back, and tell no weather of its own."""
    told = set(words(" ".join(str(one["error"]) for one in failed).casefold())) - set(words(said.casefold()))
    quoted = {word for word in told if len(word) > 4} & set(words(text.casefold()))
    problems = [] if "?" in text or quoted or _ADMITS.search(text) else ["the tool failed, and it does not say so"]
    claimed = alone and (_CLAIM.search(text) or degrees(text))
    return problems + (["it tells weather though the tool failed"] if claimed else [])
