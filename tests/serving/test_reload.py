"""Another model without a gap: what is let in, what is refused and why, and that the old one goes on meanwhile."""

import threading

import httpx
import pytest

from lekhai_helpers.ship import reload as reload_module
from lekhai_helpers.ship.gguf_header import ModelFileError, read_header
from lekhai_helpers.ship.limits import Security
from tests.serving.fakes import ADMIN, ONE, assert_problem, write_gguf

TWO = "two.gguf@00000000"
PIPES = "| | | |\n" * 5


def assert_old_goes_on(bench) -> None:
    answer = bench.write()
    assert answer.status_code == 200 and answer.json()["model"] == ONE
    assert len(bench.world.open()) == 1, "the refused engine was left running"


def test_the_new_model_answers_and_the_old_one_is_gone(bench):
    answer = bench.reload("two.gguf")
    body = answer.json()
    assert answer.status_code == 200, answer.text
    assert (body["model"], body["previous"], body["memory_mb"]) == (TWO, ONE, 100.0) and body["seconds"] > 0
    assert answer.headers["x-lekhai-model"] == TWO
    assert bench.write().json()["model"] == TWO and bench.client.get("/health").json()["model"] == TWO
    assert [engine.info.name for engine in bench.world.open()] == [TWO]


def test_a_running_request_ends_on_the_old_model_while_new_ones_go_to_the_new(bench):
    bench.world.of("one.gguf").pace = 0.4
    slow, answers = [], {}
    first = threading.Thread(target=lambda: slow.append(bench.write().json()["model"]))
    first.start()
    bench.until(lambda: bench.board.in_flight == 1)
    swap = threading.Thread(target=lambda: answers.update(bench.reload("two.gguf").json()))
    swap.start()
    bench.until(lambda: bench.board.current.name == TWO)
    assert bench.write().json()["model"] == TWO and not slow
    assert len(bench.world.open()) == 2, "the old one must not be closed under its request"
    first.join()
    swap.join()
    assert slow == [ONE] and answers["model"] == TWO and len(bench.world.open()) == 1


# --- who may


def test_only_this_machine_with_the_token_and_not_through_a_proxy(bench):
    def ask(**headers):
        return bench.client.post("/admin/reload-model", json={"path": "two.gguf"}, headers=headers)

    assert_problem(ask(), 401, "LEKHAI_ADMIN_TOKEN")
    assert_problem(ask(Authorization="Bearer wrong"), 401)
    for proxy in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        assert_problem(ask(**ADMIN, **{proxy: "127.0.0.1"}), 403, "not through a proxy")
    assert_old_goes_on(bench)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_another_machine_is_refused_even_with_the_token(bench, anyio_backend):
    transport = httpx.ASGITransport(app=bench.app, client=("10.0.0.9", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.post("/admin/reload-model", json={"path": "two.gguf"}, headers=ADMIN)
    assert_problem(answer, 403, "own machine only")


def test_without_a_token_in_the_environment_nobody_may(start, models):
    bench = start(security=Security("", "", (models,)))
    for headers in ({}, {"Authorization": "Bearer"}):
        answer = bench.client.post("/admin/reload-model", json={"path": "two.gguf"}, headers=headers)
        assert_problem(answer, 403, "started without LEKHAI_ADMIN_TOKEN")


# --- which file


def test_a_file_must_lie_in_an_allowed_folder_whatever_its_name_looks_like(bench, tmp_path):
    outside = write_gguf(tmp_path / "outside.gguf")
    (bench.models / "link.gguf").symlink_to(outside)
    for path in (str(outside), "../outside.gguf", "link.gguf", "/etc/passwd", "/nowhere/x.gguf"):
        assert_problem(bench.reload(path), 403, "run's folder")
    assert_problem(bench.reload("missing.gguf"), 404, "missing.gguf")
    assert_problem(bench.reload("two.gguf\0"), 422)
    (bench.models / "notes.txt").write_text("x")
    assert_problem(bench.reload("notes.txt"), 422, "must end in .gguf")
    assert_old_goes_on(bench)


def test_the_whole_path_does_as_well_as_the_name(bench):
    assert bench.reload(str(bench.models / "two.gguf")).status_code == 200


@pytest.mark.parametrize("length", [0, 3, 20, 300, -1])
def test_a_file_that_is_not_whole_is_refused(bench, length):
    whole = (bench.models / "two.gguf").read_bytes()
    (bench.models / "cut.gguf").write_bytes(whole[:length])
    assert_problem(bench.reload("cut.gguf"), 422, "copy it again")
    assert_old_goes_on(bench)


def test_any_bytes_at_all_are_refused_in_words_and_never_with_a_crash(tmp_path, models):
    whole = (models / "two.gguf").read_bytes()
    for place in range(0, 400, 3):
        broken = tmp_path / "broken.gguf"
        broken.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read_header(broken)
        except ModelFileError as error:
            assert "broken.gguf" in str(error)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": "llama"}, "architecture llama instead of gemma3"),
        ({"pieces": 41}, "41 pieces in the dictionary instead of 40"),
        ({"template": "{{ y }}"}, "another chat template"),
    ],
)
def test_another_kind_of_model_takes_a_restart(bench, change, words):
    write_gguf(bench.models / "other.gguf", **change)
    assert_problem(bench.reload("other.gguf"), 422, words, "start it with this file")
    assert_old_goes_on(bench)


