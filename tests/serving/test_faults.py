"""What breaks while people wait for scripts: engine, database, disk, client, the service itself.

One promise holds through all of it: a script that came back with an id is in the store when that is opened again. The
store is the real one; the engine only pretends.
"""

import os
import random
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import event

from lekhai_helpers.ship import store_open
from lekhai_helpers.ship.store import ScriptStore
from tests.serving.engine_process import ProcessEngine
from tests.serving.fakes import REQUEST, SCRIPT, FakeEngine, assert_problem, read_events, wait_until
from tests.serving.postgres_server import postgres

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = 4


class Askers:
    """Clients that ask for scripts all the time, half of them streamed, and what came back."""

    def __init__(self, address: str) -> None:
        self.address, self.over = address, threading.Event()
        self.ids, self.warned, self.broken = [], [], []

    def ask(self, stream: bool) -> None:
        with httpx.Client(base_url=self.address, timeout=120, trust_env=False) as client:
            while not self.over.is_set():
                self.remember(client.post("/v1/scripts", json=REQUEST | {"stream": stream}))

    def remember(self, answer: httpx.Response) -> None:
        body = read_events(answer.text)[-1][1] if "event-stream" in answer.headers["content-type"] else answer.json()
        if answer.status_code == 200 and body.get("id"):
            self.ids.append(body["id"])
        elif answer.status_code == 200 and body.get("markdown") == SCRIPT and "only copy" in body["warning"]:
            self.warned.append(body["warning"])
        else:
            self.broken.append((answer.status_code, body))

    def until(self, kept: int = 0, warned: int = 0) -> None:
        """Wait until so many more were kept, and so many more could not be."""
        kept, warned = len(self.ids) + kept, len(self.warned) + warned
        wait_until(lambda: self.broken or (len(self.ids) >= kept and len(self.warned) >= warned), 180)
        assert self.broken == []


