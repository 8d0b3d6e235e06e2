"""``lekhai write`` and ``lekhai chat``: the model in a terminal. Everything heavy is imported inside the verbs.

They ask an engine of their own with the same words, grammar and decoding as the service does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lekhai_helpers.served_model import Gguf, Recipe, RunLabel, ServeError, load_engine, served_model

if TYPE_CHECKING:
    from lekhai_helpers.core.recipe import Settings
    from lekhai_helpers.ship.engines import Engine
    from lekhai_helpers.ship.writing import Order

write_app = typer.Typer()
END = "/end"


@write_app.command()
def write(
    message: Annotated[str, typer.Argument(help="What is to be written, or what the advertisement should say.")],
    industry: Annotated[str, typer.Option(help="Ad scripts: the client's trade.")] = "",
    tone: Annotated[str, typer.Option(help="For example emotional, funny, formal.")] = "",
    duration: Annotated[
        int | None, typer.Option(min=10, max=90, help="Ad scripts: length of the film, in seconds (30).")
    ] = None,
    brand: Annotated[str, typer.Option(help="Ad scripts: the brand's name.")] = "",
    product: Annotated[str, typer.Option(help="Ad scripts: what is advertised.")] = "",
    seed: Annotated[int | None, typer.Option(min=0, help="The same number writes the same text.")] = None,
    label: RunLabel = None,
    gguf: Gguf = None,
    recipe: Recipe = None,
) -> None:
    """Have one text written by the model that the newest run made. Exit code 1 where it breaks its contract."""
    from lekhai_helpers.prepare.contracts import get_contract

    settings, _, file = served_model(label, gguf, [], recipe=recipe)
    wishes = {"industry": industry, "tone": tone, "duration_seconds": duration, "brand": brand, "product": product}
    given = {name: wish for name, wish in wishes.items() if wish}
    order, expected = _ORDERS[settings.serving.form](message, given, settings)
    with contextlib.closing(load_engine(file, settings, slots=1)) as engine:
        text = asyncio.run(_say_answer(engine, order, settings, seed))
    check: Any = get_contract(settings.data.contract)
    verdict = check(text)
    if not verdict.ok:
        typer.echo(f"Not a valid {settings.data.unit}: " + "; ".join(verdict.problems), err=True)
        raise typer.Exit(1)
    if unfit := check(text, expected).problems:
        typer.echo("Note: " + "; ".join(unfit), err=True)


@write_app.command()
def chat(label: RunLabel = None, gguf: Gguf = None, recipe: Recipe = None) -> None:
    """Talk with the model that the newest run made, as it is: no grammar. An empty line or /end stops.

    A model that has learned to call a tool has its calls made, and answers from the replies.
    """
    settings, _, file = served_model(label, gguf, [], recipe=recipe)
    with contextlib.closing(load_engine(file, settings, slots=1)) as engine:
        typer.echo(f"{engine.info.name} listens; {END} stops.", err=True)
        talk = [{"role": "system", "content": settings.system_prompt}]
        for said in _lines():
            talk.append({"role": "user", "content": said})
            talk = talk[:1] + _newest(talk[1:], settings.model.max_seq_length - settings.decoding.max_new_tokens)
            talk = _answered(engine, talk, settings)


# --- within


def _answered(engine: Engine, talk: list[dict[str, str]], settings: Settings) -> list[dict[str, str]]:
    """Let the model answer, make the calls it asks for, and return the longer conversation."""
    from lekhai_helpers.prepare.contracts import get_contract
    from lekhai_helpers.ship.tool_loop import converse
    from lekhai_helpers.ship.writing import Order

    def ask(messages: list[dict[str, str]]) -> str:
        if len(messages) > len(talk):  # a tool's reply came
            typer.echo(messages[-1]["content"], err=True)
        return asyncio.run(_say_answer(engine, Order(messages, ""), settings, None))

    return [*talk, *converse(ask, talk, get_contract(settings.data.contract).tools)]


def _ad_order(message: str, given: dict[str, Any], settings: Settings) -> tuple[Order, Any]:
    """Return the brief as the service words it, and its seconds; without brand and product, the message says it all."""
    from lekhai_helpers.ship.api_models import ScriptRequest
    from lekhai_helpers.ship.writing import order_for, order_from

    wishes = {"duration_seconds": settings.serving.usual_seconds} | given
    if "brand" in given and "product" in given:
        return order_for(_checked(ScriptRequest, wishes | {"message": message}), settings), wishes["duration_seconds"]
    told = (("খাত", "industry", ""), ("টোন", "tone", ""), ("দৈর্ঘ্য", "duration_seconds", " সেকেন্ড"))
    said = [f"{word}: {wishes[name]}{after}।" for word, name, after in told if name in wishes]
    names = f"{given.get('brand', '')} {given.get('product', '')}"
    return order_from(" ".join([message, *said]).strip(), settings, names), wishes["duration_seconds"]


def _prompt_order(message: str, given: dict[str, Any], settings: Settings) -> tuple[Order, Any]:
    """Return the message as the service words it. Raises ServeError for a wish that only an ad script has."""
    from lekhai_helpers.ship.api_models import PromptRequest
    from lekhai_helpers.ship.writing import order_for

    foreign = [name.removesuffix("_seconds") for name in given if name not in PromptRequest.model_fields]
    if foreign:
        options = ", ".join(f"--{name}" for name in foreign)
        raise ServeError(f"{options}: only for ad scripts; {settings.recipe} is asked with a message, and --tone")
    return order_for(_checked(PromptRequest, given | {"message": message}), settings), None


_ORDERS = {"ad_script": _ad_order, "prompt": _prompt_order}


def _checked(model: Any, fields: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise ServeError("; ".join(f"--{found['loc'][0]}: {found['msg']}" for found in error.errors())) from None


async def _say_answer(engine: Engine, order: Order, settings: Settings, seed: int | None) -> str:
    """Print the answer as it is written and return it. Raises ServeError where the engine does not answer."""
    text = ""
    async for part in _answer(engine, order, settings, seed):
        typer.echo(part, nl=False)
        text += part
    typer.echo()
    return text


async def _answer(engine: Engine, order: Order, settings: Settings, seed: int | None) -> AsyncIterator[str]:
    import secrets

    from lekhai_helpers.ship.problems import Refusal
    from lekhai_helpers.ship.writing import chat_body, deltas, new_client

    chosen = secrets.randbelow(2**31) if seed is None else seed
    async with new_client() as client:
        try:
            async for part in deltas(client, engine, chat_body(engine, order, settings.decoding, chosen)):
                yield part
        except Refusal as refusal:
            raise ServeError(refusal.detail) from None


def _lines() -> Iterator[str]:
    """Yield what is typed, line by line, until there is no more."""
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            return
        if line in ("", END):
            return
        yield line


def _newest(talk: list[dict[str, str]], room: int) -> list[dict[str, str]]:
    """Return the end of a conversation that fits; the last turn always stays. A token is taken to be two characters."""
    while len(talk) > 1 and sum(len(turn["content"]) for turn in talk) > 2 * room:
        talk = talk[2:]
    return talk
