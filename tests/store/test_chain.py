"""Chains as the tables hold them: ends, anchors, heads, ranges."""

from __future__ import annotations

from store import chain, revising, root
from store.chain import Anchor
from tests.store.ledgers import NOW, Node, identity, publish, single


async def test_an_empty_chain_ends_at_its_start() -> None:
    node = await single()
    end = await node.port.read(lambda c: chain.end_of(c, node.ledger.node, 1))
    assert end == chain.START
    assert await node.port.read(lambda c: chain.read_range(c, node.ledger.node, 1, 1)) is None
    assert await node.port.read(chain.read_heads) == {}


async def test_the_newest_anchor_counts_and_is_no_head() -> None:
    node = await single()
    newer = Anchor(node.ledger.incarnation + 1, "ab" * 32)
    await node.port.write(lambda c: chain.write_anchor(c, node.ledger.node, bytes(32), newer))
    assert await node.port.read(lambda c: chain.read_anchor(c, node.ledger.node)) == newer
    assert await node.port.read(lambda c: chain.read_anchor(c, "nobody")) is None
    assert await node.port.read(chain.read_heads) == {}


async def filled(count: int = 10) -> Node:
    node = await single()
    for number in range(count):
        await node.append(publish(f"f{number}"))
    return node


async def test_ranges_end_on_the_last_head_that_fits() -> None:
    node = await filled()
    key = (node.ledger.node, node.ledger.incarnation)

    async def seqs(first: int, max_bytes: int) -> tuple[int, int]:
        batch = await node.ledger.range(*key, first, max_bytes)
        assert batch is not None
        return len(batch.records), batch.head.seq

    assert await seqs(1, 1) == (1, 1)  # never nothing
    size = len(b"".join((await node.chain(*key))[0].records[0]))  # type: ignore[arg-type]  # no body is withheld
    assert await seqs(3, 4 * (size + 16)) == (4, 6)
    assert await seqs(1, 1 << 20) == (10, 10)
    assert await node.ledger.range(*key, 11) is None


async def test_authorities_are_built_again_only_when_documents_come() -> None:
    node = await single()
    authorities, mesh = chain.Authorities(), node.ledger.mesh
    first = await node.port.read(lambda c: authorities.load(c, mesh))
    assert await node.port.read(lambda c: authorities.load(c, mesh)) is first
    draft = revising.revise(
        mesh, first.in_force, members=first.members().values(), heads={}, now=NOW
    )
    await node.ledger.adopt(root.sign(draft, identity(1)))
    second = await node.port.read(lambda c: authorities.load(c, mesh))
    assert (first.version, second.version) == (1, 2)
    assert len(await node.ledger.roots()) == 2
    assert len(await node.ledger.roots(2)) == 1
