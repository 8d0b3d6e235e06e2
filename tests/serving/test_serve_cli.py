"""lekhai serve, reload, write and chat: the same words and the same engine as the service, errors in one sentence."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from lekhai_helpers import cli
from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.core.run_folder import Run
from tests.serving.fakes import REQUEST, SCRIPT, FakeEngine

ROOT = Path(__file__).resolve().parents[2]
TABLE = "| Visual | Audio |\n|---|---|\n| নদী | VO: নতুন সকাল |\n| ঘর | VO: নতুন রং |\n| মুখ | VO: নতুন দিন |"


@pytest.fixture
def run(monkeypatch, tmp_path, world, models):
    """A finished run with a GGUF, and an engine that only pretends."""
    monkeypatch.setenv("LEKHAI_RUNS", str(tmp_path))
    made = Run(resolve("lekhai", "smoke"), "t")
    monkeypatch.setattr("lekhai_helpers.closing.newest_run", lambda *_: made)
    monkeypatch.setattr("lekhai_helpers.closing.recommended_gguf", lambda run: models / "one.gguf")
    monkeypatch.setattr("lekhai_helpers.ship.engines.local_engine", lambda gguf, *_: FakeEngine(world, gguf))
    return made


def call(*words: str, **options):
    return CliRunner().invoke(cli.app, list(words), **options)


@pytest.mark.parametrize("verb", ["serve", "reload", "write", "chat"])
def test_help_answers_quickly(verb):
    began = time.monotonic()
    command = [sys.executable, "-m", "lekhai_helpers.cli", verb, "--help"]
    answer = subprocess.run(command, capture_output=True, check=False, encoding="utf-8", cwd=ROOT)
    assert answer.returncode == 0, answer.stderr
    assert time.monotonic() - began < 2


def test_write_prints_the_script_and_asks_as_the_training_data_does(run, world):
    world.of("one.gguf").text = TABLE
    wishes = ["--tone", "উষ্ণ", "--brand", "ঝিলমাটি", "--product", "দেয়ালের রং", "--duration", "20", "--seed", "7"]
    answer = call("write", "নতুন রং", *wishes)
    assert answer.exit_code == 0, answer.output
    assert TABLE in answer.output
    asked = world.bodies[-1]
    system, user = asked["messages"]
    assert system["role"] == "system" and asked["seed"] == 7 and "grammar" in asked
    assert all(part in user["content"] for part in ("ঝিলমাটি", "দেয়ালের রং", "উষ্ণ", "২০ সেকেন্ড", "নতুন রং"))
    assert world.open() == []


def test_write_asks_exactly_as_the_service_does(run, world, start):
    bench = start()
    bench.write()
    wishes = [f"--{name}={REQUEST[name]}" for name in ("industry", "tone", "brand", "product")]
    call("write", REQUEST["message"], *wishes, "--duration", "30")
    one, other = ({**body, "seed": 0, "model": ""} for body in list(world.bodies)[-2:])
    assert one == other


def test_write_says_when_the_answer_is_no_script(run, world):
    world.of("one.gguf").text = "আমি জানি না"
    answer = call("write", "নতুন রং", "--industry", "রং")
    assert answer.exit_code == 1
    assert "Not a valid script" in answer.output
    assert "খাত: রং।" in world.bodies[-1]["messages"][1]["content"]


def test_write_says_what_is_too_long(run):
    answer = call("write", "x", "--brand", "ক" * 81, "--product", "রং")
    assert answer.exit_code == 1 and "--brand" in answer.output and "Traceback" not in answer.output


def test_an_engine_that_dies_is_one_sentence_and_leaves_nothing_running(run, world):
    world.of("one.gguf").dies_after = 1
    answer = call("write", "নতুন রং")
    assert answer.exit_code == 1 and "engine stopped" in answer.output
    assert world.open() == []


def test_chat_keeps_the_conversation_and_ends_at_an_empty_line(run, world):
    world.of("one.gguf").text = "ভালো আছি"
    answer = call("chat", input="কেমন আছো?\nকী করো?\n\n")
    assert answer.exit_code == 0 and answer.output.count("ভালো আছি") == 2
    last = world.bodies[-1]
    assert [turn["role"] for turn in last["messages"]] == ["system", "user", "assistant", "user"]
    assert "grammar" not in last and world.open() == []


def test_chat_forgets_its_oldest_turns_before_the_model_has_no_room(run, world):
    world.of("one.gguf").text = "হ"
    call("chat", input="ক" * 1500 + "\n" + "খ" * 1500 + "\n")
    assert [turn["role"] for turn in world.bodies[-1]["messages"]] == ["system", "user"]


def test_without_a_file_the_remedy_is_said(run, monkeypatch):
    monkeypatch.setattr("lekhai_helpers.closing.recommended_gguf", lambda run: None)
    answer = call("serve")
    assert answer.exit_code == 1 and "notebook 12 makes it" in answer.output
    answer = call("write", "x", "--gguf", "nowhere.gguf")
    assert answer.exit_code == 1 and "nowhere.gguf" in answer.output


def test_only_the_services_own_settings_can_be_set(run):
    answer = call("serve", "--set", "decoding.temperature=2")
    assert answer.exit_code == 1 and "only serving.* can be set here" in answer.output
    answer = call("serve", "--set", "serving.slot=2")
    assert answer.exit_code == 1 and "did you mean 'serving.slots'" in answer.output


def test_a_wrong_engine_address_is_said(run):
    answer = call("serve", "--engine", "gpu-box:8000")
    assert answer.exit_code == 1 and "no address of an engine" in answer.output


# --- recipes that take a message


CALL = '<tool_call>{"name": "get_weather", "arguments": {"location": "Dhaka"}}</tool_call>'
ASIDE = "The river has no opinion of the weather, and is never wrong about it."


@pytest.fixture
def twain(monkeypatch, run):
    """The newest run is TwainBot's."""
    made = Run(resolve("twainbot", "smoke"), "t")
    monkeypatch.setattr("lekhai_helpers.closing.newest_run", lambda *_: made)
    return made


