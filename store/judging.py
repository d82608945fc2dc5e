"""Which stored records count: judge them when they come, and again when that may have changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from store import canonical, fold, hlc, limits, projection, pruning
from store.authority import UNKNOWN_ROOT, Authority
from store.bulk import chunks
from store.chain import HELD, REFUSED, VALID
from store.errors import RejectedError
from store.facts import Fact
from store.fold import Claim
from store.projection import Tables
from store.records import Record, read_body, read_header
from store.schema import claims, records

NEWER = "it needs a newer version of Atoll"
AHEAD = "its clock runs ahead"
NOT_UNDERSTOOD = (records.c.status == REFUSED, records.c.reason.startswith(NEWER))
PAGE = 500  # records judged again at once


class Verdict(NamedTuple):
    """What becomes of a record.  ``facts`` are what it says, if that can be read."""

    status: str
    reason: str
    facts: tuple[Fact, ...] = ()


def judge(record: Record, authority: Authority, *, now: float, fork: int | None) -> Verdict:
    """Judge a record whose place in its author's chain is proven."""
    header = record.header
    if fork is not None and header.seq >= fork:
        return Verdict(REFUSED, f"its author's chain forks at seq {fork}")
    facts: tuple[Fact, ...] = ()
    if record.body is not None:
        try:
            facts = read_body(record.body).facts
        except canonical.UnknownTagError as error:
            return Verdict(REFUSED, f"{NEWER}: {error}")
        except RejectedError as error:
            return Verdict(REFUSED, str(error))
        reason = limits.refusal(header.kind, header.scope, facts)
        if reason:
            return Verdict(REFUSED, reason)
    reason = authority.judge(header, facts)
    if reason == UNKNOWN_ROOT:
        return Verdict(HELD, f"{reason}: version {header.root_version}", facts)
    if reason:
        return Verdict(REFUSED, reason, facts)
    if header.hlc > hlc.bound(now):
        return Verdict(HELD, f"{AHEAD}: it is dated {hlc.seconds(header.hlc):.0f}", facts)
    return Verdict(VALID, "", facts)


def rejudge(
    tables: Tables,
    which: Sequence[sa.ColumnElement[bool]],
    forks: Mapping[tuple[str, int], int],
    *,
    now: float,
) -> None:
    """Judge the selected records again and bring the catalog in line.  Paged by record id."""
    after = b""
    while True:
        query = sa.select(records).where(*which, records.c.id > after).order_by(records.c.id)
        rows = tables.connection.execute(query.limit(PAGE)).all()
        changed = [c for row in rows if (c := _changed(row, tables.authority, forks, now))]
        if changed:
            _apply_verdicts(tables, changed)
        if len(rows) < PAGE:
            return
        after = bytes(rows[-1].id)


def _changed(
    row: sa.Row[Any], authority: Authority, forks: Mapping[tuple[str, int], int], now: float
) -> tuple[str, Record, Verdict] | None:
    """The record, its old status and its new verdict, if that differs."""
    header = read_header(bytes(row.header))
    body = None if row.body is None else bytes(row.body)
    record = Record(bytes(row.id), header, bytes(row.header), body)
    fork = forks.get((header.author, header.incarnation))
    verdict = judge(record, authority, now=now, fork=fork)
    if (verdict.status, verdict.reason) == (row.status, row.reason):
        return None
    return row.status, record, verdict


def _apply_verdicts(tables: Tables, changed: Iterable[tuple[str, Record, Verdict]]) -> None:
    connection = tables.connection
    gone: set[bytes] = set()
    scopes: dict[str, str] = {}  # of the cells that lose a claim
    new: list[tuple[str, Claim]] = []
    updates: list[dict[str, object]] = []
    for status, record, verdict in changed:
        updates.append({"b_id": record.id, "status": verdict.status, "reason": verdict.reason})
        if status == VALID and verdict.status != VALID:
            gone.add(record.id)
            facts = read_body(record.body).facts if record.body else ()
            lost = [cell for fact in facts for cell in fold.cell_keys(fact)]
            scopes.update(dict.fromkeys(lost, record.header.scope))
        elif status != VALID and verdict.status == VALID:
            new += projection.claims_of(record, verdict.facts)
    connection.execute(sa.update(records).where(records.c.id == sa.bindparam("b_id")), updates)
    cells = sorted(scopes.keys() | {cell for cell, _ in new})
    old = projection.load_claims(connection, cells)
    restored = pruning.restore(connection, scopes)
    for part in chunks(sorted(scopes)):
        chosen = claims.c.cell.in_(part), claims.c.record.in_(sorted(gone))
        connection.execute(sa.delete(claims).where(*chosen))
    new = [pair for pair in new if pair[0] not in restored]  # whose records are read again
    new += [pair for pairs in restored.values() for pair in pairs]
    projection.insert_claims(connection, new)
    after = {
        cell: [claim for claim in about if claim.record not in gone and cell not in restored]
        for cell, about in old.items()
    }
    for cell, claim in new:
        after.setdefault(cell, []).append(claim)
    tables.fold(old, after)
