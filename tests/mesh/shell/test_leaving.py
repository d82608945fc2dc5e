"""The evicted are told: by the link that they have, or when they come back."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from store.errors import DeniedError
from store.facts import File, Publish
from tests.mesh.nodes import Fleet, Node, until

FILE = File("late", "file", "sha256:" + "0" * 64, 1)


async def knows(node: Node) -> bool:
    return node.identity.node in node.ledger.authority.evicted()


async def linked(a: Node, b: Node) -> bool:
    return b.id in a.mesh._links.control and a.id in b.mesh._links.control


async def test_who_is_linked_hears_of_its_eviction_and_takes_no_more_work(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        await b.mesh.join(await a.mesh.invite(site="s"))
        await until(lambda: linked(a, b))
        await a.ledger.council.propose(lambda desk: desk.evict(b.identity.node, "sold"))
        await until(lambda: knows(b))
        assert b.ledger.authority.evicted()[b.identity.node].reason == "sold"
        assert b.id not in a.mesh._links.control
        with pytest.raises(DeniedError):
            await b.ledger.append([Publish("generic", "p", "1", (FILE,))], actor="user")

        async def alone() -> bool:
            return not b.mesh._links.control and not b.mesh._links.dialling.dials

        await until(alone)


async def test_who_was_away_hears_of_it_when_it_comes_back_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        await b.mesh.join(await a.mesh.invite(site="s"))
        await until(lambda: linked(a, b))
        porter = a.mesh._board._porter
        porter._told[b.id] = trio.current_time()  # as if it had been here already
        monkeypatch.setattr(a.mesh.joining, "greet", lambda connection: False)  # it is cut off
        await a.ledger.council.propose(lambda desk: desk.evict(b.identity.node, "sold"))
        heads = await b.ledger.heads()
        await a.ledger.append([Publish("generic", "p", "1", (FILE,))], actor="user")

        async def cut_off() -> bool:
            return b.id not in a.mesh._links.control

        await until(cut_off)
        monkeypatch.undo()
        assert not await knows(b)
        porter._told.clear()
        await until(lambda: knows(b))
        assert await b.ledger.heads() == heads
        assert b.id not in a.mesh._links.control


async def test_who_is_out_before_our_dial_is_through_is_not_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        await b.mesh.join(await a.mesh.invite(site="s"))
        await until(lambda: linked(a, b))
        connection = a.mesh._links.control[b.id]
        connection.dialled = True
        assert not a.mesh.joining.greet(connection)
        monkeypatch.setattr(type(a.ledger.authority), "is_member", lambda self, node: False)
        assert a.mesh.joining.greet(connection)
        assert connection.link.closed
