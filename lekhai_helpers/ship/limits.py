"""What the service takes on and from whom: `Limits`, `Security`, and the guard in front of every request's body."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lekhai_helpers.core.recipe import Serving
from lekhai_helpers.ship.problems import Refusal, problem_response

API_KEY, ADMIN_TOKEN, MODELS = "LEKHAI_API_KEY", "LEKHAI_ADMIN_TOKEN", "LEKHAI_MODELS"
_ASK_KEY = {"WWW-Authenticate": "Bearer"}
BODY_SECONDS = 30  # a body of this size that takes longer is not meant to arrive
# Seconds a connection stays open between two requests. A proxy in front keeps its own for a minute and fails a request
# that it sends into one we are just closing, so ours must last longer.
KEEP_ALIVE = 75
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::\d*)?")  # a name or an address, and perhaps a port


@dataclass(frozen=True)
class Limits:
    """How many requests the model answers at once, how many may wait, and how long (seconds)."""

    slots: int = 4
    queue: int = 32
    wait_seconds: float = 120

    @classmethod
    def of(cls, serving: Serving) -> Limits:
        """Return the limits that the settings name."""
        return cls(serving.slots, serving.queue, serving.wait_seconds)


@dataclass(frozen=True)
class Security:
    """Who may ask, and from where new models may come. Without `api_key` anyone who reaches the port may ask.

    Without `admin_token` nobody may swap the model. `models` are the folders a new model may lie in.
    """

    api_key: str = field(default="", repr=False)
    admin_token: str = field(default="", repr=False)
    models: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        """Follow links in the folders: a new model's path is compared when it has been followed, too."""
        object.__setattr__(self, "models", tuple(Path(folder).resolve() for folder in self.models))

    @classmethod
    def from_environment(cls, models: Sequence[Path] = (), environment: Mapping[str, str] | None = None) -> Security:
        """Return what LEKHAI_API_KEY, LEKHAI_ADMIN_TOKEN and LEKHAI_MODELS (folders) say; `models` are added."""
        given = os.environ if environment is None else environment
        named = [Path(part).expanduser() for part in given.get(MODELS, "").split(os.pathsep) if part]
        return cls(given.get(API_KEY, ""), given.get(ADMIN_TOKEN, ""), (*models, *named))

    def check_key(self, given: str | None) -> None:
        """Let a request through or raise Refusal (401)."""
        if self.api_key and not _same(given, self.api_key):
            raise Refusal(401, "this service wants its key: send it as Authorization: Bearer KEY", _ASK_KEY)

    def check_admin(self, host: str | None, headers: Mapping[str, str], given: str | None) -> None:
        """Let a request through that comes from this machine and has the token, or raise Refusal (403, 401)."""
        # A proxy on this machine passes on what comes from elsewhere.
        if not _is_loopback(host) or {"forwarded", "x-forwarded-for", "x-real-ip"} & set(headers):
            raise Refusal(403, "the model is changed from the service's own machine only, and not through a proxy")
        if not self.admin_token:
            raise Refusal(403, f"no model can be changed: the service was started without {ADMIN_TOKEN}")
        if not _same(given, self.admin_token):
            raise Refusal(401, f"the token is missing or wrong: it is what the service has as {ADMIN_TOKEN}", _ASK_KEY)


def _same(given: str | None, expected: str) -> bool:
    """Compare in a time that does not tell how much of it was right."""
    return hmac.compare_digest((given or "").encode(), expected.encode())


def on_this_machine(address: str) -> bool:
    """Say whether an address like http://127.0.0.1:8000 is this machine's own (loopback)."""
    host = urlsplit(address).hostname
    return host == "localhost" or _is_loopback(host)


def _is_loopback(host: str | None) -> bool:
    return _is_address(host or "") and ipaddress.ip_address(host or "").is_loopback


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class HostGuard:
    """Refuses (403) who asks a service without a key under a name that is not its own.

    A page elsewhere can let its own name point at this machine ("DNS rebinding"): a browser here would then read the
    history to it. An address in figures cannot be turned like that, and neither can a name that stands in `names`.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str]) -> None:
        self._app, self._names = app, {"localhost", *names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._knows(dict(scope["headers"]).get(b"host", b"localhost")):
            refused = Refusal(403, f"this service is asked under its address; under a name it takes {API_KEY}")
            return await problem_response(refused)(scope, receive, send)
        await self._app(scope, receive, send)

    def _knows(self, given: bytes) -> bool:
        found = _HOST.fullmatch(given.decode("latin-1").lower())
        name = found[1].strip("[]").rstrip(".") if found else ""
        return name in self._names or _is_address(name)


class BodyGuard:
    """Reads a request's body before anything else does, up to `most` bytes; refuses a larger (413) or a slow one (408).

    What was read is handed on in one piece, and after it the connection itself, so that the end of it is still seen.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._read(scope, receive)
        except TimeoutError:
            refused = Refusal(408, f"the request did not arrive within {BODY_SECONDS} seconds")
            return await problem_response(refused)(scope, receive, send)
        except Refusal as refused:
            return await problem_response(refused)(scope, receive, send)
        if body is not None:
            await self._app(scope, _first(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """Return the body, or None where the caller left. Raises Refusal (413)."""
        told = dict(scope["headers"]).get(b"content-length", b"0")
        self._check(int(told) if told.isdigit() else 0)
        parts = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts += message.get("body", b"")
            self._check(len(parts))
            if not message.get("more_body", False):
                return bytes(parts)

    def _check(self, size: int) -> None:
        if size > self._most:
            raise Refusal(413, f"the request is too large: at most {self._most} bytes", {"Connection": "close"})


def _first(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body once and then what the connection says."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message
