"""A stand-in for the service that the page talks to: the same JSON, answers written beforehand, faults on demand.

For the page's tests only. It holds its scripts in a list; the real service, store and model have tests of their own.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response, StreamingResponse

from lekhai_helpers.prepare.contracts.ad_script import check, parse_ad_script
from lekhai_helpers.ship.page import add_page

INDUSTRIES = [
    "রং ও গৃহসজ্জা (Paint & Home)",
    "পার্সোনাল কেয়ার (Personal Care)",
    "পানীয় ও চা (Beverage & Tea)",
    "মোবাইল ব্যাংকিং (Mobile Financial Services)",
    "গাড়ি ও বাইক (Automobile & Two-Wheeler)",
    "ই-কমার্স ও ডেলিভারি (E-commerce & Delivery)",
    "জনসচেতনতা (Public Awareness)",
]
TONES = ["প্রাণবন্ত (Lively)", "হাস্যরস (Humorous)", "উষ্ণ পারিবারিক (Warm family)", "আবেগঘন (Emotional)", "শান্ত (Calm)"]
CHOICES = {
    "form": "ad_script",
    "title": "LekhAI",
    "language": "bn",
    "unit": "script",
    "one": "a valid table",
    "rule": "",
    "group": "industry",
    "examples": [],
    "industries": INDUSTRIES,
    "tones": TONES,
    "duration_seconds": {"least": 10, "most": 90, "usual": 30},
}
# What a service for messages says of itself, and an answer that its contract shows as a table.
PROMPT_CHOICES = {
    "form": "prompt",
    "title": "A tutor for ten school subjects",
    "language": "en",
    "unit": "answer",
    "one": "an answer of the right form",
    "rule": "A learning path is a JSON list.",
    "group": "subject",
    "examples": ["Explain what a fraction is."],
    "industries": [],
    "tones": [],
    "duration_seconds": {"least": 10, "most": 90, "usual": 30},
}
PATH = '[{"level": 1, "title": "Halves"}, {"level": 2, "title": "Quarters"}]'
PATH_TABLE = {"columns": ["level", "title"], "rows": [["1", "Halves"], ["2", "Quarters"]]}
SCRIPT = """| Visual | Audio |
|---|---|
| ওয়াইড শট: বগুড়ার রিকশা গ্যারেজ, কালচে দেয়াল, এক কোণে রঙের টিন। | SFX: রিকশার ঘণ্টার তাল। ভিও: পুরোনো দেয়ালেরও একটা গল্প আছে। |
| ক্লোজ-আপ: মায়ের হাতে নীল রঙের ব্রাশ, ছেলেটা পাশে দাঁড়িয়ে দেখে। | মা: এই রংটা তোর বাবার খুব পছন্দ ছিল। |
| মিড শট: বৃষ্টি নামে, সবাই বারান্দায়; দেয়াল ভেজে, রং থাকে। | SFX: টিনের চালে বৃষ্টি। ছেলে: মা, রং তো ওঠে না! |
| টপ শট: নীল-হলুদ দেয়ালের সামনে পুরো পাড়া জড়ো হয়। | আবহসংগীত: হারমোনিয়াম, ধীরে বাড়ে। |
| ট্র্যাকিং শট: ছেলেটা দেয়াল ছুঁয়ে দৌড়ায়, হাতে রং লাগে না। | ভিও: বর্ষা আসে, বর্ষা যায়। |
| প্যাক শট: ঝিলমাটির টিন, পেছনে উজ্জ্বল দেয়াল। | ভিও: ঝিলমাটি। রং থাকে, গল্পও থাকে। |"""
EVIL = "<img src=x onerror=alert(1)>"


@dataclass
class Behaviour:
    """What goes wrong, set by a test: everything is well by default."""

    choices: dict[str, Any] = field(default_factory=lambda: CHOICES)
    table: dict[str, Any] | None = None
    engine_down: bool = False
    busy_times: int = 0  # so many requests get 429
    wait: int = 1  # what Retry-After says, in seconds
    key: str = ""
    refuse_field: str = ""  # this field gets 422
    cut: bool = False  # the stream ends in the middle
    store_down: bool = False
    pace: float = 0.02  # seconds between two pieces of the stream
    markdown: str = SCRIPT
    scripts: list[dict[str, Any]] = field(default_factory=list)
    written: int = 0
    cancelled: int = 0  # streams the client left
    headers: list[str] = field(default_factory=list)  # every Authorization header seen


def problem(status: int, detail: str, errors: list[dict[str, str]] | None = None, headers=None) -> JSONResponse:
    body = {"type": "about:blank", "title": "Refused", "status": status, "detail": detail, "errors": errors or []}
    return JSONResponse(body, status, headers=headers, media_type="application/problem+json")


def make_app(state: Behaviour, origins: tuple[str, ...] = ()) -> FastAPI:
    """Return the stand-in; `state` may be changed while it runs."""
    app = FastAPI()
    add_page(app)

    @app.middleware("http")
    async def guard(request: Request, go_on):
        given = request.headers.get("authorization", "")
        state.headers.append(given)
        asked = state.key and request.url.path.startswith("/v1/") and request.method != "OPTIONS"
        return problem(401, "a key is needed") if asked and given != f"Bearer {state.key}" else await go_on(request)

    if origins:  # around the guard, so that the page may read a refusal as well
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After"],
        )

    @app.get("/health")
    def health() -> JSONResponse:
        status = "engine down" if state.engine_down else "ok"
        body = {"status": status, "model": "lekhai-q8_0.gguf@3f2a9c1d", "in_flight": 0, "waiting": 0}
        return JSONResponse(body, 503 if state.engine_down else 200)

    @app.get("/v1/choices")
    def choices() -> dict[str, Any]:
        return state.choices

    @app.post("/v1/scripts")
    async def write(request: Request) -> Response:
        brief = await request.json()
        refused = refusal(state)
        if refused is not None:
            return refused
        assert brief.pop("stream") is True
        return StreamingResponse(stream(state, brief), media_type="text/event-stream")

    @app.get("/v1/scripts")
    def history(query: str = "", industry: str = "", limit: int = 20, before: str = "") -> Any:
        if state.store_down:
            return problem(503, "what was kept cannot be reached now")
        return page_of(state.scripts, query, industry, limit, before)

    @app.get("/v1/scripts/{name}")
    def one(name: str) -> Response:
        found = find(state, name)
        return JSONResponse(found) if found else problem(404, "there is no such script")

    @app.get("/v1/scripts/{name}/{ending}")
    def document(name: str, ending: str) -> Response:
        found = find(state, name)
        if found is None:
            return problem(404, "there is no such script")
        return Response(as_file(found, ending), media_type="application/octet-stream")

    return app


def refusal(state: Behaviour) -> JSONResponse | None:
    if state.engine_down:
        return problem(503, "the engine is down; it is being started again")
    if state.busy_times > 0:
        state.busy_times -= 1
        return problem(429, "the queue is full", headers={"Retry-After": str(state.wait)})
    if state.refuse_field:
        return problem(422, "no", [{"field": state.refuse_field, "problem": "is too long: at most 80 characters"}])
    return None


async def stream(state: Behaviour, brief: dict[str, Any]) -> AsyncIterator[str]:
    """Yield the script piece by piece, as the real service does, and the whole answer at the end."""
    left = True
    try:
        for start in range(0, len(state.markdown), 24):
            yield event("delta", {"text": state.markdown[start : start + 24]})
            await asyncio.sleep(state.pace)
            if state.cut and start > 100:
                break
        else:
            yield event("done", answer(state, brief))
        left = False
    finally:
        state.cancelled += left


def event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def answer(state: Behaviour, brief: dict[str, Any]) -> dict[str, Any]:
    if state.choices["form"] == "prompt":
        return prompt_answer(state, brief)
    verdict = check(state.markdown, brief["duration_seconds"])
    state.written += 1
    kept = add_script(state, brief, state.markdown, verdict.ok, verdict.problems) if not state.store_down else None
    rows = [{"visual": visual, "audio": audio} for visual, audio in parse_ad_script(state.markdown)[0].rows]
    return {
        "markdown": state.markdown,
        "rows": rows,
        "contract": {"ok": verdict.ok, "problems": verdict.problems, "facts": verdict.facts},
        "model": "lekhai-q8_0.gguf@3f2a9c1d",
        "seconds": 4.21,
        "id": kept["id"] if kept else None,
        "created_at": kept["created_at"] if kept else None,
    }


def prompt_answer(state: Behaviour, brief: dict[str, Any]) -> dict[str, Any]:
    assert set(brief) == {"message"}, "a message is all that such a service takes"
    kept = add_script(state, brief, state.markdown) | {"rows": [], "table": state.table}
    state.scripts[0] = kept
    good = {"ok": "?" not in state.markdown, "problems": ["it asks back"] if "?" in state.markdown else [], "facts": {}}
    named = ("markdown", "rows", "table", "model", "seconds", "id", "created_at")
    return {name: kept[name] for name in named} | {"contract": good}


def add_script(state: Behaviour, brief: dict, markdown: str, valid: bool = True, problems=()) -> dict[str, Any]:
    """Put one script into the history, newest first."""
    number = len(state.scripts) + 1
    stored = {
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "created_at": f"2026-01-05T09:{number % 60:02d}:00Z",
        "request": brief,
        "markdown": markdown,
        "valid": valid,
        "problems": list(problems),
        "model": "lekhai-q8_0.gguf@3f2a9c1d",
        "seconds": 4.21,
    }
    state.scripts.insert(0, stored)
    return stored


def page_of(scripts: list[dict], query: str, industry: str, limit: int, before: str) -> dict[str, Any]:
    found = [s for s in scripts if query.lower() in json.dumps(s, ensure_ascii=False).lower()]
    found = [s for s in found if industry in ("", s["request"].get("industry", ""))]
    ids = [s["id"] for s in found]
    start = ids.index(before) + 1 if before else 0
    page = found[start : start + limit]
    return {"scripts": page, "next": page[-1]["id"] if len(found) > start + limit else None}


def find(state: Behaviour, name: str) -> dict[str, Any] | None:
    return next((script for script in state.scripts if script["id"] == name), None)


def as_file(script: dict[str, Any], ending: str) -> bytes:
    if ending == "docx":
        return b"PK a stand-in for a Word file"
    lines = io.StringIO()
    csv.writer(lines).writerows([("Visual", "Audio"), *parse_ad_script(script["markdown"])[0].rows])
    return lines.getvalue().encode("utf-8-sig")


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serve the app on a free port of this machine and return its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline, "the stand-in did not start"
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(timeout=20)
