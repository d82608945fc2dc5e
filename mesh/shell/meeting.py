"""Whom else to dial, and where: static peers, the local network, our own addresses.

Spec: docs/mesh.md §11.  All of it ends in the address book as hints; ``mesh.shell.links`` dials.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
import trio

from mesh import addresses, announcement, discovery
from mesh.addresses import MDNS, STATIC, AddressBook, Outside
from mesh.announcement import Sightings
from mesh.carrier import P2P, scheme_of
from mesh.dialling import BACKOFF_MAX, BACKOFF_MIN, pause_after
from mesh.discovery import Heard, Lan
from mesh.ports import LedgerPort
from mesh.relay import Quota
from mesh.shell.connection import BROKEN
from mesh.shell.faults import FAULTS
from mesh.shell.links import Links
from mesh.widening import SOCKETS_MAX

SOON = 2.0  # seconds between looks at what we listen on
LOOK = 30.0  # seconds between looks at the addresses of this machine
AUTO, ON, OFF = MODES = ("auto", "on", "off")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ways:
    """How members are found besides what they say of each other, and what is carried for them."""

    mdns: str = OFF  # off, on, or auto: where somebody else could hear it
    static: tuple[str, ...] = ()  # addresses to dial, whoever is there
    relay: Quota | None = field(
        default_factory=Quota
    )  # how much to carry for members that cannot dial each other
    courier: bool | None = None  # carry between sites never up together; None: by role
    sockets: int = SOCKETS_MAX  # to one peer for chunks, where one is held back by loss


class Meeting:
    """Finds members that nobody has introduced, and notices when we have moved."""

    def __init__(
        self,
        ledger: LedgerPort,
        links: Links,
        book: AddressBook,
        rng: random.Random,
        *,
        ways: Ways,
        outside: Outside,
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        self.sightings = Sightings(bytes.fromhex(ledger.node))
        self.reachable: tuple[str, ...] = ()  # our own addresses, as peers can dial them
        self.local: tuple[str, ...] = ()  # and as neighbours can, whatever is advertised
        self._ledger, self._links, self._book, self._rng = ledger, links, book, rng
        self._outside = outside
        self._mdns, self._static, self._moved = ways.mdns, ways.static, moved
        self._lan = trio.CancelScope()
        self._bound: tuple[str, ...] = ()
        self._look_at = 0.0
        self._reports: dict[bytes, str] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled; ``reachable`` is known once this has started."""
        self._look()
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            if self._mdns != OFF:
                nursery.start_soon(self._announce_forever)
            for address in self._static:
                nursery.start_soon(self._seek, address)

    def renew(self) -> None:
        """We belong to another mesh now, or listen elsewhere: announce that instead."""
        self._lan.cancel()

    # --- our own addresses ---------------------------------------------------------------------
    def _look(self) -> bool:
        """Look where we can be reached; tell whether that has changed."""
        bound = self._bound = self._links.bound
        late = [each for each in bound if scheme_of(each) == P2P]  # it starts after the others
        listening = (*self._links.listening, *late)
        every = (*listening, *bound)
        wide = any(addresses.is_any(_host(a)) or addresses.ANY_P2P in a for a in every)
        hosts = discovery.interfaces() if wide else ()
        before = self.reachable, self.local
        self.local = addresses.reachable(bound, hosts)
        named = addresses.reachable(listening, hosts)
        told = set(self._links.listening) != set(self._links.first_bound)  # by the operator
        seen = () if told else self._outside.addresses(bound, named)
        self.reachable = (*named, *seen)[: addresses.ADDRESSES_MAX]
        return before != (self.reachable, self.local)

    async def _watch(self) -> None:
        while True:
            await trio.sleep(SOON)
            now = trio.current_time()
            same = self._links.bound == self._bound and self._outside.reports == self._reports
            if now < self._look_at and same:
                continue
            self._reports = dict(self._outside.reports)
            self._look_at = now + LOOK
            local = self.local
            if self._look():
                log.info("mesh.moved", addresses=self.reachable)
                self._moved()
                if self.local != local:
                    self.renew()

    # --- the local network ---------------------------------------------------------------------
    async def _announce_forever(self) -> None:
        while True:
            if self._mdns == AUTO and not discovery.available(self.local):
                await trio.sleep(LOOK)
                continue
            mesh, node = bytes.fromhex(self._ledger.mesh), bytes.fromhex(self._ledger.node)
            with trio.CancelScope() as self._lan:
                await discovery.announce(Lan(mesh, node, self.local), self.heard)
            if not self._lan.cancelled_caught:  # no multicast here now
                await trio.sleep(BACKOFF_MAX)

    def heard(self, said: Heard) -> None:
        """Take an announcement, as far as it concerns this mesh: anybody may have made it."""
        with FAULTS.contained("announcement", said.name):
            self._hear(said)

    def _hear(self, said: Heard) -> None:
        if said.sighting is None:
            gone = self.sightings.gone(said.name)
            if gone is not None:
                self._book.unhint(gone.node, gone.addresses, MDNS)
            return
        seen, now = said.sighting, trio.current_time()
        dial = self.sightings.take(said.name, seen, now)
        ours = seen.tag == announcement.tag(bytes.fromhex(self._ledger.mesh))
        if said.name not in self.sightings.named or not ours or not self._member(seen.node):
            return
        for address in reversed(seen.addresses):
            self._book.hint(seen.node, address, MDNS)
        if dial:
            self._links.heard_of(seen.node)

    def members_changed(self) -> None:
        """Somebody may be a member now who was seen before that."""
        for seen in self.sightings.of_mesh(bytes.fromhex(self._ledger.mesh)):
            if self._member(seen.node):
                for address in reversed(seen.addresses):
                    self._book.hint(seen.node, address, MDNS)

    def _member(self, node: bytes) -> bool:
        return self._ledger.authority.is_member(node.hex())

    # --- static peers --------------------------------------------------------------------------
    async def _seek(self, address: str) -> None:
        """Learn which member listens at a configured address, by the key that it shows.

        Then it is dialled like any other.  Asked again while that member is not linked, for another
        one may have moved there: as often as an outage of that length has it dialled.
        """
        node, since = b"", trio.current_time()
        while True:
            if node not in self._links.control:
                node = await self._who_is_at(address) or node
            if node in self._links.control:
                since, pause = trio.current_time(), BACKOFF_MAX
            else:
                pause = max(BACKOFF_MIN, pause_after(trio.current_time() - since))
            await trio.sleep(pause * (0.5 + self._rng.random()))

    async def _who_is_at(self, address: str) -> bytes:
        try:
            dialled = await self._links.open_stream(address)
        except (*BROKEN, trio.TooSlowError) as error:
            log.debug("mesh.static_peer_unreachable", address=address, why=str(error))
            return b""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
            await dialled.stream.aclose()
        authority = self._ledger.authority
        for member in authority.members():
            if authority.current_key(member) == dialled.key and member != self._ledger.node:
                node = bytes.fromhex(member)
                self._book.hint(node, address, STATIC)
                self._links.heard_of(node)
                return node
        return b""


def _host(address: str) -> str:
    return address.partition("://")[2].rpartition(":")[0].strip("[]")
