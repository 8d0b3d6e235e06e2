"""A small HTTP service: an agency's request in, a script with its verdict out. Taught in notebook 09.

``create_app(writer, "lekhai-270m")`` returns a FastAPI app; `writer` is any function from a `ScriptRequest` to
Markdown (a Hugging Face model, llama.cpp's server). It is called from several threads at once, so a writer that
can do one thing at a time has to hold a lock. Start it with ``uvicorn.run(app)``.

What the client writes becomes the text of a prompt and nothing else: no path, no command, no query.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from lekhai_helpers.core.bengali import normalize
from lekhai_helpers.prepare.contracts.ad_script import check, parse_ad_script

PROBLEM_TYPE = "application/problem+json"
BENGALI_DIGITS = str.maketrans("0123456789", "০১২৩৪৫৬৭৮৯")


class WriterError(RuntimeError):
    """The writer cannot answer now. Its text is shown to the client, so it must hold nothing private."""


def _one_line(text: str) -> str:
    return " ".join(normalize(text).split())


Line = Annotated[str, AfterValidator(_one_line)]
Text = Annotated[str, AfterValidator(normalize)]


class ScriptRequest(BaseModel):
    """What an agency asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    industry: Line = Field("", max_length=80, examples=["রং ও গৃহসজ্জা (Paint & Home)"])
    tone: Line = Field("", max_length=80, examples=["উষ্ণ পারিবারিক (Warm family)"])
    brand: Line = Field(min_length=1, max_length=80, pattern=r"\S", examples=["ঝিলমাটি"])
    product: Line = Field(min_length=1, max_length=120, pattern=r"\S", examples=["দেয়ালের রং"])
    duration_seconds: int = Field(30, ge=10, le=90, description="length of the film in seconds")
    message: Text = Field("", max_length=1000, description="what the film should say; anything else the writer needs")


class Row(BaseModel):
    """One shot: what is seen and what is heard."""

    visual: str
    audio: str


class ContractVerdict(BaseModel):
    """What code found: is it a table of two columns that fits the length asked for?"""

    ok: bool
    problems: list[str]
    facts: dict[str, Any]


class ScriptResponse(BaseModel):
    """The script as the model wrote it, read into rows, with the verdict and what it took."""

    markdown: str
    rows: list[Row]
    contract: ContractVerdict
    model: str
    seconds: float


class Problem(BaseModel):
    """An error as RFC 9457 has it: `detail` is for people, `errors` names each field."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] = []


class Health(BaseModel):
    status: str
    model: str


_TITLES = {
    404: "There is nothing at this address",
    405: "This address does not take that kind of request",
    422: "The request cannot be used",
    500: "Something went wrong here",
    503: "The writer cannot answer now",
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": _TITLES[status], "content": {PROBLEM_TYPE: {"schema": Problem.model_json_schema()}}}
    for status in (422, 500, 503)
}


def create_app(writer: Callable[[ScriptRequest], str], model_name: str, origins: Sequence[str] = ()) -> FastAPI:
    """Return the service. `origins` are the pages in other places that may call it, e.g. a Lovable app's address."""
    app = FastAPI(title="LekhAI", description="Bengali ad scripts as a table of Visual and Audio.")
    if origins:
        # Not "*": only the pages that were named may read the answers.
        app.add_middleware(CORSMiddleware, allow_origins=list(origins), allow_headers=["Content-Type"])
    app.exception_handler(RequestValidationError)(_on_bad_request)
    app.exception_handler(HTTPException)(_on_http_error)
    app.exception_handler(WriterError)(_on_writer_error)
    app.exception_handler(Exception)(_on_surprise)

    @app.post("/v1/scripts", responses=_PROBLEMS)
    def write_script(request: ScriptRequest) -> ScriptResponse:
        """Write one script. It is returned even where the contract is broken; `contract.problems` says how."""
        started = time.monotonic()
        markdown = writer(request)
        return _answer(markdown, request, model_name, time.monotonic() - started)

    @app.get("/health")
    def health() -> Health:
        """Say that the service is up, and with which model."""
        return Health(status="ok", model=model_name)

    return app


