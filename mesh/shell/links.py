"""Every link of this node: who is dialled, who is let in, which sockets carry what.

Two sockets per peer: control, always; bulk, while there are chunks to move, and on lossy lines
some beside it.  The side that dialled the control link dials bulk too, since the other one may not
be able to.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog
import trio

from mesh.addresses import AddressBook
from mesh.carrier import RELAYED, Accepted, Carrier, Dialled, scheme_of
from mesh.dialling import Dial, Dialling
from mesh.handshake import Self
from mesh.link import Gate, JoinAsked, Link
from mesh.messages import BESIDE, BULK, CONTROL, RELAY, Hello, Message, OpenBulk
from mesh.shell.attempts import Attempts
from mesh.shell.bulk import Bulk
from mesh.shell.connection import BROKEN, HAND_OVER, Connection, clock
from mesh.shell.faults import FAULTS
from mesh.shell.hooks import Hooks
from mesh.shell.standing import Standing
from mesh.widening import SOCKETS_MAX

DIAL_TIMEOUT = 5.0  # seconds
DETOUR_TIMEOUT = 12.0  # seconds for a dial through a relay, which has several parts
ACCEPTED_MAX = 1024  # sockets that others opened to us
FAULT = "a fault there ended the last link: come again later"  # as the peer hears it
STRANGERS_MAX = 256  # of them, those that have not introduced themselves yet
log = structlog.get_logger(__name__)


class Links:
    """All sockets of one node."""

    def __init__(
        self,
        carriers: Sequence[Carrier],
        hooks: Hooks,
        addresses: AddressBook,
        *,
        me: Callable[[], Self],
        gate: Gate,
        secret_of: Callable[[bytes], bytes | None],
        rng: random.Random,
        sockets_max: int = SOCKETS_MAX,
    ) -> None:
        self.sockets_max = min(sockets_max, SOCKETS_MAX)  # of bulk and to one peer
        self._standing = Standing(hooks, me().node, self._superseded, self.sockets_max)
        self.control, self.bulk = self._standing.control, self._standing.bulk
        self.speaks, self.serves = self._standing.speaks, self._standing.serves
        self.bundle, self.narrow = self._standing.bundle, self._standing.narrow
        self.dismiss = self._standing.ended  # a link that speaks for a member no more
        self.listening: tuple[str, ...] = ()
        self.first_bound: tuple[str, ...] = ()  # of those; they differ where the operator says so
        self.dialling = Dialling(me().node, rng)
        self._carriers = {scheme: carrier for carrier in carriers for scheme in carrier.schemes}
        self._distinct = tuple(carriers)
        self._hooks, self._addresses = hooks, addresses
        self._me = me
        self._gate = gate
        self._secret_of = secret_of
        self._attempts = Attempts(lambda: me().node, self.control)
        self._accepted = 0
        self._strangers: dict[Connection, None] = {}  # the oldest first
        self._bulk = Bulk(self._standing, hooks, addresses, self._dial, self._start)
        self.open_bulk, self.close_bulk, self.widen = (
            self._bulk.open,
            self._bulk.close,
            self._bulk.widen,
        )
        self._nursery: trio.Nursery | None = None
        self._wake = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and dial until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for carrier in self._distinct:
                    self.listening += await nursery.start(carrier.serve, self._accept)
                self.first_bound = self.bound
                task_status.started()
                await self._dial_forever()
        finally:
            self._nursery = None

    @property
    def bound(self) -> tuple[str, ...]:
        """Where we really listen, whatever is advertised."""
        return tuple(address for carrier in self._distinct for address in carrier.bound)

    # --- out -----------------------------------------------------------------------------------
    def meet(self, peer: bytes) -> None:
        """Keep trying to be linked with a member."""
        if peer not in self.control and peer != self._me().node:
            self.dialling.want(peer, trio.current_time())
            self._wake.set()

    def heard_of(self, peer: bytes) -> None:
        """Something says that a member is within reach: dial at once unless it is linked."""
        if peer not in self.control and peer != self._me().node:
            self.dialling.heard(peer, trio.current_time())
            self._wake.set()

    def suspect(self, peer: bytes) -> None:
        """The link is silent though there is work: dial beside it, and take what answers first."""
        now = trio.current_time()
        self.dialling.dials.setdefault(peer, Dial(now, now))
        self._wake.set()

    def trust(self, peer: bytes) -> None:
        """The link is heard again."""
        self.dialling.drop(peer)

    def hurry(self) -> None:
        """Work has come up: dial soon whoever is not linked."""
        self.dialling.hurry(trio.current_time())
        self._wake.set()

    def send(self, peer: bytes, message: Message) -> None:
        """Send on the control link; without one, the message is moot."""
        if peer in self.control:
            self.control[peer].send(message)

    def send_bulk(self, peer: bytes, message: Message) -> None:
        """Send on the bulk socket; without one, the message is moot."""
        if peer in self.bulk:
            self.bulk[peer].send(message)

    async def _dial_forever(self) -> None:
        while True:
            self._wake = trio.Event()
            now = trio.current_time()
            for peer in self.dialling.due(now):
                choices = len(self._ways(peer))
                self.dialling.begin(peer, now, busy=self._hooks.busy(peer), choices=choices)
                self._start(self._dial_control, peer)
            deadline = self.dialling.deadline()
            with trio.move_on_after(60.0 if deadline is None else max(0.01, deadline - now)):
                await self._wake.wait()

    def _start(self, task: Callable[..., Awaitable[object]], *args: object) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(FAULTS.run, task, *args)

    async def _dial_control(self, peer: bytes) -> None:
        error: str | None = "no address is known"
        dial = self.dialling.dials.get(peer)
        addresses = self._ways(peer)
        if dial is not None and addresses:
            address = addresses[(dial.turn - 1) % len(addresses)]
            with self._attempts.begun(peer) as scope:
                error = await self._dial(peer, address, CONTROL, scope)
        if error is not None:
            now = trio.current_time()
            self.dialling.failed(peer, error, now, busy=self._hooks.busy(peer))
        self._wake.set()

    def _ways(self, peer: bytes) -> tuple[str, ...]:
        """Return the addresses to try, direct ones first; relays come in at the second try."""
        direct, dial = self._addresses.of(peer), self.dialling.dials.get(peer)
        if not direct and dial is not None and not dial.turn:
            return ()
        return (*direct, *self._hooks.detours(peer))

    def improve(self, peer: bytes) -> None:
        """Look for a direct path to a peer that is linked through a relay."""
        link = self.control.get(peer)
        for carrier in self._distinct:
            carrier.want()
        if link is not None and link.relayed:
            for address in self._addresses.of(peer):
                self._start(self._dial, peer, address, CONTROL)

    async def _dial(
        self, peer: bytes, address: str, channel: int, scope: trio.CancelScope | None = None
    ) -> str | None:
        """Dial, and run the connection to its end.  Return why there was no link, or None."""
        with FAULTS.contained("dial", peer):
            return await self._dial_and_run(peer, address, channel, scope)
        return "a fault here"

    async def _dial_and_run(
        self, peer: bytes, address: str, channel: int, scope: trio.CancelScope | None
    ) -> str | None:
        key = self._hooks.key_of(peer)
        if key is None:
            return "not a member"
        try:
            dialled = await self.open_stream(address)
        except (*BROKEN, trio.TooSlowError) as error:
            return str(error) or "no answer"
        connection = await self._introduce(peer, key, dialled, channel)
        if isinstance(connection, str):
            return connection
        connection.attempt = scope
        await self._run(connection)
        return None if connection.established_at else connection.reason

    async def _introduce(
        self, peer: bytes, key: bytes, dialled: Dialled, channel: int
    ) -> Connection | str:
        """Begin the handshake with whoever answered, or return why not."""
        try:
            link = Link.dial(
                self._me(),
                node=peer,
                keys=frozenset({key}),
                server_key=dialled.key,
                channel=channel,
                now=trio.current_time(),
                clock=clock(),
                heir=partial(self._hooks.follows, peer),
            )
        except BROKEN as error:
            await dialled.stream.aclose()
            address = dialled.address
            log.warning("mesh.wrong_server", address=address, expected=peer.hex(), why=str(error))
            return str(error)
        return Connection(link, dialled.stream, dialled.address, self, dialled=True)

    async def dial_socket(self, peer: bytes) -> Connection:
        """Dial a peer once more, where its control link was dialled, for a relay socket.

        The handshake is through, and the stream the caller's to close.  Raises OSError.
        """
        control, key = self.control.get(peer), self._hooks.key_of(peer)
        if control is None or key is None or not control.dialled or control.relayed:
            raise OSError("the relay cannot be dialled")
        dialled = await self.open_stream(control.address)
        connection = await self._introduce(peer, key, dialled, RELAY)
        if isinstance(connection, str):
            raise OSError(connection)
        await self._run(connection)
        if not connection.detached:
            raise OSError(connection.reason)
        return connection

    async def open_stream(self, address: str) -> Dialled:
        """Dial an address on whichever carrier takes it.  Raises OSError, trio.TooSlowError."""
        carrier = self._carriers.get(scheme_of(address))
        if carrier is None:
            raise OSError(f"no carrier for {address}")
        relayed = scheme_of(address) == RELAYED
        with trio.fail_after(DETOUR_TIMEOUT if relayed else DIAL_TIMEOUT):
            return await carrier.dial(address)

    # --- in ------------------------------------------------------------------------------------
    async def _accept(self, accepted: Accepted) -> None:
        with FAULTS.contained("accept", accepted.address):
            await self._take(accepted)

    async def _take(self, accepted: Accepted) -> None:
        if self._accepted >= ACCEPTED_MAX:
            await accepted.stream.aclose()
            return
        self._accepted += 1
        try:
            link = Link.accept(
                self._me(),
                nonce=secrets.token_bytes(32),
                gate=self._judge,
                secret_of=self._secret_of,
                now=trio.current_time(),
                clock=clock(),
            )
            connection = Connection(link, accepted.stream, accepted.address, self, dialled=False)
            if len(self._strangers) >= STRANGERS_MAX:  # the slowest makes room: members are quick
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]
                oldest.close("too many strangers")
            self._strangers[connection] = None
            try:
                await self._run(connection)
            finally:
                self._strangers.pop(connection, None)
            if connection.detached:
                await self._hooks.relay_socket(connection)
        finally:
            self._accepted -= 1

    def _judge(self, said: Hello) -> str:
        """Judge an introduction; "" lets it in.

        A bulk socket too many is refused before anything can be said on it, and lost.
        """
        held = self.dialling.is_held(said.node, trio.current_time())
        full = said.channel == BESIDE and not self._standing.room(said.node)
        no_room = "no room for another bulk socket" if full else ""
        return self._gate(said) or (FAULT if held else "") or no_room

    def hold(self, peer: bytes) -> None:
        """A fault of ours came up with a peer: end its links, and have none for a while."""
        self.dialling.hold(peer, trio.current_time())
        for connection in (self.control.get(peer), *self._standing.bundle(peer)):
            if connection is not None:
                connection.close(FAULT)

    async def _run(self, connection: Connection) -> None:
        with FAULTS.contained("connection", connection.whose, self.hold):
            try:
                await connection.run()
            finally:
                self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        peer = connection.link.peer
        if peer is None:
            log.debug("mesh.no_link", address=connection.address, why=connection.reason)
        else:
            self._standing.ended(connection)

    # --- Owner ---------------------------------------------------------------------------------
    async def established(self, connection: Connection) -> None:
        """A handshake is through: one link of a kind per peer."""
        self._strangers.pop(connection, None)
        if connection.link.channel == BULK:
            self._bulk.came(connection)
        if connection.joining or self._hooks.greet(connection):
            return
        if connection.node == self._me().node:
            connection.close("that is ourselves")
        elif connection.link.channel == RELAY:
            connection.detach()
        elif connection.link.channel == BULK:
            self._standing.bulk_established(connection)
        elif self._standing.control_established(connection):
            self._note(connection)

    def _note(self, connection: Connection) -> None:
        """A control link is the one that counts: no other is needed."""
        peer = connection.node
        self.dialling.drop(peer)
        self._start(self._attempts.needless, connection)
        if connection.relayed:
            return
        if connection.dialled:
            self._addresses.hint(peer, connection.address, worked=True)
        else:
            self._addresses.dialled_us(peer, connection.address)

    def _superseded(self, peer: bytes) -> None:
        """A direct path has opened: the chunks come over, too, without a pause."""
        if peer in self.bulk and self.control[peer].dialled:
            self._start(self._dial, peer, self.control[peer].address, BULK)

    async def join_asked(self, connection: Connection, asked: JoinAsked) -> None:
        """A stranger wants to join."""
        await self._hooks.join_asked(connection, asked)

    async def heard(self, connection: Connection, message: Message) -> None:
        """A peer said something."""
        if connection.joining:
            await self._hooks.guest(connection, message)
            return
        if connection.after is not None:  # what the link before it still had to say goes first
            with trio.move_on_after(HAND_OVER):
                await connection.after.wait()
            connection.after = None
        if isinstance(message, OpenBulk):
            self._start(self._bulk.dial, connection.node, message.sockets)
        else:
            await self._hooks.heard(connection, message)

    async def feed(self, connection: Connection) -> bool:
        """A bulk socket can take more."""
        return await self._hooks.feed(connection)
