"""The service in this process, for notebooks and tests: ``LocalService(create_app(...))``. Taught in notebook 09."""

from __future__ import annotations

import time
from threading import Thread

from fastapi import FastAPI

from lekhai_helpers.ship.api import create_app
from lekhai_helpers.ship.api_models import PromptRequest, ScriptRequest
from lekhai_helpers.ship.forms import form_of
from lekhai_helpers.ship.limits import KEEP_ALIVE

__all__ = ["LocalService", "PromptRequest", "ScriptRequest", "ServiceError", "create_app", "form_of"]


class ServiceError(RuntimeError):
    """The service did not start; the text says what to do."""


class LocalService:
    """A service in this process, on a free port of this machine only."""

    def __init__(self, app: FastAPI) -> None:
        import uvicorn

        config = uvicorn.Config(
            app,
            host="127.0.0.1",
            port=0,
            log_level="warning",
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=5,
        )
        self._server = uvicorn.Server(config)
        self._thread = Thread(target=self._server.run, daemon=True)
        self.address = ""

    @property
    def running(self) -> bool:
        """Say whether it still answers."""
        return self._thread.is_alive()

    def start(self, seconds: float = 30) -> None:
        """Start and wait until it answers. Raises ServiceError where it does not within `seconds`."""
        self._thread.start()
        deadline = time.monotonic() + seconds
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise ServiceError("the service did not start on this machine")
            time.sleep(0.05)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"

    def stop(self, seconds: float = 10) -> None:
        """Stop it and wait until it is gone. Its engine and its store are closed by whoever made them."""
        self._server.should_exit = True
        self._thread.join(timeout=seconds)