def brief_prompt(request: ScriptRequest) -> str:
    """Return the request as the brief the model was trained on: brand, product, seconds and tone in a sentence."""
    seconds = str(request.duration_seconds).translate(BENGALI_DIGITS)
    # The lists have the English name in brackets; the briefs of the training data are Bengali.
    tone, industry = (value.split("(")[0].strip() for value in (request.tone, request.industry))
    manner = f"{tone} সুরে " if tone else ""
    subject = f"{request.brand} ব্র্যান্ডের {request.product} নিয়ে"
    sentences = [f"{subject} {manner}{seconds} সেকেন্ডের একটি বিজ্ঞাপনের চিত্রনাট্য লিখুন।"]
    if industry:
        sentences.append(f"খাত: {industry}।")
    if request.message:
        sentences.append(f"মূল বার্তা: {request.message}")
    return " ".join(sentences)


def _answer(markdown: str, request: ScriptRequest, model_name: str, seconds: float) -> ScriptResponse:
    script, _ = parse_ad_script(markdown)
    verdict = check(markdown, request.duration_seconds)
    return ScriptResponse(
        markdown=markdown,
        rows=[Row(visual=visual, audio=audio) for visual, audio in script.rows],
        contract=ContractVerdict(ok=verdict.ok, problems=verdict.problems, facts=verdict.facts),
        model=model_name,
        seconds=round(seconds, 3),
    )


# --- errors, in plain words


def _problem(status: int, detail: str, errors: Sequence[dict[str, str]] = (), headers=None) -> JSONResponse:
    title = _TITLES.get(status, "The request was refused")
    body = Problem(title=title, status=status, detail=detail, errors=list(errors))
    return JSONResponse(body.model_dump(), status, headers=headers, media_type=PROBLEM_TYPE)


async def _on_bad_request(_: Request, error: RequestValidationError) -> JSONResponse:
    # What was sent is not repeated: it may be long, and it may be private.
    errors = [{"field": _field(found["loc"]), "problem": _in_words(found)} for found in error.errors()]
    return _problem(422, "; ".join(f"{e['field']} {e['problem']}" for e in errors), errors)


async def _on_http_error(request: Request, error: HTTPException) -> JSONResponse:
    known = "POST /v1/scripts writes a script, GET /health says whether the service is up, /docs describes both"
    detail = known if error.status_code in (404, 405) else str(error.detail)
    return _problem(error.status_code, detail, headers=error.headers)


async def _on_writer_error(_: Request, error: WriterError) -> JSONResponse:
    return _problem(503, str(error))


async def _on_surprise(_: Request, error: Exception) -> JSONResponse:
    # The server's log has the traceback; the client does not need to know what our machine looks like inside.
    return _problem(500, "The script could not be written. Try again; if it happens again, tell whoever runs this.")


def _field(place: Sequence[int | str]) -> str:
    names = [str(part) for part in place if part != "body" and not isinstance(part, int)]
    return ".".join(names) or "the request"


def _in_words(found: dict[str, Any]) -> str:
    """Return what is wrong with a field, as a person would say it."""
    limits = found.get("ctx", {})
    sentences = {
        "missing": "is missing",
        "json_invalid": "is not valid JSON",
        "extra_forbidden": f"is not known; known are {', '.join(ScriptRequest.model_fields)}",
        "string_type": "must be text",
        "string_too_short": "must not be empty",
        "string_pattern_mismatch": "must not be empty",
        "string_too_long": f"is too long: at most {limits.get('max_length')} characters",
        "greater_than_equal": f"must be at least {limits.get('ge')}",
        "less_than_equal": f"must be at most {limits.get('le')}",
        "int_type": "must be a whole number",
        "int_parsing": "must be a whole number",
        "int_from_float": "must be a whole number",
        "model_attributes_type": "must be a JSON object, sent with Content-Type: application/json",
    }
    return sentences.get(found["type"], found["msg"])


class LocalService:
    """A service in this process, on a free port of this machine only: for notebooks and tests."""

    def __init__(self, app: FastAPI) -> None:
        import uvicorn

        self._server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
        self._thread = Thread(target=self._server.run, daemon=True)
        self.address = ""

    @property
    def running(self) -> bool:
        """Say whether it still answers."""
        return self._thread.is_alive()

    def start(self, seconds: float = 30) -> None:
        """Start and wait until it answers. Raises WriterError where it does not within `seconds`."""
        self._thread.start()
        deadline = time.monotonic() + seconds
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise WriterError("the service did not start on this machine")
            time.sleep(0.05)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"

    def stop(self, seconds: float = 10) -> None:
        """Stop it and wait until it is gone."""
        self._server.should_exit = True
        self._thread.join(timeout=seconds)
