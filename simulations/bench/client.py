"""Plain HTTP for publishing, and a download that measures the server and not the client."""

from __future__ import annotations

import hashlib
import http.client
import socket
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

PATIENCE = 600.0  # seconds; a gigabyte may take a while on a busy machine
BUFFER = 1 << 20


class AnswerError(Exception):
    """A server did not do what it was asked."""


def call(
    method: str,
    url: str,
    body: bytes | Path | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[bytes, dict[str, str]]:
    """Send a request; return its body and lower-case headers.  Raises AnswerError."""
    with Client(url) as client:
        return client.call(method, url, body, headers)


class Client:
    """One connection to a server, kept from request to request, as package clients keep theirs."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, PATIENCE, None, BUFFER
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def call(
        self,
        method: str,
        url: str,
        body: bytes | Path | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[bytes, dict[str, str]]:
        """Send a request; return its body and lower-case headers.  Raises AnswerError."""
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        sent = dict(headers or {})
        if isinstance(body, Path):
            sent.setdefault("Content-Length", str(body.stat().st_size))
            with body.open("rb") as file:
                self._connection.request(method, target, file, sent)
        else:
            self._connection.request(method, target, body, sent)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise AnswerError(f"{method} {url}: {answer.status} {content[:300]!r}")
        return content, {name.lower(): value for name, value in answer.getheaders()}


def form(
    fields: Mapping[str, str], filename: str, content: Path | bytes
) -> tuple[Iterable[bytes], dict[str, str]]:
    """A multipart upload with one file, streamed; returns its body and headers."""
    boundary = uuid.uuid4().hex
    lines = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    lines.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{filename}"'
        "\r\nContent-Type: application/octet-stream\r\n\r\n"
    )
    head, tail = "".join(lines).encode(), f"\r\n--{boundary}--\r\n".encode()
    size = len(content) if isinstance(content, bytes) else content.stat().st_size

    def body() -> Iterable[bytes]:
        yield head
        if isinstance(content, bytes):
            yield content
        else:
            with content.open("rb") as file:
                while data := file.read(BUFFER):
                    yield data
        yield tail

    return body(), {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Content-Length": str(len(head) + size + len(tail)),
    }


def sha256_of(url: str) -> tuple[int, str]:
    """Download a body and look at it; return its bytes and SHA-256.  Raises AnswerError."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, PATIENCE)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise AnswerError(f"{url}: {answer.status}")
        found, got = hashlib.sha256(), 0
        while data := answer.read(BUFFER):
            found.update(data)
            got += len(data)
        return got, found.hexdigest()
    finally:
        connection.close()


def drain(url: str) -> tuple[int, float]:
    """Download and drop a body; return its bytes and seconds.  Raises AnswerError.

    The kernel discards the bytes (MSG_TRUNC on TCP copies nothing), so that on two cores the
    client costs little and the figure is the server's.
    """
    parts = urlsplit(url)
    began = time.monotonic()
    with socket.create_connection((parts.hostname, parts.port), PATIENCE) as connection:
        lines = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
        connection.sendall(lines.encode())
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(1 << 16)
            if not data:
                raise AnswerError(f"{url}: closed within the head")
            head += data
        text, _, start = head.partition(b"\r\n\r\n")
        if b" 200 " not in text.split(b"\r\n", 1)[0] + b" ":
            raise AnswerError(f"{url}: {text[:100]!r}")
        got = len(start) + _discard(connection)
    length = [line for line in text.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    if length and int(length[0].split(b":")[1]) != got:
        raise AnswerError(f"{url}: {got} bytes of {length[0]!r}")
    return got, time.monotonic() - began


def _discard(connection: socket.socket) -> int:
    buffer, got = bytearray(BUFFER), 0
    while count := connection.recv_into(buffer, 0, socket.MSG_TRUNC):
        got += count
    return got
