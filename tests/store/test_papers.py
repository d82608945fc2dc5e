"""What is kept of papers follows from which came, not from when."""

from __future__ import annotations

import itertools

import pytest

from store import canonical, papers, root, statements
from store.errors import RejectedError
from store.identity import Identity
from store.root import Member
from store.statements import Rotation
from tests.store.ledgers import Node, clone, mesh, single


def rotations(node: Node, count: int) -> list[Rotation]:
    return [
        statements.rotate(
            node.ledger.mesh,
            node.identity,
            node.identity.rotate(bytes([number]) * 32),
            (),
            now=node.clock() + number,
        )
        for number in range(1, count + 1)
    ]


async def test_two_of_many_rival_rotations_are_kept_the_same_everywhere() -> None:
    kept = set()
    (first,) = await mesh(1)
    made = rotations(first, 3)
    for order in itertools.permutations(range(3)):
        owner = await clone(first)
        for number in order:
            await owner.ledger.adopt(canonical.encode(made[number]))
        assert owner.ledger.authority.current_key(owner.ledger.node) is None
        kept.add(owner.ledger.authority.digest)
        assert len([*owner.ledger.authority.statements]) == 2
    assert len(kept) == 1


async def test_rotations_of_strangers_and_out_of_order_are_refused() -> None:
    (owner,) = await mesh(1)
    stranger = await single(9, owner.clock)
    made = statements.rotate(
        owner.ledger.mesh, stranger.identity, stranger.identity.rotate(), (), now=1.0
    )
    with pytest.raises(RejectedError, match="not known here"):
        await owner.ledger.adopt(canonical.encode(made))
    (first,) = rotations(owner, 1)
    await owner.ledger.adopt(canonical.encode(first))
    assert not await owner.ledger.adopt(canonical.encode(first))
    following = owner.identity.rotate(bytes([1]) * 32)
    early = statements.rotate(owner.ledger.mesh, following, following.rotate(), (), now=1.0)
    with pytest.raises(RejectedError, match="older than the key"):
        await owner.ledger.adopt(canonical.encode(early))


async def test_what_nobody_delegated_is_not_even_kept() -> None:
    owner, other = await mesh(2)
    guest = (await single(9, owner.clock)).identity
    made = statements.admit(owner.ledger.mesh, other.identity, 1, _member(guest))
    with pytest.raises(RejectedError, match="no owner has delegated"):
        await owner.ledger.adopt(canonical.encode(made))
    unknown = statements.admit(owner.ledger.mesh, guest, 1, _member(guest))
    with pytest.raises(RejectedError, match="not known here"):
        await owner.ledger.adopt(canonical.encode(unknown))


def _member(who: Identity) -> Member:
    return root.member_of(who)


async def test_proposals_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = await mesh(2)
    keys = [a.identity.key, b.identity.key]
    await a.ledger.council.propose(lambda desk: desk.govern(keys, 2))
    monkeypatch.setattr(papers, "PROPOSALS_MAX", 1)
    await a.ledger.council.propose(lambda desk: desk.reserve([]))
    a.clock.now += 1
    with pytest.raises(RejectedError, match="wait already"):
        await a.ledger.council.propose(lambda desk: desk.reserve([]), rival=True)
