"""How each kind of engine is asked for a table: every one in its own words, and none in another's."""

import pytest
from typer.testing import CliRunner

from lekhai_helpers import cli
from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.ship.api_models import ScriptRequest
from lekhai_helpers.ship.engines import remote_engine
from lekhai_helpers.ship.writing import Order, chat_body, order_for

PLAIN = {"messages", "max_tokens", "temperature", "top_p", "stream", "seed"}
LLAMA = {"top_k", "min_p", "repeat_penalty", "repeat_last_n"}
VLLM = {"top_k", "min_p", "repetition_penalty"}


@pytest.fixture
def settings():
    return resolve("lekhai", "smoke")


@pytest.mark.parametrize(
    ("dialect", "fields"),
    [("none", PLAIN), ("gbnf", PLAIN | LLAMA | {"grammar"}), ("vllm", PLAIN | VLLM | {"structured_outputs"})],
)
def test_an_engine_gets_the_fields_it_knows_and_no_others(settings, dialect, fields):
    """vLLM steps over a field it does not know without a word: `grammar` there would hold nothing."""
    engine = remote_engine("http://gpu-box:9000/v1", "lekhai", dialect)
    order = order_for(ScriptRequest(brand="ঝিলমাটি", product="রং"), settings)
    body = chat_body(engine, order, settings.decoding, 1)
    assert set(body) == fields
    grammar = body.get("grammar") or body.get("structured_outputs", {}).get("grammar")
    assert grammar == (None if dialect == "none" else order.gbnf)
    # No order for a table (a chat, a trial without help): no grammar of any kind.
    free = chat_body(engine, Order(order.messages, ""), settings.decoding, 1)
    assert set(free) == fields - {"grammar", "structured_outputs"}


def test_a_grammar_says_only_what_both_engines_read_alike(settings):
    """vLLM's reader takes a bare dash in [...] for a range, and text without `::=` for another language."""
    grammar = order_for(ScriptRequest(brand="Premium-X", product="রং"), settings).gbnf
    rules = grammar.strip().split("\n")
    assert [rule.split(" ::= ")[0] for rule in rules] == ["root", "row", "cell"]
    assert grammar.isascii() and "[-" not in grammar and "-]" not in grammar


@pytest.mark.parametrize("dialect", ["none", "gbnf", "vllm"])
def test_lekhai_serve_says_which_words_the_engine_takes(monkeypatch, tmp_path, dialect):
    monkeypatch.setenv("LEKHAI_RUNS", str(tmp_path))
    served = []
    monkeypatch.setattr("lekhai_helpers.serve_cli._serve", lambda engine, *_: served.append(engine))
    words = ["serve", "--engine", "http://127.0.0.1:9/v1", "--port", "0", "--grammar", dialect]
    answer = CliRunner().invoke(cli.app, words)
    assert answer.exit_code == 0, answer.output
    assert served[0].grammar_dialect == dialect


def test_words_that_no_engine_has_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("LEKHAI_RUNS", str(tmp_path))
    answer = CliRunner().invoke(cli.app, ["serve", "--engine", "http://127.0.0.1:9", "--grammar", "latin"])
    assert answer.exit_code == 2 and "gbnf" in answer.output
