"""The contract of an assistant with tools: call where a call is needed, nowhere else, and answer from the reply.

Called as ``get_contract("tool_call")``. Without `expected` a text keeps it if it is one or more calls that parse and
match the tool's signature, or plain speech. With it: {"expect": "call", "calls": [...]}, {"expect": "ask"},
{"expect": "no_call"} or {"expect": "answer", "replies": [...], "said": what the user said}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import regex

from lekhai_helpers.core.bengali import words
from lekhai_helpers.prepare.contracts.base import Contract, Verdict, expected_of
from lekhai_helpers.prepare.contracts.prose import PROSE_DEFECTS, prose_problems, repeated_sentences
from lekhai_helpers.prepare.contracts.tool_reply import NUMBER, invented, reply_problems
from lekhai_helpers.prepare.tools import Call, ToolError, call_problems, parse_calls
from lekhai_helpers.prepare.weather import TOOLS

if TYPE_CHECKING:
    import pandas as pd

    from lekhai_helpers.prepare.dataset import Brief

_CALL = regex.compile(r"<tool_call>.*?</tool_call>", regex.DOTALL)


def check(text: str, expected: Any = None) -> Verdict:
    """Return the verdict on one answer. Facts: ``calls``, ``words``, ``repeated_rows`` (sentences said again)."""
    facts = {"calls": 0, "words": len(words(text)), "repeated_rows": len(repeated_sentences(text))}
    try:
        calls = parse_calls(text)
    except ToolError as error:
        return Verdict(False, [str(error)], facts)
    problems = [problem for call in calls for problem in call_problems(call, TOOLS)]
    if not calls:
        problems += prose_problems(text)
    elif _CALL.sub("", text).strip() and "<tool_call>" in text:
        problems.append("words stand beside the call: a call is the whole answer")
    if isinstance(expected, Mapping):
        problems += _HELD[expected["expect"]](text, calls, expected)
    return Verdict(not problems, problems, facts | {"calls": len(calls)})


def _held_to_call(text: str, calls: Sequence[Call], expected: Mapping[str, Any]) -> list[str]:
    wanted = [Call(one["name"], one["arguments"]) for one in expected.get("calls", [])]
    if not calls:
        return ["no tool is called where one is needed"]
    if len(calls) != len(wanted):
        return [f"{len(calls)} call(s) where {len(wanted)} are needed"] if wanted else []
    return [f"it does not call {one.to_text()}" for one in _unmet(wanted, calls)]


def _held_to_ask(text: str, calls: Sequence[Call], expected: Mapping[str, Any]) -> list[str]:
    if calls:
        return ["it calls a tool without knowing where or when: it must ask first"]
    return invented(text) + ([] if "?" in text else ["it does not ask for what is missing"])


def _held_to_no_call(text: str, calls: Sequence[Call], expected: Mapping[str, Any]) -> list[str]:
    return ["it calls a tool where none is needed"] if calls else invented(text)


def _held_to_answer(text: str, calls: Sequence[Call], expected: Mapping[str, Any]) -> list[str]:
    if calls:
        return ["it calls the tool again instead of answering"]
    return reply_problems(text, expected["replies"], expected.get("said", ""))


_HELD: Mapping[str, Callable[[str, Sequence[Call], Mapping[str, Any]], list[str]]] = {
    "call": _held_to_call,
    "ask": _held_to_ask,
    "no_call": _held_to_no_call,
    "answer": _held_to_answer,
}


def same_call(wanted: Call, made: Call) -> bool:
    """Say whether two calls ask for the same: the day word for word, the place by its town.

    The region or country counts where both name one: Paris is Paris, France; but not where Texas was asked for.
    """
    if wanted.name != made.name or wanted.arguments.get("date", "today") != made.arguments.get("date", "today"):
        return False
    (town, *where), (given, *there) = _place(wanted), _place(made)
    return bool(town) and town == given and (not where or not there or bool(set(where) & set(there)))


def _place(call: Call) -> list[str]:
    """Return the parts of a call's place, the town first: "Paris, Texas" is ["paris", "texas"]."""
    parts = [" ".join(words(part)) for part in str(call.arguments.get("location") or "").casefold().split(",")]
    return parts[:1] + [part for part in parts[1:] if part]


