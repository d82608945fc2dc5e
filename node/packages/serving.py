"""Sending answers: validators, ranges, HEAD, and blobs from wherever they are."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import AsyncIterator, Iterable, Mapping

from formats.contract import Arriving, BlobContent, Response
from node.blobs import Blobs
from node.http.asgi import Send
from node.packages.conditions import (
    Span,
    http_date,
    not_modified,
    requested_span,
    shown_change,
)
from store.blobs import BlobRange
from store.digest import Digest
from store.errors import RangeInvalidError

RawHeaders = list[tuple[bytes, bytes]]
IMMUTABLE = "max-age=31536000, immutable"
BODILESS = {204, 304}
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    # XML may hold scripts, and a browser that knows a password would send it along with theirs.
    (b"content-security-policy", b"default-src 'none'; form-action 'none'"),
)


def raw_headers(pairs: Iterable[tuple[str, str]]) -> RawHeaders:
    """Encode header pairs."""
    return [(name.lower().encode("ascii"), field_value(value)) for name, value in pairs]


def field_value(text: str) -> bytes:
    """Encode a field's value; one that could break the framing is cut at the break."""
    broken = CONTROL.search(text)
    return (text[: broken.start()] if broken else text).encode("latin-1", "replace")


class Responder:
    """Answers one request through an ASGI ``send``."""

    def __init__(
        self, send: Send, method: str, headers: Mapping[str, str], blobs: Blobs, *, private: bool
    ) -> None:
        self._send, self._method, self._headers, self._blobs = send, method, headers, blobs
        self.private = private
        self._changed: tuple[float, float] | None = None
        self.started = False
        self.begun: bool | None = None  # content was sent, from its first byte on or not
        self.status = 0
        self.sent = 0

    def note_change(self, changed: float, now: float) -> None:
        """Note when this node last saw the repository change: the date of what can change.

        Ledger time would not do, since records of the past arrive late.  Called before anything is
        read, so that what is sent is of that moment or newer.
        """
        self._changed = (changed, now)

    async def answer(self, response: Response) -> None:
        """Send a response, or the part of it that the client asked for."""
        modified = shown = response.modified
        exact = False
        if self._changed is not None and shown is not None and not response.immutable:
            modified = self._changed[0]
            shown, exact = shown_change(*self._changed), True
        content = response.content
        size = len(content) if isinstance(content, bytes) else content.size
        if size is None:
            await self._body(response.status, response, self._base_headers(response, ""), None)
            return
        etag = _quoted(response.etag or _default_etag(response))
        readable = response.status == 200 and self._method in {"GET", "HEAD"}
        if not readable:
            await self._whole(response, size, self._base_headers(response, ""))
            return
        headers = self._base_headers(response, etag, shown)
        if not_modified(self._headers, etag, modified, exact=exact):
            await self._start(304, headers)
            await self._finish()
            return
        try:
            span = requested_span(self._headers, size, etag, modified)
        except RangeInvalidError as error:
            await self._unsatisfiable(str(error))
            return
        headers.append((b"accept-ranges", b"bytes"))
        if span is None:
            await self._whole(response, size, headers)
        else:
            headers.append((b"content-range", span.content_range.encode()))
            headers.append((b"content-length", b"%d" % (span.stop - span.start)))
            await self._body(206, response, headers, span)

    async def _unsatisfiable(self, content_range: str) -> None:
        """No byte of the range exists; the validators of the whole would only confuse."""
        text = b"no byte of that range exists\n"
        headers = [
            (b"content-range", content_range.encode()),
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            *SECURITY,
        ]
        await self._start(416, headers)
        await self._send({"type": "http.response.body", "body": text})

    async def _whole(self, response: Response, size: int, headers: RawHeaders) -> None:
        if response.status not in BODILESS and response.status >= 200:
            named = {name for name, _ in headers}
            if b"content-length" not in named:
                headers.append((b"content-length", b"%d" % size))
        await self._body(response.status, response, headers, Span(0, size, size))

    async def _body(
        self, status: int, response: Response, headers: RawHeaders, span: Span | None
    ) -> None:
        """Send a span of the content; None is all of it, when nobody knows how much that is."""
        content = response.content
        empty = span is not None and span.stop == span.start
        if self._method == "GET" and status in {200, 206}:
            self.begun = span is None or span.start == 0
        if self._method == "HEAD" or empty or status in BODILESS:
            await self._start(status, headers, _reason(response))
            await self._finish()
        elif not isinstance(content, bytes | BlobContent):
            await self._arriving(status, content, headers, span)
        elif span is None:
            raise ValueError("only what is arriving may be of unknown size")
        elif isinstance(content, bytes):
            await self._start(status, headers, _reason(response))
            self.sent = span.stop - span.start
            await self._send(
                {"type": "http.response.body", "body": content[span.start : span.stop]}
            )
        else:
            await self._blob(status, content, headers, span)

    async def _arriving(
        self, status: int, content: Arriving, headers: RawHeaders, span: Span | None
    ) -> None:
        """Send bytes as they come in; what breaks off on the way breaks the connection off."""
        start, stop = (0, None) if span is None else (span.start, span.stop)
        async with content.spans(start, stop) as (file, parts):
            await self._parts(status, headers, file, parts)

    async def _parts(
        self,
        status: int,
        headers: RawHeaders,
        file: int,
        parts: AsyncIterator[tuple[int, int]],
    ) -> None:
        """Send parts of a file as they come; the head waits for the first of them."""
        async for offset, count in parts:
            if not self.started:
                await self._start(status, headers)
            self.sent += count
            message = {"type": "http.response.zerocopysend", "file": file, "more_body": True}
            await self._send({**message, "offset": offset, "count": count})
        await self._finish()

    async def _blob(
        self, status: int, content: BlobContent, headers: RawHeaders, span: Span
    ) -> None:
        descriptor = self._blobs.descriptor(content.digest)
        wanted = BlobRange(
            content.digest, content.size, content.manifest_id, start=span.start, stop=span.stop
        )
        if descriptor is None:
            async with self._blobs.arriving(wanted) as found:
                if found is not None:
                    await self._parts(status, headers, *found)
                    return
            descriptor = self._blobs.descriptor(content.digest)  # it may have come meanwhile
        if descriptor is not None:
            await self._file(status, content, headers, span, descriptor)
            return
        async with self._blobs.read(wanted) as chunks:
            # The head waits for the first byte: until then a native error can still be sent.
            async for chunk in chunks:
                if not self.started:
                    await self._start(status, headers)
                self.sent += len(chunk)
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._finish()

    async def _file(
        self, status: int, content: BlobContent, headers: RawHeaders, span: Span, file: int
    ) -> None:
        """Send a span of an open file, and close it."""
        self._blobs.reader(content.digest)
        count = span.stop - span.start
        message = {"type": "http.response.zerocopysend", "file": file}
        try:
            await self._start(status, headers)
            await self._send({**message, "offset": span.start, "count": count})
            self.sent = count
        finally:
            os.close(file)

    def _base_headers(
        self, response: Response, etag: str, modified: float | None = None
    ) -> RawHeaders:
        headers = raw_headers(response.headers)
        named = {name for name, _ in headers}
        if response.media_type and b"content-type" not in named:
            headers.append((b"content-type", field_value(response.media_type)))
        if etag:
            headers.append((b"etag", field_value(etag)))
            if modified is not None:
                headers.append((b"last-modified", http_date(modified).encode()))
            if b"cache-control" not in named:
                headers.append((b"cache-control", self._cache_control(response)))
            if isinstance(response.content, BlobContent):
                headers.append((b"repr-digest", _repr_digest(response.content.digest)))
        headers.extend(pair for pair in SECURITY if pair[0] not in named)
        return headers

    def _cache_control(self, response: Response) -> bytes:
        value = IMMUTABLE if response.immutable else "no-cache"
        return (f"private, {value}" if self.private else value).encode()

    async def _start(self, status: int, headers: RawHeaders, reason: bytes = b"") -> None:
        self.started, self.status = True, status
        message = {"type": "http.response.start", "status": status, "headers": headers}
        if reason:
            message["reason"] = reason
        await self._send(message)

    async def _finish(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})


def _default_etag(response: Response) -> str:
    if isinstance(response.content, BlobContent):
        return str(response.content.digest)
    if isinstance(response.content, bytes):
        return str(Digest.of(response.content))
    return ""  # what arrives has none until it is whole


def _quoted(etag: str) -> str:
    return f'"{etag}"' if etag else ""


def _repr_digest(digest: Digest) -> bytes:
    return b"sha-256=:" + base64.b64encode(digest.raw) + b":"


def _reason(response: Response) -> bytes:
    """The first line of an error's text: some upload clients show nothing else (ruling 17)."""
    if response.status < 400 or not isinstance(response.content, bytes):
        return b""
    if not response.media_type.startswith("text/plain"):
        return b""
    line = response.content.split(b"\n", 1)[0][:200]
    return bytes(each if 32 <= each < 127 else 63 for each in line)
