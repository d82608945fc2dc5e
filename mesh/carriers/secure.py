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
BROKEN = (ssl.SSLError, ssl.CertificateError)


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

    async def aclose(self) -> None:
        """Close without a word: the mesh ends links by Goodbye or by silence."""
        await trio.aclose_forcefully(self.transport)

    async def _fill(self) -> bool:
        """Take what the transport brings; tell whether it goes on."""
        data = await self.transport.receive_some(RECEIVE_SIZE)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return bool(data)

    async def _flush(self) -> None:
        async with self._sending:
            if self._outgoing.pending:
                await self.transport.send_all(self._outgoing.read())
