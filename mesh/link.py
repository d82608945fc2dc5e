"""One peer link as a state machine.  No sockets, no clock.  Spec: docs/mesh.md §4 and §5.

``feed()`` bytes in, iterate over events, ``send()`` messages, ``take()`` the bytes to write.
``deadline()`` says when to call ``tick(now)`` at the latest.  Before the handshake is through, the
only thing a stranger can make us do is verify one signature.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mesh.handshake import (
    Heir,
    Peer,
    Self,
    Ticket,
    hello,
    hello_is_genuine,
    join,
    join_is_genuine,
    node_of,
)
from mesh.messages import (
    BESIDE,
    BULK,
    BULK_ONLY,
    CONTROL,
    EITHER,
    HANDSHAKE,
    PROTOCOL,
    RELAY,
    Challenge,
    Data,
    Goodbye,
    Hello,
    Join,
    Message,
    Ping,
    Pong,
    Refused,
    Welcome,
)
from mesh.pings import Pings
from mesh.wire import BULK_FRAME_MAX, CONTROL_FRAME_MAX, Decoder, encode, encode_data
from store.errors import LocalProtocolError, RemoteProtocolError, UnavailableError

HANDSHAKE_TIMEOUT = 10.0  # seconds from connect to Welcome
SILENCE_MAX = 15.0  # seconds, or SILENCE_RTTS round trips, without a byte: the peer is dead
SILENCE_RTTS = 8
QUEUE_MAX = 4 * 1024 * 1024  # bytes of control messages a slow peer may make us hold
JOINED_MAX = 256 * 1024  # bytes written at once: a packet for a header alone costs more than a copy


@dataclass(frozen=True, slots=True)
class Established:
    """The handshake is through."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class JoinAsked:
    """A stranger asks to join.  Answer with ``admit`` or ``refuse``."""

    request: Join


@dataclass(frozen=True, slots=True)
class Received:
    """The peer said something."""

    message: Message


@dataclass(frozen=True, slots=True)
class Closed:
    """The link is over.  ``reason`` is for people; ``retry`` seconds later it may be otherwise."""

    reason: str
    retry: float = 0.0


Event = Established | JoinAsked | Received | Closed
# Judges a member's introduction; the answer is the reason to refuse it, or "".
Gate = Callable[[Hello], str]
WRONG_KEY = "the server holds another key than the expected node's"


