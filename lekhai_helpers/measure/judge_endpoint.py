"""One question to an OpenAI-compatible address: what is sent, and what went wrong in words. Used by `judge_client`.

The openai client itself waits and tries again after 408, 409, 429 and 5xx, longer each time, or as long as Retry-After
asks.
"""

from __future__ import annotations

import importlib
import json
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lekhai_helpers.measure.judge_forms import Form, Token

if TYPE_CHECKING:
    from openai import OpenAI

_LOGPROBS = {"logprobs": True, "top_logprobs": 20}  # 20 is the most the protocol allows
_LEAST = 2  # the level that asks for neither schema nor log-probabilities
_SECRET = 8  # a shorter key ("1", "no-key") is no secret, and without it every 10 would read ***0
_NO_API = "answers, but not as an OpenAI-compatible API: the address often ends in /v1"


@dataclass(frozen=True)
class Reply:
    """What an endpoint answered, or in `why` why there is no answer.

    `used` is tokens read and written, None where it does not say; `note` is what is odd about the text: refused, cut
    off. `hopeless`: asking again will not help (wrong key, address or model). `refused`: this one question was not
    taken (a content filter, too long), which says nothing about the next. `tries`: requests sent; `lost`: those of
    them that nothing came back for.
    """

    text: str = ""
    tokens: tuple[Token, ...] = ()
    used: tuple[int, int] | None = None
    note: str = ""
    why: str = ""
    hopeless: bool = False
    refused: bool = False
    tries: int = 0
    lost: int = 0


@dataclass
class Endpoint:
    """A model at an address. `timeout` is the seconds one try may wait.

    A key of eight letters or more stays out of every `why` and `note`; `Reply.text` is as it came, for it is yet to be
    read. Of the address only scheme and host are shown: the rest may hold a name and a password.
    """

    model: str
    base_url: str = field(repr=False)
    api_key: str = field(repr=False)
    max_retries: int
    timeout: float
    max_tokens: int | None
    _level: int = field(default=0, init=False, repr=False)
    _client: Any = field(default=None, init=False, repr=False)
    _lock: Any = field(default_factory=threading.Lock, init=False, repr=False)
    _sent: Any = field(default_factory=threading.local, init=False, repr=False)  # of the question this thread asks

    def ask(self, form: Form) -> Reply:
        """Return the reply; whatever the endpoint, its address or the key do, nothing is raised."""
        if not (self.api_key.isascii() and self.api_key.isprintable()):
            why = "the key holds letters that no key has: was it copied whole, and nothing else with it?"
            return Reply(why=why, hopeless=True)
        self._sent.requests = self._sent.answers = 0
        reply = self._asked(form)
        return replace(reply, tries=self._sent.requests, lost=self._sent.requests - self._sent.answers)

    def _asked(self, form: Form) -> Reply:
        import openai

        try:
            return self._completed(form)
        except _invalid_url():
            return Reply(why=f"{self.place} is no address: it looks like http://127.0.0.1:8080/v1", hopeless=True)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            return Reply(why=self._said(error, "check key, address and model"), hopeless=True)
        except openai.APIStatusError as error:
            refused = error.status_code in (400, 413, 422)
            return Reply(why=self._said(error, self._meaning(error)), refused=refused)
        except UnicodeEncodeError:
            return Reply(why="the text holds half a character and cannot be sent", refused=True)
        except (openai.OpenAIError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            return Reply(why=self._said(error, self._meaning(error)))

    @property
    def place(self) -> str:
        """Return scheme and host of the address: what else it holds may be secret."""
        try:
            parts = urlsplit(self.base_url)
        except ValueError:
            return "the address given"
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}" if host else "the address given"

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
        told = str(error).replace(self.base_url, self.place)
        return self.without_key(f"{type(error).__name__} at {self.place}: {meaning} ({told})")[:500]

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
                from openai import DefaultHttpxClient, OpenAI

                # The client tries again by itself and does not say how often: each request is counted on its way.
                hooks: Any = {"request": [self._count_request], "response": [self._count_answer]}
                self._client = OpenAI(
                    api_key=self.api_key, base_url=self.base_url, max_retries=self.max_retries, timeout=self.timeout,
                    http_client=DefaultHttpxClient(event_hooks=hooks),
                )  # fmt: skip
            return self._client

    def _count_request(self, _: Any) -> None:
        self._sent.requests += 1

    def _count_answer(self, response: Any) -> None:
        response.read()  # raises where it breaks off: what came only in part is no answer
        self._sent.answers += 1

    def _read(self, completion: Any) -> Reply:
        """A web page answered with status 200 comes back from the client as a plain string, or without choices."""
        choices = getattr(completion, "choices", None)
        choice = choices[0] if isinstance(choices, list) and choices else None
        text = getattr(getattr(choice, "message", None), "content", 0)  # None where the model refused
        if not isinstance(text, str | None):
            return Reply(why=f"{self.place} {_NO_API}", used=_used(completion))
        return Reply(text or "", _tokens(choice), _used(completion), self.without_key(_note(choice)))

    def without_key(self, text: str) -> str:
        """Return a text that people will read, or a file keep, without the key."""
        return text.replace(self.api_key, "***") if len(self.api_key) >= _SECRET else text


def _invalid_url() -> type[Exception]:
    """Return the error for what is no address: of httpx or httpx2, whichever the installed openai client sends with."""
    from openai import DefaultHttpxClient

    return importlib.import_module(DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]).InvalidURL


def _note(choice: Any) -> str:
    if refusal := getattr(choice.message, "refusal", None):
        return f"the model refused: {refusal}"
    cut = getattr(choice, "finish_reason", None) == "length"
    return "the reply was cut off at its greatest length" if cut else ""


def _used(completion: Any) -> tuple[int, int] | None:
    """Return tokens read and written; None where the server leaves them out, or says ``"usage": {}``."""
    usage = getattr(completion, "usage", None)
    read, written = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
    return (read, written) if isinstance(read, int) and isinstance(written, int) else None


def _tokens(choice: Any) -> tuple[Token, ...]:
    """Return the reply's tokens with what could have stood in each place; none where the server told none.

    Some servers tell them in a shape of their own: then the number written counts, and not an expectation.
    """
    told = getattr(choice, "logprobs", None)
    try:
        return tuple(_token(entry) for entry in getattr(told, "content", None) or ())
    except (AttributeError, TypeError, ValueError):
        return ()


def _token(entry: Any) -> Token:
    chances = {other.token: other.logprob for other in entry.top_logprobs or ()} | {entry.token: entry.logprob}
    if not all(logprob <= 0.01 for logprob in chances.values()):  # NaN is not, either; rounding may go above 0
        raise ValueError("no logarithm of a probability")
    raw = entry.token.encode() if entry.bytes is None else bytes(entry.bytes)
    return Token(raw, chances)
