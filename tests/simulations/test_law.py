"""The law sees what papers give, and which of them nobody had a right to make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from simulations.law import Document, Law, Line, Unlawful
from store import canonical, root
from store.drafts import Desk
from store.root import Delegation
from tests.store.ledgers import Node, clone, deliver, identity, mesh, publish

PUBLISH, SETTING = (1, "", ""), (8, "user", "x")


async def law_of(node: Node) -> Law:
    papers = await node.ledger.roots()
    documents = [data for data in papers if data[1] == 5]
    return Law(node.ledger.mesh, documents, [data for data in papers if data[1] != 5])


def line(node: Node, seq: int, law: Law, *facts: tuple[int, str, str], scope: str = "") -> Line:
    life = node.ledger.incarnation
    return Line(node.ledger.node, life, seq, law.version, scope, facts or (PUBLISH,))


async def test_members_may_what_their_entry_says() -> None:
    one, two = await mesh(2, roles=("writer",))
    await one.ledger.council.propose(lambda desk: desk.change(two.ledger.node, scopes=("gen*",)))
    law = await law_of(one)
    assert law.allows(line(two, 1, law, scope="generic"))
    assert not law.allows(line(two, 1, law, scope="private"))
    assert not law.allows(line(two, 1, law, SETTING))
    assert law.allows(line(one, 1, law, SETTING))
    assert not law.allows(line(one, 1, law)._replace(version=99))


async def test_an_eviction_keeps_what_was_known_and_nothing_later() -> None:
    one, two = await mesh(2)
    await two.append(publish("before"))
    for batch in await two.batches():
        await one.ledger.apply([batch])
    await one.ledger.council.propose(lambda desk: desk.evict(two.ledger.node))
    law = await law_of(one)
    assert law.evicted == {two.ledger.node}
    assert law.allows(line(two, 1, law, scope="generic")._replace(version=2))
    assert not law.allows(line(two, 2, law, scope="generic")._replace(version=2))


async def test_a_key_ends_where_its_rotation_says() -> None:
    one, _ = await mesh(2)
    await one.append(publish("before"))
    old = one.ledger.identity.key
    await one.ledger.council.rotate(b"\7" * 32)
    law, new = await law_of(one), one.ledger.identity.key
    who = (one.ledger.node, one.ledger.incarnation)
    assert law.signs(*who, 1, old)
    assert not law.signs(*who, 2, old)
    assert law.signs(*who, 2, new)
    assert not law.signs(*who, 1, new)


async def test_a_delegate_gives_no_more_than_it_was_given() -> None:
    one, two = await mesh(2)
    terms = Delegation(two.ledger.node, ("writer",), ("gen*",), ("*",), 1 << 60, 1)
    await one.ledger.council.propose(lambda desk: desk.delegate(terms))
    for paper in await one.ledger.roots():
        await two.ledger.adopt(paper)
    guests = [identity(20), identity(21)]
    await two.ledger.council.admit(root.member_of(guests[0], scopes=("generic",), joined=1.0))
    law = await law_of(two)
    named = {entry.node: entry for entry in law.everybody()}
    assert named[guests[0].node].scopes == ("generic",)
    assert guests[1].node not in named


def signed(document: root.RootDocument, *owners: Any) -> bytes:
    paper = root.sign(document, owners[0])
    for owner in owners[1:]:
        paper = root.countersign(paper, owner)
    return root.encode_root(paper)


async def wrong(node: Node, document: root.RootDocument, *owners: Any) -> str:
    """What the law says of one more document."""
    papers = [data for data in await node.ledger.roots() if data[1] == 5]
    with pytest.raises(Unlawful) as caught:
        Law(node.ledger.mesh, [*papers, signed(document, *(owners or [node.identity]))], ())
    return str(caught.value)


async def test_documents_that_nobody_had_a_right_to_make_are_found() -> None:
    one, two, three = await mesh(3)
    council, keys = one.ledger.council, [each.identity.key for each in (one, two, three)]
    await council.propose(lambda desk: desk.evict(three.ledger.node))
    authority = one.ledger.authority
    desk = Desk(authority, {}, one.clock(), {})
    replace = msgspec.structs.replace
    usual = desk.change(two.ledger.node, name="other")
    assert "without its quorum" in await wrong(one, usual, two.identity)
    assert "forgets" in await wrong(one, replace(usual, evicted=()))
    fewer = tuple(member for member in usual.members if member.node != two.ledger.node)
    assert "in silence" in await wrong(one, replace(usual, members=fewer))
    back = (*usual.members, root.member_of(three.identity))
    assert "lists who was evicted" in await wrong(one, replace(usual, members=back))
    assert "unknown" in await wrong(one, replace(usual, previous=(bytes(32),)))
    await council.propose(lambda desk: desk.govern(keys[:2], 2))
    both = Desk(one.ledger.authority, {}, one.clock(), {}).change(two.ledger.node, name="other")
    assert "without its quorum" in await wrong(one, both)
    papers: Sequence[bytes] = [d for d in await one.ledger.roots() if d[1] == 5]
    law = Law(one.ledger.mesh, [*papers, signed(both, one.identity, two.identity)], ())
    assert law.version == both.version


async def test_forged_statements_and_another_mesh_are_found() -> None:
    one, _ = await mesh(2)
    papers = await one.ledger.roots()
    with pytest.raises(Unlawful, match="not this mesh"):
        Law("00" * 32, papers, ())
    made = await one.ledger.council.rotate(b"\7" * 32)
    forged = msgspec.structs.replace(made, by_old=bytes(64))
    with pytest.raises(Unlawful, match="did not sign"):
        Law(one.ledger.mesh, papers, [canonical.encode(forged)])


async def test_a_document_is_read_as_it_was_written() -> None:
    one, two = await mesh(2)
    found = [Document(data) for data in await one.ledger.roots()]
    assert [each.version for each in found] == [1, 2]
    assert set(found[1].members) == {one.ledger.node, two.ledger.node}
    assert found[1].id in one.ledger.authority.documents


async def test_only_keys_that_led_to_the_present_one_close_a_past() -> None:
    owner, other = await mesh(2)
    await other.append(publish("before"))
    node, life = other.ledger.node, other.ledger.incarnation
    assert (await law_of(owner)).closed(node) == {}
    await other.ledger.council.rotate(b"\7" * 32)
    for paper in await other.ledger.roots():
        await owner.ledger.adopt(paper)
    assert (await law_of(owner)).closed(node) == {life: 1}
    law = await law_of(owner)
    stranger = law.rotations.pop((node, other.identity.key))
    law.rotations[node, b"x" * 32] = stranger
    law._past = {each.id: law._pasts(each) for each in law.in_force}
    law._entries = {each.id: law._members(each) for each in law.in_force}
    assert law.closed(node) == {}


@pytest.mark.parametrize("out", [True, False])
async def test_a_key_ends_where_it_says_whatever_owners_pinned_who_do_not_evict(
    *, out: bool
) -> None:
    owner, other = await mesh(2)
    await other.append(publish("before"))
    thief = await clone(other)
    await thief.append(publish("stolen"))
    await deliver(thief, owner)
    await other.ledger.council.rotate(b"\7" * 32)
    node, life, old = other.ledger.node, other.ledger.incarnation, other.identity.key
    await owner.ledger.council.propose(
        lambda desk: desk.evict(node) if out else desk.change(node, roles=("mirror",))
    )
    before = await law_of(owner)
    assert before.signs(node, life, 2, old)
    assert before.checkpointed(node, life, 2, old) is out
    for paper in await other.ledger.roots():
        await owner.ledger.adopt(paper)
    law = await law_of(owner)
    assert law.rotations
    assert law.signs(node, life, 1, old)
    assert law.signs(node, life, 2, old) is out
    assert law.checkpointed(node, life, 2, old) is out
    assert not law.checkpointed(node, life, 3, old)
    assert law.allows(line(other, 1, law, scope="generic")._replace(version=2))
    assert law.allows(line(other, 2, law, scope="generic")._replace(version=2)) is out
