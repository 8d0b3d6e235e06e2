"""The service's errors, in plain words, as RFC 9457 has them ("problem details"). Taught in notebook 09.

Code raises; `problem_of` makes of it what the client is told, as an answer of its own or inside a stream. What only
whoever runs the service should know (paths, addresses, a database's words) goes to the log and never to the client.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from lekhai_helpers.ship.gguf_header import ModelFileError
from lekhai_helpers.ship.store import StoreError

PROBLEM_TYPE = "application/problem+json"
LOG = logging.getLogger("lekhai.service")

TITLES = {
    400: "The request cannot be understood",
    401: "A key is needed",
    403: "This is not allowed",
    404: "There is nothing at this address",
    405: "This address does not take that kind of request",
    408: "The request took too long to arrive",
    409: "This cannot be done now",
    413: "The request is too large",
    422: "The request cannot be used",
    429: "Too many are asking at once",
    500: "Something went wrong here",
    502: "The model's engine refused",
    503: "The service cannot answer now",
    504: "Writing took too long",
    507: "There is no room for this",
}


class Problem(BaseModel):
    """An error as RFC 9457 has it: `detail` is for people, `errors` names each field."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] = []


class Refusal(Exception):
    """A request is refused: the status, why in words fit for the client, and headers such as Retry-After."""

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, errors: Sequence[dict[str, str]] = ()
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.errors = status, detail, dict(headers or {}), list(errors)

    def problem(self) -> Problem:
        """Return it as the client gets it."""
        title = TITLES.get(self.status, "The request was refused")
        return Problem(title=title, status=self.status, detail=self.detail, errors=self.errors)


class EngineDown(Refusal):
    """The engine stopped, or cannot be reached."""

    def __init__(self, detail: str, retry_after: int = 5) -> None:
        super().__init__(503, detail, {"Retry-After": str(retry_after)})


class QueueFull(Refusal):
    """As many as may wait are waiting, or one waited too long; Retry-After says when it is worth another try."""

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(429, detail, {"Retry-After": str(retry_after)})


def refusal_of(error: Exception) -> Refusal:
    """Return what a client is told about an error. One that nobody foresaw goes to the log, with its traceback."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ModelFileError):
        return Refusal(422, str(error))
    if isinstance(error, StoreError):
        LOG.error("the store failed: %s", error)
        return Refusal(503, "what was kept cannot be reached now; the service's log says why", {"Retry-After": "10"})
    LOG.error("an error nobody foresaw", exc_info=error)
    again = "The answer could not be written. Try again; if it happens again, tell whoever runs this."
    return Refusal(500, again)


def problem_response(refusal: Refusal) -> Response:
    """Return a refusal as an answer."""
    body = refusal.problem().model_dump()
    return JSONResponse(body, refusal.status, headers=refusal.headers, media_type=PROBLEM_TYPE)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of the problems an address can answer with."""
    content = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": TITLES[status], "content": content} for status in sorted(statuses)}


def add_handlers(app: FastAPI) -> None:
    """Let every error of the app be answered as a problem."""
    app.exception_handler(RequestValidationError)(_on_bad_request)
    app.exception_handler(HTTPException)(_on_http_error)
    for kind in (Refusal, ModelFileError, StoreError, Exception):
        app.exception_handler(kind)(_on_error)


async def _on_error(_: Request, error: Exception) -> Response:
    return problem_response(refusal_of(error))


async def _on_bad_request(_: Request, error: RequestValidationError) -> Response:
    # What was sent is not repeated: it may be long, and it may be private.
    errors = [{"field": _field(found["loc"]), "problem": _in_words(found)} for found in error.errors()]
    return problem_response(Refusal(422, "; ".join(f"{e['field']} {e['problem']}" for e in errors), errors=errors))


async def _on_http_error(_: Request, error: HTTPException) -> Response:
    known = "POST /v1/scripts writes an answer, GET /v1/scripts lists those kept, /openapi.json describes the rest"
    detail = known if error.status_code in (404, 405) else str(error.detail)
    return problem_response(Refusal(error.status_code, detail, error.headers))


def _field(place: Sequence[int | str]) -> str:
    names = [str(part) for part in place if part not in ("body", "query", "path") and not isinstance(part, int)]
    return ".".join(names) or "the request"


def _in_words(found: dict[str, Any]) -> str:
    """Return what is wrong with a field, as a person would say it."""
    limits = found.get("ctx", {})
    sentences = {
        "missing": "is missing",
        "json_invalid": "is not valid JSON",
        "extra_forbidden": "is not known here",
        "string_type": "must be text",
        "string_too_short": "must not be empty",
        "string_pattern_mismatch": "must not be empty",
        "string_too_long": f"is too long: at most {limits.get('max_length')} characters",
        "too_short": "must not be empty",
        "too_long": f"has too many entries: at most {limits.get('max_length')}",
        "greater_than_equal": f"must be at least {limits.get('ge')}",
        "less_than_equal": f"must be at most {limits.get('le')}",
        "int_type": "must be a whole number",
        "int_parsing": "must be a whole number",
        "int_from_float": "must be a whole number",
        "bool_type": "must be true or false",
        "bool_parsing": "must be true or false",
        "uuid_parsing": "must be the id of an answer",
        "model_attributes_type": "must be a JSON object, sent with Content-Type: application/json",
    }
    return sentences.get(found["type"], found["msg"])
