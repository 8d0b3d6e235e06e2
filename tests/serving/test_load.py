"""`lekhai bench`: what it counts, whom it may press, and that it leaves nothing behind."""

import asyncio

import pytest
from typer.testing import CliRunner

from lekhai_helpers import cli
from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.ship import load_client
from lekhai_helpers.ship.limits import Security, on_this_machine
from lekhai_helpers.ship.load import Level, load_table, measure_load, nearest_rank, service_over
from lekhai_helpers.ship.load_client import LoadError
from tests.serving.fakes import FakeEngine


def address_of(bench) -> str:
    return str(bench.client.base_url).rstrip("/")


def test_every_level_is_measured_with_all_its_requests(bench):
    bench.world.of("one.gguf").pace = 0.05
    seen = []
    levels = measure_load(address_of(bench), (1, 4), 8, tell=seen.append)
    assert levels == seen and [level.clients for level in levels] == [1, 4]
    for level in levels:
        assert (level.scripts, level.refused, level.failed) == (8, 0, 0)
        assert level.tokens_per_second == pytest.approx(8 * 4 / level.seconds, rel=0.01)
        assert level.scripts_per_second == pytest.approx(8 / level.seconds, rel=0.01)
        assert 0 < level.first_median <= level.first_p95 < level.p95 and 0.15 < level.median <= level.p95
    assert levels[1].seconds < levels[0].seconds, "four at once are no slower than one after the other"
    assert len(bench.store.search(limit=100)) == 17, "a script to wake the engine, then what was asked for"
    assert len({script.request["tone"] for script in bench.store.search()}) > 5


def test_who_is_sent_away_is_counted_and_pauses(start, monkeypatch):
    monkeypatch.setattr(load_client, "LONGEST_PAUSE", 0.1)
    bench = start({"serving.slots": 1, "serving.queue": 0})
    bench.world.of("one.gguf").pace = 0.1
    (level,) = measure_load(address_of(bench), (4,), 8)
    assert level.refused >= 3 and level.scripts >= 1 and level.scripts + level.refused == 8 and level.failed == 0


def test_what_fails_is_counted_with_its_words(bench):
    (warm,) = measure_load(address_of(bench), (1,), 1)
    assert warm.failed == 0

    def break_it(level: Level) -> None:
        bench.world.of("one.gguf").ends_early = True

    _, broken = measure_load(address_of(bench), (1, 2), 3, tell=break_it)
    assert (broken.scripts, broken.failed) == (0, 3) and broken.median is broken.first_p95 is None
    (fault,) = broken.faults
    assert "503" in fault and "in the middle" in fault
    assert "3 x 503" in load_table([broken])


def test_a_stream_that_just_ends_and_a_connection_that_breaks_are_failures(bench, monkeypatch):
    monkeypatch.setattr(load_client, "GIVE_UP", 0.3)

    def hang(_: Level) -> None:
        bench.world.of("one.gguf").hangs = True

    _, broken = measure_load(address_of(bench), (1, 2), 2, tell=hang)
    assert broken.faults == {"no end within 0.3 seconds": 2}
    bench.until(lambda: bench.board.in_flight == 0)


def test_only_this_machine_unless_somebody_says_otherwise(bench):
    for address in ("http://10.0.0.9:8000", "http://lekhai.example", "https://127.0.0.1.evil.example"):
        with pytest.raises(LoadError, match="not on this machine"):
            measure_load(address)
    assert all(map(on_this_machine, ("http://localhost:1", "http://127.0.0.1:8000", "http://[::1]:9")))
    with pytest.raises(LoadError, match="give it like"):
        measure_load("localhost:8000")


@pytest.mark.parametrize(("clients", "requests"), [((), 16), ((0,), 16), ((65,), 100), ((16,), 4), ((1,), 1001)])
def test_the_load_has_bounds(clients, requests):
    with pytest.raises(LoadError, match="at most 1000"):
        measure_load("http://127.0.0.1:9", clients, requests)


