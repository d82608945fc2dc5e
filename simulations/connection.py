"""One socket of a simulated node: ``mesh.link`` on a stream, as ``mesh.shell`` has it."""

from __future__ import annotations

from typing import Protocol

from mesh.link import Closed, Established, JoinAsked, Link, Received
from mesh.messages import BULK, Message
from mesh.serving import Serving
from simulations.network import Stream
from simulations.world import Timer, World
from store.errors import MeshError, UnavailableError

LINGER = 1.0  # seconds to get the last words out


class Owner(Protocol):
    """Who is told."""

    def established(self, connection: Connection) -> None:
        """The peer is known."""
        ...

    def heard(self, connection: Connection, message: Message) -> None:
        """The peer said something.  Raises RemoteProtocolError."""
        ...

    def feed(self, connection: Connection) -> None:
        """The socket can take more."""
        ...

    def over(self, connection: Connection) -> None:
        """It has ended; ``reason`` says why."""
        ...

    def join_asked(self, connection: Connection, asked: JoinAsked) -> None:
        """A stranger wants to join: admit or refuse it."""
        ...


class Connection:
    """A link on a stream, its clock included."""

    def __init__(
        self, world: World, link: Link, stream: Stream, owner: Owner, *, dialled: bool
    ) -> None:
        self.link, self.stream, self.dialled = link, stream, dialled
        self.serving = Serving()
        self.heard_at = self.begun = world.now
        self.established_at = 0.0
        self.reason = ""
        self.ended = False
        self.established = False
        self.guest = False  # no member's: a joiner, or one who was evicted
        self.held = False  # its owner takes no more for now: what is said waits in the stream
        self._unread: list[bytes] = []
        self._unread_end: str | None = None
        self._lingering = False
        self.feeding = False  # a piece for it is being read from the disk
        self._world, self._owner = world, owner
        self._timer: Timer | None = None
        stream.receiver = self
        self._arm()
        self.flush()

    @property
    def node(self) -> bytes:
        """Who is at the other end; only once established."""
        assert self.link.peer is not None
        return self.link.peer.node

    @property
    def bulk(self) -> bool:
        """Tell whether it carries chunks."""
        return self.link.peer is not None and self.link.channel == BULK

    def send(self, message: Message) -> None:
        """Queue a message; a peer that does not read loses the link."""
        try:
            self.link.send(message)
        except UnavailableError as error:
            self.close(str(error))
        self.flush()

    def close(self, reason: str) -> None:
        """End it; the other side is told, if it still listens."""
        if self.ended:
            return
        self.reason = self.reason or reason
        self.link.close(reason)
        self.flush()

    def vanish(self) -> None:
        """The node is gone."""
        self.ended = True
        self._disarm()

    def hold(self) -> None:
        """Read no further until ``resume``."""
        self.held = True

    def resume(self) -> None:
        """Read what has come meanwhile."""
        self.held = False
        waiting, end = self._unread, self._unread_end
        self._unread, self._unread_end = [], None
        self.on_data(b"")
        for data in waiting:
            self.on_data(data)
        if end is not None:
            self.on_end(end)

    # --- the stream ------------------------------------------------------------------------------
    def on_data(self, data: bytes) -> None:
        """Bytes have come."""
        if self.ended:
            return
        if self.held:
            self._unread.append(data)
            return
        self.heard_at = self._world.now
        try:
            self.link.feed(data, self._world.now)
            self._dispatch()
        except (MeshError, UnavailableError) as error:
            self._die(str(error))
        self.flush()

    def on_end(self, reason: str) -> None:
        """The other side has closed, or the stream broke."""
        if self.held:
            self._unread_end = reason
        else:
            self._die(reason)

    def on_writable(self) -> None:
        """There is room again."""
        self.flush()

    def _dispatch(self) -> None:
        for event in self.link:
            match event:
                case Received(message):
                    self._owner.heard(self, message)
                case Established():
                    self.established, self.established_at = True, self._world.now
                    self._arm()
                    self._owner.established(self)
                case Closed(reason):
                    self.reason = self.reason or reason
                case JoinAsked():
                    self.guest = True
                    self._owner.join_asked(self, event)
            if self.held and not self.link.closed:
                return

    def flush(self) -> None:
        """Write what is queued; if there is room for more, ask for it."""
        while not self.ended and self.stream.writable and (data := self.link.take()):
            self.stream.write(data)
        if self.link.closed and not self._lingering:
            self._lingering = True
            self._world.after(LINGER, self._end)
        if self.ended or not self.stream.writable:
            return
        if self.link.closed and not self.link.queued:
            self._end()
        elif self.bulk and not self.feeding:
            self._owner.feed(self)

    def _die(self, reason: str) -> None:
        self.reason = self.reason or reason
        self.link.close(self.reason)
        self._end()

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._disarm()
        self.stream.receiver = None
        self.stream.close()
        self._world.after(0.0, lambda: self._owner.over(self))

    # --- time ----------------------------------------------------------------------------------
    def set_busy(self, *, busy: bool) -> None:
        """While work is pending the link is watched more closely."""
        if self.link.busy is not busy and not self.ended:
            self.link.busy = busy
            self._arm()

    def _arm(self) -> None:
        self._disarm()
        self._timer = self._world.after(self.link.deadline() - self._world.now, self._tick)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        if self.ended:
            return
        try:
            self.link.tick(self._world.now)
            self._dispatch()
        except (MeshError, UnavailableError) as error:
            self._die(str(error))
        self.flush()
        if not self.ended and not self.link.closed:
            self._arm()
