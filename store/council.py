"""How root documents come about on a node: drafted, signed by one owner after the other, adopted.

A proposal that lacks signatures is kept and travels like root documents do, so that other owners
can sign it where they are; nothing takes effect before enough of them have.  Rotations and
admissions are kept and travel beside them.  Every method is one transaction.

Spec: docs/ledger.md §4; design.md ruling 3.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import sqlalchemy as sa

from store import canonical, chain, papers, root, standing
from store.authority import Authority
from store.chain import ADMISSION, PROPOSAL, ROTATION, Anchor
from store.drafts import Desk
from store.errors import ConflictError, DeniedError, NotFoundError, RejectedError
from store.identity import Identity
from store.keys import Keys
from store.projection import Touched
from store.root import Member, RootDocument, SignedRoot
from store.schema import records
from store.statements import Admission, Closing, Rotation, admit, read_paper, rotate
from store.view import exceeds

T = TypeVar("T")
Draft = Callable[[Desk], RootDocument]


class Port(Protocol):
    """The database."""

    async def read(self, unit: Callable[[sa.Connection], T], /) -> T: ...

    async def write(self, unit: Callable[[sa.Connection], T], /) -> T: ...


@dataclass(frozen=True, slots=True)
class Motion:
    """What became of a root document, or of a proposal for one."""

    id: bytes
    document: RootDocument
    signed: frozenset[bytes]  # owners' keys
    others: frozenset[bytes]  # owners who have not signed
    missing: int  # signatures; 0: it is in force
    ours: bool = False  # whether this node could sign it


State = Callable[[sa.Connection], tuple[Anchor, Authority]]


class Council:
    """The authority of one node's mesh, as it changes.  ``Ledger.council`` is one."""

    def __init__(
        self,
        database: Port,
        keys: Keys,
        state: State,
        changed: Callable[[list[Touched]], Awaitable[None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._keys, self._state = database, keys, state
        self._changed, self._clock = changed, clock

    # --- reading -------------------------------------------------------------------------------
    async def papers(self, version: int = 0) -> list[bytes]:
        """Root documents from a version on, then all statements and proposals, as they travel.

        In an order in which they verify.  While rivals stand side by side, every document.
        """

        def unit(connection: sa.Connection) -> list[bytes]:
            anchor, authority = self._state(connection)
            first = 0 if authority.contested else version
            found = chain.read_roots(connection, anchor.mesh, first)
            said = chain.read_statements(connection, anchor.mesh)
            said.sort(
                key=lambda each: each.at if isinstance(each, Rotation) else each.member.joined
            )
            said.sort(key=lambda each: isinstance(each, Admission))
            found += map(canonical.encode, said)
            return found + chain.read_papers(connection, anchor.mesh, PROPOSAL)

        return await self._database.read(unit)

    async def documents(self, limit: int = 100) -> list[SignedRoot]:
        """The newest root documents, as they were signed; the newest first."""

        def unit(connection: sa.Connection) -> list[SignedRoot]:
            anchor, authority = self._state(connection)
            first = max(0, authority.version - limit)
            found = chain.read_roots(connection, anchor.mesh, first)
            return [root.read_signed(data) for data in reversed(found)][:limit]

        return await self._database.read(unit)

    async def proposals(self) -> list[Motion]:
        """Root documents that lack signatures, the oldest first."""

        def unit(connection: sa.Connection) -> list[Motion]:
            anchor, authority = self._state(connection)
            found = chain.read_proposals(connection, anchor.mesh).values()
            motions = [self._motion(signed, authority) for signed in found]
            return sorted(motions, key=lambda each: (each.document.created, each.id))

        return await self._database.read(unit)

    async def proposal(self, id_: bytes) -> bytes:
        """A proposal as it travels, for a file.  Raises NotFoundError."""

        def unit(connection: sa.Connection) -> bytes:
            found = chain.read_proposals(connection, self._state(connection)[0].mesh).get(id_)
            if found is None:
                raise NotFoundError(f"no proposal {id_.hex()[:12]}")
            return root.encode_root(found)

        return await self._database.read(unit)

    def _motion(self, signed: SignedRoot, authority: Authority) -> Motion:
        document = root.read_document(signed.document)
        before = [authority.documents[id_] for id_ in document.previous]
        votes = root.count_votes(signed, document, before)
        ours = any(key in votes.others for key in self._keys.current.held())
        return Motion(signed.id, document, votes.signed, votes.others, votes.missing, ours)

    # --- root documents ------------------------------------------------------------------------
    async def adopt(self, data: bytes | SignedRoot) -> bool:
        """Take a root document, a statement or a proposal; whether it changed anything here.

        Records of authors whose rights it changes are judged again in the same transaction.  Raises
        RejectedError with the reason.
        """
        paper = data if isinstance(data, SignedRoot) else read_paper(data)
        now = self._clock()

        def unit(connection: sa.Connection) -> list[Touched] | None:
            authority = self._state(connection)[1]
            return papers.take(connection, authority, paper, self._state, now=now)

        touched = await self._database.write(unit)
        if touched is not None:
            await self._changed(touched)
        return touched is not None

    async def propose(self, draft: Draft, *, rival: bool = False) -> Motion:
        """Draft the next root document, sign it as far as this node can, adopt or keep it.

        Raises DeniedError unless this node holds an owner's key, ConflictError when it has signed
        another document for the same version, unless that is meant (``rival``).
        """
        now = self._clock()

        def unit(connection: sa.Connection) -> tuple[Motion, list[Touched] | None]:
            anchor, authority = self._state(connection)
            document = draft(self._desk(connection, authority, now))
            signed = SignedRoot(canonical.encode(document), ())
            return self._sign(connection, anchor.mesh, authority, signed, now=now, rival=rival)

        motion, touched = await self._database.write(unit)
        await self._changed(touched or [])
        return motion

    async def sign(self, id_: bytes, *, rival: bool = False) -> Motion:
        """Sign a proposal.  Raises NotFoundError, and as ``propose`` does."""
        now = self._clock()

        def unit(connection: sa.Connection) -> tuple[Motion, list[Touched] | None]:
            anchor, authority = self._state(connection)
            found = chain.read_proposals(connection, anchor.mesh).get(id_)
            if found is None:
                raise NotFoundError(f"no proposal {id_.hex()[:12]}: it is in force, or out of date")
            return self._sign(connection, anchor.mesh, authority, found, now=now, rival=rival)

        motion, touched = await self._database.write(unit)
        await self._changed(touched or [])
        return motion

    async def forget(self, id_: bytes) -> None:
        """Drop a proposal here.  Whoever else has it may bring it again."""

        def unit(connection: sa.Connection) -> None:
            mesh = self._state(connection)[0].mesh
            papers.drop_proposal(connection, mesh, id_)

        await self._database.write(unit)
        await self._changed([])

    def _sign(
        self,
        connection: sa.Connection,
        mesh: str,
        authority: Authority,
        signed: SignedRoot,
        *,
        now: float,
        rival: bool,
    ) -> tuple[Motion, list[Touched] | None]:
        motion = self._motion(signed, authority)
        held = self._keys.current.held()
        able = [held[key] for key in sorted(motion.others | motion.signed) if key in held]
        if not able:
            raise DeniedError("only a node that holds an owner's key can sign root documents")
        for other in () if rival else chain.read_proposals(connection, mesh).values():
            theirs = self._motion(other, authority)
            same = theirs.document.version == motion.document.version and other.id != signed.id
            if same and theirs.signed & held.keys():
                raise ConflictError(
                    f"this node has signed proposal {other.id.hex()[:12]} for version "
                    f"{theirs.document.version}: have that one signed, or forget it first"
                )
        for owner in able:
            signed = root.countersign(signed, owner)
        touched = papers.take(connection, authority, signed, self._state, now=now)
        return self._motion(signed, authority), touched

    def _desk(self, connection: sa.Connection, authority: Authority, now: float) -> Desk:
        forks = standing.forks_of(connection)
        heads: dict[tuple[str, int], tuple[int, bytes]] = {}
        for key, reach in chain.read_heads(connection).items():
            fork = forks.get(key)
            if fork is None or reach[0] < fork:
                heads[key] = reach
            elif fork > 1:
                place = (records.c.author == key[0], records.c.incarnation == key[1])
                query = sa.select(records.c.id).where(*place, records.c.seq == fork - 1)
                before = connection.execute(query).scalar()
                if before is not None:
                    heads[key] = (fork - 1, bytes(before))
        return Desk(authority, heads, now, forks)

    # --- statements ----------------------------------------------------------------------------
    async def rotate(self, seed: bytes | None = None) -> Rotation:
        """Give this node another key; what the old one signed stays, what it signs now does not.

        The new key is on disk before anything says so.  An owner's key follows by a root document,
        which other owners may have to sign; until then the old key signs for the owner.
        """
        following = self._keys.current.rotate(seed)
        await self._keys.keep(self._keys.current.expecting(following))
        now = self._clock()

        def unit(connection: sa.Connection) -> tuple[Rotation, list[Touched] | None]:
            anchor, authority = self._state(connection)
            old = self._keys.signer(authority.current_key(self._keys.node))
            if authority.current_key(old.node) != old.key:
                raise ConflictError("this node's own key is in dispute: an owner has to settle it")
            before = authority.statements.last_rotation(old.node)
            ends = chain.read_heads(connection)
            closings = [
                Closing(incarnation, seq, record)
                for (author, incarnation), (seq, record) in ends.items()
                if author == old.node
            ]
            moment = max(now, (before.at + 1) / 1000 if before is not None else now)
            made = rotate(anchor.mesh, old, following, closings, now=moment)
            touched = papers.take(connection, authority, made, self._state, now=now)
            for given in authority.statements.admissions.get(old.node, ()):
                again = admit(anchor.mesh, following, given.number, given.member)
                papers.take(connection, self._state(connection)[1], again, self._state, now=now)
            return made, touched

        made, touched = await self._database.write(unit)
        await self._keys.keep(following)
        await self._changed(touched or [])
        await self.follow_keys()
        return made

    async def follow_keys(self) -> None:
        """Propose this node's present key in the place of an owner's key that it has given up."""
        if not self._keys.current.others:
            return

        def unit(connection: sa.Connection) -> bytes | None:
            anchor, authority = self._state(connection)
            waiting = chain.read_proposals(connection, anchor.mesh).values()
            key = self._keys.current.key
            for signed in waiting:
                if key in root.read_document(signed.document).owners:
                    return None
            owners = set(authority.newest.owners) - {key}
            return next((old for old in self._keys.current.held() if old in owners), None)

        old = await self._database.read(unit)
        if old is not None:
            new = self._keys.current.key
            try:
                await self.propose(lambda desk: desk.succeed(old, new))
            except (ConflictError, DeniedError, RejectedError):
                return  # later, when what is under way has been signed: see Ledger.run

    async def admit(self, member: Member) -> Admission:
        """Let a node in as a delegate.  Raises DeniedError with what the delegation lacks."""
        now = self._clock()

        def unit(connection: sa.Connection) -> tuple[Admission, list[Touched] | None]:
            anchor, authority = self._state(connection)
            self.check_admission(authority, member)
            signer = self._keys.signer(authority.current_key(self._keys.node))
            given = authority.statements.admissions.get(signer.node, ())
            used = {each.number for each in given}
            delegation = authority.delegation(signer.node)
            assert delegation is not None
            number = next(n for n in range(1, delegation.limit + 2) if n not in used)
            if number > delegation.limit:
                raise DeniedError(f"this node has admitted {delegation.limit} nodes: no more")
            made = admit(anchor.mesh, signer, number, member)
            return made, papers.take(connection, authority, made, self._state, now=now)

        made, touched = await self._database.write(unit)
        await self._changed(touched or [])
        return made

    def check_admission(self, authority: Authority, member: Member) -> None:
        """Raise DeniedError unless this node may admit such a member now."""
        node = self._keys.node
        delegation, delegate = authority.delegation(node), authority.members().get(node)
        if delegation is None or delegate is None:
            raise DeniedError("no owner has let this node admit others")
        if self._clock() * 1000 > delegation.until:
            raise DeniedError("this node's delegation has expired")
        reason = exceeds(delegate, delegation, member)
        if reason:
            raise DeniedError(f"this node's delegation does not reach so far: {reason}")
        gone = authority.evicted().get(member.node)
        if gone is not None:
            raise RejectedError(f"{member.node[:12]} was evicted and stays out: {gone.reason}")


def owner_keys(authority: Authority) -> Mapping[bytes, str]:
    """The owners' keys in every document in force, and which member holds each, "" if none does."""
    holders = {epoch.key: epoch.node for epoch in authority.epochs()}
    people = authority.people()
    holders |= {each.key: node for node in people for each in authority.entries(node)}
    keys: Iterable[bytes] = (k for d in authority.in_force.values() for k in d.owners)
    return {key: holders.get(key, "") for key in keys}


def can_sign(authority: Authority, identity: Identity) -> bool:
    """Whether a node's own keys suffice for the next root document."""
    held = identity.held().keys()
    return all(len(held & set(d.owners)) >= d.threshold for d in authority.in_force.values())


__all__ = ["ADMISSION", "ROTATION", "Council", "Motion", "can_sign", "owner_keys"]
