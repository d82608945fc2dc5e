"""Inviting and joining: how a mesh grows by one.  Spec: docs/mesh.md §4."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import structlog
import trio

from mesh import invitation
from mesh.carrier import Stream
from mesh.handshake import Self, Ticket, node_of
from mesh.invitation import Book
from mesh.link import Closed, JoinAsked, Link, Received
from mesh.messages import Root
from mesh.ports import LedgerPort
from mesh.shell.connection import BROKEN, Connection
from mesh.shell.links import Links
from mesh.shell.memory import Memory
from mesh.sync import ROOT_MAX, root_messages
from store import rebase, root
from store.errors import (
    DeniedError,
    NoHolderError,
    RegistryError,
    RejectedError,
    RemoteProtocolError,
    UnavailableError,
)
from store.identity import Identity

JOIN_TIMEOUT = 30.0  # seconds for one address
DOCUMENTS_MAX = 100_000  # root documents that an inviter may hand over
HISTORY_MAX = 256 << 20  # bytes of them
CLOCK_SLACK = 3600.0  # seconds that our clock may be ahead when we judge an invitation's age
log = structlog.get_logger(__name__)


class Joining:
    """Both ends of an invitation."""

    def __init__(
        self, identity: Identity, ledger: LedgerPort, links: Links, book: Book, memory: Memory
    ) -> None:
        self._identity = identity
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
        """Give out an invitation.  Raises DeniedError unless this node can sign members in."""
        self._check_owner()
        unknown = set(roles) - set(root.ROLES)
        if unknown:
            raise RejectedError(f"no such role: {', '.join(sorted(unknown))}")
        if not addresses:
            raise UnavailableError("this node listens on no address that a joiner could dial")
        now = time.time()
        self._book.expire(now)
        issued = self._book.issue(
            bytes.fromhex(self._ledger.mesh),
            bytes.fromhex(self._identity.node),
            self._identity.key,
            addresses,
            site=site,
            roles=roles,
            scopes=scopes,
            expires=now + expires_in,
            rng=secrets.SystemRandom(),
        )
        await self._memory.save()
        return invitation.write(issued)

    def _check_owner(self) -> None:
        documents = self._ledger.authority.in_force.values()
        if not all(self._identity.key in document.owners for document in documents):
            raise DeniedError("only an owner of the mesh can sign new members in")
        if any(document.threshold > 1 for document in documents):
            raise DeniedError("this mesh wants more than one owner's signature for a new member")

    def secret_of(self, id_: bytes) -> bytes | None:
        """Return an open invitation's secret."""
        return self._book.secret_of(id_, time.time())

    async def asked(self, connection: Connection, asked: JoinAsked) -> None:
        """Somebody with the right secret wants in: sign, admit, hand the documents over."""
        request = asked.request
        try:
            async with self._signing:
                granted = self._book.use(request.invitation, request.key, time.time())
                with trio.CancelScope(shield=True):  # a bearer that hangs up must not split this
                    await self._admit(request.key, granted)
        except RegistryError as error:
            connection.link.refuse(str(error))
            return
        log.info("mesh.joined", node=node_of(request.key).hex(), site=granted.site)
        connection.link.admit(request)
        documents = [(1, data) for data in await self._ledger.roots(0)]
        for message in root_messages(documents):
            connection.send(message)
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
        except RegistryError:
            self._book.give_back(granted)
            raise
        self._book.sign(granted)
        await self._memory.save()

    async def _sign_in(self, key: bytes, granted: invitation.Granted) -> None:
        self._check_owner()
        authority = self._ledger.authority
        node = node_of(key).hex()
        if authority.is_member(node):
            return  # it joined before and never heard of it
        member = root.member_of(
            (node, key, key),
            roles=granted.roles,
            scopes=granted.scopes,
            site=granted.site,  # never the joiner's own word: sites carry rights
            joined=time.time(),
        )
        members = {**authority.members(), node: member}
        draft = root.revise(
            self._ledger.mesh,
            authority.in_force,
            members=list(members.values()),
            heads=await self._ledger.heads(),
            now=time.time(),
        )
        await self._ledger.adopt(root.sign(draft, self._identity))

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
        if time.time() >= found.expires + CLOCK_SLACK:  # the inviter's clock decides
            raise RejectedError("the invitation has expired")
        if node_of(self._identity.key).hex() != self._identity.node:
            raise RejectedError("this node has changed its key: it cannot join as a new one")
        if found.mesh.hex() == self._ledger.mesh:
            raise RejectedError("this node is a member of that mesh already")
        last = "it names no address"
        for address in dict.fromkeys((*found.addresses, *seen(found.node))):
            try:
                with trio.fail_after(JOIN_TIMEOUT):
                    documents = await self._fetch_documents(found, address)
            except (*BROKEN, trio.TooSlowError) as error:
                last = str(error) or "no answer"
                continue
            if rebase.verify_history(documents)[0] != found.mesh.hex():
                raise RejectedError("the inviter handed over the documents of another mesh")
            await self._ledger.rebase(documents)
            return found
        raise NoHolderError(f"the inviter cannot be reached: {last}")

    async def _fetch_documents(self, found: invitation.Invitation, address: str) -> list[bytes]:
        me = Self(self._identity, found.mesh, self._ledger.incarnation, found.site)
        ticket = Ticket(found.id, found.secret)
        link, stream = await self._links.join(address, me, found.node, found.key, ticket)
        try:
            return await _collect(link, stream)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                await stream.aclose()


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
                case Closed(reason):
                    raise RejectedError(f"the inviter says no: {reason}")
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
