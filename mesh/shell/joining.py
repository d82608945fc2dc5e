"""Inviting and joining, and what the evicted are told.  Spec: docs/mesh.md §4."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable

import msgspec
import structlog
import trio

from mesh import gate, invitation
from mesh.carrier import Stream
from mesh.handshake import Self, Ticket, node_of
from mesh.invitation import Book
from mesh.link import Closed, JoinAsked, Link, Received
from mesh.messages import CONTROL, Message, Root, RootGet
from mesh.pieces import root_messages
from mesh.ports import LedgerPort
from mesh.shell.connection import BROKEN, Connection, clock
from mesh.shell.links import Links
from mesh.shell.memory import Memory
from mesh.sync import ROOT_MAX
from store import rebase, root
from store.council import can_sign
from store.errors import (
    ConflictError,
    DeniedError,
    NoHolderError,
    NotFoundError,
    PendingError,
    RegistryError,
    RejectedError,
    RemoteProtocolError,
    UnavailableError,
)

JOIN_TIMEOUT = 30.0  # seconds for one address
DOCUMENTS_MAX = 100_000  # root documents that an inviter may hand over
HISTORY_MAX = 256 << 20  # bytes of them
COME_AGAIN = 5.0  # seconds until a joiner may ask again whether owners have signed
log = structlog.get_logger(__name__)


class Joining:
    """Both ends of an invitation."""

    def __init__(self, ledger: LedgerPort, links: Links, book: Book, memory: Memory) -> None:
        self._ledger = ledger
        self._links = links
        self._book = book
        self._memory = memory
        self._signing = trio.Lock()

    # --- the inviter ---------------------------------------------------------------------------
    async def invite(
        self,
        addresses: tuple[str, ...],
        *,
        site: str,
        roles: tuple[str, ...],
        scopes: tuple[str, ...],
        expires_in: float,
    ) -> str:
        """Give out an invitation.

        Raises DeniedError unless this node is an owner's, or a delegate that may go so far.
        """
        _check_rights(roles, scopes)
        if not addresses:
            raise UnavailableError("this node listens on no address that a joiner could dial")
        now, ledger = time.time(), self._ledger
        if not self._owns():
            guest = root.member_of(ledger.identity, roles=roles, scopes=scopes, site=site)
            ledger.council.check_admission(
                ledger.authority, msgspec.structs.replace(guest, joined=int(now * 1000))
            )
        self._book.expire(now)
        issued = self._book.issue(
            bytes.fromhex(ledger.mesh),
            bytes.fromhex(ledger.node),
            ledger.identity.key,
            addresses,
            site=site,
            roles=roles,
            scopes=scopes,
            expires=now + expires_in,
            rng=secrets.SystemRandom(),
            evicted=len(ledger.authority.evicted()),
            clock=now,
        )
        await self._memory.save()
        return invitation.write(issued)

    def _owns(self) -> bool:
        """Tell whether this node holds an owner's key of every document in force."""
        held = self._ledger.identity.held().keys()
        documents = self._ledger.authority.in_force.values()
        return all(held & set(document.owners) for document in documents)

    def invitations(self) -> list[invitation.Granted]:
        """Return the invitations that are remembered, the last to expire first."""
        return sorted(self._book.granted.values(), key=lambda entry: -entry.expires)

    async def withdraw(self, id_: str) -> None:
        """Take an open invitation back.  Raises NotFoundError."""
        if not self._book.withdraw(id_):
            raise NotFoundError("no open invitation has this id")
        await self._memory.save()

    def secret_of(self, id_: bytes) -> bytes | None:
        """Return a remembered invitation's secret."""
        return self._book.secret_of(id_, time.time())

    async def asked(self, connection: Connection, asked: JoinAsked) -> None:
        """Somebody with the right secret wants in: sign, admit, hand the documents over."""
        request = asked.request
        try:
            async with self._signing:
                evicted = len(self._ledger.authority.evicted())
                granted = self._book.use(request.invitation, request.key, time.time(), evicted)
                with trio.CancelScope(shield=True):  # a bearer that hangs up must not split this
                    await self._admit(request.key, granted)
        except PendingError as error:
            connection.link.refuse(str(error), COME_AGAIN)
            return
        except RegistryError as error:
            connection.link.refuse(str(error))
            return
        log.info("mesh.joined", node=node_of(request.key).hex(), site=granted.site)
        connection.link.admit(request)
        documents = [(1, data) for data in await self._ledger.roots(0)]
        for message in root_messages(documents):
            connection.send(message)
            await connection.drained(1 << 20)

    # --- the evicted ---------------------------------------------------------------------------
    def greet(self, connection: Connection) -> bool:
        """Tell an evicted node that there is news; whether a link is not a member's."""
        authority = self._ledger.authority
        said = gate.news(authority, connection.node)
        if said is not None and connection.link.channel == CONTROL:
            connection.guest(gate.FAREWELL)
            connection.send(said)
            return True
        if connection.dialled and not authority.is_member(connection.node.hex()):
            connection.close("no longer a member")  # it was one when we began to dial
            return True
        return False

    async def guest(self, connection: Connection, message: Message) -> None:
        """Give an evicted node the documents that it asks for; it ends the link when it has them.

        Were we to end it, with words of its own unread, the reset might overtake them.
        """
        out = connection.node.hex() in self._ledger.authority.evicted()
        if not out or not isinstance(message, RootGet):
            return
        papers = gate.farewell(await self._ledger.roots(message.version), connection.node)
        for part in root_messages((1, data) for data in papers):
            connection.send(part)
            await connection.drained(1 << 20)

    async def _admit(self, key: bytes, granted: invitation.Granted) -> None:
        """Sign a member in, once: not even a crash in between leaves the invitation to another."""
        if granted.signed:
            if not self._ledger.authority.is_member(node_of(key).hex()):
                raise RejectedError("the invitation is used, and its bearer is no member any more")
            return
        try:
            await self._memory.save()
            await self._sign_in(key, granted)
        except PendingError:
            raise  # bound to its bearer, who comes again
        except RegistryError:
            self._book.give_back(granted)
            raise
        self._book.sign(granted)
        await self._memory.save()

    async def _sign_in(self, key: bytes, granted: invitation.Granted) -> None:
        """Let the bearer in by our own signature, our delegation, or more owners' signatures."""
        authority, council = self._ledger.authority, self._ledger.council
        node = node_of(key).hex()
        gone = authority.evicted().get(node)
        if gone is not None:
            raise RejectedError(f"this node was evicted from the mesh: {gone.reason}")
        if authority.is_member(node):
            return  # it joined before and never heard of it
        member = root.member_of(
            (node, key, key),
            roles=granted.roles,
            scopes=granted.scopes,
            site=granted.site,  # never the joiner's own word: sites carry rights
            joined=time.time(),
        )
        if not can_sign(authority, self._ledger.identity):
            try:
                await council.admit(member)
            except DeniedError:
                if not self._owns():
                    raise
                await self._propose(member)
            return
        await council.propose(lambda desk: desk.add(member))

    async def _propose(self, member: root.Member) -> None:
        """Ask the other owners.  Raises PendingError."""
        council = self._ledger.council
        waiting = await council.proposals()
        motion = next((m for m in waiting if m.document.member(member.node)), None)
        try:
            motion = motion or await council.propose(lambda desk: desk.add(member))
        except ConflictError as error:
            raise PendingError(f"the owners are busy: {error}") from error
        if motion.missing:
            raise PendingError(
                f"waiting for {motion.missing} more owner's signature: "
                f"atoll mesh sign {motion.id.hex()[:12]}"
            )

    # --- the joiner ----------------------------------------------------------------------------
    async def join(
        self,
        text: str,
        seen: Callable[[bytes], tuple[str, ...]] = lambda _node: (),
    ) -> invitation.Invitation:
        """Move this node to the inviter's mesh; ``seen`` tells where a node is on our own network.

        Raises RejectedError for a bad or used invitation, NoHolderError if nobody answers.
        """
        found = invitation.read(text)
        if time.time() >= found.expires + invitation.KEPT:  # the inviter's clock decides
            raise RejectedError("the invitation has expired")
        me, same = self._ledger.identity, found.mesh.hex() == self._ledger.mesh
        linked = found.node in self._links.control  # else it may know that we are out
        if node_of(me.key).hex() != me.node:
            raise RejectedError("this node has changed its key: it cannot join as a new one")
        if same and linked and self._ledger.authority.is_member(me.node):
            raise RejectedError("this node is a member of that mesh already")
        last = "it names no address"
        for address in dict.fromkeys((*found.addresses, *seen(found.node))):
            try:
                with trio.fail_after(JOIN_TIMEOUT):
                    documents = await self._fetch_documents(found, address)
            except PendingError:
                raise
            except (*BROKEN, trio.TooSlowError) as error:
                last = str(error) or "no answer"
                continue
            if rebase.verify_history(documents).mesh != found.mesh.hex():
                raise RejectedError("the inviter handed over the documents of another mesh")
            if found.mesh.hex() == self._ledger.mesh:  # by now: two may have asked at once
                await self._catch_up(documents)
            else:
                await self._ledger.rebase(documents)
            return found
        raise NoHolderError(f"the inviter cannot be reached: {last}")

    async def _catch_up(self, documents: list[bytes]) -> None:
        """Come back to our own mesh, which had left us out."""
        for data in documents:
            with contextlib.suppress(RejectedError):
                await self._ledger.adopt(data)

    async def _fetch_documents(self, found: invitation.Invitation, address: str) -> list[bytes]:
        me = Self(self._ledger.identity, found.mesh, self._ledger.incarnation, found.site)
        ticket = Ticket(found.id, found.secret)
        dialled = await self._links.open_stream(address)
        try:
            link = Link.dial(
                me,
                node=found.node,
                keys=frozenset({found.key}),
                server_key=dialled.key,
                channel=CONTROL,
                now=trio.current_time(),
                clock=clock(),
                ticket=ticket,
            )
            return await _collect(link, dialled.stream)
        finally:  # cancelled, too
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                await dialled.stream.aclose()


