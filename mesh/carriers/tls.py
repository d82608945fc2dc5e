"""The TLS 1.3 carrier: self-signed Ed25519 certificates over TCP.  Spec: docs/mesh.md §1.

No certificate is checked by TLS, none could be: a certificate only carries the node's public key,
and TLS 1.3 proves that the listener holds it.  ``mesh.link`` compares it before anything is sent.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import struct
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import trio

from mesh.carrier import Accepted, Dialled, Handler, Line
from mesh.carriers.certificate import certificate, certified_key
from mesh.carriers.secure import SecureStream
from mesh.shell.faults import FAULTS

ALPN = "atoll/1"
HANDSHAKE_TIMEOUT = 10.0  # seconds for TLS; the mesh handshake has its own
STRANGERS_MAX = 128  # connections that have not been through TLS yet
BACKLOG = 128
NOTSENT_LOWAT = 128 * 1024  # bytes: what waits in the kernel can no longer be reordered
GATHERED_MIN = 2 * 1024  # bytes of a record that are worth waiting for
USER_TIMEOUT_MS = 30_000  # unacknowledged for so long: the connection is dead
KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
CONGESTION_SIZE = 16  # bytes of the name of a congestion control
TCP_INFO_RATES = 176  # with what tells its rate
TCP_INFO_SIZE = 160  # bytes of struct tcp_info that reach as far as is read here
TRANSIENT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class TlsCarrier:
    """Dial and listen on TCP.  ``seed`` is the node's Ed25519 private key, 32 bytes."""

    schemes = frozenset({"tls"})

    def __init__(
        self,
        seed: bytes,
        *,
        listen: Sequence[tuple[str, int]] = (),
        advertise: Sequence[str] = (),
        congestion: str = "bbr",
    ) -> None:
        self._listen = tuple(listen)
        self._advertise = tuple(advertise)
        self._congestion = congestion
        self.bound: tuple[str, ...] = ()  # where it really listens, whatever it advertises
        self._client, self._server = contexts(seed)

    def want(self) -> None:
        """Do nothing: it is always ready."""

    def rekey(self, seed: bytes) -> None:
        """Show another key from the next connection on."""
        self._client, self._server = contexts(seed)

    async def dial(self, address: str) -> Dialled:
        """Connect to ``tls://host:port`` and learn the listener's key.

        Raises OSError, or trio.BrokenResourceError if it does not speak TLS 1.3 as we do.
        """
        host, port = parse_address(address)
        try:
            raw = await trio.open_tcp_stream(host, port, happy_eyeballs_delay=0.25)
        except ValueError as error:  # no name that could be asked for: members may write anything
            raise OSError(f"not an address: {address!r}") from error
        tune(raw.socket, self._congestion)
        stream = Counted(raw, self._client)
        try:
            await stream.do_handshake()
            return Dialled(stream, public_key(stream), address)
        except BaseException:  # cancelled, too
            await trio.aclose_forcefully(raw)
            raise

    async def serve(
        self,
        handler: Handler,
        *,
        task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept until cancelled; connections that do not get through TLS in time are dropped."""
        strangers: dict[trio.CancelScope, None] = {}  # the oldest first
        async with trio.open_nursery() as nursery:
            addresses: list[str] = []
            for host, port in self._listen:
                listeners = await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
                for listener in listeners:
                    addresses.append(format_address(host, listener.socket.getsockname()[1]))
                    nursery.start_soon(self._accept, listener, handler, nursery, strangers)
            self.bound = tuple(dict.fromkeys(addresses))
            task_status.started(self._advertise or self.bound)
            await trio.sleep_forever()

    async def _accept(
        self,
        listener: trio.SocketListener,
        handler: Handler,
        nursery: trio.Nursery,
        strangers: dict[trio.CancelScope, None],
    ) -> None:
        async with listener:
            while True:
                try:
                    raw = await listener.accept()
                except OSError as error:  # out of descriptors: let some links end first
                    if error.errno not in TRANSIENT:
                        raise
                    await trio.sleep(0.1)
                    continue
                if len(strangers) >= STRANGERS_MAX:  # the slowest makes room: members are quick
                    oldest = next(iter(strangers))
                    del strangers[oldest]
                    oldest.cancel()
                scope = trio.CancelScope()
                strangers[scope] = None
                nursery.start_soon(FAULTS.run, self._greet, raw, handler, scope, strangers)

    async def _greet(
        self,
        raw: trio.SocketStream,
        handler: Handler,
        scope: trio.CancelScope,
        strangers: dict[trio.CancelScope, None],
    ) -> None:
        stream = Counted(raw, self._server, server_side=True)
        try:
            try:
                scope.deadline = trio.current_time() + HANDSHAKE_TIMEOUT
                with scope:
                    tune(raw.socket, self._congestion)
                    peer = raw.socket.getpeername()
                    await stream.do_handshake()
            except (trio.BrokenResourceError, OSError):
                return  # a stranger; nothing of ours is lost
            finally:
                strangers.pop(scope, None)
            if scope.cancelled_caught:
                return
            await handler(Accepted(stream, format_address(peer[0], peer[1])))
        finally:
            await trio.aclose_forcefully(raw)


class Counted(SecureStream):
    """TLS on a TCP socket, which counts what it sends again, and wakes us for whole records."""

    _least = 1  # bytes for which the kernel wakes us

    async def gathered(self, size: int) -> None:
        """Sleep until so many bytes are there: a packet each is a tenth of a record."""
        raw = self.transport
        if not isinstance(raw, trio.SocketStream) or raw.socket.fileno() < 0:
            return  # to read from what is closed says so; to wait for it never ends
        least = size if size >= GATHERED_MIN else 1
        if least != self._least:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
            self._least = least
        if self._least > 1:
            await trio.lowlevel.wait_readable(raw.socket)

    def segments(self) -> tuple[int, int] | None:
        """Return how many TCP segments were sent again and sent, or None if nobody counts."""
        raw = self.transport
        return segments(raw.socket) if isinstance(raw, trio.SocketStream) else None

    def delivered(self) -> tuple[int, float, int] | None:
        """Return what ``delivered`` does, or None if nobody counts."""
        raw = self.transport
        return delivered(raw.socket) if isinstance(raw, trio.SocketStream) else None

    def line(self) -> Line | None:
        """Return what ``line`` does, or None if nobody counts."""
        raw = self.transport
        return line(raw.socket) if isinstance(raw, trio.SocketStream) else None

    def hold(self, size: int) -> None:
        """Let about so many bytes wait in the kernel, at most, if it can be told."""
        if isinstance(self.transport, trio.SocketStream):
            with suppress(OSError):
                self.transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, size)


def tune(sock: trio.socket.SocketType, congestion: str) -> None:
    """Set what makes links responsive and outages short.  What a kernel refuses, it refuses."""
    options = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS),
        (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        *((socket.IPPROTO_TCP, option, value) for option, value in KEEPALIVE),
    ]
    for level, option, value in options:
        with suppress(OSError):
            sock.setsockopt(level, option, value)
    if congestion:
        with suppress(OSError):  # not built in, or not permitted to us
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())


def segments(sock: Any) -> tuple[int, int] | None:
    """Read from TCP_INFO how many segments were sent again and sent; None where it is not Linux's.

    Offsets are those of ``struct tcp_info`` (linux/tcp.h): tcpi_total_retrans, tcpi_data_segs_out.
    """
    with suppress(OSError, AttributeError):
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
        if len(info) >= TCP_INFO_SIZE and sys.platform == "linux":
            again, sent = struct.unpack_from("=I", info, 100), struct.unpack_from("=I", info, 156)
            return again[0], sent[0]
    return None


def delivered(sock: Any) -> tuple[int, float, int] | None:
    """Read from TCP_INFO what has arrived; None where it is not Linux's.

    That is: bytes acknowledged, seconds in which some were on their way, and the best delivery rate
    seen, in bytes per second.  ``struct tcp_info``: tcpi_bytes_acked, tcpi_busy_time,
    tcpi_delivery_rate.
    """
    with suppress(OSError, AttributeError):
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_RATES)
        if len(info) >= TCP_INFO_RATES and sys.platform == "linux":
            (acked,) = struct.unpack_from("=Q", info, 120)
            best, busy = struct.unpack_from("=QQ", info, 160)
            return acked, busy / 1e6, best
    return None


def line(sock: Any) -> Line | None:
    """Read from TCP_INFO what the way is like; None where it is not Linux's.

    ``struct tcp_info``: tcpi_rtt, tcpi_notsent_bytes, tcpi_min_rtt, and what the others read.
    """
    counted, arrived = segments(sock), delivered(sock)
    if counted is None or arrived is None:
        return None
    with suppress(OSError, AttributeError):
        name = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION_SIZE)
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
        (rtt,), (unsent, least) = (
            struct.unpack_from("=I", info, 68),
            struct.unpack_from("=II", info, 144),
        )
        congestion = name.rstrip(b"\0").decode("ascii", "replace")
        return Line(congestion, arrived[0], *counted, rtt / 1e6, least / 1e6, unsent)
    return None


def public_key(stream: SecureStream) -> bytes:
    """Return the raw Ed25519 key of the certificate at the other end.

    Raises trio.BrokenResourceError if there is none.
    """
    try:
        key = certified_key(stream.certificate())
    except ValueError as error:
        raise trio.BrokenResourceError("unreadable certificate") from error
    if key is None or stream.protocol() != ALPN:
        raise trio.BrokenResourceError("not a node of a mesh")
    return key


def parse_address(address: str) -> tuple[str, int]:
    """Split ``tls://host:port`` or ``host:port``.  Raises OSError if it is neither."""
    try:
        parts = urlsplit(address if "://" in address else f"tls://{address}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise OSError(f"not an address: {address!r}") from error
    if parts.scheme != "tls" or not host or not port:
        raise OSError(f"not an address: {address!r}")
    return host, port


def format_address(host: str, port: int) -> str:
    """Write what ``parse_address`` reads."""
    return f"tls://[{host}]:{port}" if ":" in host else f"tls://{host}:{port}"


def contexts(seed: bytes) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the TLS settings of a dialler and of a listener with this key."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE  # the key is compared instead; see above
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for context in (client, server):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols([ALPN])
    server.num_tickets = 0  # nobody resumes a session
    _load(server, certificate(seed))
    return client, server


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Give OpenSSL the key.  It only reads files: a private one, gone before anybody could look."""
    descriptor, name = tempfile.mkstemp(prefix="atoll-", suffix=".pem")
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(name)
    finally:
        os.close(descriptor)
        Path(name).unlink()
