"""Figures for a monitoring system, in Prometheus's format, at ``GET /metrics``. No text of anybody's is in them."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lekhai_helpers.ship.switchboard import Switchboard

_SECONDS = (0.5, 1, 2, 5, 10, 20, 40, 60, 120, 300)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Metrics:
    """The service's counters, in a registry of its own: two services in one process do not mix."""

    def __init__(self, board: Switchboard) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("lekhai_requests", "answers", ["method", "route", "status"], registry=self.registry)
        self.tokens = Counter("lekhai_tokens", "tokens of answers, as the engine counts them", registry=self.registry)
        self.scripts = Counter("lekhai_scripts", "answers written", ["valid", "kept"], registry=self.registry)
        self.seconds = Histogram("lekhai_script_seconds", "time to write one", buckets=_SECONDS, registry=self.registry)
        told = "time to its first text"
        self.first = Histogram("lekhai_first_text_seconds", told, buckets=_SECONDS, registry=self.registry)
        self.left = Counter("lekhai_clients_left", "requests whose client went away", registry=self.registry)
        self.reloads = Counter("lekhai_reloads", "attempts to change the model", ["result"], registry=self.registry)
        self.registry.register(_BoardFigures(board))

    def text(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self.registry)


class _BoardFigures:
    """Read when they are asked for, so that they cannot be out of date."""

    def __init__(self, board: Switchboard) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        board = self._board
        yield GaugeMetricFamily("lekhai_in_flight", "requests with the model", board.in_flight)
        yield GaugeMetricFamily("lekhai_waiting", "requests waiting for a turn", board.waiting)
        yield GaugeMetricFamily("lekhai_engine_up", "1 while the engine runs", int(board.engine.alive()))
        yield GaugeMetricFamily("lekhai_engine_restarts", "restarts after a crash", board.restarts)
        memory = board.engine.memory_mb()
        if memory is not None:
            yield GaugeMetricFamily("lekhai_engine_memory_bytes", "memory the engine holds", memory * 1e6)


class Counting:
    """Counts every answer by its route (never by its address, which is anybody's to make up)."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status = 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _with_no_sniffing(list(message["headers"]))
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            # A caller may make up methods as well, and each would be a figure for ever.
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(method, route, str(status)).inc()


def _with_no_sniffing(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Tell a browser to take every answer for what it is called; the page says so itself."""
    said = any(name == b"x-content-type-options" for name, _ in headers)
    return headers if said else [*headers, (b"x-content-type-options", b"nosniff")]


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has run, to a thousandth."""
        return round(time.monotonic() - self._began, 3)
