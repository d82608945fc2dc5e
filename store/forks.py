"""Forks: proof that an author signed two records at one place of its chain.

The proof travels, so that every node quarantines the same records whichever branch it saw first.
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from store import canonical, chain, judging
from store.authority import Authority
from store.errors import RejectedError
from store.projection import Tables
from store.records import BATCH_MAX, Batch, head_holds, read_records
from store.schema import forks, records

PROOF_MAX = 2 * BATCH_MAX  # bytes
_branches = msgspec.msgpack.Decoder(tuple[Batch, ...])


def branch_from(batch: Batch, seq: int) -> Batch:
    """The part of a batch that proves one branch: headers from ``seq`` to the signed head."""
    keep = batch.head.seq - seq + 1
    return Batch(tuple((header, None) for header, _ in batch.records[-keep:]), batch.head)


def prove(connection: sa.Connection, theirs: Batch, seq: int) -> bytes:
    """Put both branches side by side: the stored one, if it was signed, and that of ``theirs``."""
    head = theirs.head
    ours = chain.read_range(connection, head.author, head.incarnation, seq, 1)
    branches = [branch_from(theirs, seq), *([branch_from(ours, seq)] if ours else [])]
    return canonical.encode(branches)


def read_proof(data: bytes, authority: Authority) -> tuple[str, int, int]:
    """Check a proof: (author, incarnation, seq) of the fork.  Raises RejectedError."""
    if len(data) > PROOF_MAX:
        raise RejectedError("the proof is too large")
    branches = canonical.decode(data, _branches)
    if len(branches) != 2:
        raise RejectedError("a fork has two branches")
    firsts = []
    for branch in branches:
        reason = authority.judge_head(branch.head)
        if reason or not head_holds(branch.head):
            raise RejectedError(reason or "forged: the signature of the head is wrong")
        firsts.append(read_records(branch)[0])
    one, other = firsts
    places = {(r.header.author, r.header.incarnation, r.header.seq) for r in firsts}
    if len(places) != 1 or one.id == other.id or one.header.prev != other.header.prev:
        raise RejectedError("the branches do not part here")
    return places.pop()


def place_of(kept: bytes) -> tuple[str, int, int]:
    """Where a proof that counts here says that its chain forks: (author, incarnation, seq).

    Unlike ``read_proof`` it judges nothing anew: since the proof came its author may have been
    evicted, and what the branches were signed with no longer count.
    """
    header = read_records(canonical.decode(kept, _branches)[0])[0].header
    return header.author, header.incarnation, header.seq


def quarantine(tables: Tables, place: tuple[str, int, int], proof: bytes, *, now: float) -> bool:
    """Count nothing of the author from the fork on; whether that was news.

    The earliest fork of a chain is the one that counts, so of those under the same keys only its
    proof is kept: who forks ever earlier fills nobody's disk.  Under others: a key may turn out to
    have been stolen, and its proofs go with it (``store.truncating``).

    Folds what is stored.  Whatever the caller gathered must be written before.
    """
    author, incarnation, seq = place
    connection = tables.connection
    known = chain.fork_of(connection, author, incarnation)
    if known is not None and known <= seq:
        return False
    _supersede(connection, author, incarnation, proof)
    connection.execute(
        sa.insert(forks).values(
            author=author, incarnation=incarnation, seq=seq, evidence=proof, noticed=now
        )
    )
    which = (
        records.c.author == author,
        records.c.incarnation == incarnation,
        records.c.seq >= seq,
    )
    judging.rejudge(tables, which, {(author, incarnation): seq}, now=now)
    return True


def _supersede(connection: sa.Connection, author: str, incarnation: int, proof: bytes) -> None:
    """Forget the later forks of a chain that the same keys have signed."""
    chain_of = (forks.c.author == author, forks.c.incarnation == incarnation)
    keys = _keys(proof)
    for row in connection.execute(sa.select(forks.c.seq, forks.c.evidence).where(*chain_of)).all():
        if _keys(bytes(row.evidence)) == keys:
            connection.execute(sa.delete(forks).where(*chain_of, forks.c.seq == row.seq))


def _keys(proof: bytes) -> set[bytes]:
    return {branch.head.key for branch in canonical.decode(proof, _branches)}


def read_proofs(connection: sa.Connection) -> list[bytes]:
    """The earliest proof against each chain."""
    first: dict[tuple[str, int], Any] = {}
    for row in connection.execute(sa.select(forks).order_by(forks.c.seq.desc())):
        first[row.author, row.incarnation] = row
    return [bytes(first[key].evidence) for key in sorted(first)]
