"""Invitations between simulated nodes, and what the evicted are told: ``mesh.shell.joining``.

The same cores (``mesh.invitation``, ``mesh.link``, ``mesh.gate``, the ledger's council), by events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mesh import gate
from mesh.handshake import Self, Ticket, node_of
from mesh.invitation import Granted, Invitation
from mesh.link import JoinAsked, Link
from mesh.messages import CONTROL, Message, Root, RootGet
from mesh.pieces import root_messages
from simulations.connection import Connection
from simulations.disk import Disk, at_once
from simulations.network import Stream
from simulations.world import World
from store import rebase, root
from store.council import can_sign
from store.errors import DeniedError, PendingError, RegistryError, RejectedError
from store.ledger import Ledger

COME_AGAIN = 5.0  # seconds


class Shell(Protocol):
    """What this needs of its node."""

    def clock(self) -> float: ...
    def note(self, text: str) -> None: ...
    def roots_changed(self) -> None: ...
    def joined(self) -> None: ...


class Doors:
    """Both ends of an invitation, and the way out."""

    def __init__(self, world: World, ledger: Ledger, disk: Disk, shell: Shell) -> None:
        self.porter = gate.Porter()
        self._world, self._ledger, self._disk, self._shell = world, ledger, disk, shell

    # --- the inviter ---------------------------------------------------------------------------
    def invite(
        self, roles: tuple[str, ...], scopes: tuple[str, ...], site: str, expires_in: float
    ) -> Invitation:
        """Give out an invitation.  Raises DeniedError, as the product does."""
        ledger, now = self._ledger, self._shell.clock()
        if not self._owns():
            guest = root.member_of(
                ledger.identity, roles=roles, scopes=scopes, site=site, joined=now
            )
            ledger.council.check_admission(ledger.authority, guest)
        return self._disk.book.issue(
            bytes.fromhex(ledger.mesh),
            bytes.fromhex(ledger.node),
            ledger.identity.key,
            (),
            site=site,
            roles=roles,
            scopes=scopes,
            expires=now + expires_in,
            rng=self._world.rng,
            evicted=len(ledger.authority.evicted()),
            clock=now,
        )

    def _owns(self) -> bool:
        held = self._ledger.identity.held().keys()
        documents = self._ledger.authority.in_force.values()
        return all(held & set(document.owners) for document in documents)

    def secret_of(self, invitation: bytes) -> bytes | None:
        """Return a remembered invitation's secret."""
        return self._disk.book.secret_of(invitation, self._shell.clock())

    def asked(self, connection: Connection, asked: JoinAsked) -> None:
        """Somebody with the right secret wants in: sign, admit, hand the documents over."""
        request, book = asked.request, self._disk.book
        evicted = len(self._ledger.authority.evicted())
        try:
            granted = book.use(request.invitation, request.key, self._shell.clock(), evicted)
            self._sign_in(request.key, granted)
        except PendingError as error:
            connection.link.refuse(str(error), COME_AGAIN)
        except RegistryError as error:
            connection.link.refuse(str(error))
        else:
            connection.link.admit(request)
            documents = [(1, data) for data in at_once(self._ledger.roots(0))]
            for message in root_messages(documents):
                connection.send(message)
            self._shell.roots_changed()

    def _sign_in(self, key: bytes, granted: Granted) -> None:
        """Let the bearer in, once."""
        ledger, node = self._ledger, node_of(key).hex()
        authority, council = ledger.authority, ledger.council
        if node in authority.evicted() or (granted.signed and not authority.is_member(node)):
            raise RejectedError("this node was evicted from the mesh")
        if not authority.is_member(node):
            member = root.member_of(
                (node, key, key),
                roles=granted.roles,
                scopes=granted.scopes,
                site=granted.site,
                joined=self._shell.clock(),
            )
            if can_sign(authority, ledger.identity):
                at_once(council.propose(lambda desk: desk.add(member)))
            else:
                self._admit(member)
        self._disk.book.sign(granted)

    def _admit(self, member: root.Member) -> None:
        """Admit as a delegate, or ask the other owners.  Raises PendingError."""
        council = self._ledger.council
        try:
            at_once(council.admit(member))
        except DeniedError:
            if not self._owns():
                raise
            waiting = at_once(council.proposals())
            motion = next((m for m in waiting if m.document.member(member.node)), None)
            motion = motion or at_once(council.propose(lambda desk: desk.add(member)))
            if motion.missing:
                raise PendingError("waiting for another owner's signature") from None

    # --- the evicted ---------------------------------------------------------------------------
    def greet(self, connection: Connection) -> bool:
        """Tell an evicted node that there is news; whether it is one."""
        authority = self._ledger.authority
        said = gate.news(authority, connection.node)
        if said is None or connection.link.channel != CONTROL:
            if connection.dialled and not authority.is_member(connection.node.hex()):
                connection.close("no longer a member")
                return True
            return False
        connection.guest = True
        connection.send(said)
        self._world.after(gate.FAREWELL, lambda: connection.close("evicted from this mesh"))
        return True

    def guest(self, connection: Connection, message: Message) -> None:
        """Give an evicted node the documents that it asks for; it ends the link."""
        out = connection.node.hex() in self._ledger.authority.evicted()
        if out and isinstance(message, RootGet):
            papers = gate.farewell(at_once(self._ledger.roots(message.version)), connection.node)
            for part in root_messages((1, data) for data in papers):
                connection.send(part)

    # --- the joiner ----------------------------------------------------------------------------
    def join(self, stream: Stream, found: Invitation) -> None:
        """Introduce ourselves as the bearer of an invitation, on a stream to the inviter."""
        ledger = self._ledger
        me = Self(ledger.identity, found.mesh, ledger.incarnation, found.site)
        link = Link.dial(
            me,
            node=found.node,
            keys=frozenset({found.key}),
            server_key=found.key,
            channel=CONTROL,
            now=self._world.now,
            clock=self._shell.clock(),
            ticket=Ticket(found.id, found.secret),
        )
        Connection(self._world, link, stream, Joiner(self._take), dialled=True)

    def _take(self, documents: list[bytes]) -> None:
        """Move to the mesh of these documents, unless another answer was there first."""
        try:
            if rebase.verify_history(documents).mesh == self._ledger.mesh:
                return
            at_once(self._ledger.rebase(documents))
        except RegistryError as error:
            self._shell.note(f"cannot join: {error}")
        else:
            self._shell.joined()


class Joiner:
    """Speaks as the bearer of an invitation until every root document is there."""

    def __init__(self, done: Callable[[list[bytes]], None]) -> None:
        self._done = done
        self._documents: list[bytes] = []
        self._piece = bytearray()

    def heard(self, connection: Connection, message: Message) -> None:
        """Collect the documents."""
        if not isinstance(message, Root):
            return
        if message.version == 0:
            connection.close("joined")
            self._done(self._documents)
            return
        self._piece += message.piece
        if message.last:
            self._documents.append(bytes(self._piece))
            self._piece.clear()

    def established(self, connection: Connection) -> None:
        """We are in."""

    def feed(self, connection: Connection) -> None:
        """There is nothing to serve."""

    def over(self, connection: Connection) -> None:
        """The operator tries again, if need be."""

    def join_asked(self, connection: Connection, asked: JoinAsked) -> None:
        """Nobody asks one who asks."""