def _unmet(wanted: Sequence[Call], made: Sequence[Call]) -> list[Call]:
    """Return the wanted calls that no made one answers, each made one used once."""
    left, unmet = list(made), []
    # The most exact first, so that "Paris" does not take the call that only "Paris, Texas" can use.
    for one in sorted(wanted, key=lambda call: -len(_place(call))):
        fitting = sorted((call for call in left if same_call(one, call)), key=lambda call: -len(_place(call)))
        if fitting:
            left.remove(fitting[0])
        else:
            unmet.append(one)
    return unmet


def count(text: str, brief: Brief) -> dict[str, float | bool | None]:
    """Return what code counts: the contract; whether it rightly called, asked or spoke; whether the call was right."""
    expected = expected_of(brief.expected) or {"expect": "no_call"}
    try:
        calls, broken = parse_calls(text), False
    except ToolError:
        calls, broken = [], True
    verdict, wanted = check(text, expected), expected["expect"]
    right = not _held_to_call(text, calls, expected) if wanted == "call" else None
    return {
        "kept": verdict.ok,
        "call_parses": check(text).ok,
        "called_when_needed": bool(calls) if wanted == "call" else None,
        "right_call": right,
        "asked_when_unsure": not (broken or _held_to_ask(text, calls, expected)) if wanted == "ask" else None,
        "no_needless_call": not (calls or broken) if wanted != "call" else None,
    }


def show(text: str) -> pd.DataFrame | str:
    """Return the calls of an answer as a table; speech as it is, and so is a call with words beside it."""
    import pandas as pd

    try:
        calls = parse_calls(text)
    except ToolError:
        return text
    beside = "<tool_call>" in text and _CALL.sub("", text).strip()
    return text if beside or not calls else pd.DataFrame([{"tool": call.name} | call.arguments for call in calls])


def _each_call(text: str, change: Callable[[Call], Call | None]) -> list[str]:
    """Return every version of a text in which one call is changed."""
    try:
        calls = parse_calls(text)
    except ToolError:
        return []
    changed = [(call, change(call)) for call in calls]
    return [text.replace(call.to_text(), other.to_text(), 1) for call, other in changed if other is not None]


def _without_location(call: Call) -> Call | None:
    rest = {name: value for name, value in call.arguments.items() if name != "location"}
    return Call(call.name, rest) if len(rest) < len(call.arguments) else None


def _other_figure(text: str) -> list[str]:
    """Return every version of a spoken answer in which one figure is another."""
    if "<tool_call" in text:
        return []
    marks = list(NUMBER.finditer(text))
    return [f"{text[: m.start()]}{_shifted(m.group())}{text[m.end() :]}" for m in marks if m.group().isdigit()]


def _shifted(number: str) -> str:
    return str(int(number) + 11)


def _only_speech(spoil: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    return lambda text: [] if "<tool_call" in text else spoil(text)


DEFECTS: Mapping[str, Callable[[str], list[str]]] = {
    "the tool does not exist": lambda text: _each_call(text, lambda call: Call("get_forecast", call.arguments)),
    "an argument is missing": lambda text: _each_call(text, _without_location),
    "the call is not closed": lambda text: [text.replace("</tool_call>", "", 1)] if "</tool_call>" in text else [],
    "a figure is not the tool's": _other_figure,
    **{name: _only_speech(spoil) for name, spoil in PROSE_DEFECTS.items()},
}

CONTRACT = Contract(
    name="tool_call",
    check=check,
    one="a sound answer",
    many="sound answers",
    show=show,
    count=count,
    defects=DEFECTS,
    tools=TOOLS,
    right="right_call",
    rule="A sound answer calls the tool where it is needed, with arguments that match its signature, and speaks "
    "without a call everywhere else.",
)
