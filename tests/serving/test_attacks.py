"""What somebody may send who means no good, or whose program is broken: nothing falls over, grows or is given away."""

import json
import socket
import time

import anyio
import pytest
from typer.testing import CliRunner

from lekhai_helpers import cli
from lekhai_helpers.ship import engines
from lekhai_helpers.ship.limits import Security
from lekhai_helpers.ship.store import NewScript, ScriptStore
from tests.serving.fakes import ADMIN, REQUEST, SCRIPT, FakeEngine, assert_problem
from tests.serving.postgres_server import postgres

STRANGE = [
    b"",
    b"null",
    b"[]",
    b'"x"',
    b"{",
    b"\xff\xfe",
    b'{"brand": "\xff"}',
    b'{"brand": "\\ud800", "product": "x"}',
    b'{"brand": "a", "product": "b", "duration_seconds": NaN}',
    b'{"brand": "a", "product": "b", "duration_seconds": 1e999}',
    b'{"brand": "a", "product": "b", "duration_seconds": ' + b"9" * 5000 + b"}",
    b'{"brand": "a", "product": "b", "duration_seconds": true}',
    b'{"brand": "\\u200b", "product": "\\u200b"}',
    b'{"brand": ["a"], "product": {"b": 1}}',
    b"[" * 30_000,
    b'{"a":' * 10_000,
]
CHATS = [
    {"messages": []},
    {"messages": [{"role": "tool", "content": "x"}]},
    {"messages": [{"role": "user", "content": None}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "file:///etc/passwd"}]}]},
    {"messages": [{"role": "user", "content": "x"}], "temperature": "hot"},
    {"messages": [{"role": "user", "content": "x"}], "stop": [["x"]]},
    {"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema", "json_schema": {}}},
    {"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "text", "schema": {}}},
]


@pytest.mark.parametrize("address", ["/v1/scripts", "/v1/chat/completions", "/admin/reload-model"])
def test_whatever_is_sent_the_answer_is_a_problem_in_words(bench, address):
    for content in STRANGE:
        for kind in ("application/json", "text/plain", "multipart/form-data", ""):
            answer = bench.client.post(address, content=content, headers=ADMIN | {"Content-Type": kind})
            assert answer.status_code in (400, 422), (content[:40], kind, answer.status_code)
            assert answer.headers["content-type"] == "application/problem+json"
    assert bench.store.search() == []


@pytest.mark.parametrize("asked", CHATS)
def test_a_chat_that_cannot_be_is_refused_before_the_engine_hears_of_it(bench, asked):
    assert_problem(bench.client.post("/v1/chat/completions", json=asked), 422)
    assert not bench.world.bodies


def test_no_answer_is_longer_than_the_service_allows_whatever_is_asked(bench):
    asked = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 10**30}
    assert bench.client.post("/v1/chat/completions", json=asked).status_code == 200
    assert bench.world.bodies[-1]["max_tokens"] < 10_000


def test_a_schema_is_not_passed_on_and_plain_json_is(bench):
    """15 kB of `(a*)*` in a schema kept a real llama.cpp busy for more than 45 seconds, every slot of it."""
    pattern = {"type": "string", "pattern": f"^{'(a*)*' * 3000}$"}
    asked = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 8}
    for wanted in (
        {"type": "json_schema", "json_schema": {"schema": pattern}},
        {"type": "json_object", "schema": pattern},
        {"type": "grammar", "value": "root ::= x"},
    ):
        answer = bench.client.post("/v1/chat/completions", json=asked | {"response_format": wanted})
        assert_problem(answer, 422, "response_format")
    assert not bench.world.bodies
    plain = asked | {"response_format": {"type": "json_object"}}
    assert bench.client.post("/v1/chat/completions", json=plain).status_code == 200
    assert bench.world.bodies[-1]["response_format"] == {"type": "json_object"}


def test_a_form_of_another_page_writes_nothing(bench):
    """A browser sends such a form to any address without asking it first, with the reader's own network."""
    body = json.dumps(REQUEST).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert bench.client.post("/v1/scripts", content=body, headers={"Content-Type": kind}).status_code == 422
    assert bench.store.search() == []


# --- names


