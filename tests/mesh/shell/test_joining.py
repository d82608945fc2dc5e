"""Invitations under attack: reuse, races, crashes, eviction, false clocks and documents."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from mesh import invitation
from store.errors import DeniedError, NotFoundError, PendingError, RejectedError, StoreFullError
from store.root import Delegation
from tests.mesh.nodes import Fleet, Node, until


async def members(node: Node) -> set[str]:
    return set(node.ledger.authority.members())


async def test_two_joiners_with_one_invitation_one_gets_in(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b, c = [await fleet.node(name) for name in "abc"]
        text = await a.mesh.invite(site="s")
        refused = []

        async def race(node: Node) -> None:
            try:
                await node.mesh.join(text)
            except RejectedError:
                refused.append(node)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(race, b)
            nursery.start_soon(race, c)
        assert len(refused) == 1
        assert len(await members(a)) == 2
        assert refused[0].identity.node not in await members(a)


async def test_a_node_that_asks_twice_at_once_moves_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        text, moved = await a.mesh.invite(site="s"), list[tuple[str, int]]()
        gate, fetch = trio.Event(), b.mesh.joining._fetch_documents
        fetched = 0

        async def together(*args: Any) -> list[bytes]:
            nonlocal fetched
            documents = await fetch(*args)
            fetched += 1
            if fetched == 2:
                gate.set()
            await gate.wait()
            return documents

        async def join() -> None:
            await b.mesh.joining.join(text)
            moved.append((b.ledger.mesh, b.ledger.incarnation))

        monkeypatch.setattr(b.mesh.joining, "_fetch_documents", together)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(join)
            nursery.start_soon(join)
        assert moved == [(a.ledger.mesh, b.ledger.incarnation)] * 2


async def test_a_joiner_that_never_heard_the_answer_may_ask_again(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b, c = [await fleet.node(name) for name in "abc"]
        text = await a.mesh.invite(site="s")
        found = invitation.read(text)
        granted = a.mesh._book.use(found.id, b.identity.key, time.time())
        await a.mesh.joining._admit(b.identity.key, granted)  # and the link is cut
        with pytest.raises(RejectedError, match="used"):
            await c.mesh.join(text)
        await b.mesh.join(text)
        assert b.ledger.mesh == a.ledger.mesh
        assert len(await members(a)) == 2


async def test_a_crash_before_signing_leaves_the_invitation_to_its_first_bearer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b, c = [await fleet.node(name) for name in "abc"]
        text = await a.mesh.invite(site="s")

        async def crash(*_: object) -> None:
            raise KeyboardInterrupt

        joined = a.mesh.joining
        sign_in = joined._sign_in
        monkeypatch.setattr(joined, "_sign_in", crash)
        granted = a.mesh._book.use(invitation.read(text).id, b.identity.key, time.time())
        with pytest.raises(KeyboardInterrupt):
            await joined._admit(b.identity.key, granted)
        monkeypatch.setattr(joined, "_sign_in", sign_in)
        a.mesh._book.granted.clear()
        await a.mesh._memory.load()  # what a new process would know
        with pytest.raises(RejectedError, match="used"):
            await c.mesh.join(text)
        await b.mesh.join(text)


async def test_who_was_evicted_does_not_come_back_by_its_old_invitation(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        text = await a.mesh.invite(site="s")
        found = invitation.read(text)
        granted = a.mesh._book.use(found.id, b.identity.key, time.time())
        await a.mesh.joining._admit(b.identity.key, granted)
        await a.ledger.council.propose(lambda desk: desk.evict(b.identity.node, "gone"))
        with pytest.raises(RejectedError, match="no member any more"):
            await b.mesh.join(text)
        assert await members(a) == {a.identity.node}


async def test_a_joiner_gets_what_was_granted_whatever_it_says_of_itself(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        text = await a.mesh.invite(site="", roles=("mirror",), scopes=("public-*",))
        widened = msgspec.structs.replace(invitation.read(text), site="headquarters")
        await b.mesh.join(invitation.write(widened))
        member = a.ledger.authority.members()[b.identity.node]
        assert (member.site, tuple(member.roles), tuple(member.scopes)) == (
            "",
            ("mirror",),
            ("public-*",),
        )


async def test_the_inviters_clock_decides_when_an_invitation_expires(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b, c = [await fleet.node(name) for name in "abc"]
        text = await a.mesh.invite(site="s", expires_in=100.0)
        found = invitation.read(text)
        soon = msgspec.structs.replace(found, expires=int(time.time()) - 60)
        await b.mesh.join(invitation.write(soon))  # b's clock is a minute ahead, say
        late = await a.mesh.invite(site="s", expires_in=-1.0)
        with pytest.raises(RejectedError, match="expired"):
            await c.mesh.join(late)


async def test_documents_of_another_mesh_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        found = invitation.read(await a.mesh.invite(site="s"))
        other = await b.ledger.roots(0)

        async def swapped(*_: object) -> list[bytes]:
            return other

        monkeypatch.setattr(b.mesh.joining, "_fetch_documents", swapped)
        before = b.ledger.mesh
        with pytest.raises(RejectedError, match="another mesh"):
            await b.mesh.join(invitation.write(found))
        assert b.ledger.mesh == before


async def test_an_inviter_that_cannot_remember_keeps_the_invitation_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        text = await a.mesh.invite(site="s")

        async def full() -> None:
            raise StoreFullError("no space")

        save = a.mesh._memory.save
        monkeypatch.setattr(a.mesh._memory, "save", full)
        with pytest.raises(RejectedError, match="no space"):
            await b.mesh.join(text)
        monkeypatch.setattr(a.mesh._memory, "save", save)
        assert await members(a) == {a.identity.node}
        await b.mesh.join(text)


async def owned_by(fleet: Fleet, count: int, owners: int, threshold: int) -> list[Node]:
    """Nodes of one mesh, linked, the first of them its owners."""
    nodes = [await fleet.node(name) for name in "abcdef"[:count]]
    for node in nodes[1:]:
        await node.mesh.join(await nodes[0].mesh.invite(site="s"))
    keys = [node.identity.key for node in nodes[:owners]]
    await nodes[0].ledger.council.propose(lambda desk: desk.govern(keys, threshold))
    await agree(nodes)
    return nodes


async def agree(nodes: list[Node]) -> None:
    async def same() -> bool:
        return len({node.ledger.authority.digest for node in nodes}) == 1

    await until(same)


async def test_a_joiner_of_a_mesh_with_several_owners_waits_for_their_signatures(
    tmp_path: Path,
) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = await owned_by(fleet, 2, 2, 2)
        joiner, thief = await fleet.node("j"), await fleet.node("t")
        text = await a.mesh.invite(site="s", scopes=("generic",))
        with pytest.raises(PendingError, match="1 more owner's signature: atoll mesh sign"):
            await joiner.mesh.join(text)
        with pytest.raises(PendingError):  # it may ask again, and nothing is proposed twice
            await joiner.mesh.join(text)
        with pytest.raises(RejectedError, match="used by another node"):
            await thief.mesh.join(text)
        await agree([a, b])
        (motion,) = await b.ledger.council.proposals()
        await b.ledger.council.sign(motion.id)
        await agree([a, b])
        await joiner.mesh.join(text)
        await agree([a, b, joiner])
        assert b.ledger.authority.members()[joiner.identity.node].scopes == ("generic",)


async def test_a_delegate_lets_nodes_in_by_itself_within_its_bounds(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b, delegate = await owned_by(fleet, 3, 2, 2)
        with pytest.raises(DeniedError, match="no owner has let"):
            await delegate.mesh.invite(site="s")
        until_ms = int(time.time() * 1000) + 60_000
        node = delegate.identity.node
        terms = Delegation(node, ("mirror", "writer"), ("gen*",), ("s",), until_ms, 5)
        motion = await a.ledger.council.propose(lambda desk: desk.delegate(terms))
        await agree([a, b, delegate])
        await b.ledger.council.sign(motion.id)
        await agree([a, b, delegate])
        with pytest.raises(DeniedError, match="not reach so far"):
            await delegate.mesh.invite(site="s")
        text = await delegate.mesh.invite(site="s", scopes=("generic",))
        joiner = await fleet.node("j")
        await joiner.mesh.join(text)
        await agree([a, b, delegate, joiner])
        assert a.ledger.authority.admitted() == {joiner.identity.node: node}

        motion = await a.ledger.council.propose(lambda desk: desk.evict(node, "lost"))
        await agree([a, b])
        await b.ledger.council.sign(motion.id)

        async def alone() -> bool:
            linked = {*a.mesh._links.control, *b.mesh._links.control}
            return not linked & {joiner.id, delegate.id}

        await until(alone)
        assert len(await members(a)) == 2


async def test_an_eviction_voids_invitations_that_were_open(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b, c = [await fleet.node(name) for name in "abc"]
        await b.mesh.join(await a.mesh.invite(site="s"))
        text = await a.mesh.invite(site="s")  # which b may have got hold of
        await a.ledger.council.propose(lambda desk: desk.evict(b.identity.node))
        with pytest.raises(RejectedError, match="evicted since this invitation"):
            await c.mesh.join(text)
        with pytest.raises(RejectedError, match="evicted from the mesh"):
            await b.mesh.join(await a.mesh.invite(site="s"))
        await c.mesh.join(await a.mesh.invite(site="s"))


async def test_an_invitation_can_be_withdrawn(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        text = await a.mesh.invite(site="s")
        (entry,) = a.mesh.joining.invitations()
        await a.mesh.joining.withdraw(entry.id)
        with pytest.raises(NotFoundError):
            await a.mesh.joining.withdraw(entry.id)
        with pytest.raises(RejectedError, match="not known here"):
            await b.mesh.join(text)


async def test_who_was_left_out_with_its_delegate_may_come_back_by_another_way(
    tmp_path: Path,
) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, delegate = await owned_by(fleet, 2, 1, 1)
        until_ms = int(time.time() * 1000) + 60_000
        terms = Delegation(delegate.identity.node, ("writer",), ("*",), ("*",), until_ms, 5)
        await a.ledger.council.propose(lambda desk: desk.delegate(terms))
        await agree([a, delegate])
        joiner = await fleet.node("j")
        await joiner.mesh.join(await delegate.mesh.invite(site="s"))
        await agree([a, delegate, joiner])
        await a.ledger.council.propose(lambda desk: desk.evict(delegate.identity.node))

        async def alone() -> bool:
            return joiner.id not in a.mesh._links.control

        await until(alone)
        await joiner.mesh.join(await a.mesh.invite(site="s"))
        await agree([a, joiner])
        assert await members(joiner) == {a.identity.node, joiner.identity.node}