def test_write_sends_the_message_as_it_is_and_asks_no_grammar(twain, world):
    world.of("one.gguf").text = ASIDE
    answer = call("write", "Tell me about the river.", "--seed", "3")
    assert answer.exit_code == 0 and ASIDE in answer.output, answer.output
    asked = world.bodies[-1]
    assert [turn["content"] for turn in asked["messages"]] == [twain.settings.system_prompt, "Tell me about the river."]
    assert "grammar" not in asked and asked["seed"] == 3


def test_write_refuses_what_only_an_ad_has_and_says_what_broke(twain, world):
    answer = call("write", "x", "--brand", "ঝিলমাটি", "--duration", "20")
    assert answer.exit_code == 1 and "--duration, --brand: only for ad scripts" in answer.output
    world.of("one.gguf").text = CALL.replace("get_weather", "open_the_door")
    answer = call("write", "How is the weather?")
    assert answer.exit_code == 1 and "Not a valid answer: there is no tool named 'open_the_door'" in answer.output


def test_chat_makes_the_calls_of_a_model_with_tools_and_shows_the_replies(twain, world, monkeypatch):
    monkeypatch.delenv("OPENWEATHER_API_KEY", raising=False)
    world.of("one.gguf").text = CALL
    answer = call("chat", input="How is Dhaka?\n\n")
    assert answer.exit_code == 0, answer.output
    assert answer.output.count(CALL) == 4, "three rounds of calls, and the last word"
    assert answer.output.count('"location": "Dhaka", "date": "today"') == 3
    assert world.bodies[-1]["messages"][-1]["content"].startswith("<tool_response>")


def test_a_file_without_a_run_is_asked_as_the_recipe_named(monkeypatch, tmp_path):
    from lekhai_helpers.served_model import served_model

    monkeypatch.setenv("LEKHAI_RUNS", str(tmp_path))
    settings, _, file = served_model(None, tmp_path / "x.gguf", [], recipe="tutor")
    assert settings.recipe == "tutor" and settings.serving.form == "prompt" and file == tmp_path / "x.gguf"
    assert served_model(None, tmp_path / "x.gguf", [])[0].serving.form == "ad_script"
    answer = call("write", "x", "--recipe", "tutor")
    assert answer.exit_code == 1 and "a run of tutor was not found" in answer.output


