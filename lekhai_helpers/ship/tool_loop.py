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


def converse(
    ask: Ask,
    messages: Sequence[Message],
    tools: Sequence[Tool] = (),
    run: Callable[[Call], Any] | None = None,
    most: int = MOST_CALLS,
) -> list[Message]:
    """Return the turns that follow `messages`: calls, their replies (as the user's) and, last, what the model says.

    `ask` returns the model's next text for a conversation. `run` makes one call and returns the reply; without it the
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
    """Return the replies to the calls in a text as a user's message; empty where it calls nothing."""
    try:
        calls = parse_calls(text)
    except ToolError as error:
        return _reply({"error": f"the call could not be read: {error}"})
    return "\n".join(_reply(made(call, tools, run or _weather)) for call in calls)


def made(call: Call, tools: Sequence[Tool], run: Callable[[Call], Any]) -> Any:
    """Return a tool's reply to a call; of one that breaks the tool's signature, the error in words."""
    problems = call_problems(call, tools)
    return {"error": "; ".join(problems)} if problems else run(call)


def _weather(call: Call) -> Mapping[str, Any]:
    from lekhai_helpers.prepare.weather import answer_call, client

    return answer_call(call.name, call.arguments, client())


def _reply(found: Any) -> str:
    return f"<tool_response>{json.dumps(found, ensure_ascii=False)}</tool_response>"
