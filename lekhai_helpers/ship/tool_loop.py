"""A model that calls tools, and somebody who makes the calls: call, reply, answer. Taught in notebook 09.

``converse(ask, messages, tools, run)`` asks the model, makes each call it writes, gives it the reply and asks again,
until it speaks. A call that cannot be made (no such tool, an argument missing or of a wrong form, text that is no JSON)
is no crash: the reply is a sentence that says what is wrong, and the model may try again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lekhai_helpers.prepare.tools import Call, Tool, ToolError, call_problems, parse_calls

Message = dict[str, str]
Ask = Callable[[list[Message]], str]
MOST_CALLS = 3  # rounds of calls for one question: a model that only ever calls would never answer
MOST_AT_ONCE = 4  # calls made of one text; a model in a loop wrote forty, and each may cost money


def converse(
    ask: Ask,
    messages: Sequence[Message],
    tools: Sequence[Tool] = (),
    run: Callable[[Call], Any] | None = None,
    most: int = MOST_CALLS,
) -> list[Message]:
    """Return the turns that follow `messages`: calls, their replies (as the user's) and, last, what the model says.

    `ask` returns the model's next text for a conversation. `run` makes one call and returns the reply; an OSError
    (TimeoutError and what else a network does) or a ValueError of it becomes a reply in words. Without `run` the
    weather is asked (`prepare.weather.client`). Without `tools` the first text is the answer, whatever it is. After
    `most` rounds the loop ends with the model's last text, though it be another call.
    """
    turns: list[Message] = []
    for left in range(most, -1, -1):
        text = ask([*messages, *turns])
        turns.append({"role": "assistant", "content": text})
        reply = replies_to(text, tools, run) if tools and left else ""
        if not reply:
            break
        turns.append({"role": "user", "content": reply})
    return turns


def replies_to(text: str, tools: Sequence[Tool], run: Callable[[Call], Any] | None = None) -> str:
    """Return the replies to the calls in a text as a user's message; empty where it calls nothing.

    Only the first `MOST_AT_ONCE` calls are made, the others are told so.
    """
    try:
        calls = parse_calls(text)
    except ToolError as error:
        return _reply({"error": f"the call could not be read: {error}"})
    replies = [_reply(made(call, tools, run or _weather)) for call in calls[:MOST_AT_ONCE]]
    late = _reply({"error": f"this call was not made: at most {MOST_AT_ONCE} in one answer; ask again if it is needed"})
    return "\n".join([*replies, *[late] * len(calls[MOST_AT_ONCE:])])


def made(call: Call, tools: Sequence[Tool], run: Callable[[Call], Any]) -> Any:
    """Return a tool's reply to a call; of one that breaks the tool's signature, or that fails, the error in words."""
    if problems := call_problems(call, tools):
        return {"error": "; ".join(problems)}
    try:
        return run(call)
    except (OSError, ValueError) as error:
        return {"error": f"{call.name} failed ({type(error).__name__}): {error}"}


def _weather(call: Call) -> Mapping[str, Any]:
    from lekhai_helpers.prepare.weather import answer_call, client

    return answer_call(call.name, call.arguments, client())


def _reply(found: Any) -> str:
    return f"<tool_response>{json.dumps(found, ensure_ascii=False)}</tool_response>"
