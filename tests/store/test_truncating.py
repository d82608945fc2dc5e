"""Ends of chains that nobody vouches for any more, measured by what is stored."""

from __future__ import annotations

from store import truncating
from tests.store.ledgers import deliver, mesh, publish


async def test_a_chain_stands_as_far_as_its_present_key_or_a_pin_vouches_for_it() -> None:
    owner, other = await mesh(2)
    for name in "abc":
        await other.append(publish(name))
    await deliver(other, owner)
    node, life = other.ledger.node, other.ledger.incarnation

    def reach() -> int:
        with owner.port.engine.begin() as connection:
            authority = owner.ledger.authority
            return truncating.vouched(connection, authority, node, life, 3)

    assert reach() == 3
    await other.ledger.council.rotate()
    await deliver(other, owner)
    assert reach() == 3  # the rotation ends the chain there
    await owner.ledger.council.propose(lambda desk: desk.evict(node))
    assert reach() == 3


async def test_a_key_that_never_vouched_for_anything_leaves_nothing() -> None:
    owner, other = await mesh(2)
    await other.append(publish("a"))
    await deliver(other, owner)
    fresh = other.identity.rotate()
    node = other.ledger.node
    heads = {key: reach for key, reach in (await owner.ledger.heads()).items() if key[0] != node}
    await owner.ledger.council.propose(
        lambda desk: type(desk)(desk.authority, heads, desk.now, {}).change(node, key=fresh.key)
    )
    assert owner.rows("files") == []
    assert [key for key in await owner.ledger.heads() if key[0] == node] == []
