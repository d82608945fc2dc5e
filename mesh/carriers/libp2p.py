"""The libp2p carrier: streams over Noise and yamux, for peers that cannot be met otherwise.

Spec: docs/mesh.md §1.  The library is heavy, so it is imported in a thread, after the node is
ready, and only where it was asked for or is needed; nothing here runs without it.  Whatever it
raises stays here: a host that falls over is started again, and links over TLS never notice.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import warnings
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

import structlog
import trio

from mesh.carrier import P2P, Accepted, Dialled, Handler
from mesh.shell.faults import FAULTS

OFF, AUTO, ON = "off", "auto", "on"
PROTOCOL = "/atoll/1"
START_AFTER = 2.0  # seconds: the node comes first
RESTART = 30.0  # seconds before a host that fell over is started again
DIAL_DELAY = 0.001  # seconds; the library waits 0.25 for a second address even if there is none
CONNECTIONS_MAX = 128
STREAMS_MAX = 1024
MEMORY_MAX_MB = 64
PER_PEER_MAX = 2
NEVER = 1e9  # seconds
WRITE_SIZE = 64 * 1024
BUFFER_MAX = 20 << 20  # bytes: more than the credit of a bulk socket, so that its reader may pause
KEY_PREFIX = bytes.fromhex("002408011220")  # an Ed25519 public key, spelt out in a peer id
log = structlog.get_logger(__name__)


class Libraries(NamedTuple):
    """What is used of libp2p.  Its types are not ours to check."""

    libp2p: Any
    multiaddr: Any
    noise: Any
    peerinfo: Any
    config: Any
    limits: Any
    ed25519: Any
    x25519: Any
    swarm: Any


def installed() -> bool:
    """Tell whether the library is there; finding out imports nothing."""
    return importlib.util.find_spec("libp2p") is not None


def load() -> Libraries:
    """Import it: two seconds of work.  Raises ImportError."""
    names = (
        "libp2p",
        "multiaddr",
        "libp2p.security.noise.transport",
        "libp2p.peer.peerinfo",
        "libp2p.network.config",
        "libp2p.rcmgr.manager",
        "libp2p.crypto.ed25519",
        "libp2p.crypto.x25519",
        "libp2p.network.swarm",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the library
        found = Libraries(*map(importlib.import_module, names))
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)  # what matters is raised
    if not isinstance(getattr(found.swarm, "_HAPPY_EYEBALLS_DELAY", None), float):
        log.warning("mesh.libp2p_dials_slowly")  # another version than the pinned one
    found.swarm._HAPPY_EYEBALLS_DELAY = DIAL_DELAY  # noqa: SLF001  there is no public setting
    return found


class Libp2pCarrier:
    """Dial and listen by libp2p, with the node's own key as identity."""

    schemes = frozenset({P2P})

    def __init__(
        self,
        seed: bytes,
        *,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        mode: str = ON,
        eager: bool = False,
        attach: Callable[[Any], Awaitable[None]] | None = None,
    ) -> None:
        self.bound: tuple[str, ...] = ()
        self.host: Any = None
        self._seed, self._listen, self._mode, self._eager = seed, listen, mode, eager
        self._attach = attach  # what else runs on the host, such as gossip
        self._wanted, self._up = trio.Event(), trio.Event()
        self._nursery: trio.Nursery | None = None
        self._handler: Handler | None = None
        self._libraries: Libraries | None = None

    def want(self) -> None:
        """Somebody cannot be met directly: with ``auto``, now is the time to start."""
        self._wanted.set()

    # --- running -------------------------------------------------------------------------------
    async def serve(
        self,
        handler: Handler,
        *,
        task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run a host once it is wanted, until cancelled; ``bound`` tells where it listens."""
        self._handler = handler
        async with trio.open_nursery() as self._nursery:
            if self._eager:
                self._nursery.start_soon(self._run)
                await self._up.wait()
                task_status.started(self.bound)
            else:
                task_status.started(())
                self._nursery.start_soon(self._start_later)
            await trio.sleep_forever()

    async def _start_later(self) -> None:
        if self._mode == AUTO:
            await self._wanted.wait()
        else:
            await trio.sleep(START_AFTER)
        await self._run()

    async def _run(self) -> None:
        try:
            self._libraries = await trio.to_thread.run_sync(load)
        except ImportError as error:
            log.warning("mesh.no_libp2p", why=str(error))
            return
        while True:
            try:
                await self._host(self._libraries)
            except Exception as error:  # noqa: BLE001  the library's faults, of any type, end here
                log.warning("mesh.libp2p_fell_over", why=_reason(error))
            finally:
                self.host, self.bound, self._up = None, (), trio.Event()
            await trio.sleep(RESTART)

    async def _host(self, lib: Libraries) -> None:
        """Run one host.  It offers Noise alone: by default it would accept peers in the clear."""
        name, port = self._listen
        kind = "ip6" if ":" in name else "ip4"
        listen = [lib.multiaddr.Multiaddr(f"/{kind}/{name}/tcp/{port}")]
        pair = lib.ed25519.create_new_key_pair(self._seed)
        ephemeral = lib.x25519.create_new_key_pair().private_key
        noise = lib.noise.Transport(pair, noise_privkey=ephemeral)
        limits = lib.limits.ResourceLimits(CONNECTIONS_MAX, MEMORY_MAX_MB, STREAMS_MAX)
        host = lib.libp2p.new_host(
            key_pair=pair,
            sec_opt={lib.noise.PROTOCOL_ID: noise},
            muxer_preference="YAMUX",
            listen_addrs=listen,
            resource_manager=lib.limits.ResourceManager(limits, enable_metrics=False),
            connection_config=lib.config.ConnectionConfig(
                max_connections=CONNECTIONS_MAX,
                high_watermark=CONNECTIONS_MAX,
                low_watermark=0,
                min_connections=0,
                auto_connect_interval=NEVER,  # even so it would dial whomever it knows
                max_connections_per_peer=PER_PEER_MAX,
            ),
        )
        async with host.run(listen_addrs=listen):
            host.set_stream_handler(PROTOCOL, self._take)
            self.bound = tuple(f"{P2P}://{address}" for address in host.get_addrs())
            self.host = host
            self._up.set()
            log.info("mesh.libp2p_up", addresses=self.bound)
            if self._attach is not None:
                await self._attach(host)
            await trio.sleep_forever()

    # --- streams -------------------------------------------------------------------------------
    async def _take(self, stream: Any) -> None:
        """Hand a peer's stream to a task of ours: the library's own must not run our code."""
        if self._nursery is not None:
            self._nursery.start_soon(FAULTS.run, self._greet, stream)

    async def _greet(self, raw: Any) -> None:
        stream = P2pStream(raw)
        where = f"{P2P}:///p2p/{raw.muxed_conn.peer_id}"
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.pump)
                if self._handler is not None:
                    await self._handler(Accepted(stream, where))
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await stream.aclose()

    async def dial(self, address: str) -> Dialled:
        """Connect to ``p2p:///ip4/…/tcp/…/p2p/…``.  Raises OSError."""
        self.want()
        await self._up.wait()  # bounded by the caller's patience, like the rest
        lib, host, nursery = self._libraries, self.host, self._nursery
        if lib is None or host is None or nursery is None:
            raise OSError("libp2p is not running")
        try:
            where = lib.multiaddr.Multiaddr(address.removeprefix(f"{P2P}://"))
            peer = lib.peerinfo.info_from_p2p_addr(where)
            key = key_of(peer.peer_id.to_bytes())
            await host.connect(peer)
            raw = await host.new_stream(peer.peer_id, [PROTOCOL])
        except Exception as error:
            raise OSError(_reason(error)) from error
        stream = P2pStream(raw)
        nursery.start_soon(stream.pump)
        return Dialled(stream, key, address)


class P2pStream:
    """A libp2p stream that is read ahead of its reader.

    yamux resets a stream whose reader pauses for five seconds with the window full.  So all that a
    peer may send without being granted more is taken in, and only beyond that does it wait.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._buffer = bytearray()
        self._arrived, self._taken = trio.Event(), trio.Event()
        self._end: str | None = None  # "" is a clean end, else what broke
        self._scope = trio.CancelScope()

    async def pump(self) -> None:
        """Read until the stream ends or is closed."""
        with self._scope:
            while self._end is None:
                try:
                    data = await self._raw.read(WRITE_SIZE)
                except EOFError:
                    data = b""
                except Exception as error:  # noqa: BLE001  the library's faults, of any type
                    self._finish(_reason(error))
                    return
                if not data:
                    self._finish("")
                    return
                self._buffer += data
                self._arrived.set()
                while len(self._buffer) >= BUFFER_MAX:
                    self._taken = trio.Event()
                    await self._taken.wait()

    def _finish(self, reason: str) -> None:
        self._end = reason if self._end is None else self._end
        self._arrived.set()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return some bytes, or none at the end."""
        while not self._buffer:
            if self._end is not None:
                if self._end:
                    raise trio.BrokenResourceError(self._end)
                await trio.lowlevel.checkpoint()
                return b""
            self._arrived = trio.Event()
            await self._arrived.wait()
        size = max_bytes or len(self._buffer)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._taken.set()
        await trio.lowlevel.checkpoint()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything."""
        view = memoryview(data)
        for start in range(0, len(view), WRITE_SIZE):
            try:
                await self._raw.write(bytes(view[start : start + WRITE_SIZE]))
            except Exception as error:
                self._finish(_reason(error))
                raise trio.BrokenResourceError(_reason(error)) from error

    async def aclose(self) -> None:
        """Close, without waiting for the other side."""
        self._finish("closed here")
        self._scope.cancel()
        with trio.move_on_after(0.5, shield=True), suppress(Exception):
            await self._raw.close()


def key_of(peer_id: bytes) -> bytes:
    """Return the Ed25519 key that a peer id spells out; Noise has proven it.  Raises OSError."""
    if len(peer_id) != len(KEY_PREFIX) + 32 or not peer_id.startswith(KEY_PREFIX):
        raise OSError("the peer id is not that of a node")
    return peer_id[len(KEY_PREFIX) :]


def peer_id_of(key: bytes) -> bytes:
    """Return the peer id of a node's current key."""
    return KEY_PREFIX + key


def _reason(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_reason(each) for each in error.exceptions[:3])
    return str(error) or type(error).__name__
