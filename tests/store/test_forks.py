"""Proofs of a fork: both branches signed, parting at one place."""

from __future__ import annotations

import msgspec
import pytest

from store import canonical, forks, root
from store.authority import Authority
from store.errors import RejectedError
from store.records import Batch, Record, build, head_holds, read_records, sign_head
from store.root import read_document
from tests.store.ledgers import NOW, identity
from tests.store.test_records import record

ME = identity(1)
FOUNDING = root.genesis(ME, now=NOW)
AUTHORITY = Authority(FOUNDING.id.hex(), {FOUNDING.id: read_document(FOUNDING.document)})


def batch(*found: Record) -> Batch:
    return Batch(tuple((r.header_bytes, r.body) for r in found), sign_head(found[-1], ME))


def twin(of: Record, hlc: int = 1) -> Record:
    return build(msgspec.structs.replace(of.header, hlc=of.header.hlc + hlc), of.body or b"")


FIRST = record()
SECOND = record(2, FIRST.id, "b")
THIRD = record(3, SECOND.id, "c")
OTHER = twin(SECOND)


def proof(*branches: Batch) -> bytes:
    return canonical.encode(list(branches))


def test_two_signed_branches_prove_it() -> None:
    longer = forks.branch_from(batch(FIRST, SECOND, THIRD), 2)
    assert [r.header.seq for r in read_records(longer)] == [2, 3]
    assert all(body is None for _, body in longer.records)
    assert head_holds(longer.head)
    found = forks.read_proof(proof(longer, batch(OTHER)), AUTHORITY)
    assert found == (ME.node, FIRST.header.incarnation, 2)


@pytest.mark.parametrize(
    ("branches", "reason"),
    [
        ((batch(SECOND),), "two branches"),
        ((batch(SECOND), batch(SECOND)), "do not part"),
        ((batch(SECOND), batch(THIRD)), "do not part"),
        ((batch(SECOND), batch(OTHER), batch(OTHER)), "two branches"),
        (
            (batch(THIRD), batch(build(msgspec.structs.replace(THIRD.header, prev=OTHER.id), b""))),
            "body",
        ),
    ],
)
def test_anything_else_does_not(branches: tuple[Batch, ...], reason: str) -> None:
    with pytest.raises(RejectedError, match=reason):
        forks.read_proof(proof(*branches), AUTHORITY)


def test_strangers_and_forgers_prove_nothing() -> None:
    forged = msgspec.structs.replace(batch(OTHER), head=sign_head(OTHER, identity(2)))
    with pytest.raises(RejectedError, match="not its author's"):
        forks.read_proof(proof(batch(SECOND), forged), AUTHORITY)
    unsigned = msgspec.structs.replace(
        forged, head=msgspec.structs.replace(forged.head, key=ME.key)
    )
    with pytest.raises(RejectedError, match="forged"):
        forks.read_proof(proof(batch(SECOND), unsigned), AUTHORITY)
    with pytest.raises(RejectedError, match="too large"):
        forks.read_proof(bytes(forks.PROOF_MAX + 1), AUTHORITY)
