"""What goes in and out of the service, as checked models: they are its OpenAPI description too. Taught in notebook 09.

What the client writes becomes the text of a prompt and nothing else: no path, no command, no query.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from lekhai_helpers.core.bengali import normalize


def _one_line(text: str) -> str:
    return " ".join(normalize(text).split())


def _named(text: str) -> str:
    if not text:  # what was there cannot be seen: U+200B and its like
        raise PydanticCustomError("string_too_short", "must not be empty")
    return text


Line = Annotated[str, AfterValidator(_one_line)]
Name = Annotated[Line, AfterValidator(_named)]
Text = Annotated[str, AfterValidator(normalize)]
Said = Annotated[Text, AfterValidator(_named)]


class ScriptRequest(BaseModel):
    """What an agency asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    industry: Line = Field(default="", max_length=80, examples=["রং ও গৃহসজ্জা (Paint & Home)"])
    tone: Line = Field(default="", max_length=80, examples=["উষ্ণ পারিবারিক (Warm family)"])
    brand: Name = Field(min_length=1, max_length=80, pattern=r"\S", examples=["ঝিলমাটি"])
    product: Name = Field(min_length=1, max_length=120, pattern=r"\S", examples=["দেয়ালের রং"])
    duration_seconds: int = Field(default=30, ge=10, le=90, description="length of the film in seconds")
    message: Text = Field(default="", max_length=1000, description="what the film should say")
    stream: bool = Field(default=False, description="true: the text comes piece by piece, as Server-Sent Events")


class PromptRequest(BaseModel):
    """What anybody asks for in their own words: the message is what the model is asked with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    message: Said = Field(min_length=1, max_length=8000, pattern=r"\S", examples=["Explain what a fraction is."])
    industry: Line = Field(default="", max_length=80, description="kept with the answer; the history is filtered by it")
    tone: Line = Field(default="", max_length=80, description="the manner of the answer, said to the model")
    stream: bool = Field(default=False, description="true: the text comes piece by piece, as Server-Sent Events")


class Row(BaseModel):
    """One shot: what is seen and what is heard."""

    visual: str
    audio: str


class Table(BaseModel):
    """An answer that its contract shows as a table."""

    columns: list[str]
    rows: list[list[str]]


class ContractVerdict(BaseModel):
    """What code found: does the answer keep the recipe's contract? `facts` are what was counted on the way."""

    ok: bool
    problems: list[str]
    facts: dict[str, Any]


class ScriptResponse(BaseModel):
    """What the model wrote, with the verdict and what it took.

    `rows` are the shots of an ad script, `table` is any other answer that is shown as a table; else both are empty.
    With an `id` it is kept, on disk. Without one it could not be, and `warning` says so: this is then the only copy.
    """

    id: str | None
    created_at: datetime | None
    markdown: str
    rows: list[Row]
    table: Table | None = None
    contract: ContractVerdict
    model: str
    seconds: float
    warning: str = ""


class KeptScript(BaseModel):
    """A script that was kept: what was asked for, what came, who wrote it and when (UTC)."""

    id: str
    created_at: datetime
    request: dict[str, Any]
    markdown: str
    rows: list[Row]
    table: Table | None = None
    valid: bool
    problems: list[str]
    model: str
    seconds: float


class ScriptPage(BaseModel):
    """Kept scripts, newest first; `next` is what to give as `before` for the page after, null on the last."""

    scripts: list[KeptScript]
    next: str | None


class Durations(BaseModel):
    """The lengths a film may have, in seconds."""

    least: int
    most: int
    usual: int


class Choices(BaseModel):
    """What the page asks for, what its sliders step through, and the words it speaks with.

    `form` "prompt": one message. `unit` is what one answer is called, `one` what a sound one is called, `rule` what
    makes it sound, `group` what `industry` is called; `examples` are messages that it can answer.
    """

    form: Literal["ad_script", "prompt"]
    title: str
    language: str
    unit: str
    one: str
    rule: str
    group: str
    examples: list[str]
    industries: list[str]
    tones: list[str]
    duration_seconds: Durations


class Health(BaseModel):
    """Is it open? `in_flight` requests are with the model, `waiting` in front of it."""

    status: Literal["ok", "starting", "engine down"]
    model: str
    in_flight: int
    waiting: int


class ReloadRequest(BaseModel):
    """Which file is to answer from now on: a path, or the name of a file in one of the allowed folders."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(min_length=1, max_length=1000, examples=["lekhai-q8_0.gguf"])


class Reloaded(BaseModel):
    """Who answers now, who did before, how long the change took, and what the new engine holds in memory."""

    model: str
    previous: str
    seconds: float
    memory_mb: float | None


class ChatMessage(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=20_000)


class ResponseFormat(BaseModel):
    """Text, or any JSON. No schema: llama.cpp makes a grammar of it, and one that is written for it (`(a*)*(a*)*...`)
    keeps the engine busy for minutes, with everybody's answers waiting."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text", "json_object"]


class ChatRequest(BaseModel):
    """A conversation, as OpenAI's API has it. Only what is listed is passed on: an engine knows settings of its own,
    and some of them would undo the limits."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field("", max_length=200, description="taken and not used: the engine's own model answers")
    messages: list[ChatMessage] = Field(min_length=1, max_length=100)
    stream: bool = False
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    n: int = Field(1, ge=1, le=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=0, lt=2**31)
    stop: str | list[str] | None = Field(None, max_length=100)
    response_format: ResponseFormat | None = None
    stream_options: dict[str, bool] | None = None
    user: str | None = Field(None, max_length=200, description="taken and not used")
