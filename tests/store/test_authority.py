"""Who may write what, judged by one document, by several, and again when they change."""

from __future__ import annotations

import msgspec
import pytest

from store import root
from store.authority import UNKNOWN_ROOT, Authority
from store.errors import DeniedError, RejectedError
from store.facts import Cached, Fact, Setting
from store.records import CONTENT, ZERO, Header, SignedHead
from store.root import Member, Reserved, RootDocument
from tests.store.ledgers import NOW, Node, deliver, file, identity, mesh, publish, revise

ONE, TWO = identity(1), identity(2)
MESH = "ab" * 32


def document(
    *members: Member, version: int = 1, previous: tuple[bytes, ...] = (), **more: object
) -> RootDocument:
    return RootDocument("", version, previous, (ONE.key,), 1, members, **more)  # type: ignore[arg-type]  # a fake of it


def header(
    author: str = TWO.node, *, seq: int = 1, version: int = 1, scope: str = "generic"
) -> Header:
    return Header(author, 1, seq, ZERO, 1, MESH, version, CONTENT, scope, ZERO)


def judge(
    *members: Member, fact: Fact | None = None, scope: str = "generic", **more: object
) -> str | None:
    authority = Authority(MESH, {b"1": document(*members, **more)})
    return authority.judge(header(scope=scope), [fact or publish("a", repository=scope)])


def member(*roles: str, scopes: tuple[str, ...] = ("*",), site: str = "") -> Member:
    return root.member_of(TWO, roles=roles or ("writer",), scopes=scopes, site=site)


def test_members_write_where_their_scopes_reach() -> None:
    assert judge(member()) is None
    assert judge(member(scopes=("gen*",))) is None
    assert "may not write to" in (judge(member(scopes=("npm", "pypi-*"))) or "")
    assert "may not write" in (judge(member("courier")) or "")
    assert "not a member" in (judge(root.member_of(ONE)) or "")


def test_mirrors_write_what_they_cached_and_nothing_else() -> None:
    cached = Cached("generic", "p", "1", (file("a"),))
    assert judge(member("mirror"), fact=cached) is None
    assert "may not write" in (judge(member("mirror")) or "")


def test_settings_take_an_administrator_and_delegation_only_narrows() -> None:
    user, repository = Setting("user", "me", b"{}"), Setting("repository", "npm-x", b"{}")
    assert "may not administer" in (judge(member("writer"), fact=user) or "")
    assert judge(member("admin"), fact=user) is None
    scoped = member("admin", scopes=("npm-*",))
    assert judge(scoped, fact=repository) is None
    assert "may not administer" in (judge(scoped, fact=user) or "")
    assert "may not administer" in (judge(scoped, fact=Setting("repository", "pypi", b"{}")) or "")


def test_reserved_names_belong_to_their_site() -> None:
    reserved = (Reserved("gen*", "demo", "reef"),)
    assert judge(member(site="reef"), reserved=reserved) is None
    assert "belong to 'reef'" in (judge(member(site="shore"), reserved=reserved) or "")
    assert judge(member(site="shore"), reserved=(Reserved("npm", "demo", "reef"),)) is None


def test_another_mesh_and_an_unknown_version() -> None:
    authority = Authority(MESH, {b"1": document(member())})
    assert authority.judge(header(version=2), []) == UNKNOWN_ROOT
    foreign = msgspec.structs.replace(header(), mesh="cd" * 32)
    assert authority.judge(foreign, []) == "written in another mesh"


def test_rights_count_from_the_version_that_gave_them() -> None:
    authority = Authority(
        MESH,
        {b"1": document(member("courier")), b"2": document(member(), version=2, previous=(b"1",))},
    )
    assert "root version 1" in (authority.judge(header(version=1), [publish("a")]) or "")
    assert authority.judge(header(version=2), [publish("a")]) is None