class Link:
    """One side of one socket.  Make it with ``dial`` or ``accept``."""

    def __init__(self, me: Self, now: float, clock: float) -> None:
        self.me = me
        self.peer: Peer | None = None
        self.channel = CONTROL
        self._pings = Pings(now)
        self.rtt = self._pings.rtt
        self.peer_backlog = 0.0  # seconds its upload queue would take to drain
        self.backlog = 0.0  # and ours
        self.busy = self.closed = self._listening = False
        self.leaving = False  # we have said Goodbye, and still listen
        self.left = False  # the peer has
        self._clock = clock - now  # to tell the time of day from the monotonic clock
        self._now = self._started = self._heard = now
        self._decoder = Decoder()
        self._out: deque[bytes] = deque()
        self._queued = 0
        self._events: deque[Event] = deque()
        self._nonce = b""
        self._gate: Gate | None = None
        self._secret_of: Callable[[bytes], bytes | None] | None = None
        self._server_key = b""
        self._server_node: bytes | None = None
        self._ticket: Ticket | None = None
        self._heir: Heir | None = None

    @classmethod
    def dial(
        cls,
        me: Self,
        *,
        node: bytes,
        keys: frozenset[bytes],
        server_key: bytes,
        channel: int,
        now: float,
        clock: float,
        ticket: Ticket | None = None,
        heir: Heir | None = None,
    ) -> Link:
        """Begin as the dialler.  ``server_key`` is what TLS showed, ``keys`` what we expect.

        With ``heir``, another one may prove in the Challenge that it has followed.  Raises
        RemoteProtocolError if the server is not the one we meant: nothing has been sent.
        """
        link = cls(me, now, clock)
        if server_key not in keys and heir is None:
            raise RemoteProtocolError(WRONG_KEY)
        link._heir = None if server_key in keys else heir
        link._server_key, link._server_node = server_key, node
        link.channel, link._ticket = channel, ticket
        return link

    @classmethod
    def accept(
        cls,
        me: Self,
        *,
        nonce: bytes,
        gate: Gate,
        secret_of: Callable[[bytes], bytes | None],
        now: float,
        clock: float,
    ) -> Link:
        """Begin as the listener, with a fresh random ``nonce``.

        ``gate`` judges members; ``secret_of`` gives an open invitation's secret, or None.
        """
        link = cls(me, now, clock)
        link._listening, link._nonce, link._gate, link._secret_of = True, nonce, gate, secret_of
        link._push(encode(Challenge(PROTOCOL, nonce, me.succession)))
        return link

    # --- in ------------------------------------------------------------------------------------
    def feed(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """Take bytes as they came.  Raises RemoteProtocolError: then drop the link."""
        self._now = self._heard = max(now, self._now)
        self._decoder.feed(data)
        if self.peer is None:
            self._advance()

    def __iter__(self) -> Iterator[Event]:
        """Give what has happened since.  Raises RemoteProtocolError: then drop the link."""
        while not self.closed:
            while self._events:
                yield self._events.popleft()
            if self.peer is None or self.closed or self.channel == RELAY:
                return
            message = self._decoder.next()
            if message is None:
                return
            self._receive(message)
        yield from self._events
        self._events.clear()

    def _advance(self) -> None:
        """Take the handshake as far as the bytes go.  Whatever follows it stays undecoded."""
        while self.peer is None and not self.closed:
            message = self._decoder.next()
            if message is None:
                return
            if not isinstance(message, HANDSHAKE):
                raise RemoteProtocolError(f"{type(message).__name__} before the handshake")
            if self._listening:
                self._judge(message)
            else:
                self._introduce(message)

    def _introduce(self, message: Message) -> None:
        """Dialler: answer the challenge, then wait for the verdict."""
        match message:
            case Challenge() if not self._nonce:
                if self._heir and not self._heir(message.succession, self._server_key):
                    raise RemoteProtocolError(WRONG_KEY)
                self._nonce = message.nonce
                clock = self._clock + self._now
                if self._ticket is None:
                    said: Message = hello(self.me, message, self._server_key, self.channel, clock)
                else:
                    said = join(self.me, self._ticket, message, self._server_key, clock)
                self._push(encode(said))
            case Welcome() if self._nonce:
                if message.node != self._server_node:
                    raise RemoteProtocolError("the server calls itself another node")
                self._establish(message, message.node, self.channel)
            case Refused():
                self._close(f"refused: {message.reason}", message.retry_ms / 1000)
            case _:
                raise RemoteProtocolError(f"{type(message).__name__} out of order")

    def _judge(self, message: Message) -> None:
        """Listener: let members in, hand joiners on."""
        if isinstance(message, Hello | Join) and message.protocol != PROTOCOL:
            self.refuse(f"protocol {message.protocol} is not spoken here")
            return
        match message:
            case Hello():
                if not hello_is_genuine(message, self._nonce, self.me.signer.key):
                    self.refuse("the introduction is not signed for this link")
                    return
                assert self._gate is not None
                reason = self._gate(message)
                if reason:
                    self.refuse(reason)
                    return
                self._welcome()
                self._establish(message, message.node, message.channel)
            case Join():
                assert self._secret_of is not None
                secret = self._secret_of(message.invitation)
                own = self.me.signer.key
                genuine = join_is_genuine(message, secret or bytes(32), self._nonce, own)
                if secret is None or not genuine:
                    self.refuse("the invitation is not known here, withdrawn, or forged")
                    return
                self._events.append(JoinAsked(message))
            case _:
                raise RemoteProtocolError(f"{type(message).__name__} out of order")

    def admit(self, request: Join) -> None:
        """Listener: the joiner is a member now; let it in for the rest of this link."""
        self._welcome()
        self._establish(request, node_of(request.key), CONTROL)

    def refuse(self, reason: str, retry: float = 0.0) -> None:
        """Listener: say why not, and end the link."""
        self._push(encode(Refused(reason[:1000], int(retry * 1000))))
        self._close(reason)

    def _welcome(self) -> None:
        me = self.me
        clock_ms = int((self._clock + self._now) * 1000)
        said = Welcome(me.node, me.incarnation, me.site, me.roles, clock_ms, me.features)
        self._push(encode(said))

    def _establish(self, said: Hello | Welcome | Join, node: bytes, channel: int) -> None:
        self.channel = BULK if channel == BESIDE else channel
        self._decoder.frame_max = BULK_FRAME_MAX if self.channel == BULK else CONTROL_FRAME_MAX
        self.peer = Peer.of(said, node, self._server_key, channel, self._clock + self._now)
        self._pings.begin()
        self._events.append(Established(self.peer))

    def _receive(self, message: Message) -> None:
        if isinstance(message, HANDSHAKE):
            raise RemoteProtocolError(f"{type(message).__name__} after the handshake")
        bulk_only = isinstance(message, BULK_ONLY)
        if bulk_only is not (self.channel == BULK) and not isinstance(message, EITHER):
            raise RemoteProtocolError(f"{type(message).__name__} on the wrong channel")
        match message:
            case Ping():
                self.send(Pong(message.nonce, message.sent_us, int(self.backlog * 1000)))
            case Pong():
                if self._pings.answered(message, self._now):
                    self.peer_backlog = min(message.backlog_ms / 1000, 60.0)
            case Goodbye():
                self.left = True
                self._close(f"peer left: {message.reason}")
            case _:
                self._events.append(Received(message))

    # --- out -----------------------------------------------------------------------------------
    def send(self, message: Message) -> None:
        """Queue a message.

        Raises UnavailableError when the peer reads so slowly that QUEUE_MAX is reached: drop it.
        """
        if self.closed or self.leaving:
            return
        if self.peer is None:
            raise LocalProtocolError(f"{type(message).__name__} before the handshake")
        if isinstance(message, Data):
            for part in encode_data(message):
                self._push(part)
        else:
            self._push(encode(message))
        if self._queued > QUEUE_MAX + 2 * BULK_FRAME_MAX:
            raise UnavailableError("the peer does not read what it is sent")

    def take(self) -> bytes:
        """Return the next bytes to write, or ``b""``.  Small messages are joined."""
        if not self._out:
            return b""
        first = self._out.popleft()
        if self._out and len(first) < JOINED_MAX:
            parts, size = [first], len(first)
            while self._out and size + len(self._out[0]) <= JOINED_MAX:
                parts.append(self._out.popleft())
                size += len(parts[-1])
            first = b"".join(parts)
        self._queued -= len(first)
        return first

    @property
    def queued(self) -> int:
        """Bytes waiting to be written."""
        return self._queued

    def close(self, reason: str) -> None:
        """End the link on purpose; what is queued may still be written."""
        self.leave(reason)
        self._close(reason)

    def leave(self, reason: str) -> None:
        """Say nothing more after what is queued, but hear the other side out."""
        if self.peer is not None and not (self.closed or self.leaving):
            self._push(encode(Goodbye(reason[:1000])))
            self.leaving = True

    def rest(self) -> bytes:
        """Return what has come after the handshake of a relay socket, which carries no frames."""
        return self._decoder.rest()

    def _push(self, data: bytes) -> None:
        if data:
            self._out.append(data)
            self._queued += len(data)

    def _close(self, reason: str, retry: float = 0.0) -> None:
        if not self.closed:
            self.closed = True
            self._events.append(Closed(reason, retry))

    # --- time ----------------------------------------------------------------------------------
    def deadline(self) -> float:
        """Return when ``tick`` must be called, at the latest."""
        if self.peer is None:
            return self._started + HANDSHAKE_TIMEOUT
        if self.channel == RELAY:
            return math.inf  # no longer ours
        return min(self._heard + self._silence_max, self._ping_due)

    def tick(self, now: float) -> None:
        """Let time pass: ping, or notice that the peer is dead."""
        self._now = max(now, self._now)
        if self.closed or (self.peer is not None and self.channel == RELAY):
            return
        if self.peer is None:
            if now >= self._started + HANDSHAKE_TIMEOUT:
                self._close("handshake timed out")
            return
        if now >= self._heard + self._silence_max:
            self._close(f"silent for {now - self._heard:.0f} s")
        elif now >= self._ping_due:
            self.send(self._pings.ping(now, self.backlog))

    @property
    def _ping_due(self) -> float:
        quick = self.channel == CONTROL and (self.busy or not self.rtt.measured)
        return self._pings.due(self._heard, quick=quick, listening=self._listening)

    @property
    def _silence_max(self) -> float:
        return max(SILENCE_MAX, SILENCE_RTTS * self.rtt.smoothed)
