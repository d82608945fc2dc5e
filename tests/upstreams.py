"""An upstream that counts what it is asked, and misbehaves as told.

``Upstream`` serves files from a dictionary over real sockets; a ``Page`` says how: how slowly, cut
off where, under which validators, coded how.  Every request is remembered.
"""

from __future__ import annotations

import gzip
import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import trio


@dataclass
class Asked:
    """One request that came."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Page:
    """How one path is answered.  ``cuts`` are bytes after which attempts break off, one by one."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    etag: bool = True
    ranges: bool = True
    length: int | None = None  # declared, if it is not the true one; -1: not declared
    chunked: bool = False
    gzip: bool = False  # coded when asked for
    coding: str = ""  # coded, asked for or not
    cuts: list[int] = field(default_factory=list)
    pause: float = 0.0  # seconds before the head
    drip: float = 0.0  # seconds between pieces of 64 KiB
    gate: trio.Event | None = None  # waited for before the head
    half: trio.Event | None = None  # waited for in the middle of the body

    @property
    def tag(self) -> str:
        """Its ETag."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:16]}"'


Answer = Page | Callable[[Asked], Page]


@dataclass
class Upstream:
    """A server on a port of 127.0.0.1."""

    pages: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    refuse: bool = False  # close every connection at once

    @property
    def url(self) -> str:
        """Its base."""
        return f"http://127.0.0.1:{self.port}"

    def counts(self, method: str = "GET") -> Counter[str]:
        """How often each path was asked for."""
        return Counter(each.path for each in self.asked if each.method == method)

    def put(self, path: str, body: bytes, **how) -> Page:
        """Serve a file."""
        page = self.pages[path] = Page(body, **how)
        return page

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer one connection."""
        with trio.CancelScope():
            try:
                async with stream:
                    while await self._exchange(stream):
                        pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def _exchange(self, stream: trio.SocketStream) -> bool:
        if self.refuse:
            return False
        head = bytearray()
        while b"\r\n\r\n" not in head:
            data = await stream.receive_some(65536)
            if not data:
                return False
            head += data
        lines = bytes(head).split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        asked = Asked(method, path, headers)
        self.asked.append(asked)
        if self.refuse:
            return False
        found = self.pages.get(path, Page(b"no such file\n", 404, {"content-type": "text/plain"}))
        page = found(asked) if callable(found) else found
        if page.gate is not None:
            await page.gate.wait()
        await trio.sleep(page.pause)
        return await self._answer(stream, asked, page)

    async def _answer(self, stream: trio.SocketStream, asked: Asked, page: Page) -> bool:
        status, body, headers = page.status, page.body, dict(page.headers)
        if page.etag and status == 200:
            headers.setdefault("etag", page.tag)
            if asked.headers.get("if-none-match") == headers["etag"]:
                await stream.send_all(
                    f"HTTP/1.1 304 Same\r\netag: {headers['etag']}\r\n\r\n".encode()
                )
                return True
        wants = page.gzip and "gzip" in asked.headers.get("accept-encoding", "")
        if wants or page.coding:
            body = gzip.compress(body) if wants or page.coding == "gzip" else body
            headers["content-encoding"] = page.coding or "gzip"
        span = asked.headers.get("range")
        same = asked.headers.get("if-range") in {None, headers.get("etag")}
        if span and page.ranges and same and status == 200:
            start = int(span.removeprefix("bytes=").partition("-")[0])
            headers["content-range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            status, body = 206, body[start:]
        return await self._send(stream, asked, page, status, body, headers)

    async def _send(self, stream, asked, page, status, body, headers) -> bool:
        length = len(body) if page.length is None else page.length
        if page.chunked:
            headers["transfer-encoding"] = "chunked"
        elif length >= 0:
            headers["content-length"] = str(length)
        else:
            headers["connection"] = "close"
        headers.setdefault("content-type", "application/octet-stream")
        told = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        await stream.send_all(f"HTTP/1.1 {status} X\r\n{told}\r\n".encode())
        if asked.method == "HEAD":
            return True
        cut = page.cuts.pop(0) if page.cuts else None
        sent = body if cut is None else body[:cut]
        for at in range(0, len(sent), 65536):
            if page.half is not None and at >= len(sent) // 2:
                await page.half.wait()
            piece = sent[at : at + 65536]
            framed = b"%x\r\n%b\r\n" % (len(piece), piece) if page.chunked else piece
            await stream.send_all(framed)
            if page.drip:
                await trio.sleep(page.drip)
        if page.chunked and cut is None:
            await stream.send_all(b"0\r\n\r\n")
        return cut is None and page.length is None


@asynccontextmanager
async def upstream() -> AsyncGenerator[Upstream]:
    """Run one."""
    server = Upstream()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1"))
        server.port = listeners[0].socket.getsockname()[1]
        yield server
        nursery.cancel_scope.cancel()