def _check_rights(roles: tuple[str, ...], scopes: tuple[str, ...]) -> None:
    """Check that an invitation gives something.  Raises RejectedError."""
    unknown = set(roles) - set(root.ROLES)
    if unknown or not roles or not scopes:
        names = ", ".join(sorted(unknown)) or "none"
        raise RejectedError(f"no such role: {names}" if scopes else "no repository at all")


def _refusal(said: Closed) -> RegistryError:
    if said.retry > 0:
        return PendingError(f"the inviter says not yet: {said.reason}")
    return RejectedError(f"the inviter says no: {said.reason}")


async def _collect(link: Link, stream: Stream) -> list[bytes]:
    """Speak as the joiner until every root document is here.  Raises RejectedError."""
    documents: list[bytes] = []
    piece, size = bytearray(), 0
    while True:
        while said := link.take():
            await stream.send_all(said)
        data = await stream.receive_some(65536)
        if not data:
            raise RemoteProtocolError("the inviter hung up")
        link.feed(data, trio.current_time())
        for event in link:
            match event:
                case Closed() as over:
                    raise _refusal(over)
                case Received(Root(version=0)):
                    return documents
                case Received(Root() as root_piece):
                    piece += root_piece.piece
                    size += len(root_piece.piece)
                    many = len(documents) > DOCUMENTS_MAX or size > HISTORY_MAX
                    if len(piece) > ROOT_MAX or many:
                        raise RemoteProtocolError("too many root documents")
                    if root_piece.last:
                        documents.append(bytes(piece))
                        piece.clear()
                case _:
                    continue
