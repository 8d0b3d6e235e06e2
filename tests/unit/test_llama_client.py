"""How llama.cpp's server is asked: it ends a connection after a streamed answer, and the next question must live."""

import socket
import threading
from types import SimpleNamespace

import pytest

from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.ship.llama_server import LlamaServer, _client

PIECE = b'data: {"choices": [{"delta": {"content": "hello"}}]}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def address():
    """A server that answers one question on each connection, promises no end, and reads no second one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_answer_all, args=(listening,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def _answer_all(listening):
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return  # the test is over
        with connection:
            asked = connection.recv(65536)
            while not asked.endswith(b"}"):  # head and body come one after the other
                asked += connection.recv(65536)
            connection.sendall(HEAD + b"%x\r\n%s\r\n0\r\n\r\n" % (len(PIECE), PIECE))
            connection.recv(1)  # the next question on this connection, if there is one: it gets no answer


def test_a_question_after_a_streamed_answer_goes_out_on_a_connection_of_its_own(address):
    decoding = resolve("lekhai", "smoke").decoding
    with _client(address) as client:
        asking = SimpleNamespace(client=client, context=64)
        for _ in range(3):
            assert "".join(LlamaServer.stream(asking, [{"role": "user", "content": "hi"}], decoding)) == "hello"
