"""Take records that a peer carries: prove their place in the author's chain, judge, fold.

Nothing that a carrier says matters, only what authors signed: chains are proven from signed heads,
replays change nothing, and two branches of one chain are kept as evidence and quarantined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from store import bulk, chain, forks, judging, projection
from store.appending import insert_records, merge
from store.authority import Authority
from store.bulk import chunks
from store.chain import VALID, End
from store.errors import RejectedError
from store.fold import Claim
from store.judging import Verdict
from store.projection import Tables, Touched
from store.records import (
    ZERO,
    Batch,
    Record,
    SignedHead,
    head_holds,
    read_batch,
    read_records,
)
from store.schema import heads, records

REWIND = 64  # records to go back when a peer's chain does not fit ours, doubling each time
REASONS_MAX = 100  # results with a reason that one batch reports


@dataclass(frozen=True, slots=True)
class Result:
    """A record that did not become valid, and why."""

    seq: int
    record: bytes
    status: str
    reason: str


@dataclass(slots=True)
class Outcome:
    """What became of one batch.  ``refused`` says why it was not taken at all, "" if it was.

    ``reach`` is how far the chain is stored now.  ``resend_from`` is set when other records are
    needed first: a gap, or a branch whose beginning is not known.
    """

    author: str = ""
    incarnation: int = 0
    refused: str = ""
    reach: int = 0
    accepted: int = 0  # records that are new here and valid
    stored: int = 0  # records that are new here
    headed: bool = False  # a signed head came for records that were here without one
    resend_from: int | None = None
    forked: int | None = None
    results: list[Result] = field(default_factory=list[Result])


class Applying:
    """One transaction's worth of batches: cells are folded once, at the end."""

    def __init__(self, connection: sa.Connection, authority: Authority, *, now: float) -> None:
        self._connection = connection
        self._authority = authority
        self._now = now
        self._ends: dict[tuple[str, int], End] = {}
        self._forks: dict[tuple[str, int], int | None] = {}
        self._records: list[tuple[Record, str, str]] = []
        self._heads: list[tuple[object, ...]] = []
        self._claims: list[tuple[str, Claim]] = []
        self._tables = Tables(connection, authority)

    def apply(self, batch: Batch) -> Outcome:
        """Take one batch."""
        head = batch.head
        outcome = Outcome(head.author, head.incarnation)
        try:
            found = self._vouched(batch, read_records(batch))
        except RejectedError as error:
            outcome.refused = str(error)
        else:
            self._place(batch, found, outcome)
        outcome.reach = self._end(head.author, head.incarnation).seq
        outcome.forked = self._fork(head.author, head.incarnation)
        return outcome

    def finish(self) -> list[Touched]:
        """Write what was gathered; return the cells that changed."""
        self._flush()
        return self._tables.finish()

    # --- proof -----------------------------------------------------------------------------------
    def _vouched(self, batch: Batch, found: list[Record]) -> list[Record]:
        """The records that the author's signature, or a root document, vouches for."""
        head = batch.head
        if head.seq < 1 or found[0].header.seq < 1:
            raise RejectedError("a record before the first")
        reason = self._authority.judge_head(head)
        if reason is None:
            if not head_holds(head):
                raise RejectedError("forged: the signature of the head is wrong")
            return found
        pins = self._authority.pins(head.author, head.incarnation)
        for last in range(len(found), 0, -1):
            record = found[last - 1]
            if pins.get(record.header.seq) == record.id:
                if last == len(found) and not self._once_held(head):
                    break
                return found[:last]
        raise RejectedError(reason)

    def _once_held(self, head: SignedHead) -> bool:
        """Whether a head that is kept with a pinned record was ever its author's."""
        return self._authority.knows_key(head.author, head.key) and head_holds(head)

    def _place(self, batch: Batch, found: list[Record], outcome: Outcome) -> None:
        """Fit proven records to what is stored of their chain."""
        author, incarnation = outcome.author, outcome.incarnation
        end = self._end(author, incarnation)
        first = found[0].header
        if first.seq > end.seq + 1:
            outcome.refused = f"a gap: the records from seq {end.seq + 1} are missing"
            outcome.resend_from = end.seq + 1
            return
        if first.seq <= end.seq or first.prev != end.record:
            known = self._overlap(author, incarnation, first.seq, found[-1].header.seq)
            if not self._same_chain(batch, found, known, outcome):
                return
            last, found = found[-1], self._supply_bodies(found, known, outcome)
            if not found:
                self._supply_head(batch, last, outcome)
        if not found:
            return
        fork = self._fork(author, incarnation)
        if fork is not None:
            outcome.refused = f"its author's chain forks at seq {fork}"
            found = [record for record in found if record.header.seq < fork]
        if found and not self._rising(found, end):
            outcome.refused = "its author's clock runs backwards"
        elif found:
            self._extend(batch, found, fork, outcome)

    def _same_chain(
        self, batch: Batch, found: list[Record], known: dict[int, bytes], outcome: Outcome
    ) -> bool:
        """Whether the records continue ours.  If not, find where the branches part."""
        first = found[0].header
        before = known.get(first.seq - 1, ZERO)
        if first.prev != before:
            if first.seq == 1:
                outcome.refused = "the first record names one before it"
                return False
            outcome.refused = f"a branch: it parts from the known chain before seq {first.seq}"
            fork = self._fork(outcome.author, outcome.incarnation)
            if fork is None or fork >= first.seq:
                outcome.resend_from = max(1, first.seq - max(REWIND, 2 * len(found)))
            return False
        for record in found:
            seq = record.header.seq
            if known.get(seq, record.id) != record.id:
                self._quarantine(batch, seq, outcome)
                return False
        return True

    def _rising(self, found: Iterable[Record], end: End) -> bool:
        last = end.hlc
        for record in found:
            if record.header.hlc <= last:
                return False
            last = record.header.hlc
        return True

    # --- effects ---------------------------------------------------------------------------------
    def _extend(
        self, batch: Batch, found: list[Record], fork: int | None, outcome: Outcome
    ) -> None:
        """Store records that continue their chain."""
        for record in found:
            verdict = judging.judge(record, self._authority, now=self._now, fork=fork)
            self._records.append((record, verdict.status, verdict.reason))
            self._report(record, verdict, outcome)
            if verdict.status == VALID:
                self._claims.extend(projection.claims_of(record, verdict.facts))
        last = found[-1]
        if last.id == batch.head.record:
            self._heads.append(chain.head_row(batch.head))
        key = (outcome.author, outcome.incarnation)
        self._ends[key] = End(last.header.seq, last.id, last.header.hlc)
        outcome.stored += len(found)

    def _report(self, record: Record, verdict: Verdict, outcome: Outcome) -> None:
        if verdict.status == VALID:
            outcome.accepted += 1
        elif len(outcome.results) < REASONS_MAX:
            seq = record.header.seq
            outcome.results.append(Result(seq, record.id, verdict.status, verdict.reason))

    def _supply_bodies(
        self, found: list[Record], known: dict[int, bytes], outcome: Outcome
    ) -> list[Record]:
        """Fill in bodies that were withheld before; return the records that are new."""
        late = [r for r in found if r.header.seq in known and r.body is not None]
        lacking: set[bytes] = set()
        for part in chunks([record.id for record in late]):
            query = sa.select(records.c.id).where(records.c.id.in_(part), records.c.body.is_(None))
            lacking |= {bytes(id_) for (id_,) in self._connection.execute(query)}
        for record in late:
            if record.id not in lacking:
                continue
            fork = self._fork(outcome.author, outcome.incarnation)
            verdict = judging.judge(record, self._authority, now=self._now, fork=fork)
            values = {"body": record.body, "status": verdict.status, "reason": verdict.reason}
            self._connection.execute(
                sa.update(records).where(records.c.id == record.id).values(**values)
            )
            self._report(record, verdict, outcome)
            if verdict.status == VALID:
                self._claims.extend(projection.claims_of(record, verdict.facts))
        return [record for record in found if record.header.seq not in known]

    def _supply_head(self, batch: Batch, last: Record, outcome: Outcome) -> None:
        """Keep the head of records that are here without one, or nobody can have them from us.

        A root document or a rotation vouches for records within a batch whose own head is refused,
        and for those that stay where the end of a chain is cut off.
        """
        if last.id != batch.head.record:
            return
        place = (batch.head.author, batch.head.incarnation, batch.head.seq)
        if not chain.has_head(self._connection, *place):
            self._heads.append(chain.head_row(batch.head))
            outcome.headed = True

    def _quarantine(self, batch: Batch, seq: int, outcome: Outcome) -> None:
        """Two records at one seq: keep the proof, and count nothing of the author from there on."""
        outcome.refused = f"forked: its author signed two records at seq {seq}"
        self._flush()
        place = (outcome.author, outcome.incarnation, seq)
        proof = forks.prove(self._connection, batch, seq)
        if forks.quarantine(self._tables, place, proof, now=self._now):
            self._forks[outcome.author, outcome.incarnation] = seq

    # --- state -----------------------------------------------------------------------------------
    def _end(self, author: str, incarnation: int) -> End:
        key = (author, incarnation)
        if key not in self._ends:
            self._ends[key] = chain.end_of(self._connection, author, incarnation)
        return self._ends[key]

    def _fork(self, author: str, incarnation: int) -> int | None:
        key = (author, incarnation)
        if key not in self._forks:
            self._forks[key] = chain.fork_of(self._connection, author, incarnation)
        return self._forks[key]

    def _overlap(self, author: str, incarnation: int, first: int, last: int) -> dict[int, bytes]:
        """Ids of the stored records from the one before ``first``, by seq."""
        self._flush()
        place = {"author": author, "incarnation": incarnation, "first": first - 1, "last": last}
        rows = self._connection.execute(chain.RECORD_IDS, place)
        return {seq: bytes(id_) for seq, id_ in rows}

    def _flush(self) -> None:
        """Write what was gathered so far."""
        insert_records(self._connection, self._records)
        bulk.insert(self._connection, heads, self._heads)
        if self._claims:
            cells = sorted({cell for cell, _ in self._claims})
            old = projection.load_claims(self._connection, cells)
            projection.insert_claims(self._connection, self._claims)
            self._tables.fold(old, merge(old, self._claims))
        self._records, self._heads, self._claims = [], [], []


def apply(
    connection: sa.Connection,
    authority: Authority,
    batches: Sequence[Batch],
    *,
    now: float,
) -> tuple[list[Outcome], list[Touched]]:
    """Take batches in one transaction."""
    work = Applying(connection, authority, now=now)
    outcomes = [work.apply(batch) for batch in batches]
    return outcomes, work.finish()


def parse(batch: Batch | bytes) -> Batch | Outcome:
    """Read a batch as a peer sent it; one that cannot be read is an outcome already."""
    if isinstance(batch, Batch):
        return batch
    try:
        return read_batch(batch)
    except RejectedError as error:
        return Outcome(refused=str(error))
