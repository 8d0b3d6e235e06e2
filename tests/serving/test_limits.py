"""What the service takes on: a queue with an end, time, size, keys, and clients who go away."""

import threading
import time
from pathlib import Path

import httpx
import pytest

from lekhai_helpers.ship.limits import Security
from tests.serving.fakes import REQUEST, SCRIPT, assert_problem


def in_threads(count: int, work) -> list:
    """Run `work` so many times at once and return what came."""
    results = []
    threads = [threading.Thread(target=lambda: results.append(work())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return results


def test_more_than_may_wait_are_told_when_to_come_back(start):
    bench = start({"serving.slots": 1, "serving.queue": 2})
    bench.world.of("one.gguf").pace = 0.1
    answers = in_threads(6, bench.write)
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, 200, 200, 429, 429, 429]
    busy = next(answer for answer in answers if answer.status_code == 429)
    assert_problem(busy, 429, "2 requests are waiting already", "try again in")
    assert int(busy.headers["retry-after"]) >= 1
    assert bench.board.in_flight == bench.board.waiting == 0


def test_nobody_waits_for_ever(start):
    bench = start({"serving.slots": 1, "serving.queue": 5, "serving.wait_seconds": 0.2})
    bench.world.of("one.gguf").pace = 0.3
    statuses = sorted(answer.status_code for answer in in_threads(2, bench.write))
    assert statuses == [200, 429] and bench.board.waiting == 0


def test_as_many_as_there_are_slots_write_at_once_and_no_more(start):
    bench = start({"serving.slots": 3})
    bench.world.of("one.gguf").pace = 0.05
    most = 0
    done = threading.Event()

    def watch():
        nonlocal most
        while not done.is_set():
            most = max(most, bench.world.answering)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    answers = in_threads(9, bench.write)
    done.set()
    watcher.join()
    assert most == 3 and {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_hangs_is_given_up_and_its_slot_is_free_again(start, stream):
    bench = start({"serving.slots": 1, "serving.write_seconds": 0.3})
    bench.world.of("one.gguf").hangs = True
    if stream:
        name, problem = bench.events()[-1]
        assert name == "problem" and problem["status"] == 504
    else:
        assert_problem(bench.write(), 504, "not done within 0.3 seconds")
    bench.until(lambda: bench.world.answering == 0)
    bench.world.of("one.gguf").hangs = False
    assert bench.write().status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_the_writing_and_frees_its_slot(start, stream):
    """Nobody reads the rest; yet the model would write it to the end and the next in line would wait."""
    bench = start({"serving.slots": 1})
    does = bench.world.of("one.gguf")
    does.pace, does.pieces = 0.2, 200
    if stream:
        with bench.client.stream("POST", "/v1/scripts", json=REQUEST | {"stream": True}) as answer:
            next(answer.iter_lines())
    else:
        with pytest.raises(httpx.ReadTimeout):
            bench.client.post("/v1/scripts", json=REQUEST, timeout=0.5)
    bench.until(lambda: bench.world.left == 1)
    bench.until(lambda: bench.board.in_flight == 0)
    does.pace, does.pieces = 0.001, 3
    assert bench.write().status_code == 200
    assert len(bench.store.search()) == 1, "half a script was kept"
    assert "lekhai_clients_left_total 1.0" in bench.client.get("/metrics").text


def test_a_client_that_leaves_while_it_waits_gives_up_its_place(start):
    bench = start({"serving.slots": 1, "serving.queue": 1})
    bench.world.of("one.gguf").pace = 0.3
    first = threading.Thread(target=bench.write)
    first.start()
    bench.until(lambda: bench.board.in_flight == 1)
    with pytest.raises(httpx.ReadTimeout):
        bench.client.post("/v1/scripts", json=REQUEST, timeout=0.2)
    bench.until(lambda: bench.board.waiting == 0)
    first.join()
    assert bench.write().status_code == 200


def test_too_large_a_body_is_refused_whether_it_says_so_or_not(bench):
    big = b'{"brand": "' + b"x" * 70_000
    assert_problem(bench.client.post("/v1/scripts", content=big), 413, "at most 65536 bytes")
    assert_problem(bench.client.post("/v1/scripts", content=iter([big[:40_000], big[40_000:]])), 413, "at most 65536")


def test_with_a_key_nothing_is_answered_without_it(start):
    bench = start(security=Security("পাসওয়ার্ড-key", "", ()))
    for path in ("/v1/choices", "/v1/scripts", "/metrics"):
        assert_problem(bench.client.get(path), 401, "Authorization: Bearer")
    for given in ("Bearer wrong", "Bearer", "Basic পাসওয়ার্ড-key"):
        answer = bench.client.post("/v1/scripts", json={}, headers={"Authorization": given.encode()})
        assert_problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    assert bench.client.get("/health").status_code == 200 and bench.client.get("/").status_code == 200


def test_the_right_key_is_let_in(start):
    bench = start(security=Security("the-key", "", ()))
    given = {"Authorization": "Bearer the-key"}
    assert bench.client.post("/v1/scripts", json=REQUEST, headers=given).json()["markdown"] == SCRIPT


def test_secrets_do_not_show_in_what_is_printed():
    assert "secret" not in repr(Security("secret-key", "secret-token"))


def test_folders_are_followed_to_where_they_are(tmp_path, monkeypatch):
    """A folder of runs may be a link, or relative: files in it are found at the end of the link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    assert Security(models=(tmp_path / "link", Path("real"))).models == ((tmp_path / "real").resolve(),) * 2


def test_folders_and_keys_come_from_the_environment(tmp_path):
    given = {"LEKHAI_API_KEY": "k", "LEKHAI_ADMIN_TOKEN": "t", "LEKHAI_MODELS": f"{tmp_path}:{tmp_path / 'more'}"}
    security = Security.from_environment([tmp_path / "run"], given)
    assert (security.api_key, security.admin_token) == ("k", "t")
    assert security.models == (tmp_path / "run", tmp_path, tmp_path / "more")
    assert Security.from_environment([], {}) == Security()


def test_only_named_pages_may_call_from_elsewhere(start):
    bench = start({"serving.origins": ["https://lekhai.example"]})
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    good = bench.client.options("/v1/scripts", headers=asked | {"Origin": "https://lekhai.example"})
    bad = bench.client.options("/v1/scripts", headers=asked | {"Origin": "https://elsewhere.example"})
    assert good.headers["access-control-allow-origin"] == "https://lekhai.example"
    assert "access-control-allow-origin" not in bad.headers
    refused = bench.client.post("/v1/scripts", json={}, headers={"Origin": "https://lekhai.example"})
    assert refused.headers["access-control-allow-origin"] == "https://lekhai.example", "the page could not read why"


# --- an engine that fails


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_dies_in_the_middle_is_said_and_is_back_for_the_next(bench, stream):
    bench.world.of("one.gguf").dies_after = 2
    if stream:
        events = bench.events()
        assert [name for name, _ in events] == ["delta", "delta", "problem"] and events[-1][1]["status"] == 503
    else:
        answer = bench.write()
        assert_problem(answer, 503, "engine stopped", "ask again")
        assert answer.headers["retry-after"] == "5"
    bench.world.of("one.gguf").dies_after = None
    assert bench.write().status_code == 200
    assert bench.board.restarts == 1 and len(bench.world.open()) == 1
    assert len(bench.store.search()) == 1


def test_an_engine_that_keeps_dying_is_not_started_for_ever(bench):
    bench.world.of("one.gguf").dies_after = 0
    assert [bench.write().status_code for _ in range(6)] == [503] * 6
    assert len(bench.world.started) == 4, "one and three restarts"
    assert_problem(bench.write(), 503, "stopped 3 times within 5 minutes")
    health = bench.client.get("/health")
    assert health.status_code == 503 and health.json()["status"] == "engine down"
    assert "lekhai_engine_up 0.0" in bench.client.get("/metrics").text


def test_an_engine_that_dies_between_two_requests_is_back_before_the_next(bench):
    bench.world.open()[0].close()
    bench.until(lambda: bench.board.restarts == 1)
    assert bench.client.get("/health").status_code == 200 and bench.write().status_code == 200


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ({"refuse": (400, {"error": {"message": "the prompt exceeds the context"}})}, 422, "exceeds the context"),
        ({"refuse": (401, {"error": "bad key sk-123"})}, 502, "refused with status 401"),
        ({"refuse": (503, {"error": "Loading model"})}, 503, "busy or still loading"),
        ({"error_event": True}, 503, "broke off"),
        ({"ends_early": True}, 503, "in the middle"),
    ],
)
def test_what_an_engine_refuses_is_told_in_our_words(bench, fault, status, words):
    for name, value in fault.items():
        setattr(bench.world.of("one.gguf"), name, value)
    answer = bench.write()
    assert_problem(answer, status, words)
    assert "sk-123" not in answer.text and "/home" not in answer.text
    assert bench.store.search() == []
