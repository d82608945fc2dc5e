"""Invitations under attack: reuse, races, crashes, eviction, false clocks and documents."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
import trio

from mesh import invitation
from store import root
from store.errors import RejectedError, StoreFullError
from tests.mesh.nodes import Fleet, Node


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


async def test_a_joiner_that_never_heard_the_answer_may_ask_again(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b, c = [await fleet.node(name) for name in "abc"]
        text = await a.mesh.invite(site="s")
        found = invitation.read(text)
        granted = a.mesh._book.use(found.id, b.identity.key, time.time())
        await a.mesh._joining._admit(b.identity.key, granted)  # and the link is cut
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

        joined = a.mesh._joining
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
        await a.mesh._joining._admit(b.identity.key, granted)
        authority = a.ledger.authority
        rest = [m for m in authority.members().values() if m.node != b.identity.node]
        draft = root.revise(
            a.ledger.mesh,
            authority.in_force,
            members=rest,
            heads=await a.ledger.heads(),
            now=time.time(),
        )
        await a.ledger.adopt(root.sign(draft, a.identity))
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

        monkeypatch.setattr(b.mesh._joining, "_fetch_documents", swapped)
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