# --- reload


def test_reload_changes_the_model_of_a_running_service(start, monkeypatch):
    bench = start()
    monkeypatch.setenv("LEKHAI_ADMIN_TOKEN", "admin-token")
    answer = call("reload", str(bench.models / "two.gguf"), "--service", str(bench.client.base_url))
    assert answer.exit_code == 0, answer.output
    assert "two.gguf@00000000 answers now (before: one.gguf@00000000)" in answer.output


def test_reload_sends_the_token_to_no_other_machine(monkeypatch):
    monkeypatch.setenv("LEKHAI_ADMIN_TOKEN", "admin-token")
    monkeypatch.setattr(httpx, "post", lambda *_, **__: pytest.fail("something was sent"))
    answer = call("reload", "x.gguf", "--service", "http://lekhai.example.org")
    assert answer.exit_code == 1 and "is not on this machine" in answer.output


def test_reload_says_why_it_did_not(start, monkeypatch):
    bench = start()
    service = ("--service", str(bench.client.base_url))
    monkeypatch.delenv("LEKHAI_ADMIN_TOKEN", raising=False)
    assert "set LEKHAI_ADMIN_TOKEN" in call("reload", "x.gguf", *service).output
    monkeypatch.setenv("LEKHAI_ADMIN_TOKEN", "wrong")
    refused = call("reload", "x.gguf", *service)
    assert refused.exit_code == 1 and "token is missing or wrong" in refused.output and "wrong'" not in refused.output
    monkeypatch.setenv("LEKHAI_ADMIN_TOKEN", "admin-token")
    assert "no file x.gguf" in call("reload", "x.gguf", *service).output
    nobody = call("reload", "x.gguf", "--service", "http://127.0.0.1:9")
    assert nobody.exit_code == 1 and "`lekhai serve` starts it" in nobody.output


# --- serve, as a process of its own, over an engine that is "elsewhere"


@pytest.fixture
def served(world, models, tmp_path):
    """The address of `lekhai serve --engine`, its process, and what it may be told in the environment."""
    engine = FakeEngine(world, models / "one.gguf")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "lekhai_helpers.cli", "serve", "--engine", engine.address, "--port", str(port)]
    secrets = {"LEKHAI_API_KEY": "key-123", "LEKHAI_RUNS": str(tmp_path), "LEKHAI_ENGINE_KEY": "engine-456"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | secrets, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    yield f"http://127.0.0.1:{port}", process
    if process.poll() is None:
        process.kill()
    process.wait()
    process.stdout.close()


def test_serve_answers_keeps_scripts_and_stops_cleanly(served, tmp_path):
    address, process = served
    client = httpx.Client(base_url=address, headers={"Authorization": "Bearer key-123"}, timeout=30)
    wait_for(client, process)
    body = client.post("/v1/scripts", json=REQUEST).json()
    assert body["markdown"] == SCRIPT and body["model"] == "lekhai" and body["id"]
    assert httpx.post(f"{address}/v1/scripts", json=REQUEST).status_code == 401
    assert (tmp_path / "scripts.db").exists()
    assert client.post("/admin/reload-model", json={"path": "x"}).status_code == 403
    client.close()
    process.terminate()
    said, _ = process.communicate(timeout=30)
    assert f"lekhai answers at {address}" in said
    assert "key-123" not in said and "engine-456" not in said and "Traceback" not in said


def test_an_engine_elsewhere_that_is_away_makes_the_service_unwell_and_comes_back(served, world):
    address, process = served
    client = httpx.Client(base_url=address, headers={"Authorization": "Bearer key-123"}, timeout=30)
    wait_for(client, process)
    assert client.get("/health").json()["status"] == "ok"
    world.open()[0].close()
    health = client.get("/health")
    assert health.status_code == 503 and health.json()["status"] == "engine down"
    refused = client.post("/v1/scripts", json=REQUEST)
    assert refused.status_code == 503 and "cannot be reached" in refused.json()["detail"]
    client.close()


def wait_for(client: httpx.Client, process: subprocess.Popen, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, process.stdout.read()
        try:
            client.get("/health")
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the service did not start")