def test_rivals_must_agree_until_somebody_settles_it() -> None:
    founding = document(root.member_of(ONE), member())
    documents = {
        b"1": founding,
        b"2": document(root.member_of(ONE), version=2, previous=(b"1",)),
        b"3": document(member(), version=2, previous=(b"1",)),
    }
    authority = Authority(MESH, documents)
    assert authority.contested
    for who in (ONE, TWO):
        assert authority.judge(header(who.node, version=2), [publish("a")]) is not None
        assert authority.judge(header(who.node, version=1), [publish("a")]) is not None
        assert not authority.is_member(who.node)
        assert authority.roles(who.node) == frozenset()
    assert authority.members() == {}
    settled = Authority(
        MESH, {**documents, b"4": document(member(), version=3, previous=(b"2", b"3"))}
    )
    assert not settled.contested
    assert settled.judge(header(version=2), [publish("a")]) is None
    assert settled.judge(header(ONE.node, version=2), [publish("a")]) is not None


def test_epochs_keep_the_past_and_nothing_back_dated() -> None:
    epoch = root.Epoch(TWO.node, 1, 5, ZERO, TWO.key, ("writer",), "", ("*",))
    authority = Authority(
        MESH,
        {
            b"1": document(member()),
            b"2": document(root.member_of(ONE), version=2, previous=(b"1",), epochs=(epoch,)),
        },
    )
    assert authority.judge(header(seq=5), [publish("a")]) is None
    assert "not a member" in (authority.judge(header(seq=6), [publish("a")]) or "")
    other_life = msgspec.structs.replace(header(), incarnation=2)
    assert "not a member" in (authority.judge(other_life, [publish("a")]) or "")
    assert authority.pins(TWO.node, 1) == {5: ZERO}


def test_heads_are_signed_by_the_key_of_their_time() -> None:
    new = TWO.rotate()
    epoch = root.Epoch(TWO.node, 1, 5, ZERO, TWO.key, ("writer",), "", ("*",))
    authority = Authority(
        MESH,
        {
            b"1": document(member()),
            b"2": document(root.member_of(new), version=2, previous=(b"1",), epochs=(epoch,)),
        },
    )

    def head(seq: int, key: bytes, author: str = TWO.node) -> SignedHead:
        return SignedHead(author, 1, seq, ZERO, key, bytes(64))

    assert authority.judge_head(head(5, TWO.key)) is None
    assert authority.judge_head(head(6, new.key)) is None
    assert authority.judge_head(head(6, TWO.key)) == "signed with a key that is not its author's"
    assert authority.judge_head(head(1, new.key)) is not None
    assert authority.judge_head(head(1, ONE.key, ONE.node)) == "its author is not a member"
    assert authority.current_key(TWO.node) == new.key
    assert authority.current_key(ONE.node) is None


def test_a_home_is_a_node_or_all_nodes_of_a_site() -> None:
    authority = Authority(
        MESH, {b"1": document(root.member_of(ONE, site="reef"), member(site="shore"))}
    )
    assert authority.nodes_at("reef") == {"reef", ONE.node}
    assert authority.nodes_at(TWO.node) == {TWO.node}


# --- in a ledger ---------------------------------------------------------------------------------
def everyone(node: Node) -> dict[str, Member]:
    return dict(node.ledger.authority.members())


async def test_a_removed_author_keeps_what_was_known_and_adds_nothing() -> None:
    owner, leaver, reader = await mesh(3)
    await leaver.append(publish("before"))
    await deliver(leaver, owner)
    await deliver(leaver, reader)
    await leaver.append(publish("meanwhile"))
    await deliver(leaver, reader)  # the reader hears of it before it hears of the removal
    members = everyone(owner)
    del members[leaver.ledger.node]
    await revise(owner, members.values())
    await deliver(owner, reader)
    assert [row["path"] for row in reader.rows("files")] == ["before"]
    await deliver(reader, owner)
    assert owner.catalog() == reader.catalog()
    reasons = [r for s in await reader.ledger.authors_status() for r in s.reasons]
    assert any("not a member" in reason for reason in reasons)
    await deliver(owner, leaver)
    with pytest.raises(DeniedError):
        await leaver.append(publish("after"))


