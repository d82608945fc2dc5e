"""One socket at work: bytes to and from a ``mesh.link.Link``, and its clock.

A connection never decides anything.  It tells its owner what it hears, and dies of whatever goes
wrong with it, alone.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from mesh.carrier import RELAYED, Stream, scheme_of
from mesh.link import Closed, Established, JoinAsked, Link, Received
from mesh.messages import BESIDE, BULK, Message
from mesh.profile import Meter
from mesh.serving import Serving
from store.errors import MeshError, UnavailableError

READ_SIZE = 256 * 1024  # bytes at a time
PARTING = 30.0  # seconds to deliver what is queued on a bulk socket beside others
HAND_OVER = 5.0  # seconds for the last words of a link that another one takes over from
SEND_TIMEOUT = 60.0  # seconds that a peer may not read at all
LINGER = 1.0  # seconds to get the last words out
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, MeshError, UnavailableError, OSError)


class Owner(Protocol):
    """Who is told."""

    async def established(self, connection: Connection) -> None:
        """The peer is known."""
        ...

    async def join_asked(self, connection: Connection, asked: JoinAsked) -> None:
        """A stranger wants to join: admit or refuse it."""
        ...

    async def heard(self, connection: Connection, message: Message) -> None:
        """The peer said something.  While this waits, nothing more is read."""
        ...

    async def feed(self, connection: Connection) -> bool:
        """The socket can take more: queue the next piece, if there is one to serve."""
        ...


class Connection:
    """A link on a stream.  ``run`` returns when it is over; ``reason`` then says why."""

    def __init__(
        self, link: Link, stream: Stream, address: str, owner: Owner, *, dialled: bool
    ) -> None:
        self.link = link
        self.stream = stream
        self.address = address
        self.dialled = dialled
        self.relayed = scheme_of(address) == RELAYED
        self.detached = False  # the handshake is through, and the stream somebody else's
        self.over = trio.Event()
        self.orderly = False  # it is over, and nothing that was said on it was lost
        self.before: Connection | None = None  # a bulk socket that drains beside this one
        self.successor = False  # a better link is up, and waits for the end of this one
        self.after: trio.Event | None = None  # the end of the link that this one takes over from
        self.joining = (
            False  # a guest's, who only takes root documents: a joiner, or one who is out
        )
        self.attempt: trio.CancelScope | None = None  # around the dial that led here
        self.reason = ""
        self.heard_at = trio.current_time()
        self.begun = trio.current_time()
        self.established_at = 0.0
        self.received = Meter()
        self.sent = Meter()
        self.serving = Serving()
        self._owner = owner
        self._work = trio.Event()  # there may be something to write
        self._drained = trio.Event()
        self._sooner = trio.Event()  # the link's deadline may be earlier than it was
        self._scope = trio.CancelScope()

    @property
    def node(self) -> bytes:
        """Who is at the other end; only once established."""
        if self.link.peer is None:
            raise RuntimeError("the handshake is not through")
        return self.link.peer.node

    @property
    def beside(self) -> bool:
        """Tell whether it is a bulk socket beside the one that counts."""
        return self.link.peer is not None and self.link.peer.channel == BESIDE

    @property
    def mute(self) -> bool:
        """Tell whether nothing more can be said on it."""
        return self.link.closed or self.link.leaving

    def whose(self) -> bytes | str:
        """Return who is at the other end, as far as that is known: a node, or an address."""
        return self.address if self.link.peer is None else self.link.peer.node

    def send(self, message: Message) -> None:
        """Queue a message.  A peer that does not read loses the link."""
        try:
            self.link.send(message)
        except UnavailableError as error:
            self.close(str(error))
        self.wake()

    def set_busy(self, *, busy: bool) -> None:
        """While work is pending the link is watched more closely."""
        if self.link.busy is not busy:
            self.link.busy = busy
            self._sooner.set()

    def wake(self) -> None:
        """There may be something to write."""
        self._work.set()

    async def rest(self, pause: float) -> None:
        """Wait, but not when there is something to write.  For the owner's ``feed`` only."""
        with trio.move_on_after(pause):
            await self._work.wait()

    async def drained(self, below: int) -> None:
        """Wait until fewer than ``below`` bytes are queued, or the link is over."""
        while self.link.queued >= below and not self.link.closed:
            if self._drained.is_set():  # several may wait for one event
                self._drained = trio.Event()
            await self._drained.wait()

    def close(self, reason: str) -> None:
        """End it; the other side is told, if it still listens."""
        self.reason = self.reason or reason
        self.link.close(reason)
        self.wake()
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + LINGER)

    def leave(self, reason: str, within: float = HAND_OVER) -> None:
        """Say nothing more, but hear the other side out: another link takes over."""
        self.reason = self.reason or reason
        self.link.leave(reason)
        self.wake()
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + within)

    def close_by(self, deadline: float) -> None:
        """End at a time of ``trio.current_time()``, at the latest."""
        self._scope.deadline = min(self._scope.deadline, deadline)

    def guest(self, patience: float) -> None:
        """It is no member's: it hears root documents, and has so many seconds to take them."""
        self.joining = True
        self.close_by(trio.current_time() + patience)

    def detach(self) -> None:
        """Stop after the handshake and leave the stream open: ``run`` returns, the rest follows."""
        self.detached = True
        self.reason = "handed on"
        self.wake()

    async def run(self) -> None:
        """Run until the link is over."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._guard, self._read)
                    nursery.start_soon(self._guard, self._tick)
                    await self._guard(self._write)  # ends when the last words are out
                    nursery.cancel_scope.cancel()
            self.detached = self.detached and not self._scope.cancelled_caught
        except BaseException as error:  # cancelled, too
            self.detached = False
            if isinstance(error, Exception):
                self.reason = self.reason or "a fault here"
            raise
        finally:
            self.over.set()
            self.reason = self.reason or "stopped here"
            self.link.close(self.reason)
            self._drained.set()
            if not self.detached:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + LINGER):
                    await self.stream.aclose()

    async def _guard(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run one of the loops; what breaks it ends the connection and nothing else."""
        try:
            await task()
        except BROKEN as error:
            self.reason = self.reason or str(error) or type(error).__name__
            self.link.close(self.reason)
            self._scope.cancel()

    async def _read(self) -> None:
        while not (self.link.closed or self.detached):
            data = await self.stream.receive_some(READ_SIZE)
            now = trio.current_time()
            if not data:
                self.orderly = self.link.leaving
                self.close("the peer closed the connection")
                return
            self.heard_at = now
            self.received.add(len(data), now)
            self.link.feed(data, now)
            await self._dispatch()

    async def _dispatch(self) -> None:
        for event in self.link:
            self._wake_if_due()
            match event:
                case Received(message):
                    await self._owner.heard(self, message)
                case Established():
                    self.established_at = trio.current_time()
                    self._sooner.set()
                    await self._owner.established(self)
                case JoinAsked():
                    self.joining = True
                    await self._owner.join_asked(self, event)
                case Closed(reason):
                    self.close(reason)
                    if self.successor:  # what is queued must reach the peer before the end
                        self._scope.deadline = trio.current_time() + HAND_OVER
                    if self.link.left and self.beside:
                        self._scope.deadline = trio.current_time() + PARTING
        self._wake_if_due()

    def _wake_if_due(self) -> None:
        """Wake the writer if the link has something to say, as it may of its own accord."""
        if self.link.queued or self.link.closed:
            self.wake()

    async def _write(self) -> None:
        while True:
            self._work = trio.Event()
            while await self._flush() or await self._feed():
                self._work = trio.Event()  # whatever set it is seen by the next round
            if self.link.closed or self.detached:
                self.orderly = self.orderly or self.link.left
                return
            await self._work.wait()

    async def _flush(self) -> bool:
        """Write what is queued; tell whether there was anything."""
        wrote = False
        while data := self.link.take():
            wrote = True
            self._drained.set()
            with trio.move_on_after(SEND_TIMEOUT) as patience:
                await self.stream.send_all(data)
            if patience.cancelled_caught:
                raise trio.BrokenResourceError("the peer does not read what it is sent")
            self.sent.add(len(data), trio.current_time())
        self._drained.set()
        return wrote

    async def _feed(self) -> bool:
        bulk = self.link.peer is not None and self.link.channel == BULK
        return bulk and not self.mute and await self._owner.feed(self)

    async def _tick(self) -> None:
        while not self.link.closed:
            self._sooner = trio.Event()
            with trio.move_on_at(self.link.deadline()):
                await self._sooner.wait()
                continue
            self.link.tick(trio.current_time())
            await self._dispatch()


def clock() -> float:
    """Return the time of day, in seconds since 1970."""
    return time.time()
