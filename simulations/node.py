"""One simulated node: the real cores between a simulated network and a simulated disk.

A node lives, crashes and lives again: its disk stays, everything else is lost.  ``mesh.shell`` and
``mesh.service`` wire the same cores with tasks; here events do it, so that a seed replays.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from mesh.beliefs import PeerBelief
from mesh.effects import ServeManifest
from mesh.handshake import Self
from mesh.invitation import Invitation
from mesh.link import JoinAsked
from mesh.messages import Fork, Heads, Hello, Message, Range, Records, Root, RootGet, Want
from mesh.serving import Piece
from simulations.checkers import Checker
from simulations.connection import Connection
from simulations.couriers import MESSAGES as COURIERS
from simulations.disk import FLUSH_SECONDS, Disk, at_once
from simulations.liars import Honest
from simulations.life import Life
from simulations.links import shown_key
from simulations.network import Network, Stream
from simulations.transfers import Socket
from simulations.world import World
from store.applying import Outcome
from store.errors import UnavailableError
from store.facts import Fact
from store.identity import Identity

LEDGER = (Heads, Range, Records, RootGet, Root, Fork)
EPOCH = 1_700_000_000.0  # seconds since 1970 at the beginning of every history
TEND = 0.5  # seconds between looks after the links


class Node:
    """A place, a key, a disk, and a life at a time."""

    def __init__(
        self,
        world: World,
        network: Network,
        name: str,
        identity: Identity,
        places: dict[bytes, str],
        checker: Checker,
        *,
        skew: float = 0.0,
        vice: Honest,
        honest: bool,
        uplink_cap: float = 0.0,
        real: bool = False,
    ) -> None:
        self.world, self.network, self.name, self.identity = world, network, name, identity
        self.places, self.checker, self.skew = places, checker, skew
        self.id = bytes.fromhex(identity.node)
        self.vice, self.honest, self.uplink_cap = vice, honest, uplink_cap
        self.disk = Disk(real=real)
        self.couriers: frozenset[bytes] = frozenset()
        self.peers: Mapping[bytes, Node] = {}  # everybody, by id
        self.hoards = vice.hoards
        self.lacking: dict[bytes, tuple[int, bytes]] = {}  # what belongs here: size, manifest
        self.steady = True  # its clock has never jumped
        self.alive = False
        self.lives = 0
        self._life: Life | None = None

    @property
    def life(self) -> Life:
        """What it has in memory; only while it is alive."""
        assert self._life is not None
        return self._life

    # --- living and dying ----------------------------------------------------------------------
    def boot(self) -> None:
        """Begin a life with what the disk holds."""
        self.alive = True
        self.lives += 1
        self.note(f"starts, life {self.lives}")
        self.checker.booted(self)
        self._life = Life(
            self.world,
            self.network,
            self.name,
            self.places,
            self.disk,
            self.identity,
            self,
            uplink_cap=self.uplink_cap,
        )
        self.roots_changed()
        self.later(TEND, self._tend)
        self.later(FLUSH_SECONDS, self._flush)
        self.vice.begin(self)

    def crash(self, rng: random.Random) -> None:
        """Die at once: memory is lost, sockets with it, and what the disk had not yet sworn to."""
        self.note("crashes")
        self.alive = False
        if self._life is not None:  # else it died while it was starting
            self._life.links.stop()
        self.network.crash(self.name)
        self.disk.crash(rng)
        self._life = None

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Do something after a while, unless this life is over by then."""
        life = self.lives

        def act() -> None:
            if self.alive and self.lives == life:
                action()
                self.checker.stepped(self)

        self.world.after(delay, act)

    def note(self, text: str) -> None:
        """Write a line of history."""
        self.world.note(f"{self.name}: {text}")

    def _tend(self) -> None:
        self.life.transfers.tend()
        self.life.links.tend(self.life.transfers.stuck)
        self.later(TEND, self._tend)

    def _flush(self) -> None:
        self.later(FLUSH_SECONDS, self._flush)
        try:
            self.disk.flush()
        except UnavailableError as error:
            self.life.transfers.give_up_all(error)

    # --- what its users do ---------------------------------------------------------------------
    def append(self, facts: Sequence[Fact]) -> None:
        """Publish: durable when this returns."""
        done = at_once(self.life.ledger.append(facts, actor="user"))
        self.checker.appended(self, done.records, done.head.seq)
        self.later(0.001, self.life.ledgers.catch_up)

    # --- Host ----------------------------------------------------------------------------------
    def accepted(self, stream: Stream, source: str) -> None:
        """Somebody has connected."""
        self.life.links.accept(stream)

    # --- hooks of links ------------------------------------------------------------------------
    def me(self) -> Self:
        """Return what we say of ourselves."""
        ledger = self.life.ledger
        roles = tuple(sorted(ledger.authority.roles(ledger.node)))
        shown = ledger.authority.succession(ledger.node)
        return Self(
            ledger.identity,
            bytes.fromhex(ledger.mesh),
            ledger.incarnation,
            "",
            roles,
            succession=shown,
        )

    def clock(self) -> float:
        """Return the time of day as this node's clock has it."""
        return EPOCH + self.world.now + self.skew

    def key_of(self, node: bytes) -> bytes | None:
        """Return a member's current key."""
        return self.life.ledger.authority.current_key(node.hex())

    def gate(self, said: Hello) -> str:
        """Judge an introduction."""
        ledger, doors = self.life.ledger, self.life.doors
        return doors.porter.refusal(ledger.authority, ledger.mesh, said, self.world.now)

    def follows(self, node: bytes, shown: tuple[bytes, ...], key: bytes) -> bool:
        """Tell whether rotations that a peer shows lead from its key as known here to this one."""
        return self.life.ledger.authority.follows(node.hex(), shown, key)

    def retired(self, node: bytes, key: bytes) -> bool:
        """Tell whether a member has given this key up."""
        return self.life.ledger.authority.retired(node.hex(), key)

    def secret_of(self, invitation: bytes) -> bytes | None:
        """Return a remembered invitation's secret."""
        return self.life.doors.secret_of(invitation)

    def join_asked(self, connection: Connection, asked: JoinAsked) -> None:
        """A stranger wants to join."""
        self.life.doors.asked(connection, asked)
        self.life.ledgers.catch_up()

    def greet(self, connection: Connection) -> bool:
        """Tell an evicted node that there is news; whether it is one."""
        return self.life.doors.greet(connection)

    def guest(self, connection: Connection, message: Message) -> None:
        """One who is no member says something."""
        self.life.doors.guest(connection, message)

    def join(self, found: Invitation) -> None:
        """Dial whoever has invited us, and move to its mesh."""
        place = self.places[found.node]
        life = self.lives

        def connected(stream: Stream | None, _: str) -> None:
            if stream is None:
                return
            if self.alive and self.lives == life and shown_key(stream) == found.key:
                self.life.doors.join(stream, found)
            else:
                stream.close()

        self.network.dial(self.name, place, connected)

    def joined(self) -> None:
        """We belong to another mesh now."""
        self.note("has joined")
        self.life.ledgers.restart()
        self.roots_changed()

    def busy(self, peer: bytes) -> bool:
        """Tell whether work is pending for the peer."""
        return self.life.transfers.exchange.busy_with(peer)

    def linked(self, peer: bytes, connection: Connection) -> None:
        """A control link is up."""
        self.note(f"linked with {self.places[peer]}")
        exchange = self.life.transfers.exchange
        belief = exchange.peers.setdefault(peer, PeerBelief(peer))
        belief.rtt = connection.link.rtt
        self.life.ledgers.linked(peer)
        self.life.transfers.perform(exchange.linked(peer, self.world.now))
        self.checker.linked(self, peer)
        self.checker.stepped(self)

    def unlinked(self, peer: bytes, reason: str) -> None:
        """The control link is gone: dial again at once."""
        life, now = self.life, self.world.now
        life.ledgers.unlinked(peer)
        life.transfers.spread.forget(peer)
        life.porter.unlinked(peer)
        life.transfers.perform(life.transfers.exchange.unlinked(peer, now))
        if self.key_of(peer) is not None:
            life.links.dialling.heard(peer, now)
            life.links.meet(peer)
        self.checker.stepped(self)

    def bulk_opened(self, peer: bytes) -> None:
        """A bulk socket is up."""
        self.life.transfers.bulk_opened(peer)
        self.checker.stepped(self)

    def bulk_closed(self, peer: bytes) -> None:
        """The bulk socket is gone."""
        transfers = self.life.transfers
        transfers.perform(transfers.exchange.bulk_closed(peer, self.world.now))
        self.checker.stepped(self)

    def heard(self, connection: Connection, message: Message) -> None:
        """A peer said something.  Raises RemoteProtocolError."""
        peer, life = connection.node, self.life
        if connection.bulk:
            if life.links.bulk.get(peer) is connection:
                life.transfers.heard_bulk(connection, message)
        elif life.links.control.get(peer) is not connection:
            return
        elif isinstance(message, LEDGER):
            life.ledgers.heard(peer, message)
        elif isinstance(message, COURIERS):
            life.porter.heard(peer, message)
        else:
            exchange = life.transfers.exchange
            life.transfers.perform(exchange.received(peer, message, self.world.now))
        self.checker.stepped(self)

    def feed(self, connection: Connection) -> None:
        """A bulk socket can take more."""
        if self.life.links.bulk.get(connection.node) is connection:
            self.life.transfers.feed(connection)

    # --- hooks of ledgers and transfers --------------------------------------------------------
    def send(self, peer: bytes, message: Message) -> None:
        """Send on the control link, whatever our vice makes of it."""
        for said in self.vice.says(self, peer, message):
            self.life.links.send(peer, said)

    def send_bulk(self, connection: Socket, message: Message) -> None:
        """Send on a bulk socket, whatever our vice makes of it."""
        for said in self.vice.says(self, connection.node, message):
            connection.send(said)

    def serves(self, want: Want) -> bool:
        """Tell whether a request is answered at all."""
        return self.vice.serves(want)

    def manifest_page(self, asked: ServeManifest, page: bytes) -> bytes:
        """Return the page that is sent."""
        return self.vice.manifest_page(self, asked, page)

    def linked_peers(self) -> list[bytes]:
        """Return who is linked now."""
        return list(self.life.links.control)

    def roots_changed(self) -> None:
        """Root documents may have changed: meet the new members, leave those who are out."""
        authority = self.life.ledger.authority
        members = authority.members() if authority.is_member(self.identity.node) else {}
        self.life.links.leave_out(frozenset(bytes.fromhex(node) for node in members))

    def hold(self, peer: bytes) -> None:
        """Read no further what a peer says, until ``resume``."""
        self.life.links.hold(peer)

    def resume(self) -> None:
        """Read on, whoever has waited longest first, for as long as there is room."""
        life = self.life
        life.links.resume(lambda: not life.ledgers.full)

    def judged(self, peer: bytes, outcome: Outcome) -> None:
        """A batch of a peer was judged."""
        self.checker.judged(self, peer, outcome)

    def served(self, piece: Piece, data: bytes) -> None:
        """Chunks are about to be sent."""
        if self.honest:
            self.checker.served(self, piece, data)

    def finishing(self, blob: bytes) -> None:
        """Every chunk is said to be here."""
        self.checker.finishing(self, blob)

    def refuted(self, blob: bytes) -> None:
        """Every chunk was here, and the whole was wrong."""
        self.note(f"finds blob {blob.hex()[:8]} to be something else")
        self.checker.refuted(self, blob)

    def given_up(self, blob: bytes) -> None:
        """The disk refused."""
        self.note(f"cannot store blob {blob.hex()[:8]}")
        self.checker.given_up(self, blob)

    def completed(self, blob: bytes) -> None:
        """A blob is published here."""
        self.note(f"has all of blob {blob.hex()[:8]}")
        self.checker.completed(self, blob)
        self.life.porter.completed(blob)

    # --- hooks of couriers ---------------------------------------------------------------------
    def is_member(self, node: bytes) -> bool:
        """Tell whether a node belongs to the mesh."""
        return self.life.ledger.authority.is_member(node.hex())

    def held_by(self, peer: bytes, blob: bytes) -> bool:
        """Tell whether a peer has a blob, as its holdings say; who has gone away says nothing."""
        other = self.peers[peer]
        return blob in other.disk.whole and other.alive and self.id in other.life.links.control

    def granted(self, courier: bytes, blobs: Sequence[bytes]) -> None:
        """A courier may carry blobs of ours."""
        if self.honest and self.steady:
            for blob in blobs:
                self.checker.grants.note((self.name, self.lives, blob), courier, self.clock())

    def dropped(self, blob: bytes) -> None:
        """What was carried has been let go of."""
        self.note(f"lets go of blob {blob.hex()[:8]}")
        self.checker.dropped(self, blob)