async def test_a_late_comer_learns_the_past_of_a_removed_author() -> None:
    owner, leaver, reader = await mesh(3)
    await leaver.append(publish("before"))
    await deliver(leaver, owner)
    members = everyone(owner)
    del members[leaver.ledger.node]
    await revise(owner, members.values())
    await deliver(owner, reader)
    assert [row["path"] for row in reader.rows("files")] == ["before"]


async def test_narrowing_is_not_retroactive_but_holds_from_then_on() -> None:
    owner, other, reader = await mesh(3)
    await other.append(publish("old"))
    await deliver(other, owner)
    members = everyone(owner)
    members[other.ledger.node] = root.member_of(other.identity, scopes=("npm",))
    await revise(owner, members.values())
    await other.append(publish("sneaked in under the old document"))
    await deliver(other, owner)
    await deliver(owner, reader)
    assert [row["path"] for row in reader.rows("files")] == ["old"]
    assert owner.catalog() == reader.catalog()
    await deliver(owner, other)
    assert other.catalog() == owner.catalog()
    with pytest.raises(DeniedError):
        await other.append(publish("new"))
    await other.append(publish("fine", repository="npm"))


async def test_records_of_a_newer_root_wait_for_it() -> None:
    owner, other = await mesh(2)
    await revise(owner, everyone(owner).values())
    await owner.append(publish("a"))
    (outcome,) = await other.ledger.apply(await owner.batches())
    assert (outcome.stored, outcome.accepted) == (1, 0)
    assert "not known here: version 3" in outcome.results[0].reason
    await deliver(owner, other)
    assert other.catalog() == owner.catalog()


async def test_a_key_is_rotated_without_losing_the_past() -> None:
    owner, other, reader = await mesh(3)
    await other.append(publish("old"))
    await deliver(other, owner)
    fresh = other.identity.rotate()
    members = everyone(owner)
    members[other.ledger.node] = root.member_of(fresh)
    await revise(owner, members.values())
    await deliver(owner, other)
    stale = other.ledger
    other.identity = fresh
    other.ledger = type(stale)(other.port, fresh, clock=other.clock)
    await other.ledger.initialise()
    await other.append(publish("new"))
    await deliver(other, reader)
    await deliver(owner, reader)
    await deliver(other, reader)
    assert len(reader.rows("files")) == 2
    await stale.append([publish("thief with the old key")], actor="mallory")
    outcomes = await reader.ledger.apply(await other.batches())
    assert "not its author's" in outcomes[-1].refused
    assert len(reader.rows("files")) == 2


async def test_a_home_that_moves_is_folded_again() -> None:
    owner, other = await mesh(2, sites=("reef", "shore"))
    await other.append(publish("a", "theirs"))
    assert not other.rows("files")[0]["pending"]
    await owner.append(Setting("repository", "generic", b'{"home":"reef"}'))
    await deliver(owner, other)
    assert other.rows("files")[0]["pending"]
    members = everyone(owner)
    members[other.ledger.node] = root.member_of(other.identity, site="reef", joined=NOW)
    await revise(owner, members.values())
    await deliver(owner, other)
    assert not other.rows("files")[0]["pending"]


async def test_foreign_root_documents_are_refused() -> None:
    (owner,) = await mesh(1)
    stranger = root.genesis(identity(9), now=NOW)
    with pytest.raises(RejectedError):
        await owner.ledger.adopt(stranger)
    with pytest.raises(RejectedError, match="does not list this node"):
        await owner.ledger.rebase([root.encode_root(stranger)])
    with pytest.raises(RejectedError):
        await owner.ledger.rebase([])
    assert not await owner.ledger.adopt((await owner.ledger.roots())[0])