@pytest.mark.parametrize(
    "name", ["evil.example", "127.0.0.1.evil.example:8000", "[::1", "a:b:c", "localhost.evil", "x@y"]
)
def test_without_a_key_nobody_reads_the_history_through_a_name_turned_to_this_machine(bench, name):
    """DNS rebinding: the page of evil.example asks evil.example, which now means 127.0.0.1, and may read the answer."""
    for path in ("/v1/scripts", "/v1/choices", "/"):
        assert_problem(bench.client.get(path, headers={"Host": name}), 403, "LEKHAI_API_KEY")


def test_an_address_a_named_page_and_a_key_are_let_in(start):
    bench = start({"serving.origins": ["https://lekhai.example"]})
    for name in ("localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "192.168.1.7", "lekhai.example"):
        assert bench.client.get("/v1/choices", headers={"Host": name}).status_code == 200, name


def test_with_a_key_the_service_may_have_any_name(start):
    bench = start(security=Security("the-key", "", ()))
    assert bench.client.get("/v1/choices", headers={"Host": "any.example"}).status_code == 401
    headers = {"Host": "any.example", "Authorization": "Bearer the-key"}
    assert bench.client.get("/v1/choices", headers=headers).status_code == 200


# --- what grows, what stays open


def test_methods_that_somebody_makes_up_do_not_fill_the_figures(bench):
    for number in range(30):
        bench.client.request(f"MADEUP{number}", "/v1/choices")
    figures = bench.client.get("/metrics").text
    assert "MADEUP" not in figures and 'method="other"' in figures


def whole_answer(client: socket.socket) -> bytes:
    """Read to the end of the JSON: head and body may arrive apart."""
    read = b""
    while not read.endswith(b"}"):
        read += client.recv(4096)
    return read


def test_a_connection_rests_longer_than_any_client_keeps_one(bench):
    """Closed after 5 seconds, as long as httpx keeps its own: a request sent in that moment broke, now and then."""
    place = (bench.client.base_url.host, bench.client.base_url.port)
    with socket.create_connection(place, timeout=20) as client:
        for wait in (6, 0):
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert whole_answer(client).startswith(b"HTTP/1.1 200")
            time.sleep(wait)


# --- reload


@pytest.mark.parametrize("path", ["~nobody-here/x.gguf", "x" * 300 + ".gguf", "circle.gguf", "y/" * 400])
def test_a_path_that_no_system_takes_is_refused_in_words(bench, path):
    (bench.models / "circle.gguf").symlink_to(bench.models / "circle.gguf")
    assert_problem(bench.reload(path), 422 if path[0] != "y" else 404)


def test_a_machine_that_can_start_no_process_keeps_the_old_model(bench, monkeypatch):
    def no_process(*_):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(FakeEngine, "beside", no_process)
    assert_problem(bench.reload("two.gguf"), 507, "no process, file or memory left", "one.gguf@00000000 goes on")
    assert bench.write().status_code == 200


def test_a_file_that_goes_while_it_is_loaded_leaves_no_process_behind(models, monkeypatch):
    ended = []

    class Server:
        address = "http://127.0.0.1:9"

        def __init__(self, gguf, **_) -> None:
            gguf.unlink()

        def __enter__(self) -> None:
            return None

        def __exit__(self) -> None:
            ended.append(self)

    monkeypatch.setattr(engines, "LlamaServer", Server)
    with pytest.raises(engines.EngineError, match="two.gguf was loaded and is gone since"):
        engines.local_engine(models / "two.gguf", 1024, 1)
    assert len(ended) == 1


# --- engines that speak strangely


ODD = [
    '{"choices": null}',
    '{"choices": [null, "x", {"delta": "x"}, {"delta": {"content": ["x"]}}, {"delta": null}]}',
    "[]",
    "null",
    '{"usage": null, "timings": 3}',
]


@pytest.mark.parametrize("stream", [False, True])
def test_events_that_nobody_expects_are_stepped_over(bench, stream):
    bench.world.of("one.gguf").odd = tuple(ODD)
    body = bench.events()[-1][1] if stream else bench.write().json()
    assert body["markdown"] == SCRIPT and body["id"]


@pytest.mark.parametrize("stream", [False, True])
def test_half_a_character_does_not_cost_the_script(bench, stream):
    """Half of a surrogate pair is no character: no answer can be written with it, and no database takes it."""
    bench.world.of("one.gguf").odd = ('{"choices": [{"delta": {"content": "\\ud83d"}}]}',)
    body = bench.events()[-1][1] if stream else bench.write().json()
    assert body["markdown"] == f"?{SCRIPT}" and body["id"]


@pytest.mark.parametrize("answer", [[], "x", None, 3])
def test_a_chat_answer_that_is_no_object_is_said(bench, answer):
    bench.world.of("one.gguf").refuse = (200, answer)
    asked = {"messages": [{"role": "user", "content": "হ্যালো"}]}
    assert_problem(bench.client.post("/v1/chat/completions", json=asked), 502, "no JSON object")


@pytest.mark.parametrize("stream", [False, True])
def test_the_engine_is_given_a_moment_to_be_seen_as_gone(bench, monkeypatch, stream):
    """Who is told "ask again" may do so in the same millisecond."""
    settled = []
    monkeypatch.setattr(FakeEngine, "settle", lambda engine: settled.append(engine))
    bench.world.of("one.gguf").dies_after = 1
    bench.write(stream=stream)
    assert len(settled) == 1
    asked = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    assert "503" in bench.client.post("/v1/chat/completions", json=asked).text and len(settled) == 2


def test_an_engine_that_is_not_reached_at_once_is_tried_again(bench, monkeypatch):
    """A machine that stood still for ten seconds: the time for connecting is over before the first try began."""
    real, tries = anyio.connect_tcp, []

    async def connect(*words, **options):
        tries.append(words)
        if len(tries) == 1:
            raise TimeoutError
        return await real(*words, **options)

    monkeypatch.setattr(anyio, "connect_tcp", connect)
    assert bench.write().status_code == 200 and len(tries) == 2


# --- tokens are counted as the engine counts them


@pytest.mark.parametrize(
    ("odd", "tokens"),
    [
        ((), 4.0),
        (('{"choices": [], "usage": {"completion_tokens": 77}}',), 77.0),
        (('{"choices": [], "timings": {"predicted_n": 78}}',), 78.0),
    ],
)
def test_tokens_are_counted(bench, odd, tokens):
    bench.world.of("one.gguf").odd = odd
    bench.write()
    assert f"lekhai_tokens_total {tokens}" in bench.client.get("/metrics").text


# --- the history


def test_a_search_for_what_no_text_holds_finds_nothing(bench):
    bench.write()
    for query in ("\x00", "a\x00b", "%", "\\", "'", "💧" * 50):
        assert bench.client.get("/v1/scripts", params={"query": query, "industry": query}).json()["scripts"] == []


def test_the_same_search_on_postgresql():
    with postgres() as server, ScriptStore(server.new_database("search")) as store:
        store.add(NewScript({"brand": "ক"}, SCRIPT, True, [], "m", 1.0))
        for query in ("\x00", "a\x00b", "\ud800", "%", "\\"):
            assert store.search(query) == store.search(industry=query) == []


# --- lekhai serve


def test_a_port_that_is_taken_is_said_before_a_model_is_loaded(monkeypatch, tmp_path):
    loaded = []
    monkeypatch.setenv("LEKHAI_RUNS", str(tmp_path))
    monkeypatch.setattr("lekhai_helpers.serve_cli.load_engine", lambda *_: loaded.append(True))
    gguf = tmp_path / "one.gguf"
    gguf.touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        answer = CliRunner().invoke(cli.app, ["serve", "--gguf", str(gguf), "--port", port])
    assert answer.exit_code == 1 and f"127.0.0.1:{port} cannot be taken" in answer.output and "--port" in answer.output
    assert "Traceback" not in answer.output and not loaded
    answer = CliRunner().invoke(cli.app, ["serve", "--engine", "http://127.0.0.1:9", "--host", "no-such-host.invalid"])
    assert answer.exit_code == 1 and "correct --host" in answer.output


def test_a_database_that_is_away_when_the_service_starts_is_said_without_its_password(monkeypatch, tmp_path):
    monkeypatch.setenv("LEKHAI_RUNS", str(tmp_path))
    monkeypatch.setenv("LEKHAI_DATABASE_URL", "postgresql://lekhai:s3cret@127.0.0.1:9/lekhai")
    answer = CliRunner().invoke(cli.app, ["serve", "--engine", "http://127.0.0.1:9", "--port", "0"])
    assert answer.exit_code == 1 and "start the database server" in answer.output
    assert "s3cret" not in answer.output and "Traceback" not in answer.output and "answers at" not in answer.output
