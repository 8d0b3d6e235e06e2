"""The service over llama.cpp's real server and the tiny model: what an engine that pretends cannot show."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.ship.api import create_app
from lekhai_helpers.ship.engines import EngineError, LocalEngine, local_engine
from lekhai_helpers.ship.gguf_header import ModelFileError, read_header
from lekhai_helpers.ship.limits import Limits, Security
from lekhai_helpers.ship.llama_server import LlamaServer
from lekhai_helpers.ship.quantize import convert_to_gguf, quantize
from lekhai_helpers.ship.serving import LocalService
from lekhai_helpers.ship.store import ScriptStore
from lekhai_helpers.ship.switchboard import Switchboard
from lekhai_helpers.ship.writing import chat_body, new_client, order_from, write

ADMIN = {"Authorization": "Bearer admin-token"}
REQUEST = {"brand": "ঝিলমাটি", "product": "রং", "duration_seconds": 30}


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """Two files of the tiny model: q8_0 and f16."""
    models = tmp_path_factory.mktemp("served")
    source = shutil.copytree(tiny, models / "source")
    f16 = convert_to_gguf(source, models / "tiny-f16.gguf")
    quantize(f16, models / "tiny-q8_0.gguf", "q8_0")
    return models


@pytest.fixture(scope="module")
def settings():
    # A random model writes letters until it is stopped: any text has to do.
    tiny = {"model.max_seq_length": 512, "decoding.max_new_tokens": 24, "serving.slots": 4, "serving.check": "text"}
    return resolve("lekhai", "smoke", tiny)


@pytest.fixture
def service(folder, settings, tmp_path):
    """(client, board): a service over the q8_0 file."""
    board = Switchboard(local_engine(folder / "tiny-q8_0.gguf", 512, 4), Limits.of(settings.serving))
    store = ScriptStore(f"sqlite:///{tmp_path / 'scripts.db'}")
    local = LocalService(create_app(board, store, settings, Security("", "admin-token", (folder,))))
    local.start()
    with httpx.Client(base_url=local.address, timeout=120) as client:
        yield client, board
    local.stop()
    board.engine.close()
    store.close()


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_a_header_is_read_as_llama_cpp_reads_it(folder):
    header = read_header(folder / "tiny-q8_0.gguf")
    assert (header.architecture, header.layers, header.kv_width, header.context) == ("gemma3", 2, 32, 1024)
    assert header.vocabulary >= 340 and "### Request:" in header.chat_template
    assert header.size == (folder / "tiny-q8_0.gguf").stat().st_size


def test_the_grammar_holds_a_random_models_hand(service):
    """What comes begins as a table whatever the model knows: the engine really took the grammar."""
    client, board = service
    body = client.post("/v1/scripts", json=REQUEST).json()
    # Which tokens it takes is chance, long ones or single letters: the few it has may be used up within the head.
    head = "| Visual | Audio |\n|---|---|\n| "
    begun = body["markdown"][: len(head)]
    assert len(begun) > 10 and head.startswith(begun)
    assert body["model"] == board.current.name and body["model"].startswith("tiny-q8_0.gguf@")
    assert body["id"]


def test_an_engine_of_the_service_lets_go_of_the_cores_soon_and_the_users_own_wish_counts(service, monkeypatch):
    """Two engines that spin on the same cores are three times slower together."""
    _, board = service
    assert psutil.Process(board.engine.pid).environ()["GOMP_SPINCOUNT"] == "200"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    with LlamaServer(board.engine.gguf, slots=1, yields=True) as server:
        assert psutil.Process(server.process.pid).environ()["GOMP_SPINCOUNT"] == "7"


def test_the_same_seed_and_order_write_the_same(folder, settings):
    async def twice(engine) -> list[str]:
        body = chat_body(engine, order_from("রং নিয়ে লিখুন", settings), settings.decoding, 5)
        async with new_client() as client:
            return [await write(client, engine, body) for _ in range(2)]

    engine = local_engine(folder / "tiny-q8_0.gguf", 512, 1)
    try:
        one, other = asyncio.run(twice(engine))
    finally:
        engine.close()
    assert one == other and one


def test_a_chat_goes_through_and_streams(service):
    client, board = service
    asked = {"messages": [{"role": "user", "content": "রং"}], "max_tokens": 5, "stream": True}
    text = client.post("/v1/chat/completions", json=asked).text
    assert text.rstrip().endswith("data: [DONE]") and board.current.name in text


# --- fifty models, one after the other


# SQLite keeps pages for every connection, 2 MB at most for each: that fills for a thousand answers or so (8 MB of 165).
IN_FLIGHT, WARM_UP, SWAPS = 20, 30, 50
SPARE_FILES = 15  # a store's pool may still open five connections of three files; one leaked a swap would make fifty


@pytest.fixture
def served(folder, settings, tmp_path):
    """(client, process): `lekhai serve` over the q8_0 file, in a process of its own, so that its memory is its own."""
    run = tmp_path / "lekhai-smoke-t" / "09_integration"  # from here it takes the settings of a tiny model
    run.mkdir(parents=True)
    (run / "manifest.json").write_text(json.dumps({"settings": settings.model_dump(mode="json")}), encoding="utf-8")
    wishes = [f"--set=serving.{wish}" for wish in (f"slots={IN_FLIGHT}", f"queue={IN_FLIGHT}", "check=text")]
    command = [sys.executable, "-m", "lekhai_helpers.cli", "serve", "--port", "0", *wishes]
    known = {name: value for name, value in os.environ.items() if not name.startswith("LEKHAI_")}
    environment = known | {"LEKHAI_RUNS": str(tmp_path), "LEKHAI_ADMIN_TOKEN": "admin-token"}
    process = subprocess.Popen(
        [*command, "--gguf", str(folder / "tiny-q8_0.gguf")], env=environment, stdout=subprocess.PIPE, text=True
    )
    address = next(word for word in process.stdout.readline().split() if word.startswith("http://"))
    with httpx.Client(base_url=address, timeout=600) as client:
        yield client, psutil.Process(process.pid)
    process.terminate()
    process.communicate(timeout=60)


def swap_under_load(client: httpx.Client, swaps: int) -> list[int]:
    """Ask with twenty clients all the time while one model follows the other; return the statuses of all answers."""
    over, names = threading.Event(), ("tiny-f16.gguf", "tiny-q8_0.gguf")

    def ask(_: int) -> list[int]:
        statuses = []
        with httpx.Client(base_url=client.base_url, timeout=600) as mine:
            while not over.is_set():
                statuses.append(mine.post("/v1/scripts", json=REQUEST).status_code)
        return statuses

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        asking = pool.map(ask, range(IN_FLIGHT))
        try:
            for number in range(swaps):
                answer = client.post("/admin/reload-model", json={"path": names[number % 2]}, headers=ADMIN)
                assert answer.status_code == 200, answer.text
                assert answer.json()["model"].startswith(names[number % 2])
        finally:
            over.set()
        return [status for statuses in asking for status in statuses]


def held(service: psutil.Process) -> dict[str, float]:
    """Return what the service and its engine hold: processes, memory (MB), open files."""
    family = [service, *service.children(recursive=True)]
    memory = sum(one.memory_info().rss for one in family) / 1e6
    return {"processes": len(family), "memory": memory, "files": service.num_fds()}


def test_fifty_swaps_under_twenty_requests_lose_none_and_leave_no_memory_behind(served):
    """The same as with engines that pretend, and with what only real ones can leak: processes and their memory."""
    client, service = served
    swap_under_load(client, WARM_UP)
    before = held(service)
    statuses = swap_under_load(client, SWAPS)
    after = held(service)
    print(f"{len(statuses)} answers; before {before}, after {after}")
    assert set(statuses) == {200} and len(statuses) > SWAPS
    assert before["processes"] == after["processes"] == 2, "an old engine still runs"
    assert after["memory"] <= before["memory"] * 1.05, (before, after)
    assert after["files"] <= before["files"] + SPARE_FILES, (before, after)


def test_an_engine_does_not_grow_with_every_prompt_it_has_seen(folder):
    """llama.cpp keeps the prompts of the past, up to 8 GB of them, unless told not to: here 22 MB for the hundred."""
    engine = local_engine(folder / "tiny-q8_0.gguf", 1024, 1)
    assert isinstance(engine, LocalEngine)

    def after(prompts: range) -> float:
        for number in prompts:
            text = f"{number} " + "রং নিয়ে " * 40
            asked = {"messages": [{"role": "user", "content": text}], "max_tokens": 2}
            assert httpx.post(f"{engine.address}/v1/chat/completions", json=asked, timeout=60).status_code == 200
        return psutil.Process(engine.pid).memory_info().rss / 1e6

    try:
        first, last = after(range(10)), after(range(10, 110))
    finally:
        engine.close()
    assert last - first < 2, (first, last)


def test_an_engine_killed_in_the_middle_is_said_and_is_back(service, settings):
    client, board = service
    engine = board.engine
    assert isinstance(engine, LocalEngine)
    os.kill(engine.pid, signal.SIGSTOP)  # so that the request is certainly under way
    answers = []
    asking = threading.Thread(target=lambda: answers.append(client.post("/v1/scripts", json=REQUEST)))
    asking.start()
    end = time.monotonic() + 30
    while not board.in_flight and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(engine.pid, signal.SIGKILL)
    asking.join()
    assert answers[0].status_code == 503 and "engine stopped" in answers[0].json()["detail"]
    assert client.post("/v1/scripts", json=REQUEST).status_code == 200
    assert board.restarts == 1 and len(children()) == 1


def test_a_client_that_leaves_stops_llama_cpp_itself(folder, tmp_path):
    """Otherwise a page closed early keeps a slot busy for the whole script."""
    long = resolve("lekhai", "smoke", {"model.max_seq_length": 4096, "decoding.max_new_tokens": 4000})
    board = Switchboard(local_engine(folder / "tiny-q8_0.gguf", 4096, 1), Limits(slots=1))
    store = ScriptStore(f"sqlite:///{tmp_path / 'scripts.db'}")
    local = LocalService(create_app(board, store, long, Security()))
    local.start()
    try:
        with httpx.Client(base_url=local.address, timeout=120) as client:
            with client.stream("POST", "/v1/scripts", json=REQUEST | {"stream": True}) as answer:
                next(answer.iter_lines())
            process = psutil.Process(board.engine.pid)
            time.sleep(1)
            before = sum(process.cpu_times()[:2])
            time.sleep(1)
            assert sum(process.cpu_times()[:2]) - before < 0.5, "llama.cpp still writes for nobody"
            assert board.in_flight == 0
    finally:
        local.stop()
        board.engine.close()
        store.close()


def test_a_broken_file_and_one_that_llama_cpp_does_not_take_are_told_apart(folder, tmp_path):
    whole = (folder / "tiny-q8_0.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:-100])
    with pytest.raises(ModelFileError, match=r"cut.gguf is cut short"):
        local_engine(tmp_path / "cut.gguf", 256, 1)
    (tmp_path / "other.gguf").write_bytes(whole.replace(b"blk.0.attn_q.weight", b"blk.0.attn_z.weight"))
    before = children()
    with pytest.raises(EngineError, match=r"could not load other.gguf"):
        local_engine(tmp_path / "other.gguf", 256, 1)
    assert children() == before
