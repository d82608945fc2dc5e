"""What a new key or an eviction unmakes: ends of chains that nobody vouches for any more.

A thief who goes on writing with a key that its node has given up may have been believed by nodes
that had not heard of it.  When they hear, those records go, so that the author's own can take their
places; and so does evidence of forks that rests on such a key, or that an eviction has settled.

Spec: docs/ledger.md §4.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from store import forks, judging
from store.authority import Authority
from store.bulk import chunks
from store.errors import RejectedError
from store.projection import Tables
from store.records import SignedHead
from store.schema import forks as fork_table
from store.schema import heads, records


def cut_chains(tables: Tables, authors: Sequence[str], *, now: float) -> None:
    """Cut the chains of these authors back to what their present keys and pins vouch for."""
    connection = tables.connection
    for part in chunks(authors):
        query = sa.select(records.c.author, records.c.incarnation, sa.func.max(records.c.seq))
        grouped = query.where(records.c.author.in_(part)).group_by(
            records.c.author, records.c.incarnation
        )
        for author, incarnation, end in connection.execute(grouped).all():
            reach = vouched(connection, tables.authority, author, incarnation, end)
            if reach < end:
                _cut(tables, author, incarnation, reach, now=now)
        _drop_evidence(connection, tables.authority, part)


def vouched(
    connection: sa.Connection, authority: Authority, author: str, incarnation: int, end: int
) -> int:
    """How far a stored chain stands; all of it where its author is no member: that is refused."""
    chosen = (records.c.author == author, records.c.incarnation == incarnation)
    reach = end
    if authority.is_member(author):
        query = sa.select(heads).where(
            heads.c.author == author, heads.c.incarnation == incarnation, heads.c.seq > 0
        )
        reach = 0
        for row in connection.execute(query.order_by(heads.c.seq.desc())):
            head = SignedHead(author, incarnation, row.seq, bytes(row.record), bytes(row.key), b"")
            if authority.judge_head(head) is None:
                reach = row.seq
                break
    pins = authority.pins(author, incarnation)
    query = sa.select(records.c.seq, records.c.id).where(*chosen, records.c.seq.in_(pins))
    stored = {seq: bytes(id_) for seq, id_ in connection.execute(query)}
    right = {seq for seq, id_ in stored.items() if pins[seq] == id_}
    reach = max([reach, *right])
    settled = authority.settled(author, incarnation)
    wrong = [seq for seq in stored if seq not in right and seq <= settled]
    if wrong:  # the owners chose another branch when they evicted its author
        reach = min(reach, max((seq for seq in right if seq < min(wrong)), default=0))
    return int(reach)


def _cut(tables: Tables, author: str, incarnation: int, reach: int, *, now: float) -> None:
    connection = tables.connection
    which = (
        records.c.author == author,
        records.c.incarnation == incarnation,
        records.c.seq > reach,
    )
    judging.rejudge(tables, which, {(author, incarnation): reach + 1}, now=now)
    connection.execute(sa.delete(records).where(*which))
    connection.execute(
        sa.delete(heads).where(
            heads.c.author == author, heads.c.incarnation == incarnation, heads.c.seq > reach
        )
    )


def _drop_evidence(connection: sa.Connection, authority: Authority, authors: list[str]) -> None:
    """Forget proofs that do not hold any more."""
    rows = connection.execute(sa.select(fork_table).where(fork_table.c.author.in_(authors))).all()
    for row in rows:
        if row.seq > authority.settled(row.author, row.incarnation):
            if not authority.is_member(row.author):
                continue
            try:
                forks.read_proof(bytes(row.evidence), authority)
                continue
            except RejectedError:
                pass
        connection.execute(
            sa.delete(fork_table).where(
                fork_table.c.author == row.author,
                fork_table.c.incarnation == row.incarnation,
                fork_table.c.seq == row.seq,
            )
        )
