"""The mesh as the node sees it: run it, invite, join, fetch, stream, look.  Spec: docs/mesh.md.

The decisions are in the pure cores (``sync``, ``exchange``, ``scheduler``, ``link``); the tasks and
sockets in ``mesh.shell``.  This is the door.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import structlog
import trio

from mesh import addresses, limits
from mesh.cargo import CARGO
from mesh.carrier import Carrier
from mesh.exchange import Exchange
from mesh.invitation import Book
from mesh.messages import FEATURE_BESIDE, URGENT, Errand, RelayOffer, RelayOpen, RelayReady
from mesh.neighbourhood import LinkWords
from mesh.ports import IndexPort, LedgerPort, PartialsPort
from mesh.shell import overview
from mesh.shell.copies import Copies
from mesh.shell.couriers import Couriers
from mesh.shell.deltas import DeltaShell
from mesh.shell.errands import Errands
from mesh.shell.insight import Insight
from mesh.shell.joining import Joining
from mesh.shell.ledgers import Ledgers
from mesh.shell.links import Links
from mesh.shell.meeting import Meeting, Ways
from mesh.shell.memory import Memory
from mesh.shell.neighbourhood import Neighbourhood
from mesh.shell.own import Own
from mesh.shell.patience import Patience, Patient
from mesh.shell.relays import Relays
from mesh.shell.switchboard import Switchboard
from mesh.shell.topology import topology
from mesh.shell.transfers import Transfers
from mesh.shell.watching import Watch
from mesh.shell.writing import Fetch
from mesh.status import PeerStatus, Relaying, Topology
from mesh.uplink import Uplink
from store.blobs import BlobRange, BlobStore
from store.digest import Digest
from store.errors import RegistryError
from store.identity import Identity
from store.partial import PartialBlob

TEND = 0.5  # seconds between looks after the links
SAVE = 1.0  # seconds until a new address is on the disk: who is killed must find its peers again
REMEMBER = 300.0  # seconds between saves of what paths are like
READDRESS = 86400.0  # seconds after which our own address record is signed anew
log = structlog.get_logger(__name__)


class Mesh:
    """A node among its peers.  Everything it needs is given; ``run`` it in a nursery."""

    def __init__(
        self,
        *,
        identity: Identity,
        ledger: LedgerPort,
        store: BlobStore,
        index: IndexPort,
        partials: PartialsPort,
        carriers: Sequence[Carrier],
        directory: Path | None = None,
        site: str = "",
        wait: float = 30.0,
        upload_rate: float = 0.0,
        rules: Sequence[str] = (),
        ways: Ways | None = None,
        rng: random.Random | None = None,
    ) -> None:
        rng = rng or random.Random()  # noqa: S311  spreads load; secrets come from elsewhere
        self._own, self._ledger, self._store = Own(ledger, site), ledger, store
        self._partials, self._wait, self._rules = partials, wait, tuple(rules)
        self._book, self._addresses = Book(), addresses.AddressBook()
        self._exchange = Exchange(bytes.fromhex(identity.node), rng, site)
        self._memory = Memory(directory, self._book, self._addresses, self._exchange.peers)
        board = Switchboard(
            ledger, self._exchange, self._addresses, self._own.me, Uplink(upload_rate)
        )
        self._board, self._address_at = board, 0.0
        ways = ways or Ways()
        self._relays = Relays(identity.seed, ways.relay, board.is_member, rng)
        self.couriers = Couriers(ledger, directory, on=ways.courier)
        self._wire(carriers, index, rng, ways.sockets)
        self._meeting = Meeting(
            ledger,
            self._links,
            self._addresses,
            rng,
            ways=ways,
            outside=self._board.outside,
            moved=self._moved,
        )

    def _wire(
        self, carriers: Sequence[Carrier], index: IndexPort, rng: random.Random, sockets_max: int
    ) -> None:
        """Join the parts; the switchboard knows them all."""
        board, ledger = self._board, self._ledger
        self._own.carriers = (*carriers, self._relays.carrier)
        self._own.features = self._relays.features | self.couriers.features
        self._own.features |= FEATURE_BESIDE if sockets_max > 1 else 0
        self._links = Links(
            self._own.carriers,
            board,
            self._addresses,
            me=self._own.me,
            gate=board.gate,
            secret_of=board.secret_of,
            rng=rng,
            sockets_max=sockets_max,
        )
        self._ledgers = Ledgers(ledger, self._links, rng)
        self._transfers = Transfers(self._exchange, self._links, self._store, index, self._partials)
        self.joining = Joining(ledger, self._links, self._book, self._memory)
        self.copies = Copies(bytes.fromhex(ledger.node), self._links, rng)
        board.links, board.ledgers, board.copies = self._links, self._ledgers, self.copies
        board.relays, self._relays.links = self._relays, self._links
        self.couriers.links = self._links
        beliefs, key_of = self._exchange.peers, board.key_of
        self._neighbourhood = Neighbourhood(ledger, self._links, beliefs, key_of, rng)
        board.transfers, board.joining = self._transfers, self.joining
        board.sending.links, board.sending.transfers = self._links, self._transfers
        board.watch = Watch(self._exchange, self._links)
        self.errands = Errands(self._links, ledger)
        board.handlers = {Errand: self.errands.heard, LinkWords: self._neighbourhood.heard}
        board.handlers |= dict.fromkeys(CARGO.values(), self.couriers.heard)
        board.handlers |= dict.fromkeys((RelayOpen, RelayOffer, RelayReady), self._relays.heard)
        self.deltas = DeltaShell(self._transfers, self._links, board.handlers)

    # --- running -------------------------------------------------------------------------------
    async def run(
        self, *, task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run until cancelled; report the addresses listened on once it is ready."""
        await self._memory.load()
        self._lay_down(self._memory.limits)
        await self._partials.load()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._partials.run)
                await nursery.start(self._transfers.run)
                await nursery.start(self._relays.run)
                await nursery.start(self._links.run)
                await nursery.start(self._ledgers.run)
                await nursery.start(self.copies.run)
                await nursery.start(self.errands.run)
                nursery.start_soon(self._neighbourhood.run)
                mesh = bytes.fromhex(self._ledger.mesh)
                for record in self._memory.records:
                    self._addresses.take(record, mesh, self._board.key_of, time.time())
                await nursery.start(self._meeting.run)
                self._say_where()
                nursery.start_soon(self._follow_members)
                nursery.start_soon(self._tend_forever)
                task_status.started(self._links.listening)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5.0):
                await self._partials.close()
                await self._save()

    async def _follow_members(self) -> None:
        changes = self._ledger.subscribe()
        self._board.refresh_members()
        async for _ in changes:
            if self._own.follow_key():
                self._say_where()
            self._board.refresh_members()
            self._meeting.members_changed()

    async def _tend_forever(self) -> None:
        saved, faults = trio.current_time(), self._memory.faults
        while True:
            await trio.sleep(TEND)
            self._board.tend()
            now = trio.current_time()
            if now >= self._address_at + READDRESS:
                self._say_where()
            due = SAVE if self._board.dirty else REMEMBER
            if now >= saved + due or self._memory.faults != faults:
                saved, faults = now, self._memory.faults
                await self._save()

    async def _save(self) -> None:
        self._board.dirty = False
        try:
            await self._memory.save()
        except (RegistryError, OSError) as error:
            log.warning("mesh.not_saved", why=str(error))

    def _moved(self) -> None:
        """Act on new addresses of our own."""
        self._say_where()
        self._relays.moved()

    def _say_where(self) -> None:
        """Sign where we can be dialled; peers learn it as they link."""
        self._address_at = trio.current_time()
        mesh, now = bytes.fromhex(self._ledger.mesh), time.time()
        if self._meeting.reachable:
            own = addresses.sign(self._ledger.identity, mesh, self._meeting.reachable, now)
            if self._addresses.take(own, mesh, self._board.key_of, now):
                self._board.pass_on([own])

    # --- growing -------------------------------------------------------------------------------
    async def invite(
        self,
        *,
        site: str = "",
        roles: tuple[str, ...] = ("writer",),
        scopes: tuple[str, ...] = ("*",),
        expires_in: float = 86400.0,
    ) -> str:
        """Return a one-time invitation for a new node.

        Raises DeniedError unless this node can sign members in, RejectedError for unknown roles.
        """
        return await self.joining.invite(
            self._meeting.reachable, site=site, roles=roles, scopes=scopes, expires_in=expires_in
        )

    async def join(self, text: str) -> None:
        """Leave our mesh of one for the inviter's; our packages come along.

        Raises RejectedError for a bad invitation, NoHolderError if the inviter does not answer.
        """
        old = list(self._links.control.values())
        found = await self.joining.join(text, self._meeting.sightings.addresses)
        for connection in old:
            connection.close("joined another mesh")
        self._meeting.renew()
        for address in found.addresses:
            self._addresses.hint(found.node, address, addresses.INVITATION)
        self._addresses.records.clear()
        self._say_where()
        await self._ledgers.restart()
        self._board.refresh_members()
        self._links.dialling.heard(found.node, trio.current_time())
        self._links.hurry()
        await self._save()

    # --- blobs ---------------------------------------------------------------------------------
    async def fetch(
        self,
        digest: Digest,
        *,
        size: int | None = None,
        manifest_id: bytes = b"",
        priority: int = URGENT,
    ) -> None:
        """Bring a whole blob here.  However many ask, it is fetched once.

        Raises NoHolderError when nobody reachable gives any of it for ``wait`` seconds.
        """
        if await self._store.has(digest):
            return
        async with self._transfers.wanted(digest, size or 0, manifest_id, priority) as fetch:
            await Patience(fetch, self._wait, self._nowhere).over(fetch.done.wait)
            if fetch.error is not None:
                raise fetch.error

    @asynccontextmanager
    async def stream(self, wanted: BlobRange) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open bytes of a blob that is elsewhere, in order, as they arrive.

        Without a manifest's id from a signed record, bytes flow only once the whole is verified
        (design.md ruling 8).  Raises NoHolderError before the first byte if there is no hope.
        """
        if not await self._store.has(wanted.digest):
            async with self._arriving(wanted) as (patience, partial):
                if partial is not None:
                    async with partial.read(wanted.start, wanted.stop) as blocks:
                        self._transfers.readers_changed(wanted.digest)
                        await patience.begun(partial, wanted.start)
                        yield Patient(patience, blocks)
                    return
                await patience.over(patience.fetch.done.wait)
                if patience.fetch.error is not None:
                    raise patience.fetch.error
        part = self._store.read(wanted.digest, start=wanted.start, stop=wanted.stop)
        async with part as blocks:
            yield blocks

    @asynccontextmanager
    async def spans(
        self, wanted: BlobRange
    ) -> AsyncGenerator[tuple[int, AsyncIterator[tuple[int, int]]] | None]:
        """Open a blob on its way like stream(), as a descriptor and what may be copied from it.

        None: it does not come in a file that may be sent on.
        """
        start, stop = wanted.start, wanted.stop
        async with (
            self._arriving(wanted) as (patience, partial),
            partial.spans(start, stop) if partial is not None else nullcontext() as found,
        ):
            if found is not None and partial is not None:
                self._transfers.readers_changed(wanted.digest)
                await patience.begun(partial, start)
                found = found[0], Patient(patience, found[1])
            yield found

    @asynccontextmanager
    async def _arriving(
        self, wanted: BlobRange
    ) -> AsyncGenerator[tuple[Patience, PartialBlob | None]]:
        """Want a blob; give its partial if its bytes may flow early.  Raises NoHolderError."""
        digest, size = wanted.digest, wanted.size or 0
        async with self._transfers.wanted(digest, size, wanted.manifest_id) as fetch:
            patience = Patience(fetch, self._wait, self._nowhere)
            await patience.over(fetch.opened.wait)
            if fetch.error is not None:
                raise fetch.error
            partial = fetch.partial
            early = partial is not None and partial.active
            yield patience, partial if early and self._transfers.authenticated(digest) else None

    def _nowhere(self, fetch: Fetch) -> bool:
        """Tell whether every member within reach is linked, and none of them has it.

        Whom we cannot dial may still be reached through whom we are linked with.
        """
        linked = self._links.control
        absent = [
            peer
            for peer in self._links.dialling.dials
            if peer not in linked and (linked or self._addresses.of(peer))
        ]
        if absent or not self._exchange.hopeless(fetch.blob.raw, trio.current_time()):
            return False
        return not self._board.call_reserve()

    def wanted_by_peers(self, digest: Digest) -> bool:
        """Tell whether a member has lately asked for a blob, or is being sent it."""
        return digest.raw in self._exchange.finding.interests

    def linked(self) -> list[str]:
        """Return the members that are linked now."""
        return [peer.hex() for peer in self._links.control]

    def seen(self, node: str) -> float:
        """Return the newest sign of a member's life, seconds since 1970; 0.0 for none."""
        if bytes.fromhex(node) in self._links.control:
            return time.time()
        record = self._addresses.records.get(bytes.fromhex(node))
        return record[0].issued_ms / 1000 if record is not None else 0.0

    async def met(self) -> None:
        """Wait until another member is linked: what nobody had before may be had now."""
        await self._board.met.wait()

    # --- looking -------------------------------------------------------------------------------
    def peers(self) -> list[PeerStatus]:
        """Return every other member, as seen from here."""
        now = trio.current_time()
        known = overview.Known(self._ledger, self._links, self._exchange, self._ledgers)
        return overview.peers(known, self._addresses, now)

    def relaying(self) -> Relaying:
        """Return what is carried for others."""
        return self._relays.status()

    def topology(self) -> Topology:
        """Return the members and the links this node knows of."""
        known = (self._ledger, self._links, self._addresses, self._exchange, self._neighbourhood)
        return topology(*known)

    async def limit(self, rules: Sequence[str] | None) -> None:
        """Replace the rules for links, now and after a restart; None: back to the configured ones.

        Raises RejectedError for rules that say nothing, StoreFullError, ReadOnlyError.
        """
        limits.parse_all(rules or ())
        self._memory.limits = None if rules is None else list(rules)
        self._lay_down(self._memory.limits)
        await self._memory.save()

    def _lay_down(self, rules: Sequence[str] | None) -> None:
        self._exchange.limits.set(limits.parse_all(self._rules if rules is None else rules))

    @property
    def insight(self) -> Insight:
        """What moves where, how long it will take, and why."""
        return Insight(self._ledger, self._exchange, self._links)
