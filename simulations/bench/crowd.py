"""Many downloads at once, by one thread: what a crowd of clients sees of a server.

Most clients let the kernel discard what comes; a few hash it.  Every body's length is counted.
"""

from __future__ import annotations

import hashlib
import selectors
import socket
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

HEAD_MAX = 64 << 10  # bytes of an answer's head
BUFFER = 1 << 20
SECONDS_MAX = 1800.0
STALL_SECONDS_MAX = 300.0  # without a byte for anybody


@dataclass(slots=True)
class Visitor:
    """One client and its connection."""

    url: str
    hashes: bool
    connection: socket.socket
    began: float
    head: bytearray = field(default_factory=bytearray)
    headed: bool = False
    length: int | None = None  # as declared
    got: int = 0
    first: float = 0.0  # seconds to the first byte of the body
    last: float = 0.0  # seconds to the last
    why: str = ""  # it failed
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def ask(self) -> None:
        """Send the request; it fits into any socket's buffer."""
        parts = urlsplit(self.url)
        lines = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
        self.connection.sendall(lines.encode())

    def take(self, buffer: bytearray) -> bool:
        """Read what is there; whether there may be more."""
        try:
            if not self.headed:
                return self._take_head()
            flags = 0 if self.hashes else socket.MSG_TRUNC  # which copies nothing
            count = self.connection.recv_into(buffer, 0, flags)
        except BlockingIOError:
            return True
        except OSError as error:
            return self._end(str(error))
        if not count:
            short = self.length is not None and self.got != self.length
            return self._end(f"{self.got} bytes of {self.length}" if short else "")
        self._body(memoryview(buffer)[:count] if self.hashes else None, count)
        return True

    def _take_head(self) -> bool:
        data = self.connection.recv(HEAD_MAX)
        self.head += data
        if not data or len(self.head) > HEAD_MAX:
            return self._end("closed within the head")
        head, end, rest = bytes(self.head).partition(b"\r\n\r\n")
        if end:
            self.headed = True
            self._read_head(head.decode("latin-1"))
            if rest and not self.why:
                self._body(memoryview(rest), len(rest))
        return not self.why

    def _read_head(self, text: str) -> None:
        status, *lines = text.split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        if status.split()[1:2] != ["200"]:
            self._end(status[:100])
        elif "transfer-encoding" in headers:
            self._end("the answer has no length")
        elif "content-length" in headers:
            self.length = int(headers["content-length"])

    def _body(self, data: memoryview | None, count: int) -> None:
        if not self.got:
            self.first = time.monotonic() - self.began
        self.got += count
        if self.hashes and data is not None:
            self.digest.update(data)

    def _end(self, why: str) -> bool:
        self.why, self.last = why, time.monotonic() - self.began
        return False


def visit(urls: Sequence[str], *, size: int, sha256: str, hashing: int = 4) -> dict[str, float]:
    """Ask for every URL at once; the first ``hashing`` clients look at what they get.

    Returns seconds until the last byte of all, medians, bytes, and how many failed: a body of
    another length or digest is a failure.
    """
    buffer, began = bytearray(BUFFER), time.monotonic()
    visitors: list[Visitor] = []
    with selectors.DefaultSelector() as selector:
        for number, url in enumerate(urls):
            parts = urlsplit(url)
            connection = socket.create_connection((parts.hostname, parts.port), STALL_SECONDS_MAX)
            visitor = Visitor(url, number < hashing, connection, began)
            visitor.ask()
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ, visitor)
            visitors.append(visitor)
        _serve(selector, buffer, began)
    for each in visitors:
        each.connection.close()
        if not each.why and (each.got != size or (each.hashes and _hex(each) != sha256)):
            each.why = f"{each.got} bytes of {size}, or others"
    return summed(visitors)


def _hex(visitor: Visitor) -> str:
    return visitor.digest.hexdigest()


def _serve(selector: selectors.BaseSelector, buffer: bytearray, began: float) -> None:
    while selector.get_map():
        ready = selector.select(STALL_SECONDS_MAX)
        late = not ready or time.monotonic() - began > SECONDS_MAX
        for key in list(selector.get_map().values()) if late else [key for key, _ in ready]:
            if late:
                key.data.why, key.data.last = "too slow", time.monotonic() - began
            elif key.data.take(buffer):
                continue
            selector.unregister(key.fileobj)


def summed(visitors: Sequence[Visitor]) -> dict[str, float]:
    """The figures of a crowd."""
    served = [each for each in visitors if not each.why]
    found = {
        "clients": float(len(visitors)),
        "failed": float(len(visitors) - len(served)),
        "bytes": float(sum(each.got for each in visitors)),
    }
    if served:
        found["seconds"] = max(each.last for each in served)
        found["p50"] = statistics.median(each.last for each in served)
        found["first_byte_seconds"] = statistics.median(each.first for each in served)
    return found
