"""TLS over a byte stream, many records at a time.  Spec: docs/mesh.md §1.

``trio.SSLStream`` returns one TLS record, at most 16 KiB, per call, and every call wakes tasks.
Chunks are larger: here whatever one read of the socket brought is decrypted in one go.
"""

from __future__ import annotations

import ssl
from typing import cast

import trio

RECEIVE_SIZE = 256 * 1024  # bytes per read; 1 MiB was slower
SEND_SIZE = 256 * 1024  # bytes encrypted at a time, so that little is held twice
THIN = 32 * 1024  # bytes of one read; where it brings more, the next one is not worth a wait
RECORD_HEAD = 5  # bytes: type, version, length
RECORD_MAX = (16 << 10) + 256  # bytes that a record may say to follow
BROKEN = (ssl.SSLError, ssl.CertificateError)


class Records:
    """Counts TLS records as they come: half of one is of no use (RFC 8446 section 5.2)."""

    def __init__(self) -> None:
        self.missing = 0  # bytes that the record which has begun still lacks, as far as is known
        self._head = bytearray()  # of the record whose length is not known yet

    def feed(self, data: bytes | bytearray) -> None:
        """Take what has come."""
        at, end = 0, len(data)
        while at < end:
            if self.missing:
                step = min(self.missing, end - at)
                self.missing -= step
                at += step
                continue
            part = data[at : at + RECORD_HEAD - len(self._head)]
            self._head += part
            at += len(part)
            if len(self._head) == RECORD_HEAD:
                length = int.from_bytes(self._head[3:], "big")
                self.missing = length if length <= RECORD_MAX else 0  # TLS will refuse it
                self._head.clear()


class SecureStream:
    """TLS between us and the other end of ``transport``.

    One task may receive while others send.  A cancelled ``send_all`` leaves it broken: close it.
    """

    def __init__(
        self, transport: trio.abc.Stream, context: ssl.SSLContext, *, server_side: bool = False
    ) -> None:
        self.transport = transport
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._sending = trio.StrictFIFOLock()
        self._records = Records()
        self._thin = True  # reads bring little: each had better bring a whole record

    async def do_handshake(self) -> None:
        """Shake hands.  Raises trio.BrokenResourceError when the other end does not as we do."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    raise trio.BrokenResourceError("no TLS at the other end") from None
            except BROKEN as error:
                await self._flush()  # the alert that says why
                raise trio.BrokenResourceError(str(error)) from error
            else:
                break
        await self._flush()

    def certificate(self) -> bytes:
        """Return the certificate of the other end in DER, empty if it showed none."""
        return self._tls.getpeercert(binary_form=True) or b""

    def protocol(self) -> str | None:
        """Return the application protocol that was agreed on."""
        return self._tls.selected_alpn_protocol()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything.  Raises trio.BrokenResourceError."""
        async with self._sending:
            rest = memoryview(data).cast("B")
            while rest:
                step = rest[:SEND_SIZE]
                rest = rest[SEND_SIZE:]
                try:
                    while step:
                        step = step[self._tls.write(step) :]
                except BROKEN as error:
                    raise trio.BrokenResourceError(str(error)) from error
                await self.transport.send_all(self._outgoing.read())

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return some bytes, ``b""`` at the end.  Raises trio.BrokenResourceError."""
        limit = max_bytes or RECEIVE_SIZE
        while True:
            data = self._decrypt(limit)
            if self._outgoing.pending and not self._incoming.eof:  # an answer to a new key
                await self._flush()
            if data is not None:
                await trio.lowlevel.checkpoint_if_cancelled()
                return data
            await self._fill()

    def _decrypt(self, limit: int) -> bytes | bytearray | None:
        """Return all that has come, up to ``limit`` bytes; None until there is more."""
        waiting = self._incoming.pending + self._tls.pending()
        if not waiting and not self._incoming.eof:
            return None
        buffer, size = bytearray(min(limit, max(waiting, 1))), 0
        with memoryview(buffer) as view:
            try:
                while size < len(buffer):
                    got = cast(int, self._tls.read(len(buffer) - size, view[size:]))
                    if not got:
                        break
                    size += got
            except ssl.SSLWantReadError:
                if not size:
                    return None
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                pass  # an end without a word is an end: frames tell what is whole
            except BROKEN as error:
                raise trio.BrokenResourceError(str(error)) from error
        del buffer[size:]
        return buffer

    async def gathered(self, size: int) -> None:
        """Wait until the transport has so many bytes, if it can tell: fewer are of no use yet."""

    async def aclose(self) -> None:
        """Close without a word: the mesh ends links by Goodbye or by silence."""
        await trio.aclose_forcefully(self.transport)

    async def _fill(self) -> bool:
        """Take what the transport brings; tell whether it goes on."""
        await self.gathered(self._records.missing if self._thin else 0)
        data = await self.transport.receive_some(RECEIVE_SIZE)
        self._thin = len(data) < THIN
        if data:
            self._records.feed(data)
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return bool(data)

    async def _flush(self) -> None:
        async with self._sending:
            if self._outgoing.pending:
                await self.transport.send_all(self._outgoing.read())
