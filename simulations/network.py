"""The network of a simulation: hosts with thin uplinks, paths that break in every known way.

What the nodes see are byte streams, as TCP gives them: in order and whole while they last.  Loss
shows as a stall, a cut as silence followed by the back-off of retransmission, a crash as a reset
when the host is up again, a forgetful middlebox as a stream on which nothing ever moves again.  Old
and new streams between two hosts run side by side, so what is said on them may overtake or repeat.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from simulations.world import World

SEGMENT = 32 * 1024  # bytes that travel as one
SEND_BUFFER = 192 * 1024  # bytes on their way or waiting, until a stream takes no more
RTO_MIN, RTO_MAX = 0.25, 8.0  # seconds until a lost segment is sent again
SYN_RETRIES = (1.0, 3.0)  # seconds after which a dial that was not answered is tried again
HANDSHAKE_RTTS = 2.0  # round trips of TCP and TLS


@dataclass(slots=True)
class Access:
    """What joins one host to the net: bytes per second up and down, shared by all its streams."""

    up: float
    down: float
    up_free: float = 0.0
    down_free: float = 0.0


@dataclass(slots=True)
class Path:
    """One direction between two hosts."""

    delay: float
    loss: float = 0.0  # share of segments that stall until they are sent again
    diallable: bool = True  # False: the other side can be reached, but lets nobody in
    cuts: int = 0  # faults that hold it down now
    slowdown: float = 1.0
    carried: int = 0


class Receiver(Protocol):
    """Who owns one end of a stream."""

    def on_data(self, data: bytes) -> None:
        """Bytes have come."""
        ...

    def on_end(self, reason: str) -> None:
        """The other side has closed, or the stream broke."""
        ...

    def on_writable(self) -> None:
        """There is room again."""
        ...


class Host(Protocol):
    """Who lives at one place of the net."""

    alive: bool

    def accepted(self, stream: Stream, source: str) -> None:
        """Somebody has connected."""
        ...


class Stream:
    """One end of a connection.  Set ``receiver`` before time passes."""

    def __init__(self, network: Network, host: str, other: str) -> None:
        self.network = network
        self.host, self.other = host, other
        self.receiver: Receiver | None = None
        self.peer: Stream = self
        self.open = True
        self.forgotten = False  # a middlebox has lost it: nothing will ever pass
        self._queue: deque[tuple[float, bytes]] = deque()
        self._unacked = 0
        self._pumping = False
        self._ready = 0.0
        self._backoff = RTO_MIN

    @property
    def writable(self) -> bool:
        """Tell whether it takes more."""
        return self.open and self._unacked < SEND_BUFFER

    def write(self, data: bytes) -> None:
        """Send bytes, however many; they leave at the pace of the net."""
        if not self.open:
            return
        for start in range(0, len(data), SEGMENT):
            self._send(data[start : start + SEGMENT])

    def close(self) -> None:
        """Say goodbye: what was written still arrives."""
        if self.open:
            self._send(b"")
            self.open = False

    def vanish(self) -> None:
        """The host is gone, without a word."""
        self.open, self.receiver = False, None
        self._queue.clear()

    def _send(self, data: bytes) -> None:
        network = self.network
        self._unacked += len(data)
        arrival = network.arrival(self.host, self.other, max(len(data), 60))
        self._ready = max(self._ready, arrival)
        self._queue.append((self._ready, data))
        if not self._pumping:
            self._pumping = True
            network.world.after(self._ready - network.world.now, self._pump)

    def _pump(self) -> None:
        """Deliver the first segment, or wait for the path to come back."""
        self._pumping = False
        if not self._queue or self.forgotten:
            return
        network, now = self.network, self.network.world.now
        if not network.passes(self.host, self.other):
            wait, self._backoff = self._backoff, min(2 * self._backoff, RTO_MAX)
        else:
            self._backoff = RTO_MIN
            data = self._queue.popleft()[1]
            network.paths[self.host, self.other].carried += len(data)
            try:
                self._deliver(data)
            finally:  # whoever hears it may die of it; what follows is on its way all the same
                if self._queue:
                    self._plan_pump(max(0.0, self._queue[0][0] - now))
            return
        self._plan_pump(wait)

    def _plan_pump(self, wait: float) -> None:
        self._pumping = True
        self.network.world.after(wait, self._pump)

    def _deliver(self, data: bytes) -> None:
        peer, network = self.peer, self.network
        delay = network.paths[self.other, self.host].delay
        if peer.receiver is None:
            network.world.after(delay, self._reset)
            return
        network.world.after(delay, lambda: self._acked(len(data)))
        if data:
            peer.receiver.on_data(data)
        else:
            receiver, peer.receiver, peer.open = peer.receiver, None, False
            receiver.on_end("the peer closed the connection")

    def _acked(self, size: int) -> None:
        if not self.network.passes(self.other, self.host):
            self.network.world.after(RTO_MIN, lambda: self._acked(size))
            return
        full = not self.writable
        self._unacked -= size
        if full and self.writable and self.receiver is not None:
            self.receiver.on_writable()

    def _reset(self) -> None:
        """Nobody is there any more: we are told, if the way back is open."""
        receiver = self.receiver
        if receiver is not None and self.network.passes(self.other, self.host):
            self.open, self.receiver = False, None
            receiver.on_end("connection reset")


@dataclass(slots=True)
class Dialing:
    """A dial under way.  ``cancel`` it when nobody cares any more."""

    done: Callable[[Stream | None, str], None] | None
    tries: int = 0

    def cancel(self) -> None:
        """Forget it."""
        self.done = None


@dataclass(slots=True)
class Network:
    """Hosts, what joins them, and the streams between them."""

    world: World
    hosts: dict[str, Host] = field(default_factory=dict[str, Host])
    access: dict[str, Access] = field(default_factory=dict[str, Access])
    paths: dict[tuple[str, str], Path] = field(default_factory=dict[tuple[str, str], Path])
    streams: list[Stream] = field(default_factory=list[Stream])

    def passes(self, source: str, target: str) -> bool:
        """Tell whether a segment would get through now."""
        path = self.paths.get((source, target))
        return path is not None and not path.cuts and self.hosts[target].alive

    def arrival(self, source: str, target: str, size: int) -> float:
        """Return when ``size`` bytes sent now are there, and take up that much of the way."""
        path, out, into = self.paths[source, target], self.access[source], self.access[target]
        now, rng = self.world.now, self.world.rng
        out.up_free = max(out.up_free, now) + size * path.slowdown / out.up
        into.down_free = max(into.down_free, now) + size / into.down
        there = max(into.down_free, out.up_free + size / into.down)  # others may be there before
        stall = RTO_MIN * (1 + rng.random()) if path.loss and rng.random() < path.loss else 0.0
        return there + path.delay * (1 + 0.05 * rng.random()) + stall

    def dial(self, source: str, target: str, done: Callable[[Stream | None, str], None]) -> Dialing:
        """Connect; ``done`` gets the stream, or None and why.  No answer may mean no call."""
        dialing = Dialing(done)
        path = self.paths.get((source, target))
        if path is not None and path.diallable:
            self.world.after(self._round_trips(path), lambda: self._syn(source, target, dialing))
        return dialing

    def _round_trips(self, path: Path) -> float:
        return HANDSHAKE_RTTS * 2 * path.delay * (1 + 0.1 * self.world.rng.random())

    def _syn(self, source: str, target: str, dialing: Dialing) -> None:
        if dialing.done is None:
            return
        path, back = self.paths[source, target], self.paths[target, source]
        if path.cuts or back.cuts:
            if dialing.tries < len(SYN_RETRIES):
                wait = SYN_RETRIES[dialing.tries]
                dialing.tries += 1
                self.world.after(wait, lambda: self._syn(source, target, dialing))
            return
        if not self.hosts[target].alive:
            dialing.done(None, "connection refused")
            return
        here, there = Stream(self, source, target), Stream(self, target, source)
        here.peer, there.peer = there, here
        self.streams = [s for s in self.streams if s.open or s.peer.open]
        self.streams += [here, there]
        self.hosts[target].accepted(there, source)
        dialing.done(here, "")

    # --- faults --------------------------------------------------------------------------------
    def cut(self, source: str, target: str, change: int) -> None:
        """Take one direction down (+1), or let go of it again (-1)."""
        path = self.paths.get((source, target))
        if path is not None:
            path.cuts += change

    def forget(self, one: str, two: str, *, both: bool = True) -> None:
        """Lose every stream between two hosts, or only what goes from one to two; none is told."""
        for stream in self.streams:
            ends = (stream.host, stream.other)
            if ends == (one, two) or (both and ends == (two, one)):
                stream.forgotten = True

    def crash(self, host: str) -> None:
        """Take every stream of a host with it."""
        for stream in self.streams:
            if stream.host == host:
                stream.vanish()
