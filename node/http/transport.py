"""One accepted TCP connection: bytes in and out, and the rule that a stalled peer is dropped."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from node.http.files import cached
from node.http.limits import Limits

READ_SIZE: Final = 256 << 10
SENDFILE_SIZE: Final = 8 << 20  # one thread hop costs little against copying this much
INLINE_SIZE: Final = 1 << 20  # what the loop copies at once: a fifth of a millisecond
MORE: Final = getattr(socket, "MSG_MORE", 0)  # have the kernel wait for what follows at once
KEEPALIVE_IDLE: Final = 60  # seconds of silence before the kernel asks whether the peer still lives

Buffer = bytes | bytearray | memoryview


class StalledError(trio.BrokenResourceError):
    """The peer took no byte for a whole write timeout."""


class Transport(trio.abc.HalfCloseableStream):
    """A socket as a trio stream, with non-blocking attempts first and sendfile.

    trio's own SocketStream keeps 16 KiB unsent at most and takes a scheduler turn for every
    call; both cost throughput here.  TLS runs over this, so the write timeout holds there too.
    """

    def __init__(self, sock: socket.socket, limits: Limits, threads: trio.CapacityLimiter) -> None:
        self.socket = sock
        self._limits = limits
        self._threads = threads
        self._sending = False
        self._ended = False
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if sys.platform == "linux":
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return up to ``max_bytes``, or ``b""`` at the end.  Raises BrokenResourceError."""
        size = READ_SIZE if max_bytes is None else max_bytes
        if size < 1:
            raise ValueError("max_bytes must be positive")
        data = self._receive(size)
        if data is not None:
            await trio.lowlevel.checkpoint()
            return data
        while data is None:
            await trio.lowlevel.wait_readable(self.socket)
            data = self._receive(size)
        return data

    def _receive(self, size: int) -> bytes | None:
        try:
            return self.socket.recv(size)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._broken(error) from error

    async def send_all(self, data: Buffer) -> None:
        """Send all of ``data``.  Raises StalledError, BrokenResourceError."""
        with self._alone():
            await self.write(data)
            await trio.lowlevel.checkpoint()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Raise BusyResourceError if another task is sending: their bytes would mix."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending")
        self._sending = True
        try:
            yield
        finally:
            self._sending = False

    async def write(self, data: Buffer, *, more: bool = False) -> None:
        """Send all of ``data`` without giving up the turn if the kernel takes it at once.

        ``more``: a write or a file follows at once, in whose first packet these bytes may leave.
        """
        if self._ended:
            raise trio.ClosedResourceError("our direction is closed already")
        flags = MORE if more else 0
        sent = self._send(data, flags)
        if sent == len(data):
            return
        rest = memoryview(data)[sent:]
        while rest:
            await self._writable()
            rest = rest[self._send(rest, flags) :]

    def _send(self, data: Buffer, flags: int = 0) -> int:
        try:
            return self.socket.send(data, flags)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._broken(error) from error

    async def send_file(self, file: int, offset: int, count: int) -> None:
        """Send ``count`` bytes of an open file, copied by the kernel.

        At once where the page cache has the bytes, since a thread costs more than the copy.  Else
        in a thread, because a page that is not in memory would stop every other connection; the
        socket does not block, so a step takes as long as the disk and no longer.

        Raises EOFError if the file is shorter, StalledError, BrokenResourceError.
        """
        out = self.socket.fileno()
        while count:
            step = min(count, INLINE_SIZE)
            try:
                if cached(file, offset, step):  # anew after each wait: a slow peer's may have left
                    sent = os.sendfile(out, file, offset, step)
                    if 0 < sent < step:
                        await self._writable()
                    elif step < count:
                        await trio.lowlevel.checkpoint()
                else:
                    step = min(count, SENDFILE_SIZE)
                    sent = await trio.to_thread.run_sync(
                        os.sendfile, out, file, offset, step, limiter=self._threads
                    )
            except BlockingIOError:
                await self._writable()
                continue
            except OSError as error:
                raise self._broken(error) from error
            if not sent:
                raise EOFError(f"file ends {count} bytes early")
            offset += sent
            count -= sent

    async def _writable(self) -> None:
        """Wait until the peer takes more.  Raises StalledError if nothing moves meanwhile.

        The kernel calls a socket writable only once a good part of its buffer is free, which for a
        slow peer and a buffer of megabytes can take minutes; so ask how much is queued as well.
        """
        if self.socket.fileno() == -1:
            raise trio.ClosedResourceError
        queued = self._queued()
        while True:
            with trio.move_on_after(self._limits.write_timeout):
                await trio.lowlevel.wait_writable(self.socket)
                return
            before, queued = queued, self._queued()
            if queued >= before:
                raise StalledError(f"nothing taken for {self._limits.write_timeout} s")

    def _queued(self) -> int:
        """Return the bytes the peer has not acknowledged (Linux SIOCOUTQ, the same number)."""
        size = array.array("i", [0])
        try:
            fcntl.ioctl(self.socket, termios.TIOCOUTQ, size, True)
        except OSError:
            return 0  # not a TCP socket: every full timeout counts as a stall
        return size[0]

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel takes more bytes.  Raises StalledError."""
        with self._alone():
            await self._writable()

    async def send_eof(self) -> None:
        """Close our direction; the peer may still send."""
        with self._alone():
            await trio.lowlevel.checkpoint()
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError as error:
                raise self._broken(error) from error
            self._ended = True

    def reset_on_close(self) -> None:
        """Make ``aclose`` reset the connection, so that a cut response does not look complete."""
        if self.socket.fileno() != -1:
            linger = struct.pack("ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async def aclose(self) -> None:
        """Close both directions; tasks still waiting on them get ClosedResourceError."""
        if self.socket.fileno() != -1:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()
        await trio.lowlevel.checkpoint()

    def _broken(self, error: OSError) -> trio.BrokenResourceError | trio.ClosedResourceError:
        if self.socket.fileno() == -1:
            return trio.ClosedResourceError("connection is closed")
        return trio.BrokenResourceError(f"connection broke: {error}")
