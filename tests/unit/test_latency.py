"""How long one waits for a file: percentiles, what is left out, and honest words beside a goal."""

import pytest

from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.ship import latency
from lekhai_helpers.ship.errors import QuantizeError
from lekhai_helpers.ship.latency import Latency, Waits, machine_words, measure_latency, waits

FIRST, AGAIN, WHOLE = Waits(120.0, 180.0, 20), Waits(40.0, 55.0, 20), Waits(2000.0, 2500.0, 12)


def found(goal=None):
    return Latency("t-q8_0.gguf", "a processor (2 threads, no graphics card used, one reader)", 300, FIRST, AGAIN, WHOLE, 80, goal)  # fmt: skip  # noqa: E501


def test_the_95th_percentile_of_twenty_is_the_nineteenth_and_the_median_the_middle():
    assert waits([number / 1000 for number in range(20, 0, -1)]) == Waits(10.5, 19.0, 20)
    assert waits([0.5]) == Waits(500.0, 500.0, 1)


def test_an_answer_without_a_word_is_no_wait_of_no_time():
    """An empty answer ended at once: counted as a first token, it made a broken file the fastest."""
    assert waits([0.1, None, 0.3]) == Waits(200.0, 300.0, 2)
    with pytest.raises(QuantizeError, match="writes no word"):
        waits([None, None])


def test_the_goal_is_set_beside_the_figures_and_said_to_be_missed_or_kept():
    assert "no goal" in found().sentence
    assert "The goal of 50 ms" in found(50).sentence and "kept by the median of the same with" in found(50).sentence
    assert "kept by neither median" in found(10).sentence
    assert "kept by the median of the first token and of" in found(150).sentence
    for word in ("median of 20", "95th percentile 180 ms", "2 threads", "no graphics card used", "80 tokens"):
        assert word in found(50).sentence


def test_the_table_has_the_goal_only_where_there_is_one():
    assert "goal_ms" not in found().table() and list(found(50).table()["goal_ms"])[:2] == [50, 50]
    assert found(50).figures()["first"] == {"median_ms": 120.0, "p95_ms": 180.0, "n": 20}


def test_the_machine_is_named_with_what_the_file_held_of_a_card(monkeypatch):
    facts = {"cpu": "Some Processor", "gpu": "Some Card", "cores": 2}
    monkeypatch.setattr("lekhai_helpers.core.hardware.machine", lambda: facts)
    said = machine_words(1, None, 0.2)
    assert said.startswith(
        "Some Processor (1 thread, no graphics card used, one reader, 0.2 other programs at work on 2"
    )
    assert "4 threads, 700 MB of it on Some Card" in machine_words(4, 700.0, 3)


class Server:
    """Stands in for llama.cpp's server: an answer of three pieces; the first comes late."""

    asked: list = []
    process = type("process", (), {"pid": 1})

    def __init__(self, gguf, context, slots, threads):
        Server.asked = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def stream(self, messages, decoding, seed, reuse):
        Server.asked.append((messages[0]["content"], decoding.max_new_tokens, reuse))
        yield from ["one ", "two ", "three"][: decoding.max_new_tokens]

    def tokenize(self, text):
        return text.split()

    def render(self, messages):
        return " ".join(message["content"] for message in messages)


def test_every_prompt_has_its_turn_and_the_first_request_is_not_counted(monkeypatch, tmp_path):
    monkeypatch.setattr(latency, "LlamaServer", Server)
    settings = resolve("tutor", "smoke")
    prompts = [[{"role": "user", "content": name}] for name in ("a", "b b")]
    measured = measure_latency(tmp_path / "x.gguf", prompts, settings, first=4, answers=2)
    assert (measured.first.n, measured.again.n, measured.answer.n) == (4, 4, 2)
    assert measured.answer_tokens == 3 and measured.prompt_tokens == 2 and measured.goal_ms == 50
    names = [name for name, _, _ in Server.asked]
    assert names == ["a", *["a", "b b"] * 5] and [one[1] for one in Server.asked[-2:]] == [48, 48]
    assert [reuse for _, _, reuse in Server.asked] == [False] * 5 + [True] * 4 + [False] * 2


def test_without_a_prompt_there_is_nothing_to_wait_for(tmp_path):
    with pytest.raises(QuantizeError, match="no prompt"):
        measure_latency(tmp_path / "x.gguf", [], resolve("tutor", "smoke"))
