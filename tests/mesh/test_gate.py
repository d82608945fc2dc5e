"""Who is let in, and what the evicted hear."""

from __future__ import annotations

from typing import Any

import msgspec

from mesh import gate
from mesh.messages import BULK, CONTROL, PROTOCOL, Hello
from store import root
from tests.store.ledgers import identity, mesh


def hello(ledger: Any, who: Any, channel: int = CONTROL, key: bytes = b"") -> Hello:
    said = bytes.fromhex(ledger.mesh), bytes.fromhex(who.node), 1, key or who.key, channel
    return Hello(PROTOCOL, *said, "", (), 0, 0, bytes(64))


async def test_members_come_in_and_others_do_not() -> None:
    one, two = await mesh(2)
    porter, authority = gate.Porter(), one.ledger.authority
    refusal = porter.refusal(authority, one.ledger.mesh, hello(one.ledger, two.identity), 0.0)
    assert refusal == ""
    stranger = hello(one.ledger, identity(9))
    assert "not a member" in porter.refusal(authority, one.ledger.mesh, stranger, 0.0)
    assert "another mesh" in porter.refusal(authority, "00" * 32, stranger, 0.0)
    wrong = hello(one.ledger, two.identity, key=identity(9).key)
    assert "current one" in porter.refusal(authority, one.ledger.mesh, wrong, 0.0)


async def test_the_evicted_are_let_in_once_a_minute_by_a_key_that_was_theirs() -> None:
    one, two = await mesh(2)
    await one.ledger.council.propose(lambda desk: desk.evict(two.ledger.node, "lost"))
    porter, authority, name = gate.Porter(), one.ledger.authority, one.ledger.mesh
    forged = hello(one.ledger, two.identity, key=identity(9).key)
    assert "evicted" in porter.refusal(authority, name, forged, 0.0)
    bulk = hello(one.ledger, two.identity, BULK)
    assert "evicted" in porter.refusal(authority, name, bulk, 0.0)
    assert porter.refusal(authority, name, hello(one.ledger, two.identity), 0.0) == ""
    assert "lost" in porter.refusal(authority, name, hello(one.ledger, two.identity), 59.0)
    assert porter.refusal(authority, name, hello(one.ledger, two.identity), 61.0) == ""


async def test_an_evicted_node_is_known_by_the_key_that_it_took_meanwhile() -> None:
    one, two = await mesh(2)
    await one.ledger.council.propose(lambda desk: desk.evict(two.ledger.node))
    await two.ledger.council.rotate(b"\7" * 32)
    porter, authority, name = gate.Porter(), one.ledger.authority, one.ledger.mesh
    said = hello(one.ledger, two.identity, key=two.ledger.identity.key)
    assert "evicted" in porter.refusal(authority, name, said, 0.0)
    shown = two.ledger.authority.succession(two.ledger.node)
    proven = msgspec.structs.replace(said, succession=shown)
    assert porter.refusal(authority, name, proven, 0.0) == ""
    stolen = msgspec.structs.replace(proven, key=identity(9).key)
    assert "evicted" in porter.refusal(authority, name, stolen, 100.0)


async def test_news_name_no_ledger_and_are_for_the_evicted_alone() -> None:
    one, two, three = await mesh(3)
    await one.ledger.council.propose(lambda desk: desk.evict(two.ledger.node))
    said = gate.news(one.ledger.authority, bytes.fromhex(two.ledger.node))
    assert said is not None
    assert said.heads == ()
    assert gate.news(one.ledger.authority, bytes.fromhex(three.ledger.node)) is None


async def test_the_farewell_ends_with_the_document_that_evicts() -> None:
    one, two, three = await mesh(3)
    council = one.ledger.council
    await council.propose(lambda desk: desk.evict(two.ledger.node))
    await council.propose(lambda desk: desk.change(three.ledger.node, name="later"))
    await three.ledger.council.rotate(b"\7" * 32)
    papers = await one.ledger.roots(0)
    told = list(gate.farewell(papers, bytes.fromhex(two.ledger.node)))
    assert told == papers[: len(told)]
    last = root.read_document(root.read_signed(told[-1]).document)
    assert (last.version, [each.node for each in last.evicted]) == (3, [two.ledger.node])
    assert len(told) == len(papers) - 1
    for data in told:
        await two.ledger.adopt(data)
    assert two.ledger.node in two.ledger.authority.evicted()
