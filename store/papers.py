"""Take root documents, proposals and statements into the database, inside a transaction.

What is kept is a function of the set of papers that came, not of their order: of rival rotations of
one key the two smallest, of admissions with one number the smallest, of a proposal the union of its
owners' signatures.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import sqlalchemy as sa

from store import canonical, chain, identity, rebase, root
from store.authority import Authority
from store.chain import ADMISSION, PROPOSAL, ROTATION, Anchor
from store.errors import RejectedError
from store.projection import Touched
from store.root import SignedRoot
from store.statements import (
    RIVALS_MAX,
    Admission,
    Rotation,
    Statement,
    check_admission,
    check_rotation,
    paper_id,
)

PROPOSALS_MAX = 100  # kept at a time
ROTATIONS_MAX = 1000  # of one node
State = Callable[[sa.Connection], tuple[Anchor, Authority]]


def take(
    connection: sa.Connection,
    before: Authority,
    paper: SignedRoot | Statement,
    state: State,
    *,
    now: float,
) -> list[Touched] | None:
    """Take one paper; the cells it changed, None if it was not news.  Raises RejectedError."""
    if isinstance(paper, SignedRoot):
        news = _take_root(connection, before, paper, now)
    elif isinstance(paper, Rotation):
        news = _take_rotation(connection, before, paper, now)
    else:
        news = _take_admission(connection, before, paper, now)
    if not news:
        return None
    after = state(connection)[1]
    return rebase.rejudge_changed(connection, before, after, now=now)


def take_all(
    connection: sa.Connection,
    history: rebase.History,
    load: Callable[[sa.Connection, str], Authority],
    *,
    now: float,
) -> None:
    """Keep the statements of a mesh that this node is about to join; the wrong ones are left."""
    for statement in history.statements:
        before = load(connection, history.mesh)
        with contextlib.suppress(RejectedError):
            if isinstance(statement, Rotation):
                _take_rotation(connection, before, statement, now)
            else:
                _take_admission(connection, before, statement, now)


def _take_root(
    connection: sa.Connection, before: Authority, signed: SignedRoot, now: float
) -> bool:
    if signed.id in before.documents:
        return False
    mesh = before.mesh
    known = chain.read_proposals(connection, mesh).get(signed.id)
    if known is not None:
        signed = SignedRoot(signed.document, (*known.signatures, *signed.signatures))
    document, replaced = root.precheck(signed, before.documents, mesh)
    votes = root.count_votes(signed, document, replaced)
    signed = _only_owners(signed, votes.signed)
    if not votes.missing:
        chain.store_root(connection, mesh, signed, document.version)
        _drop_outdated(connection, mesh)
        return True
    if not votes.signed:
        raise RejectedError(f"signed by fewer than {votes.missing} of its owners")
    if set(document.previous) != set(before.in_force) or signed == known:
        return False  # out of date, or nothing new
    return _keep_proposal(connection, mesh, signed, known, now)


def _only_owners(signed: SignedRoot, owners: frozenset[bytes]) -> SignedRoot:
    """The owners' signatures, in one order."""
    message = canonical.encode([root.CONTEXT, signed.document])
    right = {
        key: value
        for key, value in sorted(signed.signatures, reverse=True)
        if key in owners and identity.verify(key, message, value)
    }
    return SignedRoot(signed.document, tuple(sorted(right.items())))


def _keep_proposal(
    connection: sa.Connection, mesh: str, signed: SignedRoot, known: SignedRoot | None, now: float
) -> bool:
    if known is not None:
        drop_proposal(connection, mesh, signed.id)
    elif len(chain.read_proposals(connection, mesh)) >= PROPOSALS_MAX:
        raise RejectedError(f"{PROPOSALS_MAX} proposals wait already")
    data = root.encode_root(signed)
    chain.store_paper(connection, mesh, PROPOSAL, signed.id.hex(), data, now=now)
    return True


def drop_proposal(connection: sa.Connection, mesh: str, id_: bytes) -> None:
    """Forget a proposal."""
    found = chain.read_proposals(connection, mesh).get(id_)
    if found is not None:
        chain.drop_papers(connection, mesh, [paper_id(root.encode_root(found))])


def _drop_outdated(connection: sa.Connection, mesh: str) -> None:
    """Forget the proposals that can no longer be the next document, and those that are."""
    documents = chain.read_documents(connection, mesh)
    replaced = {id_ for document in documents.values() for id_ in document.previous}
    in_force = documents.keys() - replaced
    for id_, signed in chain.read_proposals(connection, mesh).items():
        if set(root.read_document(signed.document).previous) != in_force:
            drop_proposal(connection, mesh, id_)


def _take_rotation(
    connection: sa.Connection, before: Authority, rotation: Rotation, now: float
) -> bool:
    check_rotation(rotation, before.mesh)
    if not before.knows_key(rotation.node, rotation.old):
        raise RejectedError("a rotation of a key that is not known here")
    made = before.statements.rotation_to(rotation.node, rotation.old)
    if made is not None and rotation.at <= made.at:
        raise RejectedError("a rotation that is older than the key it gives up")
    known = before.statements.rotations.get((rotation.node, rotation.old), ())
    if sum(key[0] == rotation.node for key in before.statements.rotations) >= ROTATIONS_MAX:
        raise RejectedError(f"more than {ROTATIONS_MAX} rotations of one node")
    rivals = sorted({*known, rotation}, key=lambda each: paper_id(canonical.encode(each)))
    return _keep(connection, before.mesh, ROTATION, rotation.node, known, rivals[:RIVALS_MAX], now)


def _take_admission(
    connection: sa.Connection, before: Authority, admission: Admission, now: float
) -> bool:
    check_admission(admission, before.mesh)
    if not before.knows_key(admission.by, admission.key):
        raise RejectedError("an admission by a key that is not known here")
    limits = [
        delegation.limit
        for document in before.documents.values()
        for delegation in document.delegations
        if delegation.node == admission.by
    ]
    if not 1 <= admission.number <= max(limits, default=0):
        raise RejectedError("an admission that no owner has delegated")
    place = (admission.number, admission.key)
    given = before.statements.admissions.get(admission.by, ())
    known = tuple(each for each in given if (each.number, each.key) == place)
    rivals = sorted({*known, admission}, key=lambda each: paper_id(canonical.encode(each)))
    return _keep(connection, before.mesh, ADMISSION, admission.by, known, rivals[:1], now)


def _keep(
    connection: sa.Connection,
    mesh: str,
    kind: str,
    about: str,
    known: tuple[Statement, ...],
    kept: list[Statement] | list[Rotation] | list[Admission],
    now: float,
) -> bool:
    """Bring what is stored in line with what is to be kept; whether that changed anything."""
    stored = {paper_id(canonical.encode(each)) for each in known}
    wanted = {paper_id(data): data for data in map(canonical.encode, kept)}
    chain.drop_papers(connection, mesh, stored - wanted.keys())
    for id_ in wanted.keys() - stored:
        chain.store_paper(connection, mesh, kind, about, wanted[id_], now=now)
    return wanted.keys() != stored
