"""The service in this process (notebook 09): answers on a free port of this machine, and is gone when stopped."""

import threading

import httpx
import pytest
from fastapi import FastAPI

from lekhai_helpers.ship.serving import LocalService, ServiceError


@pytest.fixture
def service():
    local = LocalService(FastAPI())
    local.start()
    yield local
    local.stop()


def test_two_services_take_two_ports_of_this_machine_only(service):
    other = LocalService(FastAPI())
    other.start()
    assert other.address != service.address and other.address.startswith("http://127.0.0.1:")
    assert httpx.get(f"{other.address}/openapi.json").status_code == 200
    other.stop()


def test_a_stopped_service_is_gone(service):
    service.stop()
    assert not service.running
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{service.address}/health")


def test_a_service_that_does_not_start_says_so(monkeypatch):
    service = LocalService(FastAPI())
    monkeypatch.setattr(service._server, "run", lambda: None)
    service._thread = threading.Thread(target=lambda: None)
    with pytest.raises(ServiceError, match="did not start"):
        service.start()
