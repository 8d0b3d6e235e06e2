"""The service in this process (notebook 09): answers on a free port of this machine, and is gone when stopped."""

import threading

import httpx
import pytest

from lekhai_helpers.ship.serving import LocalService, WriterError, create_app

REQUEST = {"brand": "ঝিলমাটি", "product": "দেয়ালের রং"}


@pytest.fixture
def service():
    local = LocalService(create_app(lambda request: f"| {request.brand} | x |", "tiny"))
    local.start()
    yield local
    local.stop()


def test_it_answers_over_http_on_this_machine_only(service):
    assert service.address.startswith("http://127.0.0.1:")
    assert httpx.get(f"{service.address}/health").json() == {"status": "ok", "model": "tiny"}
    answer = httpx.post(f"{service.address}/v1/scripts", json=REQUEST).json()
    assert answer["markdown"] == "| ঝিলমাটি | x |"


def test_two_services_take_two_ports(service):
    other = LocalService(create_app(lambda request: "", "other"))
    other.start()
    assert other.address != service.address
    assert httpx.get(f"{other.address}/health").json()["model"] == "other"
    other.stop()


def test_several_requests_are_answered_at_once():
    """The page asks for three tones at a time; a writer that waits must not hold up the others."""
    together = threading.Barrier(3, timeout=10)

    def writer(request):
        together.wait()
        return request.brand

    service = LocalService(create_app(writer, "tiny"))
    service.start()
    answers = []

    def ask():
        answers.append(httpx.post(f"{service.address}/v1/scripts", json=REQUEST, timeout=20).status_code)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    service.stop()
    assert answers == [200, 200, 200]


def test_a_stopped_service_is_gone(service):
    service.stop()
    assert not service.running
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{service.address}/health")


def test_a_service_that_does_not_start_says_so(monkeypatch):
    service = LocalService(create_app(lambda request: "", "tiny"))
    monkeypatch.setattr(service._server, "run", lambda: None)
    service._thread = threading.Thread(target=lambda: None)
    with pytest.raises(WriterError, match="did not start"):
        service.start()
