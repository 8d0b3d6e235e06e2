"""One question to an OpenAI-compatible address: what is sent, and what went wrong in words. Used by `judge_client`.

The openai client itself waits and tries again after 408, 409, 429 and 5xx, longer each time, or as long as Retry-After
asks.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lekhai_helpers.measure.judge_forms import Form, Token

if TYPE_CHECKING:
    from openai import OpenAI

_LOGPROBS = {"logprobs": True, "top_logprobs": 20}  # 20 is the most the protocol allows
_LEAST = 2  # the level that asks for neither schema nor log-probabilities


@dataclass(frozen=True)
class Reply:
    """What an endpoint answered, or in `why` why there is no answer.

    `used` is tokens read and written, None where it does not say; `note` is what is odd about the text: refused, cut
    off. `hopeless`: asking again will not help (wrong key, address or model).
    """

    text: str = ""
    tokens: tuple[Token, ...] = ()
    used: tuple[int, int] | None = None
    note: str = ""
    why: str = ""
    hopeless: bool = False


@dataclass
class Endpoint:
    """A model at an address. `timeout` is the seconds one try may wait. The key stays out of every text it returns."""

    model: str
    base_url: str
    api_key: str = field(repr=False)
    max_retries: int
    timeout: float
    max_tokens: int | None
    _level: int = field(default=0, init=False, repr=False)
    _client: Any = field(default=None, init=False, repr=False)
    _lock: Any = field(default_factory=threading.Lock, init=False, repr=False)

    def ask(self, form: Form) -> Reply:
        """Return the reply; whatever the endpoint does, nothing is raised."""
        import openai

        try:
            return self._completed(form)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            return Reply(why=self._said(error, "check key, address and model"), hopeless=True)
        except (openai.OpenAIError, json.JSONDecodeError, UnicodeDecodeError) as error:
            return Reply(why=self._said(error, self._meaning(error)))

    def _meaning(self, error: Exception) -> str:
        """Say in words what an error means for the user."""
        import openai

        tries = self.max_retries + 1
        meanings: dict[type[Exception], str] = {  # a timeout is a connection error too: the first that fits
            openai.APITimeoutError: f"no answer within {self.timeout:g} seconds, tried {tries} times",
            openai.APIConnectionError: "it cannot be reached or broke off: is the server running at this address?",
            openai.RateLimitError: f"still too many requests after {tries} tries: wait a while, then run again",
            openai.OpenAIError: "it refused the question or is out of order",
        }
        no_json = "its answer is no JSON, so the address is no OpenAI-compatible API"
        return next((text for kind, text in meanings.items() if isinstance(error, kind)), no_json)

    def _said(self, error: Exception, meaning: str) -> str:
        return self._without_key(f"{type(error).__name__} at {self.base_url}: {meaning} ({error})")[:500]

    def _completed(self, form: Form) -> Reply:
        """Ask with schema and log-probabilities; a server that refuses these is asked with less, now and later."""
        import openai

        level = self._level
        while True:
            try:
                reply = self._read(self._create(form, level))
            except (openai.BadRequestError, openai.UnprocessableEntityError):
                if level == _LEAST:  # it is not these that are refused
                    raise
                level += 1
            else:
                self._level = level
                return reply

    def _create(self, form: Form, level: int) -> Any:
        """Send one question; level 0 asks for schema and log-probabilities, 1 for the schema only, 2 for neither."""
        messages: Any = form.messages
        options: dict[str, Any] = dict(_LOGPROBS) if level == 0 else {}
        if level < _LEAST:
            schema = {"name": "verdict", "strict": True, "schema": form.schema}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self.max_tokens is not None:
            options["max_tokens"] = self.max_tokens
        return self._open().chat.completions.create(model=self.model, messages=messages, temperature=0, **options)

    def _open(self) -> OpenAI:
        with self._lock:
            if self._client is None:
                from openai import OpenAI

                self._client = OpenAI(
                    api_key=self.api_key, base_url=self.base_url, max_retries=self.max_retries, timeout=self.timeout
                )
            return self._client

    def _read(self, completion: Any) -> Reply:
        """A web page answered with status 200 comes back from the client as a plain string, or without choices."""
        choices = getattr(completion, "choices", None)
        message = getattr(choices[0], "message", None) if choices else None
        if not choices or message is None:
            return Reply(
                why=f"{self.base_url} answers, but not as an OpenAI-compatible API: the address often ends in /v1"
            )
        text = self._without_key(message.content or "")
        return Reply(text, _tokens(choices[0]), _used(completion), self._without_key(_note(choices[0])))

    def _without_key(self, text: str) -> str:
        return text.replace(self.api_key, "***") if self.api_key else text


def _note(choice: Any) -> str:
    if refusal := getattr(choice.message, "refusal", None):
        return f"the model refused: {refusal}"
    return "the reply was cut off at its greatest length" if choice.finish_reason == "length" else ""


def _used(completion: Any) -> tuple[int, int] | None:
    usage = getattr(completion, "usage", None)
    return (usage.prompt_tokens, usage.completion_tokens) if usage else None


def _tokens(choice: Any) -> tuple[Token, ...]:
    """Return the reply's tokens with what could have stood in each place; none where the server told none."""
    told = getattr(choice, "logprobs", None)
    return tuple(_token(entry) for entry in (told.content if told else None) or ())


def _token(entry: Any) -> Token:
    chances = {other.token: other.logprob for other in entry.top_logprobs or ()} | {entry.token: entry.logprob}
    raw = entry.token.encode() if entry.bytes is None else bytes(entry.bytes)
    return Token(raw, chances)
