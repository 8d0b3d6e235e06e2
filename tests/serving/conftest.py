"""A service in this process over engines that only pretend (tests/serving/fakes.py)."""

import threading
from typing import Any

import httpx
import pytest

from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.ship.api import create_app
from lekhai_helpers.ship.engines import Engine
from lekhai_helpers.ship.limits import Limits, Security
from lekhai_helpers.ship.serving import LocalService
from lekhai_helpers.ship.store import ScriptStore
from lekhai_helpers.ship.switchboard import Switchboard
from tests.serving.fakes import Bench, FakeEngine, World, write_gguf


@pytest.fixture
def world():
    made = World()
    thread = threading.Thread(target=made.loop.run_forever, daemon=True)
    thread.start()
    yield made
    for engine in made.open():
        engine.close()
    made.loop.call_soon_threadsafe(made.loop.stop)
    thread.join(timeout=10)
    made.loop.close()


@pytest.fixture
def models(tmp_path):
    """A folder with three files that may be swapped for each other."""
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("one", "two", "three"):
        write_gguf(folder / f"{name}.gguf")
    return folder


@pytest.fixture
def start(world, models, tmp_path):
    """Return a function that starts a service: ``bench = start({"serving.slots": 1})``."""
    running: list[tuple[LocalService, httpx.Client, Any]] = []

    def begin(
        overrides: dict[str, Any] | None = None,
        store: Any = None,
        security: Security | None = None,
        engine: Engine | None = None,
        recipe: str = "lekhai",
    ) -> Bench:
        settings = resolve(recipe, "smoke", {"serving.check": "unaided"} | (overrides or {}))
        board = Switchboard(engine or FakeEngine(world, models / "one.gguf"), Limits.of(settings.serving))
        store = store or ScriptStore(f"sqlite:///{tmp_path / 'scripts.db'}")
        app = create_app(board, store, settings, security or Security("", "admin-token", (models,)))
        service = LocalService(app)
        service.start()
        client = httpx.Client(base_url=service.address, timeout=60)
        running.append((service, client, store))
        return Bench(client, board, store, world, models, app)

    yield begin
    for service, client, store in running:
        client.close()
        service.stop()
        store.close()


@pytest.fixture
def bench(start):
    return start()