def test_who_is_no_service_of_ours_is_told_apart(start):
    with pytest.raises(LoadError, match="`lekhai serve` starts one"):
        measure_load("http://127.0.0.1:9", (1,), 1)
    bench = start(security=Security("the-key", "", ()))
    with pytest.raises(LoadError, match="set LEKHAI_API_KEY"):
        measure_load(address_of(bench), (1,), 1)
    assert measure_load(address_of(bench), (1,), 1, key="the-key")[0].scripts == 1
    bench.world.of("one.gguf").refuse = (500, {})
    with pytest.raises(LoadError, match="writes no script: 502"):
        measure_load(address_of(bench), (1,), 1, key="the-key")


def test_it_can_be_called_where_a_loop_runs_already(bench):
    """As in a notebook."""

    async def cell() -> list[Level]:
        return measure_load(address_of(bench), (1,), 1)

    assert asyncio.run(cell())[0].scripts == 1


def test_the_nearest_rank_is_a_value_that_was_measured():
    assert nearest_rank([3, 1, 2], 0.95) == 3 and nearest_rank([], 0.95) is None
    assert nearest_rank(list(range(1, 21)), 0.95) == 19 and nearest_rank(list(range(1, 101)), 0.5) == 50


def test_the_table_has_a_row_for_each_level_in_line_with_its_head():
    level = Level(16, 14, 1, 1, 61.234, 0.2286, 88.1, 40.5, 60.123, 30.1, 55.0, {"503: away": 1})
    head, row, fault = load_table([level]).split("\n")
    assert len(head) == len(row) and " ".join(row.split()) == "16 14 1 1 13.7 88.1 40.50 60.12 30.10 55.00"
    assert fault == "1 x 503: away" and level.row()["p95"] == 60.123


def test_a_service_of_its_own_is_gone_afterwards_with_what_took_its_engines_place(world, models):
    world.of("one.gguf").dies_after = 1
    with service_over(FakeEngine(world, models / "one.gguf"), resolve("lekhai", "smoke")) as address:
        with pytest.raises(LoadError, match="engine stopped"):
            measure_load(address, (1,), 1)
        world.of("one.gguf").dies_after = None
        assert measure_load(address, (1,), 1)[0].scripts == 1
    assert len(world.started) == 2 and world.open() == []


# --- the verb


@pytest.fixture
def run(monkeypatch, tmp_path, world, models):
    monkeypatch.setenv("LEKHAI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("lekhai_helpers.ship.engines.local_engine", lambda gguf, *_: FakeEngine(world, gguf))
    return ["bench", "--gguf", str(models / "one.gguf")]


def test_bench_starts_a_service_and_keeps_nothing_of_it(run, world, tmp_path):
    answer = CliRunner().invoke(cli.app, [*run, "--clients", "1,2", "--requests", "3"])
    assert answer.exit_code == 0, answer.output
    assert "scripts/min" in answer.output and "one.gguf@00000000, 4 at once" in answer.output
    assert world.open() == [] and list(tmp_path.rglob("scripts.db")) == []


def test_bench_presses_a_running_service(bench, monkeypatch):
    words = ["bench", "--service", address_of(bench), "--clients", "2", "--requests", "2"]
    answer = CliRunner().invoke(cli.app, words)
    assert answer.exit_code == 0, answer.output
    bench.world.of("one.gguf").text = ""
    assert CliRunner().invoke(cli.app, words).exit_code == 0, "an empty script is a bad script and a good answer"


def test_bench_says_what_cannot_be_done(run, models):
    def said(*words: str) -> str:
        answer = CliRunner().invoke(cli.app, list(words))
        assert answer.exit_code in (1, 2) and "Traceback" not in answer.output
        return answer.output

    assert "commas" in said(*run, "--clients", "1;4")
    assert "cannot be measured" in said(*run, "--clients", "16", "--requests", "4")
    assert "not on this machine" in said("bench", "--service", "http://10.0.0.9:8000")
    assert "--service" in said(*run, "--service", "http://127.0.0.1:9")


def test_bench_fails_where_a_request_failed(bench, monkeypatch):
    monkeypatch.setattr(
        "lekhai_helpers.ship.load.measure_load",
        lambda *_: [Level(1, 0, 0, 1, 1.0, 0.0, 0.0, None, None, None, None, {"503: away": 1})],
    )
    answer = CliRunner().invoke(cli.app, ["bench", "--service", address_of(bench)])
    assert answer.exit_code == 1 and "1 x 503: away" in answer.output
