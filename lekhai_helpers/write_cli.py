"""``lekhai write`` and ``lekhai chat``: the model in a terminal. Everything heavy is imported inside the verbs.

They ask an engine of their own with the same words, grammar and decoding as the service does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lekhai_helpers.served_model import Gguf, RunLabel, ServeError, load_engine, served_model

if TYPE_CHECKING:
    from lekhai_helpers.core.recipe import Settings
    from lekhai_helpers.ship.engines import Engine
    from lekhai_helpers.ship.writing import Order

write_app = typer.Typer()
END = "/end"


@write_app.command()
def write(
    message: Annotated[str, typer.Argument(help="What the advertisement should say, in Bengali or English.")],
    industry: Annotated[str, typer.Option(help="The client's trade.")] = "",
    tone: Annotated[str, typer.Option(help="For example emotional, funny, formal.")] = "",
    duration: Annotated[int, typer.Option(min=10, max=90, help="Length of the film, in seconds.")] = 30,
    brand: Annotated[str, typer.Option(help="The brand's name.")] = "",
    product: Annotated[str, typer.Option(help="What is advertised.")] = "",
    seed: Annotated[int | None, typer.Option(min=0, help="The same number writes the same script.")] = None,
    label: RunLabel = None,
    gguf: Gguf = None,
) -> None:
    """Write one ad script with the model that the newest run made. Exit code 1 where it is not a valid table."""
    from lekhai_helpers.prepare.contracts import get_contract

    settings, _, file = served_model(label, gguf, [])
    order = _order(message, industry, tone, duration, brand, product, settings)
    with contextlib.closing(load_engine(file, settings, slots=1)) as engine:
        text = asyncio.run(_say_answer(engine, order, settings, seed))
    check: Any = get_contract(settings.data.contract)
    verdict = check(text)
    if not verdict.ok:
        typer.echo("Not a valid script: " + "; ".join(verdict.problems), err=True)
        raise typer.Exit(1)
    if unfit := check(text, duration).problems:
        typer.echo("Note: " + "; ".join(unfit), err=True)


@write_app.command()
def chat(label: RunLabel = None, gguf: Gguf = None) -> None:
    """Talk with the model that the newest run made, as it is: no grammar. An empty line or /end stops."""
    from lekhai_helpers.ship.writing import Order

    settings, _, file = served_model(label, gguf, [])
    with contextlib.closing(load_engine(file, settings, slots=1)) as engine:
        typer.echo(f"{engine.info.name} listens; {END} stops.", err=True)
        talk = [{"role": "system", "content": settings.system_prompt}]
        for said in _lines():
            talk.append({"role": "user", "content": said})
            talk = talk[:1] + _newest(talk[1:], settings.model.max_seq_length - settings.decoding.max_new_tokens)
            text = asyncio.run(_say_answer(engine, Order(talk, ""), settings, None))
            talk.append({"role": "assistant", "content": text})


# --- within


def _order(message: str, industry: str, tone: str, seconds: int, brand: str, product: str, settings: Settings) -> Order:
    """Return the brief as the service words it; without brand and product, the message says it all."""
    from pydantic import ValidationError

    from lekhai_helpers.ship.api_models import ScriptRequest
    from lekhai_helpers.ship.writing import order_for, order_from

    if brand and product:
        fields = {"message": message, "industry": industry, "tone": tone, "brand": brand, "product": product}
        try:
            return order_for(ScriptRequest.model_validate(fields | {"duration_seconds": seconds}), settings)
        except ValidationError as error:
            raise ServeError("; ".join(f"--{found['loc'][0]}: {found['msg']}" for found in error.errors())) from None
    wishes = [f"খাত: {industry}।" if industry else "", f"টোন: {tone}।" if tone else "", f"দৈর্ঘ্য: {seconds} সেকেন্ড।"]
    prompt = " ".join(part for part in (message, *wishes) if part)
    return order_from(prompt, settings, f"{brand} {product}")


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
