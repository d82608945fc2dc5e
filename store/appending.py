"""One append: facts become signed records and catalog rows, in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from store import bulk, canonical, chain, fold, hlc, limits, projection
from store.authority import Authority
from store.chain import VALID, Anchor, End
from store.errors import DeniedError, LocalProtocolError, RejectedError
from store.facts import Body, Delete, Fact, Flag, Point, Resolve, Restore, Setting
from store.fold import Claim
from store.identity import Identity
from store.projection import Tables, Touched
from store.records import BATCH_MAX, Header, Record, SignedHead, build, sign_head, split_facts
from store.schema import heads, records

ACTOR_MAX = 255  # characters

NEWEST = sa.select(sa.func.max(records.c.hlc)).where(records.c.status == VALID)

Check = Callable[[sa.Connection], None]


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append did.  ``records`` are ids, in chain order; ``hlc`` is the newest one's."""

    records: tuple[bytes, ...]
    hlc: int
    head: SignedHead
    touched: tuple[Touched, ...]


class Appender:
    """Extends this node's chain within one transaction: ``add`` any number of times, ``flush``.

    The caller holds the database's only write transaction, so the chain's end cannot move.
    """

    def __init__(
        self, connection: sa.Connection, signer: Identity, anchor: Anchor, authority: Authority
    ) -> None:
        self._connection = connection
        self._signer = signer
        self._anchor = anchor
        self._authority = authority
        self._end = chain.end_of(connection, signer.node, anchor.incarnation)
        self._made: list[Record] = []
        self._claims: list[tuple[str, Claim]] = []

    def add(self, facts: Iterable[Fact], actor: str, *, after: int, now: float) -> list[Record]:
        """Make records of facts whose ``seen`` is complete.  Raises RejectedError, DeniedError.

        Their timestamps follow ``after``, the chain so far, and the wall clock ``now``.
        """
        made: list[Record] = []
        for kind, scope, parts in split_facts(facts):
            body = canonical.encode(Body(actor[:ACTOR_MAX], tuple(parts)))
            header = Header(
                author=self._signer.node,
                incarnation=self._anchor.incarnation,
                seq=self._end.seq + 1,
                prev=self._end.record,
                hlc=hlc.tick(max(after, self._end.hlc), now),
                mesh=self._anchor.mesh,
                root_version=self._authority.version,
                kind=kind,
                scope=scope,
                body_digest=hashlib.sha256(body).digest(),
            )
            reason = limits.refusal(kind, scope, parts)
            if reason:
                raise RejectedError(reason)
            reason = self._authority.judge(header, parts)
            if reason:
                raise DeniedError(f"this node may not publish that: {reason}")
            record = build(header, body)
            self._end = End(header.seq, record.id, header.hlc)
            self._claims.extend(projection.claims_of(record, parts))
            made.append(record)
        self._made += made
        return made

    def flush(self, old: Mapping[str, list[Claim]], tables: Tables) -> SignedHead | None:
        """Sign and store what was added, and fold it; ``old`` are the claims of its cells."""
        if not self._made:
            return None
        signed = [sign_head(record, self._signer) for record in signing_points(self._made)]
        insert_records(self._connection, [(record, VALID, "") for record in self._made])
        bulk.insert(self._connection, heads, [chain.head_row(head) for head in signed])
        projection.insert_claims(self._connection, self._claims)
        tables.fold(old, merge(old, self._claims))
        self._made, self._claims = [], []
        return signed[-1]


def append(
    connection: sa.Connection,
    signer: Identity,
    anchor: Anchor,
    authority: Authority,
    facts: Sequence[Fact],
    *,
    actor: str,
    now: float,
) -> Appended:
    """Add records to this node's chain, or raise RejectedError, DeniedError and change nothing."""
    cells = {cell for fact in facts for cell in fold.cell_keys(fact)}
    old = projection.load_claims(connection, sorted(cells))
    appender = Appender(connection, signer, anchor, authority)
    complete_facts = [complete(fact, old) for fact in facts]
    made = appender.add(complete_facts, actor, after=newest(connection, now), now=now)
    tables = Tables(connection, authority)
    head = appender.flush(old, tables)
    if head is None:
        raise LocalProtocolError("an append without facts")
    return Appended(
        tuple(record.id for record in made), made[-1].header.hlc, head, tuple(tables.finish())
    )


def newest(connection: sa.Connection, now: float) -> int:
    """The newest timestamp that counts here, so that what we write follows all that we saw."""
    return min(connection.execute(NEWEST).scalar() or 0, hlc.bound(now))


def signing_points(made: Sequence[Record]) -> list[Record]:
    """The records whose heads are signed: the last, and enough before it for short answers."""
    points: list[Record] = []
    size = 0
    for record, following in zip(made, [*made[1:], None], strict=True):
        size += _size(record)
        if following is None or size + _size(following) > BATCH_MAX:
            points.append(record)
            size = 0
    return points


def _size(record: Record) -> int:
    return len(record.header_bytes) + len(record.body or b"") + 8


def insert_records(connection: sa.Connection, judged: Iterable[tuple[Record, str, str]]) -> None:
    """Store records with their status and reason."""
    rows = [
        (
            record.id,
            record.header.author,
            record.header.incarnation,
            record.header.seq,
            record.header.hlc,
            record.header.kind,
            record.header.scope,
            status,
            reason,
            record.header_bytes,
            record.body,
        )
        for record, status, reason in judged
    ]
    bulk.insert(connection, records, rows)


def merge(
    old: Mapping[str, list[Claim]], new: Iterable[tuple[str, Claim]]
) -> dict[str, list[Claim]]:
    """The claims of each cell after new ones came."""
    merged = {cell: list(about) for cell, about in old.items()}
    for cell, claim in new:
        merged.setdefault(cell, []).append(claim)
    return merged


def complete(fact: Fact, old: Mapping[str, list[Claim]]) -> Fact:
    """Fill in what a fact has seen: all that this node knows about its cell.

    A register's ``seen`` that the caller gave stands, for it may be older on purpose; deletes and
    other words on a file always cover everything here, or what they hide would come back.
    """
    if isinstance(fact, Point | Flag | Setting):
        if fact.seen:
            return fact
        about = old.get(fold.cell_keys(fact)[0], [])
        state = fold.resolve(fold.cell_keys(fact)[0], about) if about else None
        return msgspec.structs.replace(fact, seen=state.records if state else ())  # type: ignore[union-attr]  # only such facts have seen
    if isinstance(fact, Delete | Restore | Resolve):
        about = old.get(fold.cell_keys(fact)[0], [])
        seen = set(fact.seen) | set(_concerned(fact, about))
        return msgspec.structs.replace(fact, seen=tuple(sorted(seen)))
    return fact


def _concerned(fact: Fact, about: Iterable[Claim]) -> list[bytes]:
    """The records that a word on a file is about, the newest first if they are too many."""
    if isinstance(fact, Restore):
        named = [claim for claim in about if isinstance(claim.fact, Delete)]
    else:
        named = [claim for claim in about if hasattr(claim.fact, "files")]
    named.sort(key=lambda claim: claim.recency, reverse=True)
    return [claim.record for claim in named[: limits.SEEN_MAX // 2]]
