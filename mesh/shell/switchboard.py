"""Where everything meets: what links hear goes to ledgers, transfers and addresses.

Spec: docs/mesh.md §5.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import structlog
import trio

from mesh import gate
from mesh.addresses import AddressBook, Outside
from mesh.beliefs import PeerBelief
from mesh.carrier import TLS, scheme_of
from mesh.exchange import Exchange
from mesh.handshake import Self
from mesh.link import JoinAsked
from mesh.messages import (
    BULK,
    FEATURE_RELAYED,
    Addresses,
    Cancel,
    Credit,
    Data,
    Hello,
    Message,
    Observed,
    Want,
)
from mesh.ports import LedgerPort
from mesh.shell.connection import Connection
from mesh.shell.copies import KINDS as COPY_KINDS
from mesh.shell.copies import Copies
from mesh.shell.joining import Joining
from mesh.shell.ledgers import KINDS as LEDGER
from mesh.shell.ledgers import Ledgers
from mesh.shell.links import Links
from mesh.shell.relays import Relays
from mesh.shell.sending import Sending
from mesh.shell.transfers import Transfers
from mesh.shell.watching import Watch
from mesh.uplink import Uplink

CREDIT_STEP = 4 * 1024 * 1024  # bytes received before the sender is granted as many again
RECORDS_PER_MESSAGE = 8
SILENCE = 2.0  # seconds, or four round trips, without a byte on a link that pings every second
STUCK = 4.0  # seconds without a chunk that is owed, while the control link is well
DRAINED = 2.0  # seconds of silence: what was asked for on an old bulk socket has come
BULK_IDLE = 60.0  # seconds that an unused bulk socket stays open
log = structlog.get_logger(__name__)


class Switchboard:
    """The hooks of ``mesh.shell.links``, and the gate before them."""

    links: Links
    ledgers: Ledgers
    transfers: Transfers
    joining: Joining
    watch: Watch
    copies: Copies
    relays: Relays
    handlers: dict[type[Message], Callable[[bytes, Any], None]]  # of relays, errands, couriers

    def __init__(
        self,
        ledger: LedgerPort,
        exchange: Exchange,
        addresses: AddressBook,
        me: Callable[[], Self],
        uplink: Uplink,
    ) -> None:
        self.addresses = addresses
        self.met = trio.Event()  # set, and replaced, when a peer is linked
        self.dirty = False  # the address book has changed since it was saved
        self.outside = Outside()
        self.reserve: set[bytes] = set()  # relayed peers that are not asked for chunks yet
        self.called: set[bytes] = set()  # and those that are
        self._ledger, self._exchange = ledger, exchange
        self._me = me
        self.sending, self._uplink = Sending(exchange, uplink), uplink
        self._porter = gate.Porter()
        self._uncredited: dict[bytes, int] = {}

    # --- who may come in -----------------------------------------------------------------------
    def key_of(self, node: bytes) -> bytes | None:
        """Return a member's current key."""
        return self._ledger.authority.current_key(node.hex())

    def is_member(self, node: bytes) -> bool:
        """Tell whether a node belongs here, with any role at all."""
        return self.key_of(node) is not None and bool(self._ledger.authority.roles(node.hex()))

    def gate(self, said: Hello) -> str:
        """Judge an introduction; "" lets it in."""
        ledger, now = self._ledger, trio.current_time()
        return self._porter.refusal(ledger.authority, ledger.mesh, said, now)

    def follows(self, node: bytes, shown: tuple[bytes, ...], key: bytes) -> bool:
        """Tell whether a key is a member's own, or by what it shows has followed that one."""
        return self._ledger.authority.follows(node.hex(), shown, key)

    def secret_of(self, invitation: bytes) -> bytes | None:
        """Return an open invitation's secret."""
        return self.joining.secret_of(invitation)

    async def join_asked(self, connection: Connection, asked: JoinAsked) -> None:
        """A stranger wants to join."""
        await self.joining.asked(connection, asked)

    def greet(self, connection: Connection) -> bool:
        """Tell an evicted node that there is news; whether it is one."""
        return self.joining.greet(connection)

    async def guest(self, connection: Connection, message: Message) -> None:
        """One who is no member says something."""
        await self.joining.guest(connection, message)

    def refresh_members(self) -> None:
        """Root documents may have changed: meet the new ones, leave those who are out."""
        authority = self._ledger.authority
        members = authority.members() if authority.is_member(self._ledger.node) else {}
        for node in members:
            self.links.meet(bytes.fromhex(node))
        for peer, connection in list(self.links.control.items()):
            shown = connection.link.peer
            if peer.hex() not in members and connection.link.channel != BULK:
                self.links.dismiss(connection)
                if not self.greet(connection):
                    connection.close("no longer a member")
            elif shown is not None and authority.retired(peer.hex(), shown.key):
                connection.close("its key was given up for another")
        gone = [peer for peer in self.links.dialling.dials if peer.hex() not in members]
        for peer in gone:
            self.links.dialling.drop(peer)
        self.addresses.keep(lambda node: node.hex() in members, time.time())
        self.relays.keep(self.is_member)

    # --- links ---------------------------------------------------------------------------------
    def linked(self, peer: bytes) -> None:
        """A control link is up."""
        if self.key_of(peer) is None:
            return  # a joiner, until it comes again as a member
        connection = self.links.control[peer]
        belief = self._exchange.peers.setdefault(peer, PeerBelief(peer))
        belief.rtt = connection.link.rtt
        records = self.addresses.encoded()
        for start in range(0, len(records), RECORDS_PER_MESSAGE):
            part = tuple(records[start : start + RECORDS_PER_MESSAGE])
            connection.send(Addresses(part))
        self.ledgers.linked(peer)
        self.copies.linked(peer)
        met, self.met = self.met, trio.Event()
        met.set()
        self._tell_observed(connection)
        if connection.relayed:
            self.reserve.add(peer)
        else:
            self._count_in(peer)

    def _count_in(self, peer: bytes) -> None:
        """Ask the peer for what we look for, and know where it stands."""
        said = self.links.control[peer].link.peer
        site = said.site if said is not None else ""
        self.transfers.perform(self._exchange.linked(peer, trio.current_time(), site))

    def _tell_observed(self, connection: Connection) -> None:
        """Tell a peer where it came from; it may not know that it is behind a translator."""
        said, host = connection.link.peer, urlsplit(connection.address).hostname
        if connection.dialled or scheme_of(connection.address) != TLS or not host:
            return
        if said is not None and said.features & FEATURE_RELAYED:
            connection.send(Observed(host))

    def unlinked(self, peer: bytes, reason: str) -> None:
        """The control link is gone: dial again at once."""
        self.ledgers.unlinked(peer)
        self.outside.reports.pop(peer, None)
        self.copies.unlinked(peer)
        self.reserve.discard(peer)
        self.called.discard(peer)
        self.sending.spread.forget(peer)
        self.transfers.perform(self._exchange.unlinked(peer, trio.current_time()))
        if self.key_of(peer) is not None and peer != self._me().node:
            self.links.dialling.heard(peer, trio.current_time())
            self.links.meet(peer)

    def moved(self, peer: bytes) -> None:
        """The control link goes on over another path: what was measured is moot, nothing else."""
        self._exchange.peers[peer].rtt = self.links.control[peer].link.rtt
        self.called.discard(peer)
        if peer in self.reserve:
            self.reserve.discard(peer)
            self._count_in(peer)

    def call_reserve(self) -> bool:
        """Ask relayed peers for chunks, too; whether there were any that had not been asked.

        A relay that is a member fetches a blob once, keeps it and serves all behind it, so chunks
        pass through it as they are only when nobody else can give them.
        """
        called, self.reserve = self.reserve, set()
        self.called |= called
        for peer in called:
            self._count_in(peer)
        return bool(called)

    def _dismiss_reserve(self) -> None:
        for peer in self.called:
            self.reserve.add(peer)
            self.links.close_bulk(peer, "not needed any more")
            self.transfers.perform(self._exchange.unlinked(peer, trio.current_time()))
        self.called.clear()

    def detours(self, peer: bytes) -> tuple[str, ...]:
        """Return addresses through relays."""
        return self.relays.detours(peer)

    async def relay_socket(self, connection: Connection) -> None:
        """A peer has brought a relay socket."""
        await self.relays.socket(connection)

    def bulk_opened(self, peer: bytes) -> None:
        """A bulk socket is up."""
        now = trio.current_time()
        self.sending.used[peer], self._uncredited[peer] = now, 0
        self.transfers.perform(self._exchange.bulk_opened(peer, now))

    def bulk_closed(self, peer: bytes) -> None:
        """The bulk socket is gone."""
        self._uplink.forget(peer)
        self.transfers.perform(self._exchange.bulk_closed(peer, trio.current_time()))

    def busy(self, peer: bytes) -> bool:
        """Tell whether work is pending for the peer."""
        return self._exchange.busy_with(peer)

    # --- messages ------------------------------------------------------------------------------
    async def heard(self, connection: Connection, message: Message) -> None:
        """A peer said something.  Raises RemoteProtocolError."""
        peer = connection.node
        if connection.link.channel == BULK:
            await self._heard_bulk(connection, message)
        elif not self.links.speaks(peer, connection):
            return  # about to close: a newer link speaks for the peer
        elif isinstance(message, LEDGER):
            await self.ledgers.heard(peer, message)
        elif isinstance(message, Addresses):
            self._take_addresses(peer, message)
        elif isinstance(message, COPY_KINDS):
            await self.copies.heard(peer, message)
        elif (handler := self.handlers.get(type(message))) is not None:
            handler(peer, message)
        elif isinstance(message, Observed):
            if connection.dialled and not connection.relayed:
                self.outside.take(peer, message.host)
        else:
            await self.transfers.received(peer, message)

    async def _heard_bulk(self, connection: Connection, message: Message) -> None:
        peer = connection.node
        if not self.links.serves(peer, connection):
            return
        if isinstance(message, Want | Cancel | Credit):
            await self.sending.heard(connection, message)
            return
        await self.transfers.received_bulk(peer, message)
        if isinstance(message, Data):
            self.sending.used[peer] = trio.current_time()
            self._exchange.peers[peer].sockets = len(self.links.bundle(peer))
            self._uncredited[peer] = self._uncredited.get(peer, 0) + len(message.raw)
            if self._uncredited[peer] >= CREDIT_STEP:
                first = self.links.bulk.get(peer) if connection.beside else connection
                if first is not None:
                    first.send(Credit(self._uncredited[peer]))
                self._uncredited[peer] = 0

    async def feed(self, connection: Connection) -> bool:
        """A bulk socket can take more: read the next piece of what its peer wants."""
        return await self.sending.feed(connection)

    def _take_addresses(self, peer: bytes, said: Addresses) -> None:
        """Keep what is new, pass it on, and try who has just been heard of."""
        mesh, now = bytes.fromhex(self._ledger.mesh), time.time()
        fresh = [data for data in said.records if self.addresses.take(data, mesh, self.key_of, now)]
        if not fresh:
            return
        self.dirty = True
        self.pass_on(fresh, peer)
        for node in self.addresses.records:
            self.relays.moved(node)
            if node in self.links.dialling.dials:
                self.links.dialling.heard(node, trio.current_time())
                self.links.meet(node)

    def pass_on(self, records: Sequence[bytes], source: bytes = b"") -> None:
        """Tell address records to every linked peer but the one they came from."""
        for other, connection in self.links.control.items():
            if other != source:
                connection.send(Addresses(tuple(records)))

    # --- housekeeping --------------------------------------------------------------------------
    def tend(self) -> None:
        """Look after the links: how often they ping, and bulk sockets that nobody uses."""
        now = trio.current_time()
        self.watch.look(now)
        queued = sum(connection.serving.backlog for connection in self.links.bulk.values())
        backlog = self._uplink.backlog(queued, now)
        if self.called and not self._exchange.downloads:
            self._dismiss_reserve()
        for peer, connection in list(self.links.control.items()):
            connection.link.backlog = backlog
            if peer in self._exchange.peers:
                self._exchange.peers[peer].advertised(connection.link.peer_backlog)
            connection.set_busy(busy=self.busy(peer))
            self._tend_link(peer, connection, now)
        for peer, connection in list(self.links.bulk.items()):
            idle = now - self.sending.used.get(peer, now) > BULK_IDLE
            awaited = self._exchange.peers[peer].outstanding if peer in self._exchange.peers else 0
            if idle and not awaited and not len(connection.serving):
                connection.close("idle")
            before = connection.before
            if before is not None and now - before.heard_at > DRAINED and not len(before.serving):
                before.close("another path has taken over")

    def _tend_link(self, peer: bytes, connection: Connection, now: float) -> None:
        """After an outage old sockets sleep for seconds; fresh ones do not (ruling 16)."""
        rtt, silence = connection.link.rtt.smoothed, now - connection.heard_at
        if connection.link.busy and silence > max(SILENCE, 4 * rtt):
            self.links.suspect(peer)
            return
        self.links.trust(peer)
        belief = self._exchange.peers.get(peer)
        stuck = belief is not None and belief.snubbed and now - belief.progress_at > STUCK
        if stuck and connection.link.busy and silence < SILENCE:
            self.transfers.perform(self._exchange.stuck(peer, now))
