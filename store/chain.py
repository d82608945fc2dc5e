"""What the ledger's tables say: chain ends, ranges, forks, root documents.  Reads inside a unit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import sqlalchemy as sa

from store import root
from store.authority import Authority
from store.records import BATCH_MAX, ZERO, Batch, SignedHead
from store.root import RootDocument, SignedRoot
from store.schema import forks, heads, records, roots, statements
from store.statements import Admission, Rotation, Statement, paper_id, read_paper

VALID, HELD, REFUSED = "valid", "held", "refused"  # records.status

# Built once: SQLAlchemy then only looks up what it compiled.
AUTHOR: sa.BindParameter[str] = sa.bindparam("author")
INCARNATION: sa.BindParameter[int] = sa.bindparam("incarnation")
END = (
    sa.select(records.c.seq, records.c.id, records.c.hlc)
    .where(records.c.author == AUTHOR, records.c.incarnation == INCARNATION)
    .order_by(records.c.seq.desc())
    .limit(1)
)
ANCHOR = (
    sa.select(heads.c.incarnation, heads.c.record)
    .where(heads.c.author == AUTHOR, heads.c.seq == 0)
    .order_by(heads.c.incarnation.desc())
    .limit(1)
)
MESH: sa.BindParameter[str] = sa.bindparam("mesh")
PAPER_IDS = sa.union_all(
    sa.select(roots.c.id).where(roots.c.mesh == MESH),
    sa.select(statements.c.id).where(statements.c.mesh == MESH),
)
ROTATION, ADMISSION, PROPOSAL = "rotation", "admission", "proposal"  # statements.kind
FORK = sa.select(sa.func.min(forks.c.seq)).where(
    forks.c.author == AUTHOR, forks.c.incarnation == INCARNATION
)
_newest = (
    sa.select(heads.c.author, heads.c.incarnation, sa.func.max(heads.c.seq).label("seq"))
    .where(heads.c.seq > 0)
    .group_by(heads.c.author, heads.c.incarnation)
    .subquery()
)
HEADS = sa.select(heads.c.author, heads.c.incarnation, heads.c.seq, heads.c.record).join(
    _newest,
    sa.and_(
        heads.c.author == _newest.c.author,
        heads.c.incarnation == _newest.c.incarnation,
        heads.c.seq == _newest.c.seq,
    ),
)
FIRST: sa.BindParameter[int] = sa.bindparam("first")
LAST: sa.BindParameter[int] = sa.bindparam("last")
_chain = (records.c.author == AUTHOR, records.c.incarnation == INCARNATION)
_ends = (heads.c.author == AUTHOR, heads.c.incarnation == INCARNATION, heads.c.seq >= FIRST)
NEXT_HEAD = sa.select(heads).where(*_ends).order_by(heads.c.seq).limit(1)
LAST_HEAD = (
    sa.select(heads).where(*_ends, heads.c.seq <= LAST).order_by(heads.c.seq.desc()).limit(1)
)
SIZES = (
    sa.select(
        records.c.seq,
        sa.func.length(records.c.header) + sa.func.coalesce(sa.func.length(records.c.body), 0),
    )
    .where(*_chain, records.c.seq >= FIRST)
    .order_by(records.c.seq)
    .limit(sa.bindparam("count", type_=sa.Integer))
)
PAIRS = (
    sa.select(records.c.header, records.c.body)
    .where(*_chain, records.c.seq.between(FIRST, LAST))
    .order_by(records.c.seq)
)
RECORD_IDS = sa.select(records.c.seq, records.c.id).where(
    *_chain, records.c.seq.between(FIRST, LAST)
)


class End(NamedTuple):
    """Where a chain ends."""

    seq: int
    record: bytes
    hlc: int


class Anchor(NamedTuple):
    """Which life of this node writes now, and in which mesh.

    Kept as the head of seq 0 of its chain: no record has that seq, and no peer is told of it.
    """

    incarnation: int
    mesh: str


START = End(0, ZERO, 0)


def end_of(connection: sa.Connection, author: str, incarnation: int) -> End:
    """The last stored record of a chain."""
    row = connection.execute(END, {"author": author, "incarnation": incarnation}).first()
    return START if row is None else End(row[0], bytes(row[1]), row[2])


def read_anchor(connection: sa.Connection, node: str) -> Anchor | None:
    """The node's present anchor, None before it was initialised."""
    row = connection.execute(ANCHOR, {"author": node}).first()
    return None if row is None else Anchor(row[0], bytes(row[1]).hex())


def write_anchor(connection: sa.Connection, node: str, key: bytes, anchor: Anchor) -> None:
    """Begin a new life of this node."""
    connection.execute(
        sa.insert(heads).values(
            author=node,
            incarnation=anchor.incarnation,
            seq=0,
            record=bytes.fromhex(anchor.mesh),
            signature=b"",
            key=key,
        )
    )


def fork_of(connection: sa.Connection, author: str, incarnation: int) -> int | None:
    """The first seq at which a chain is known to have two records."""
    seq: int | None = connection.execute(
        FORK, {"author": author, "incarnation": incarnation}
    ).scalar()
    return seq


