"""A crowd counts what it gets, and looks at some of it."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from simulations.bench import crowd

BODY = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()
Serve = Callable[[bytes], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Answer every connection with the same bytes; give the URL."""
    listeners: list[socket.socket] = []

    def start(answer: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        threading.Thread(target=run, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/file"

    yield start
    for each in listeners:
        each.shutdown(socket.SHUT_RDWR)
        each.close()


def ok(body: bytes, length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (length, body)


def test_everybody_gets_everything(serve: Serve) -> None:
    url = serve(ok(BODY, len(BODY)))
    found = crowd.visit([url] * 5, size=len(BODY), sha256=SHA256, hashing=2)
    assert (found["clients"], found["failed"], found["bytes"]) == (5, 0, 5 * len(BODY))
    assert 0 < found["first_byte_seconds"] <= found["seconds"]


def test_other_bytes_are_noticed_by_those_who_look(serve: Serve) -> None:
    url = serve(ok(BODY, len(BODY)))
    found = crowd.visit([url] * 3, size=len(BODY), sha256="0" * 64, hashing=2)
    assert found["failed"] == 2


@pytest.mark.parametrize(
    "answer",
    [
        ok(BODY[:-1], len(BODY)),  # cut off
        ok(BODY[:-1], len(BODY) - 1),  # another length, honestly told
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200",
    ],
)
def test_what_is_not_the_file_is_a_failure(serve: Serve, answer: bytes) -> None:
    found = crowd.visit([serve(answer)] * 2, size=len(BODY), sha256=SHA256)
    assert found["failed"] == 2
    assert "seconds" not in found
