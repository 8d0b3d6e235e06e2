"""``lekhai serve`` and ``lekhai reload``: the service. Everything heavy is imported inside the verbs. Notebook 09."""

from __future__ import annotations

import math
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lekhai_helpers.served_model import Gguf, Recipe, RunLabel, ServeError, load_engine, served_model

if TYPE_CHECKING:
    from lekhai_helpers.core.recipe import Settings
    from lekhai_helpers.ship.engines import Engine

serve_app = typer.Typer()

Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one serving.* setting.")]
DATABASE = "LEKHAI_DATABASE_URL"


@serve_app.command()
def serve(
    label: RunLabel = None,
    gguf: Gguf = None,
    engine: Annotated[str, typer.Option(help="An OpenAI-compatible address that writes instead.")] = "",
    model: Annotated[str, typer.Option(help="With --engine: the model's name there.")] = "lekhai",
    grammar: Annotated[
        Literal["none", "gbnf", "vllm"],
        typer.Option(help="With --engine: how it takes a recipe's grammar; gbnf is llama-server, vllm is vLLM."),
    ] = "none",
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines in: set LEKHAI_API_KEY then.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    recipe: Recipe = None,
    overrides: Set = None,
) -> None:
    """Serve page and API. Keys and the database's address come from LEKHAI_API_KEY, LEKHAI_ADMIN_TOKEN,
    LEKHAI_ENGINE_KEY and LEKHAI_DATABASE_URL; LEKHAI_MODELS names more folders for `lekhai reload`."""
    from lekhai_helpers.ship.engines import remote_engine
    from lekhai_helpers.ship.limits import Security

    if gguf and engine:
        raise typer.BadParameter("either --gguf or --engine: one of them writes")
    settings, folder, file = served_model(label, gguf, overrides or [], bool(engine), recipe)
    security = Security.from_environment([folder] if folder else [])
    if host not in ("127.0.0.1", "::1", "localhost") and not security.api_key:
        typer.echo("Warning: other machines can ask, and no LEKHAI_API_KEY is set: anyone may write here.", err=True)
    with _bind(host, port) as door:
        if engine or file is None:
            _serve(remote_engine(engine, model, grammar), settings, security, door)
        else:
            _serve(load_engine(file, settings, settings.serving.slots), settings, security, door)


@serve_app.command()
def reload(
    file: Annotated[Path, typer.Argument(help="The GGUF file that is to answer from now on.")],
    service: Annotated[str, typer.Option(help="Where the service runs, on this machine.")] = "http://127.0.0.1:8000",
) -> None:
    """Change the model of a running service without a gap. Needs the LEKHAI_ADMIN_TOKEN that it was started with."""
    import httpx

    from lekhai_helpers.ship.limits import ADMIN_TOKEN, on_this_machine

    if not on_this_machine(service):
        raise ServeError(f"{service} is not on this machine: a model is changed there, and the token goes nowhere else")
    token = os.environ.get(ADMIN_TOKEN, "")
    if not token:
        raise ServeError(f"set {ADMIN_TOKEN} to what the service was started with")
    asked = {"path": str(file.resolve() if file.exists() else file)}
    try:
        answer = httpx.post(
            f"{service.rstrip('/')}/admin/reload-model",
            json=asked,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(None, connect=10),
            trust_env=False,
        )
    except httpx.TransportError as error:
        raise ServeError(
            f"no service answered at {service} ({type(error).__name__}): `lekhai serve` starts it"
        ) from None
    said = _json(answer)
    if answer.status_code != 200:
        raise ServeError(f"{said.get('title', answer.status_code)}: {said.get('detail', 'no reason was given')}")
    memory = "" if said["memory_mb"] is None else f", {said['memory_mb']:.0f} MB"
    typer.echo(f"{said['model']} answers now (before: {said['previous']}); {said['seconds']:.1f} s{memory}")


# --- within


def _bind(host: str, port: int) -> socket.socket:
    """Take the port before a model is loaded; nobody is let in until the service listens. Raises ServeError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = min(found, key=lambda place: place[0] != socket.AF_INET)
        door = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ServeError(f"{host} is no address of this machine ({error.strerror}): correct --host") from None
    try:
        if os.name == "posix":  # else the port stays taken for a minute after the last service
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(address)
    except OSError as error:
        door.close()
        raise ServeError(f"{host}:{port} cannot be taken ({error.strerror}): give another with --port") from None
    return door


def _serve(first: Engine, settings: Settings, security: Any, door: socket.socket) -> None:
    import contextlib
    import logging

    import uvicorn

    from lekhai_helpers.ship.api import create_app
    from lekhai_helpers.ship.limits import KEEP_ALIVE, Limits
    from lekhai_helpers.ship.store import ScriptStore
    from lekhai_helpers.ship.switchboard import Switchboard

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    board = Switchboard(first, Limits.of(settings.serving))
    try:
        with ScriptStore(os.environ.get(DATABASE) or None, settings.serving.history) as store:
            app = create_app(board, store, settings, security)
            # No access log: addresses hold what people search for. No proxy headers: they decide who is local.
            config = uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=math.ceil(settings.serving.write_seconds),
            )
            typer.echo(f"{first.info.name} answers at {_address(door)} (the page is there, too). Ctrl+C stops it.")
            with contextlib.suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[door])
    finally:
        board.engine.close()  # after a swap it is not the first any more


def _address(door: socket.socket) -> str:
    host, port = door.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _json(answer: Any) -> dict[str, Any]:
    try:
        return answer.json()
    except ValueError:
        return {}
