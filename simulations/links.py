"""Every link of a simulated node, as ``mesh.shell.links`` keeps them: same rules, no sockets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mesh.dialling import CROSSING, Dial, Dialling
from mesh.handshake import Self
from mesh.link import JoinAsked, Link
from mesh.messages import BULK, CONTROL, Hello, Message, OpenBulk
from simulations.connection import Connection
from simulations.network import Dialing, Network, Stream
from simulations.world import Timer, World

DIAL_TIMEOUT = 5.0  # seconds
BULK_TIMEOUT = 8.0  # seconds that a peer has to dial us a bulk socket
ALIVE = 2.0  # seconds: a link that was heard so recently is not half-open
SILENCE = 2.0  # seconds, or four round trips, without a byte on a link that pings every second
NONCE = 32


class Hooks(Protocol):
    """What happens on links, for the rest of the node."""

    def linked(self, peer: bytes, connection: Connection) -> None: ...
    def unlinked(self, peer: bytes, reason: str) -> None: ...
    def bulk_opened(self, peer: bytes) -> None: ...
    def bulk_closed(self, peer: bytes) -> None: ...
    def heard(self, connection: Connection, message: Message) -> None: ...
    def feed(self, connection: Connection) -> None: ...
    def gate(self, said: Hello) -> str: ...
    def key_of(self, node: bytes) -> bytes | None: ...
    def follows(self, node: bytes, shown: tuple[bytes, ...], key: bytes) -> bool: ...
    def retired(self, node: bytes, key: bytes) -> bool: ...
    def secret_of(self, invitation: bytes) -> bytes | None: ...
    def join_asked(self, connection: Connection, asked: JoinAsked) -> None: ...
    def greet(self, connection: Connection) -> bool: ...
    def guest(self, connection: Connection, message: Message) -> None: ...
    def busy(self, peer: bytes) -> bool: ...
    def me(self) -> Self: ...
    def clock(self) -> float: ...
    def note(self, text: str) -> None: ...


@dataclass(slots=True)
class Attempt:
    """One dial, from the first segment to the end of the link."""

    peer: bytes
    channel: int
    dialing: Dialing | None = None
    connection: Connection | None = None
    over: bool = False


def shown_key(stream: Stream) -> bytes:
    """Return the key that TLS proves the listener to hold."""
    listener = stream.peer.receiver
    return listener.link.me.signer.key if isinstance(listener, Connection) else b""


class Links:
    """All sockets of one life of a node."""

    def __init__(
        self,
        world: World,
        network: Network,
        place: str,
        places: dict[bytes, str],
        name: bytes,
        hooks: Hooks,
    ) -> None:
        self.control: dict[bytes, Connection] = {}
        self.bulk: dict[bytes, Connection] = {}
        self.all: dict[Connection, None] = {}  # in order, so that a seed replays
        self.name = name
        self.dialling = Dialling(self.name, world.rng)
        self._world, self._network, self._hooks = world, network, hooks
        self._place, self._places = place, places
        self._attempts: dict[Connection | None, Attempt] = {}
        self._pending: list[Attempt] = []
        self._bulk_dials: set[bytes] = set()
        self._held: deque[Connection] = deque()
        self._timer: Timer | None = None
        self._dead = False

    def stop(self) -> None:
        """The node has crashed."""
        self._dead = True
        for connection in self.all:
            connection.vanish()
        for attempt in self._pending:
            if attempt.dialing is not None:
                attempt.dialing.cancel()

    # --- out -----------------------------------------------------------------------------------
    def meet(self, peer: bytes) -> None:
        """Keep trying to be linked with a member."""
        if peer not in self.control and peer != self.name:
            self.dialling.want(peer, self._world.now)
            self.wake()

    def suspect(self, peer: bytes) -> None:
        """The link is silent though there is work: dial beside it."""
        now = self._world.now
        self.dialling.dials.setdefault(peer, Dial(now, now))
        self.wake()

    def hurry(self) -> None:
        """Work has come up."""
        self.dialling.hurry(self._world.now)
        self.wake()

    def wake(self) -> None:
        """Dial whoever is due, now or later."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.dialling.deadline()
        if deadline is not None:
            self._timer = self._world.after(max(0.01, deadline - self._world.now), self._dial_due)

    def _dial_due(self) -> None:
        if self._dead:
            return
        self._timer = None
        now = self._world.now
        for peer in self.dialling.due(now):
            self.dialling.begin(peer, now, busy=self._hooks.busy(peer))
            self._dial(peer, CONTROL)
        self.wake()

    def _dial(self, peer: bytes, channel: int) -> None:
        attempt = Attempt(peer, channel)
        place = self._places.get(peer)
        if place is None or self._hooks.key_of(peer) is None:
            self._failed(attempt, "not a member, or no address is known")
            return
        self._pending.append(attempt)
        attempt.dialing = self._network.dial(
            self._place, place, lambda stream, why: self._connected(attempt, stream, why)
        )
        self._world.after(DIAL_TIMEOUT, lambda: self._timed_out(attempt))

    def _timed_out(self, attempt: Attempt) -> None:
        if attempt.connection is None and not attempt.over and not self._dead:
            self._failed(attempt, "no answer")

    def _connected(self, attempt: Attempt, stream: Stream | None, why: str) -> None:
        if attempt.over or self._dead:
            if stream is not None:
                stream.close()
            return
        key = self._hooks.key_of(attempt.peer)
        if stream is None or key is None:
            self._failed(attempt, why or "no longer a member")
            return
        link = Link.dial(
            self._hooks.me(),
            node=attempt.peer,
            keys=frozenset({key}),
            server_key=shown_key(stream),
            channel=attempt.channel,
            now=self._world.now,
            clock=self._hooks.clock(),
            heir=lambda shown, key: self._hooks.follows(attempt.peer, shown, key),
        )
        connection = Connection(self._world, link, stream, self, dialled=True)
        attempt.connection = connection
        self._attempts[connection] = attempt
        self.all[connection] = None

    def _failed(self, attempt: Attempt, why: str) -> None:
        """An attempt is over, before or after it became a link."""
        if attempt.over:
            return
        attempt.over = True
        if attempt.dialing is not None:
            attempt.dialing.cancel()
        if attempt in self._pending:
            self._pending.remove(attempt)
        peer, now = attempt.peer, self._world.now
        if attempt.channel == BULK:
            self._bulk_dials.discard(peer)
            if peer not in self.bulk:
                self._hooks.bulk_closed(peer)
            return
        if attempt.connection is None or not attempt.connection.established:
            self.dialling.failed(peer, why, now, busy=self._hooks.busy(peer))
        self.wake()

    # --- in ------------------------------------------------------------------------------------
    def accept(self, stream: Stream) -> None:
        """Somebody has connected."""
        link = Link.accept(
            self._hooks.me(),
            nonce=self._world.rng.randbytes(NONCE),
            gate=self._hooks.gate,
            secret_of=self._hooks.secret_of,
            now=self._world.now,
            clock=self._hooks.clock(),
        )
        self.all[Connection(self._world, link, stream, self, dialled=False)] = None

    # --- Owner ---------------------------------------------------------------------------------
    def established(self, connection: Connection) -> None:
        """A handshake is through: one link of a kind per peer."""
        peer = connection.node
        if connection.guest or self._hooks.greet(connection):
            return
        if connection.bulk:
            self._bulk_dials.discard(peer)
            if peer not in self.control:
                connection.close("bulk without control")
                return
            self._drop_bulk(peer, "replaced")
            self.bulk[peer] = connection
            self._hooks.bulk_opened(peer)
        elif self._prefer_old(peer, connection):
            connection.close("a link is up already")
        else:
            self._take(peer, connection)

    def _prefer_old(self, peer: bytes, new: Connection) -> bool:
        old = self.control.get(peer)
        if old is None or self._world.now - old.heard_at > ALIVE:
            return False
        if old.dialled == new.dialled:
            return not new.dialled and new.begun < old.established_at
        return old.dialled is (self.name < peer)

    def _take(self, peer: bytes, connection: Connection) -> None:
        old = self.control.pop(peer, None)
        if old is not None:
            old.close("replaced by a new link")
            self._hooks.unlinked(peer, "replaced")
            self._drop_bulk(peer, "the control link was replaced")
        self.control[peer] = connection
        self.dialling.drop(peer)
        if connection.dialled or peer < self.name:
            self._one_is_enough(peer, connection)
        else:
            self._world.after(CROSSING, lambda: self._one_is_enough(peer, connection))
        self._hooks.linked(peer, connection)

    def _one_is_enough(self, peer: bytes, connection: Connection) -> None:
        if self._dead or self.control.get(peer) is not connection:
            return
        for attempt in list(self._pending):
            if attempt.peer == peer and attempt.connection is not connection:
                self._call_off(attempt)

    def _call_off(self, attempt: Attempt) -> None:
        """One link is enough."""
        if attempt.channel != CONTROL:
            return
        connection = attempt.connection
        if connection is not None and connection is not self.control.get(attempt.peer):
            connection.close("one link is enough")
        self._failed(attempt, "one link is enough")

    def _drop_bulk(self, peer: bytes, reason: str) -> None:
        old = self.bulk.pop(peer, None)
        if old is not None:
            old.close(reason)
            self._hooks.bulk_closed(peer)

    def heard(self, connection: Connection, message: Message) -> None:
        """A peer said something."""
        if connection.guest:
            self._hooks.guest(connection, message)
        elif isinstance(message, OpenBulk):
            self._dial_bulk(connection.node)
        else:
            self._hooks.heard(connection, message)

    def hold(self, peer: bytes) -> None:
        """Read no further on a control link: as much as may be waits already."""
        connection = self.control.get(peer)
        if connection is not None and not connection.held:
            connection.hold()
            self._held.append(connection)

    def resume(self, room: Callable[[], bool]) -> None:
        """Read on while there is room, whoever has waited longest first."""
        while self._held and room():
            self._held.popleft().resume()

    def feed(self, connection: Connection) -> None:
        """A bulk socket can take more."""
        self._hooks.feed(connection)

    def join_asked(self, connection: Connection, asked: JoinAsked) -> None:
        """A stranger wants to join."""
        self._hooks.join_asked(connection, asked)

    def over(self, connection: Connection) -> None:
        """A socket has ended."""
        self.all.pop(connection, None)
        if self._dead:
            return
        self._end(connection)
        attempt = self._attempts.pop(connection, None)
        if attempt is not None:
            self._failed(attempt, connection.reason)

    def _end(self, connection: Connection) -> None:
        """It speaks for nobody any more."""
        peer = connection.link.peer
        if peer is not None and self.control.get(peer.node) is connection:
            del self.control[peer.node]
            self._hooks.note(f"unlinked from {self._places[peer.node]}: {connection.reason}")
            self._hooks.unlinked(peer.node, connection.reason)
            self._drop_bulk(peer.node, "the control link is gone")
        elif peer is not None and self.bulk.get(peer.node) is connection:
            del self.bulk[peer.node]
            self._hooks.bulk_closed(peer.node)

    # --- bulk ----------------------------------------------------------------------------------
    def open_bulk(self, peer: bytes) -> None:
        """Get a bulk socket, one way or the other."""
        control = self.control.get(peer)
        if peer in self.bulk:
            self._hooks.bulk_opened(peer)
        elif control is None:
            self._hooks.bulk_closed(peer)
        elif control.dialled:
            self._dial_bulk(peer)
        else:
            control.send(OpenBulk())
            self._world.after(BULK_TIMEOUT, lambda: self._bulk_late(peer))

    def _bulk_late(self, peer: bytes) -> None:
        if not self._dead and peer not in self.bulk:
            self._hooks.bulk_closed(peer)

    def _dial_bulk(self, peer: bytes) -> None:
        if peer in self.control and peer not in self.bulk and peer not in self._bulk_dials:
            self._bulk_dials.add(peer)
            self._dial(peer, BULK)

    def close_bulk(self, peer: bytes, reason: str) -> None:
        """Close the bulk socket."""
        self._drop_bulk(peer, reason)

    def send(self, peer: bytes, message: Message) -> None:
        """Send on the control link; without one, the message is moot."""
        if peer in self.control:
            self.control[peer].send(message)

    def send_bulk(self, peer: bytes, message: Message) -> None:
        """Send on the bulk socket; without one, the message is moot."""
        if peer in self.bulk:
            self.bulk[peer].send(message)

    # --- housekeeping --------------------------------------------------------------------------
    def tend(self, stuck: Callable[[bytes, float], None]) -> None:
        """After an outage old sockets sleep for seconds; fresh ones do not (ruling 16)."""
        now = self._world.now
        for peer, connection in list(self.control.items()):
            connection.set_busy(busy=self._hooks.busy(peer))
            rtt, silence = connection.link.rtt.smoothed, now - connection.heard_at
            if connection.link.busy and silence > max(SILENCE, 4 * rtt):
                self.suspect(peer)
                continue
            self.dialling.drop(peer)
            if connection.link.busy and silence < SILENCE:
                stuck(peer, now)

    def leave_out(self, members: frozenset[bytes]) -> None:
        """Root documents may have changed: meet the new ones, leave those who are out."""
        for node in sorted(members):
            self.meet(node)
        for peer, connection in list(self.control.items()):
            shown = connection.link.peer
            if peer not in members:
                self._end(connection)
                if not self._hooks.greet(connection):
                    connection.close("no longer a member")
            elif shown is not None and self._hooks.retired(peer, shown.key):
                connection.close("its key was given up for another")
        for peer in [peer for peer in self.dialling.dials if peer not in members]:
            self.dialling.drop(peer)