# --- root documents -----------------------------------------------------------------------------
class Authorities:
    """The authority of each mesh, built again only when its documents or statements change."""

    def __init__(self) -> None:
        self._cached: dict[str, tuple[frozenset[bytes], Authority]] = {}

    def load(self, connection: sa.Connection, mesh: str) -> Authority:
        """The verified documents and statements of a mesh, as stored."""
        ids = frozenset(bytes(row[0]) for row in connection.execute(PAPER_IDS, {"mesh": mesh}))
        cached = self._cached.get(mesh)
        if cached is None or cached[0] != ids:
            documents = read_documents(connection, mesh)
            said = read_statements(connection, mesh)
            papers = ids - documents.keys()
            cached = (ids, Authority(mesh, documents, said, papers))
            self._cached[mesh] = cached
        return cached[1]


def read_roots(connection: sa.Connection, mesh: str, version: int = 0) -> list[bytes]:
    """Signed documents from a version on, in an order in which they verify."""
    query = sa.select(roots.c.document).where(roots.c.mesh == mesh, roots.c.version >= version)
    rows = connection.execute(query.order_by(roots.c.version, roots.c.id))
    return [bytes(row[0]) for row in rows]


def read_documents(connection: sa.Connection, mesh: str) -> dict[bytes, RootDocument]:
    """The documents of a mesh by id.  They were verified before they were stored."""
    signed = [root.read_signed(data) for data in read_roots(connection, mesh)]
    return {each.id: root.read_document(each.document) for each in signed}


def read_papers(connection: sa.Connection, mesh: str, *kinds: str) -> list[bytes]:
    """Statements and proposals of some kinds, as they travel; rotations in order of time."""
    query = sa.select(statements.c.data).where(
        statements.c.mesh == mesh, statements.c.kind.in_(kinds)
    )
    order = sa.case({ROTATION: 0, ADMISSION: 1}, value=statements.c.kind, else_=2)
    rows = connection.execute(query.order_by(order, statements.c.noticed, statements.c.id))
    return [bytes(row[0]) for row in rows]


def read_statements(connection: sa.Connection, mesh: str) -> list[Statement]:
    """The rotations and admissions of a mesh.  They were checked before they were stored."""
    papers = map(read_paper, read_papers(connection, mesh, ROTATION, ADMISSION))
    return [paper for paper in papers if isinstance(paper, Rotation | Admission)]


def read_proposals(connection: sa.Connection, mesh: str) -> dict[bytes, SignedRoot]:
    """Root documents of a mesh that lack signatures, by the id they will have."""
    found = map(root.read_signed, read_papers(connection, mesh, PROPOSAL))
    return {signed.id: signed for signed in found}


def store_paper(
    connection: sa.Connection, mesh: str, kind: str, about: str, data: bytes, *, now: float
) -> None:
    """Keep a statement or a proposal."""
    values = {"mesh": mesh, "id": paper_id(data), "kind": kind, "about": about, "data": data}
    connection.execute(sa.insert(statements).values(**values, noticed=now))


def drop_papers(connection: sa.Connection, mesh: str, ids: Iterable[bytes]) -> None:
    """Forget statements or proposals by the digests of their data."""
    chosen = (statements.c.mesh == mesh, statements.c.id.in_(list(ids)))
    connection.execute(sa.delete(statements).where(*chosen))


def store_root(connection: sa.Connection, mesh: str, signed: SignedRoot, version: int) -> None:
    """Keep a verified document."""
    connection.execute(
        sa.insert(roots).values(
            mesh=mesh, version=version, id=signed.id, document=root.encode_root(signed)
        )
    )


# --- heads and ranges ---------------------------------------------------------------------------
Heads = dict[tuple[str, int], tuple[int, bytes]]


def read_heads(connection: sa.Connection) -> Heads:
    """The last signed record of every chain.  One index search per chain."""
    return {
        (author, incarnation): (seq, bytes(record))
        for author, incarnation, seq, record in connection.execute(HEADS)
    }


def read_range(
    connection: sa.Connection, author: str, incarnation: int, first: int, max_bytes: int = BATCH_MAX
) -> Batch | None:
    """The records from ``first`` up to the last signed head that fits; None if there are none.

    At least the records up to the next head are given, even if they take more than ``max_bytes``.
    """
    chain: dict[str, object] = {"author": author, "incarnation": incarnation}
    ends = {**chain, "first": max(first, 1)}
    nearest = connection.execute(NEXT_HEAD, ends).first()
    if nearest is None:
        return None
    count = max_bytes // 200 + 1  # no record is smaller
    last, total = 0, 0
    for seq, size in connection.execute(SIZES, {**chain, "first": first, "count": count}):
        total += size + 8
        if total > max_bytes:
            break
        last = seq
    if last > nearest.seq:
        nearest = connection.execute(LAST_HEAD, {**ends, "last": last}).one()
    found = connection.execute(PAIRS, {**chain, "first": first, "last": nearest.seq}).all()
    return Batch(
        tuple((bytes(h), None if b is None else bytes(b)) for h, b in found), _head(nearest)
    )


def _head(row: sa.Row[Any]) -> SignedHead:
    return SignedHead(
        row.author,
        row.incarnation,
        row.seq,
        bytes(row.record),
        bytes(row.key),
        bytes(row.signature),
    )


def has_head(connection: sa.Connection, author: str, incarnation: int, seq: int) -> bool:
    """Whether a signed head is stored for this very place.

    One beyond it will not do: a range answer ends on a head, and must fit a message.
    """
    place = {"author": author, "incarnation": incarnation, "first": seq, "last": seq}
    return connection.execute(LAST_HEAD, place).first() is not None


def head_row(head: SignedHead) -> tuple[object, ...]:
    """A row of ``heads``."""
    return (head.author, head.incarnation, head.seq, head.record, head.signature, head.key)
