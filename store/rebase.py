"""Changes of life: another mesh, another incarnation, other rights.

Whatever counts afterwards is judged again from the stored records; nothing is rewritten, for old
chains stay as their author signed them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from store import chain, fold, hlc, identity, judging, projection, root, standing, truncating
from store.appending import Appender
from store.authority import Authority
from store.bulk import chunks
from store.chain import HELD, VALID, Anchor
from store.errors import DeniedError, RejectedError
from store.facts import Body, Confirm, Fact
from store.identity import Identity
from store.projection import Tables, Touched
from store.records import AUTHORITY_KIND, read_body
from store.root import RootDocument, SignedRoot
from store.schema import records, settings
from store.statements import Statement, read_paper

FLUSH = 200  # records written again before they are folded
Renamed = dict[bytes, tuple[bytes, ...]]  # old record id → the ids of what replaced it


class History(NamedTuple):
    """A mesh's papers, the root documents verified from version 1 on."""

    mesh: str
    roots: list[tuple[SignedRoot, RootDocument]]
    statements: list[Statement]


def verify_history(documents: Sequence[bytes]) -> History:
    """Verify a mesh's root documents; statements are judged as they are taken.

    Proposals are left out.  Raises RejectedError.
    """
    known: dict[bytes, RootDocument] = {}
    found = History("", [], [])
    for data in documents:
        paper = read_paper(data)
        if not isinstance(paper, SignedRoot):
            found.statements.append(paper)
            continue
        mesh = found.mesh or paper.id.hex()
        document, before = root.precheck(paper, known, mesh)
        if not root.count_votes(paper, document, before).missing:
            known[paper.id] = document
            found = History(mesh, [*found.roots, (paper, document)], found.statements)
        elif not known:
            raise RejectedError("the first root document is not signed by its owner")
    if not found.roots:
        raise RejectedError("no root document")
    return found


def store_history(connection: sa.Connection, history: History) -> None:
    """Keep the verified documents of a mesh that are not known yet."""
    known = chain.read_documents(connection, history.mesh)
    for signed, document in history.roots:
        if signed.id not in known:
            chain.store_root(connection, history.mesh, signed, document.version)


def rejudge_changed(
    connection: sa.Connection, before: Authority, after: Authority, *, now: float
) -> list[Touched]:
    """Judge again whatever a new root document or statement may have changed."""
    tables = Tables(connection, after)
    changed = sorted(before.changed_authors(after))
    truncating.cut_chains(tables, changed, now=now)
    forks = standing.forks_of(connection)
    for part in chunks(changed):
        judging.rejudge(tables, (records.c.author.in_(part),), forks, now=now)
    judging.rejudge(tables, (records.c.status == HELD,), forks, now=now)
    _refold_homes(tables, before)
    return tables.finish()


def _refold_homes(tables: Tables, before: Authority) -> None:
    """Fold the files of repositories whose home now means other nodes."""
    query = sa.select(settings.c.key, settings.c.value).where(settings.c.kind == "repository")
    for key, value in tables.connection.execute(query).all():
        if projection.read_rules(value, before) != projection.read_rules(value, tables.authority):
            tables.refold(projection.files_of(tables.connection, key))


def move(
    connection: sa.Connection,
    signer: Identity,
    anchor: Anchor,
    after: Authority,
    *,
    now: float,
) -> tuple[Anchor, list[Touched]]:
    """Leave one mesh for another, taking this node's own content along."""
    if anchor.mesh == after.mesh:  # of two that asked at once the other one was first
        return anchor, []
    mine = (records.c.author == signer.node, records.c.incarnation == anchor.incarnation)
    which = (*mine, records.c.status == VALID, records.c.kind != AUTHORITY_KIND)
    ids = [bytes(row[0]) for row in connection.execute(sa.select(records.c.id).where(*which))]
    tables = Tables(connection, after)
    judging.rejudge(tables, (), standing.forks_of(connection), now=now)
    touched = tables.finish()
    fresh = Anchor(identity.new_incarnation(anchor.incarnation, now=now), after.mesh)
    chain.write_anchor(connection, signer.node, signer.key, fresh)
    bodies = _bodies(connection, signer.node, anchor.incarnation, only=set(ids))
    return fresh, touched + _rewrite(connection, signer, fresh, after, bodies, now=now)


def renew(
    connection: sa.Connection,
    signer: Identity,
    anchor: Anchor,
    authority: Authority,
    *,
    now: float,
) -> tuple[Anchor, list[Touched]]:
    """Begin a new incarnation; what a fork of the present one has quarantined is written again."""
    fresh = Anchor(identity.new_incarnation(anchor.incarnation, now=now), anchor.mesh)
    chain.write_anchor(connection, signer.node, signer.key, fresh)
    fork = chain.fork_of(connection, signer.node, anchor.incarnation)
    if fork is None:
        return fresh, []
    bodies = _bodies(connection, signer.node, anchor.incarnation, first=fork)
    return fresh, _rewrite(connection, signer, fresh, authority, bodies, now=now)


def _bodies(
    connection: sa.Connection,
    node: str,
    incarnation: int,
    *,
    first: int = 1,
    only: set[bytes] | None = None,
) -> Iterator[tuple[bytes, int, Body]]:
    """Own records to write again, in chain order: id, timestamp and what they say."""
    last = chain.end_of(connection, node, incarnation).seq
    for start in range(first, last + 1, FLUSH):
        query = (
            sa.select(records.c.id, records.c.hlc, records.c.body)
            .where(
                records.c.author == node,
                records.c.incarnation == incarnation,
                records.c.seq.between(start, min(start + FLUSH - 1, last)),
                records.c.body.is_not(None),
            )
            .order_by(records.c.seq)
        )
        for id_, moment, body in connection.execute(query).all():
            if only is None or bytes(id_) in only:
                yield bytes(id_), moment, read_body(bytes(body))


def _rewrite(
    connection: sa.Connection,
    signer: Identity,
    anchor: Anchor,
    authority: Authority,
    bodies: Iterator[tuple[bytes, int, Body]],
    *,
    now: float,
) -> list[Touched]:
    """Append facts again at their own times, naming new records where they named old ones."""
    appender = Appender(connection, signer, anchor, authority)
    tables = Tables(connection, authority)
    renamed: Renamed = {}
    cells: set[str] = set()
    count = 0

    def flush() -> None:
        appender.flush(projection.load_claims(connection, sorted(cells)), tables)
        cells.clear()

    for old, moment, body in bodies:
        facts = [rename(fact, renamed) for fact in body.facts]
        try:
            made = appender.add(facts, body.actor, after=moment - 1, now=hlc.seconds(moment))
        except (DeniedError, RejectedError):
            continue  # the new mesh gives no right to it: it stays in the old chain only
        renamed[old] = tuple(record.id for record in made)
        cells |= {cell for fact in facts for cell in fold.cell_keys(fact)}
        count += 1
        if count % FLUSH == 0:
            flush()
    flush()
    return tables.finish()


def rename(fact: Fact, renamed: Mapping[bytes, tuple[bytes, ...]]) -> Fact:
    """The same fact, naming the new records."""
    changes: dict[str, Any] = {}
    seen: tuple[bytes, ...] = getattr(fact, "seen", ())
    if seen:
        changes["seen"] = tuple(sorted({new for id_ in seen for new in renamed.get(id_, (id_,))}))
    if isinstance(fact, Confirm):
        changes["record"] = renamed.get(fact.record, (fact.record,))[0]
    replaced: Fact = msgspec.structs.replace(fact, **changes) if changes else fact
    return replaced
