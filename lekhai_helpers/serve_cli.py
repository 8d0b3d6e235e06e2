"""``lekhai serve`` and ``lekhai reload``: the service. Everything heavy is imported inside the verbs. Notebook 09."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lekhai_helpers.served_model import Gguf, RunLabel, ServeError, load_engine, served_model

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
        bool, typer.Option("--grammar", help="With --engine: it takes GBNF, as llama-server does.")
    ] = False,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines in: set LEKHAI_API_KEY then.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    overrides: Set = None,
) -> None:
    """Serve page and API. Keys and the database's address come from LEKHAI_API_KEY, LEKHAI_ADMIN_TOKEN,
    LEKHAI_ENGINE_KEY and LEKHAI_DATABASE_URL; LEKHAI_MODELS names more folders for `lekhai reload`."""
    from lekhai_helpers.ship.engines import remote_engine
    from lekhai_helpers.ship.limits import Security

    if gguf and engine:
        raise typer.BadParameter("either --gguf or --engine: one of them writes")
    settings, folder, file = served_model(label, gguf, overrides or [], remote=bool(engine))
    security = Security.from_environment([folder] if folder else [])
    if host not in ("127.0.0.1", "::1", "localhost") and not security.api_key:
        typer.echo("Warning: other machines can ask, and no LEKHAI_API_KEY is set: anyone may write here.", err=True)
    if engine or file is None:
        _serve(remote_engine(engine, model, "gbnf" if grammar else "none"), settings, security, host, port)
    else:
        _serve(load_engine(file, settings, settings.serving.slots), settings, security, host, port)


@serve_app.command()
def reload(
    file: Annotated[Path, typer.Argument(help="The GGUF file that is to answer from now on.")],
    service: Annotated[str, typer.Option(help="Where the service runs, on this machine.")] = "http://127.0.0.1:8000",
) -> None:
    """Change the model of a running service without a gap. Needs the LEKHAI_ADMIN_TOKEN that it was started with."""
    import httpx

    from lekhai_helpers.ship.limits import ADMIN_TOKEN

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


def _serve(first: Engine, settings: Settings, security: Any, host: str, port: int) -> None:
    import logging

    import uvicorn

    from lekhai_helpers.ship.api import create_app
    from lekhai_helpers.ship.limits import Limits
    from lekhai_helpers.ship.store import ScriptStore
    from lekhai_helpers.ship.switchboard import Switchboard

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    board = Switchboard(first, Limits.of(settings.serving))
    try:
        with ScriptStore(os.environ.get(DATABASE) or None) as store:
            app = create_app(board, store, settings, security)
            typer.echo(f"{first.info.name} answers at http://{host}:{port} (the page is there, too). Ctrl+C stops it.")
            # No access log: addresses hold what people search for. No proxy headers: they decide who is local.
            uvicorn.run(
                app,
                host=host,
                port=port,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                timeout_graceful_shutdown=int(settings.serving.write_seconds),
            )
    finally:
        board.engine.close()  # after a swap it is not the first any more


def _json(answer: Any) -> dict[str, Any]:
    try:
        return answer.json()
    except ValueError:
        return {}