@contextmanager
def asked_all_the_time(address: str, clients: int = CLIENTS):
    askers = Askers(address)
    threads = [threading.Thread(target=askers.ask, args=(bool(number % 2),)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield askers
    finally:
        askers.over.set()
        for thread in threads:
            thread.join(timeout=120)
    assert askers.broken == []


def assert_kept(url: str, ids: list[str]) -> None:
    """Open the store again, as a service that starts does, and look for every script that had an id."""
    with ScriptStore(url) as again:
        assert [id for id in ids if again.get(id) is None] == []
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


@pytest.fixture
def file(tmp_path):
    """Where the service of `start` keeps its scripts."""
    return tmp_path / "scripts.db"


# --- the engine


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_process_killed_while_it_writes_is_said_and_the_very_next_request_is_written(
    start, models, file, stream
):
    bench = start(engine=ProcessEngine(models / "one.gguf", pieces=2000, pace=0.01))
    try:
        answers = []
        asking = threading.Thread(target=lambda: answers.append(bench.write(stream=stream)))
        asking.start()
        bench.until(lambda: "lekhai_first_text_seconds_count 1.0" in bench.client.get("/metrics").text, 30)
        os.kill(bench.board.engine.pid, signal.SIGKILL)
        asking.join(timeout=60)
        if stream:
            name, problem = read_events(answers[0].text)[-1]
            assert name == "problem" and problem["status"] == 503 and "ask again" in problem["detail"]
        else:
            assert_problem(answers[0], 503, "ask again")
        after = bench.write()
        assert after.status_code == 200 and bench.board.restarts == 1
        assert [script.id for script in bench.store.search()] == [after.json()["id"]], "half a script was kept"
        assert_kept(f"sqlite:///{file}", [after.json()["id"]])
    finally:
        bench.board.engine.close()


def test_an_engine_that_cannot_be_started_again_for_now_is_started_later(bench, monkeypatch):
    """A machine out of processes says OSError: the one who looks after the engine must not give up for good."""
    real, failed = FakeEngine.reopen, []

    def no_process(engine):
        if not failed:
            failed.append(True)
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return real(engine)

    monkeypatch.setattr(FakeEngine, "reopen", no_process)
    bench.world.open()[0].close()
    bench.until(lambda: bench.board.restarts == 1)
    assert failed and bench.write().status_code == 200


# --- the database in a file


def test_a_file_that_is_away_for_a_while_costs_no_script_that_was_acknowledged(bench, file):
    """Again and again: what was opened while it was away must not stay in use when it is back."""
    with asked_all_the_time(str(bench.client.base_url)) as askers:
        for _ in range(5):
            askers.until(kept=3)
            shutil.move(file, file.with_name("aside.db"))
            askers.until(warned=3)
            assert_problem(bench.client.get("/v1/scripts"), 503, "cannot be reached")
            assert bench.client.get("/health").json()["status"] == "ok", "scripts can still be written"
            os.replace(file.with_name("aside.db"), file)
        askers.until(kept=3)
    assert all(bench.write().json()["id"] for _ in range(12)), "a connection of the time without it is still in use"
    assert_kept(f"sqlite:///{file}", askers.ids)


def test_a_file_moved_away_a_second_time_takes_its_last_scripts_with_it(bench, file):
    """They lie in the log beside it until somebody writes them into the file."""
    aside = file.with_name("aside.db")
    shutil.move(file, aside)
    assert bench.write().json()["id"] is None
    shutil.move(aside, file)
    ids = [bench.write().json()["id"] for _ in range(3)]
    shutil.move(file, aside)
    assert bench.write().json()["id"] is None
    assert_kept(f"sqlite:///{aside}", ids)


def test_another_file_in_its_place_is_not_written_to_and_neither_is_spoilt(bench, file):
    aside, other = file.with_name("aside.db"), file.with_name("other.db")
    with ScriptStore(f"sqlite:///{other}"):
        pass
    with asked_all_the_time(str(bench.client.base_url)) as askers:
        askers.until(kept=5)
        shutil.move(file, aside)
        os.replace(other, file)
        askers.until(warned=5)
    with ScriptStore(f"sqlite:///{file}") as there:
        assert there.search() == []
    assert_kept(f"sqlite:///{aside}", askers.ids)


def test_a_folder_that_became_something_else_is_said_and_the_script_is_still_given(start, tmp_path):
    """To look for the file is an error then, and it was nobody's: the script was lost with it."""
    folder = tmp_path / "database"
    folder.mkdir()
    bench = start(store=ScriptStore(f"sqlite:///{folder / 'scripts.db'}"))
    id = bench.write().json()["id"]
    shutil.move(folder, tmp_path / "aside")
    folder.write_text("x")
    answer = bench.write()
    assert answer.status_code == 200 and answer.json()["markdown"] == SCRIPT and "only copy" in answer.json()["warning"]
    assert_problem(bench.client.get("/v1/scripts"), 503, "cannot be reached")
    folder.unlink()
    shutil.move(tmp_path / "aside", folder)
    assert bench.client.get(f"/v1/scripts/{id}").status_code == 200 and bench.write().json()["id"]


FAULTS = {
    "full disk": ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1073741823"),
    "read-only": ("PRAGMA query_only = ON", "PRAGMA query_only = OFF"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_disk_that_takes_nothing_more_costs_no_script_and_is_used_again_when_it_does(bench, file, fault, caplog):
    """SQLite's own page limit makes the disk full (1 means: not a page more than there are)."""
    broken, mended = FAULTS[fault]
    plan = [mended]
    event.listen(
        bench.store._database.engine, "checkout", lambda connection, *_: connection.execute(plan[-1]).fetchall()
    )
    with asked_all_the_time(str(bench.client.base_url)) as askers:
        askers.until(kept=5)
        plan.append(broken)
        askers.until(warned=5)
        assert bench.client.get("/v1/scripts").status_code == 200, "what is there can be read"
        plan.append(mended)
        askers.until(kept=5)
    assert ("disk is full" if fault == "full disk" else "cannot be written") in caplog.text
    assert_kept(f"sqlite:///{file}", askers.ids)


# --- the database on a server


@pytest.fixture(scope="module")
def server():
    with postgres() as running:
        yield running


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_database_server_that_goes_away_costs_no_script_and_is_found_again(start, server, monkeypatch, how):
    """Killed, it refuses; stopped, it takes connections and never answers, and a request must not wait for ever."""
    monkeypatch.setattr(store_open, "WAIT_SECONDS", 2.0)
    url = server.new_database(how)
    bench = start(store=ScriptStore(url))
    with asked_all_the_time(str(bench.client.base_url)) as askers:
        askers.until(kept=5)
        server.kill() if how == "killed" else server.signal(signal.SIGSTOP)
        askers.until(warned=CLIENTS)
        assert bench.client.get("/health").json()["status"] == "ok"
        server.start() if how == "killed" else server.signal(signal.SIGCONT)
        askers.until(kept=5)
    assert_kept(url, askers.ids)


# --- the client


def test_clients_who_leave_at_any_moment_leave_nothing_behind(start, file):
    bench = start({"serving.slots": 2, "serving.queue": 40})
    bench.world.of("one.gguf").pace = 0.02
    address = (bench.client.base_url.host, bench.client.base_url.port)
    chance = random.Random(6)
    for number in range(30):
        leave(address, stream=bool(number % 2), after=chance.uniform(0, 0.12))
    bench.until(lambda: bench.board.in_flight == bench.board.waiting == bench.world.answering == 0)
    body = bench.write().json()
    assert body["markdown"] == SCRIPT
    kept = bench.store.search(limit=100)
    assert {script.markdown for script in kept} == {SCRIPT}, "half a script was kept"
    assert_kept(f"sqlite:///{file}", [body["id"]])


def leave(address: tuple[str, int], stream: bool, after: float) -> None:
    """Ask for a script and break the connection off, without a goodbye."""
    import json

    body = json.dumps(REQUEST | {"stream": stream}).encode()
    head = f"POST /v1/scripts HTTP/1.1\r\nHost: {address[0]}\r\nContent-Type: application/json\r\n"
    with socket.create_connection(address) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(after)


# --- the service itself


@pytest.fixture
def serve(world, models, tmp_path):
    """Return a function that starts `lekhai serve` over an engine elsewhere and gives its address and process."""
    engine, running = FakeEngine(world, models / "one.gguf"), []

    def begin() -> tuple[str, subprocess.Popen]:
        command = [sys.executable, "-m", "lekhai_helpers.cli", "serve", "--engine", engine.address, "--port", "0"]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"LEKHAI_RUNS": str(tmp_path), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append(process)
        line = process.stdout.readline()
        assert "answers at" in line, line + process.stdout.read()
        address = line.split("answers at ")[1].split()[0]
        wait_until(lambda: answers(address), 90)
        return address, process

    yield begin
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_a_service_killed_right_after_it_acknowledged_lost_nothing_when_it_is_started_again(serve, tmp_path):
    address, process = serve()
    ids, enough = [], threading.Event()

    def ask(stream: bool) -> None:
        client = httpx.Client(base_url=address, timeout=60, trust_env=False)
        while True:
            try:
                answer = client.post("/v1/scripts", json=REQUEST | {"stream": stream})
            except httpx.TransportError:
                return
            body = read_events(answer.text)[-1][1] if stream else answer.json()
            ids.append(body["id"])
            if len(ids) >= 12:
                process.kill()  # at once, by whoever was told last
                enough.set()

    threads = [threading.Thread(target=ask, args=(bool(number % 2),)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    assert enough.wait(120)
    for thread in threads:
        thread.join(timeout=60)
    assert_kept(f"sqlite:///{tmp_path / 'scripts.db'}", ids)
    address, _ = serve()
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        assert {client.get(f"/v1/scripts/{id}").status_code for id in ids} == {200}
        assert client.post("/v1/scripts", json=REQUEST).json()["id"]