def test_without_memory_for_both_nothing_is_loaded(bench, monkeypatch):
    monkeypatch.setattr(reload_module, "free_memory", lambda: 1_000_000)
    assert_problem(bench.reload("two.gguf"), 507, "about 65 MB beside the old one, and 1 MB are free")
    assert len(bench.world.started) == 1
    assert_old_goes_on(bench)


def test_the_memory_free_is_a_plausible_number():
    assert 10_000_000 < reload_module.free_memory() < 10**14


def test_the_memory_needed_counts_weights_cache_and_working_room(models):
    header = read_header(models / "two.gguf")
    assert (header.layers, header.kv_width, header.vocabulary) == (2, 32, 40)
    assert header.memory(1000) == header.size + 2 * 2 * 32 * 2 * 1000 + 512 * 40 * 4 + 64_000_000


# --- what it writes


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"load_error": "llama.cpp could not load two.gguf"}, "could not load two.gguf"),
        ({"text": ""}, "nothing was written"),
        ({"text": PIPES}, "no valid script in 3 tries within the grammar"),
        ({"unaided": PIPES}, "no valid script in 3 tries without the grammar's help"),
        ({"dies_after": 1}, "loads but does not write"),
        ({"refuse": (400, {"error": {"message": "bad"}})}, "loads but does not write"),
    ],
)
def test_a_model_that_does_not_do_its_work_is_not_put_in_place(bench, fault, words):
    """A ruined file writes tables all the same where the grammar holds its hand: it must show itself without."""
    for name, value in fault.items():
        setattr(bench.world.of("two.gguf"), name, value)
    assert_problem(bench.reload("two.gguf"), 422, words)
    assert_old_goes_on(bench)
    assert 'lekhai_reloads_total{result="422"} 1.0' in bench.client.get("/metrics").text


def test_a_model_that_never_ends_its_check_is_given_up(start):
    bench = start({"serving.write_seconds": 0.2})
    bench.world.of("two.gguf").hangs = True
    assert_problem(bench.reload("two.gguf"), 422, "did not answer within")
    assert_old_goes_on(bench)


@pytest.mark.parametrize(("check", "status"), [("text", 200), ("grammar", 200), ("unaided", 422)])
def test_how_much_a_new_model_must_show_is_a_setting(start, check, status):
    bench = start({"serving.check": check})
    bench.world.of("two.gguf").unaided = PIPES
    assert bench.reload("two.gguf").status_code == status


def test_two_changes_at_once_are_one_too_many(bench):
    bench.world.of("two.gguf").pace = 0.2
    statuses = []
    first = threading.Thread(target=lambda: statuses.append(bench.reload("two.gguf").status_code))
    first.start()
    bench.until(lambda: len(bench.world.started) == 2)
    assert_problem(bench.reload("three.gguf"), 409, "another model is being loaded")
    first.join()
    assert statuses == [200] and bench.reload("three.gguf").status_code == 200


def test_a_change_is_finished_even_where_nobody_waits_for_it(bench):
    bench.world.of("two.gguf").pace = 0.1
    with pytest.raises(httpx.ReadTimeout):
        bench.client.post("/admin/reload-model", json={"path": "two.gguf"}, headers=ADMIN, timeout=0.2)
    bench.until(lambda: bench.board.current.name == TWO)
    assert bench.reload("three.gguf").status_code == 200 and len(bench.world.open()) == 1


def test_a_good_model_is_asked_for_two_scripts_only(bench):
    """The trial takes the machine from the people who are waiting for scripts."""
    bench.reload("two.gguf")
    assert ["grammar" in body for body in bench.world.bodies] == [True, False]
