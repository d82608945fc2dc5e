"""The ledger: this node's own records and everybody's, judged, stored and folded.

Every change of the catalog goes through ``append`` (ours) or ``apply`` (what peers carry); both are
one transaction each, and both tell the observers after the commit.

Spec: docs/ledger.md; design.md rulings 1–5, 9 and 10.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
import trio

from store import (
    appending,
    applying,
    chain,
    confirming,
    forks,
    hlc,
    identity,
    judging,
    papers,
    rebase,
    root,
    standing,
)
from store.appending import Appended, Check
from store.applying import Outcome
from store.authority import Authority
from store.chain import HELD, Anchor
from store.changes import Change, Listeners, Observer
from store.council import Council
from store.errors import RejectedError
from store.facts import Confirm, Fact
from store.identity import Identity
from store.keys import Keys
from store.port import Port
from store.projection import Tables, Touched
from store.records import BATCH_MAX, Batch
from store.root import RootDocument, SignedRoot
from store.schema import records
from store.standing import AuthorStatus, Rejections

T = TypeVar("T")
Repair = Callable[[sa.Connection, Authority], tuple[T, Sequence[Touched]]]
PAUSE = 1.0  # seconds between two looks at what is pending, at least
INTERVAL = 30.0  # seconds between them while nothing happens


class Ledger:
    """One node's ledger.  ``await initialise()`` before anything else.

    ``clock`` gives seconds since 1970.  Units may run more than once, so nothing in memory changes
    before a commit.
    """

    def __init__(
        self,
        database: Port,
        signer: Identity | Keys,
        *,
        clock: Callable[[], float] = time.time,
        directory: Path | None = None,
    ) -> None:
        self._database = database
        self._keys = signer if isinstance(signer, Keys) else Keys(signer, directory)
        self._clock = clock
        self.council = Council(database, self._keys, self._state, self._govern, clock)
        self._authorities = chain.Authorities()
        self._authority, self._stale = Authority("", {}), False
        self._anchor = Anchor(0, "")
        self._listeners = Listeners()
        self._rejections = Rejections()
        self._recheck_at = 0.0  # when the next held record may become valid

    # --- who we are ------------------------------------------------------------------------------
    @property
    def node(self) -> str:
        """The id of this node."""
        return self._keys.node

    @property
    def identity(self) -> Identity:
        """The node with its present key."""
        return self._keys.current

    @property
    def incarnation(self) -> int:
        """Which life of this node writes now."""
        return self._anchor.incarnation

    @property
    def mesh(self) -> str:
        """The id of the mesh this node belongs to."""
        return self._anchor.mesh

    @property
    def authority(self) -> Authority:
        """Who may do what, as of the last commit."""
        return self._authority

    @property
    def root(self) -> RootDocument:
        """The newest root document in force."""
        return self._authority.newest

    @classmethod
    async def open(
        cls, database: Port, directory: Path, *, site: str = "", name: str = ""
    ) -> Ledger:
        """The ledger of the node in this data directory, whose key is made at first start.

        Begins a new incarnation in a copied directory.  Raises RejectedError for a damaged key.
        """
        ledger = cls(database, identity.load(directory), directory=directory)
        await ledger.initialise(site=site, name=name, renew=identity.moved(directory))
        identity.settle(directory)
        return ledger

    async def initialise(self, *, site: str = "", name: str = "", renew: bool = False) -> None:
        """Load the ledger; at first start, found a mesh of one.

        ``renew`` begins a new incarnation: the data directory was copied or restored (ruling 1).
        """
        now = self._clock()
        founding = root.genesis(self.identity, site=site, name=name, now=now)
        incarnation = identity.new_incarnation(now=now)

        def unit(connection: sa.Connection) -> Anchor:
            anchor = chain.read_anchor(connection, self.node)
            if anchor is not None and not renew:
                return anchor
            mesh = founding.id.hex() if anchor is None else anchor.mesh
            if anchor is None:
                chain.store_root(connection, mesh, founding, 1)
            anchor = Anchor(max(incarnation, anchor.incarnation + 1 if anchor else 0), mesh)
            chain.write_anchor(connection, self.node, self.identity.key, anchor)
            return anchor

        self._anchor = await self._database.write(unit)
        await self._reload()
        await self._keys.keep(self._keys.signer(self._authority.current_key(self.node)))
        await self.council.follow_keys()
        await self.recheck(upgraded=True)

    async def _reload(self) -> None:
        self._stale = True  # until it is read: ``recheck`` tries again
        mesh = self._anchor.mesh
        self._authority = await self._database.read(lambda c: self._authorities.load(c, mesh))
        self._stale = False

    async def _govern(self, touched: Sequence[Touched]) -> None:
        """The council has changed something."""
        await self._reload()
        await self._plan_recheck()
        await self._listeners.tell(touched)

    # --- writing ---------------------------------------------------------------------------------
    async def append(
        self, facts: Sequence[Fact], *, actor: str, check: Check | None = None
    ) -> Appended:
        """Publish facts as this node's records.  Durable and in the catalog when it returns.

        ``check`` runs first, inside the transaction: what it raises leaves no trace.  Facts whose
        ``seen`` is empty supersede all that this node knows about their cell.  Raises
        RejectedError for facts that no node would take, DeniedError without the right to them.
        """
        now = self._clock()

        def unit(connection: sa.Connection) -> tuple[Appended, Anchor, list[Touched]]:
            if check is not None:
                check(connection)
            anchor, authority = self._state(connection)
            signer = self._keys.signer(authority.current_key(self.node))
            renewed: list[Touched] = []
            if chain.fork_of(connection, self.node, anchor.incarnation) is not None:
                anchor, renewed = rebase.renew(connection, signer, anchor, authority, now=now)
            done = appending.append(
                connection, signer, anchor, authority, facts, actor=actor, now=now
            )
            return done, anchor, renewed

        done, self._anchor, renewed = await self._database.write(unit)
        await self._listeners.tell([*renewed, *done.touched])
        return done

    async def apply(self, batches: Sequence[Batch | bytes]) -> list[Outcome]:
        """Take batches that a peer carries; what each became, in order.

        Nothing is raised for what a peer got wrong: ``Outcome.refused`` says it, and
        ``authors_status`` keeps it.  Taking a batch again changes nothing.
        """
        now = self._clock()
        parsed = [applying.parse(batch) for batch in batches]

        def unit(connection: sa.Connection) -> tuple[list[Outcome], list[Touched]]:
            authority = self._state(connection)[1]
            good = [batch for batch in parsed if isinstance(batch, Batch)]
            return applying.apply(connection, authority, good, now=now)

        found, touched = await self._database.write(unit)
        rest = iter(found)
        outcomes = [next(rest) if isinstance(each, Batch) else each for each in parsed]
        self._rejections.note(outcomes, now)
        if any(result.status == HELD for each in outcomes for result in each.results):
            await self._plan_recheck()
        if any(outcome.stored or outcome.headed for outcome in outcomes) or touched:
            await self._listeners.tell(touched)
        return outcomes

    async def recheck(self, *, upgraded: bool = False) -> int:
        """Judge held records again, since time has passed; how many cells changed.

        Looks only when the next one is due; ``upgraded`` also at what a former version refused.
        """
        now = self._clock()
        if self._stale:
            await self._govern([])
        if now < self._recheck_at and not upgraded:
            return 0

        def unit(connection: sa.Connection) -> list[Touched]:
            tables = Tables(connection, self._state(connection)[1])
            forked = standing.forks_of(connection)
            due = (records.c.status == HELD, records.c.hlc <= hlc.bound(now))
            judging.rejudge(tables, due, forked, now=now)
            if upgraded:
                judging.rejudge(tables, judging.NOT_UNDERSTOOD, forked, now=now)
            return tables.finish()

        touched = await self._database.write(unit)
        await self._plan_recheck()
        if touched:
            await self._listeners.tell(touched)
        return len(touched)

    async def confirm(self) -> int:
        """Confirm what was published away from its home, where this node is the home; how many."""
        now = self._clock()

        def unit(connection: sa.Connection) -> list[Confirm]:
            return confirming.due(connection, self._state(connection)[1], self.node, now=now)

        facts = await self._database.read(unit)
        if facts:
            await self.append(facts, actor="home")
        return len(facts)

    async def run(self) -> None:
        """Keep held and pending records moving, until cancelled.  One task of the node's."""
        with self.subscribe() as grown:
            while True:
                await self.recheck()
                await self.confirm()
                await self.council.follow_keys()
                await trio.sleep(PAUSE)
                with trio.move_on_after(INTERVAL):
                    await grown.receive()

    async def _plan_recheck(self) -> None:
        query = sa.select(sa.func.min(records.c.hlc)).where(
            records.c.status == HELD, records.c.hlc > hlc.bound(self._clock())
        )
        first = await self._database.read(lambda connection: connection.execute(query).scalar())
        self._recheck_at = math.inf if first is None else hlc.seconds(first) - hlc.AHEAD_MAX

    def _state(self, connection: sa.Connection) -> tuple[Anchor, Authority]:
        """Who writes and who may, as the transaction sees it."""
        anchor = chain.read_anchor(connection, self.node)
        if anchor is None:
            raise RejectedError("the ledger is not initialised")
        return anchor, self._authorities.load(connection, anchor.mesh)

    # --- reading ---------------------------------------------------------------------------------
    async def heads(self) -> chain.Heads:
        """How far each chain reaches here: (author, incarnation) → (seq, record id)."""
        return await self._database.read(chain.read_heads)

    async def range(
        self, author: str, incarnation: int, first: int, max_bytes: int = BATCH_MAX
    ) -> Batch | None:
        """The records from seq ``first`` that fit, ending on a signed head; None if none is left.

        Never less than up to the next signed head, which lies within BATCH_MAX bytes.
        """
        return await self._database.read(
            lambda connection: chain.read_range(connection, author, incarnation, first, max_bytes)
        )

    async def authors_status(self) -> list[AuthorStatus]:
        """Every author's standing: what counts, what is held or refused and why, who forked."""
        found = await self._database.read(standing.read_standing)
        return self._rejections.merge(found, self._authority)

    async def forks(self) -> list[bytes]:
        """Proofs of every fork known here, for ``accept_fork`` on other nodes."""
        return await self._database.read(forks.read_proofs)

    async def accept_fork(self, proof: bytes) -> bool:
        """Take a proof that a chain forks; whether it was right and new.

        Which records count must not depend on the branch that a node saw first, so proofs travel
        like records, and the earliest one against a chain decides.
        """
        now = self._clock()

        def unit(connection: sa.Connection) -> list[Touched] | None:
            authority = self._state(connection)[1]
            tables = Tables(connection, authority)
            place = forks.read_proof(proof, authority)
            return tables.finish() if forks.quarantine(tables, place, proof, now=now) else None

        try:
            touched = await self._database.write(unit)
        except RejectedError:
            return False
        await self._listeners.tell(touched or [])
        return touched is not None

    # --- authority -------------------------------------------------------------------------------
    async def roots(self, version: int = 0) -> list[bytes]:
        """Root documents from a version on, statements and proposals: ``Council.papers``."""
        return await self.council.papers(version)

    async def adopt(self, document: bytes | SignedRoot) -> bool:
        """Take a root document, statement or proposal: ``Council.adopt``."""
        return await self.council.adopt(document)

    async def rebase(self, documents: Sequence[bytes]) -> None:
        """Move to the mesh of these root documents, given from version 1 on.

        This node's own content is written again in a new incarnation, as far as it may write there;
        its settings and users stay behind, so that a joiner overwrites nobody's (docs/ledger.md).
        Raises RejectedError if the documents do not verify or do not list this node.
        """
        now = self._clock()
        history = rebase.verify_history(documents)

        def unit(connection: sa.Connection) -> tuple[Anchor, list[Touched]]:
            anchor = self._state(connection)[0]
            rebase.store_history(connection, history)
            papers.take_all(connection, history, self._authorities.load, now=now)
            known = self._authorities.load(connection, history.mesh)
            if not known.is_member(self.node):
                raise RejectedError("the root document does not list this node")
            return rebase.move(connection, self.identity, anchor, known, now=now)

        self._anchor, touched = await self._database.write(unit)
        await self._reload()
        await self._listeners.tell(touched)

    async def renew_incarnation(self) -> int:
        """Begin a new life of this node, after a restore; returns its incarnation."""
        now = self._clock()

        def unit(connection: sa.Connection) -> tuple[Anchor, list[Touched]]:
            anchor, authority = self._state(connection)
            signer = self._keys.signer(authority.current_key(self.node))
            return rebase.renew(connection, signer, anchor, authority, now=now)

        self._anchor, touched = await self._database.write(unit)
        await self._listeners.tell(touched)
        return self._anchor.incarnation

    # --- repair ----------------------------------------------------------------------------------
    async def repair(self, work: Repair[T], *, commit: bool) -> T:
        """Let a unit make the catalog agree with the ledger again, or only look."""

        def unit(connection: sa.Connection) -> tuple[T, Sequence[Touched]]:
            with connection.begin_nested() as point:
                found = work(connection, self._state(connection)[1])
                if not commit:
                    point.rollback()
            return found

        result, touched = await self._database.write(unit)
        await self._listeners.tell(touched if commit else [])
        return result

    # --- telling others --------------------------------------------------------------------------
    def observe(self, observer: Observer) -> None:
        """Await ``observer`` after every commit that changed the catalog, once per repository.

        Writers return after it: whoever wrote, reads what it wrote.  Cancelling does not reach it.
        """
        self._listeners.observers.append(observer)

    def subscribe(self) -> trio.MemoryReceiveChannel[None]:
        """A channel that receives one item whenever chains have grown; bursts become one."""
        return self._listeners.subscribe()


__all__ = ["Change", "Ledger", "Observer", "Port"]
