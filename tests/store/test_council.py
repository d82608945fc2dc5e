"""Root documents as owners make them: proposed, signed one after the other, carried, in force."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from store import canonical, root
from store import identity as keyfile
from store.council import Motion, can_sign, owner_keys
from store.drafts import Desk
from store.errors import ConflictError, DeniedError, NotFoundError, RejectedError
from store.ledger import Ledger
from store.refolding import Scratch
from store.root import Delegation, Reserved
from store.statements import rotate
from tests.store.ledgers import Node, clone, deliver, identity, mesh, publish, single


async def owned(count: int, owners: int, threshold: int) -> list[Node]:
    """A mesh whose first members own it together; everybody knows."""
    nodes = await mesh(count)
    keys = [node.identity.key for node in nodes[:owners]]
    await nodes[0].ledger.council.propose(lambda desk: desk.govern(keys, threshold))
    await meet(nodes)
    return nodes


async def meet(nodes: Sequence[Node]) -> None:
    """Carry everything to everybody, twice round."""
    for _ in range(2):
        for source in nodes:
            for target in nodes:
                if source is not target:
                    await deliver(source, target)


def files(node: Node) -> list[str]:
    return sorted(row["path"] for row in node.rows("files"))


async def evict(owner: Node, victim: Node, reason: str = "lost") -> Motion:
    return await owner.ledger.council.propose(lambda desk: desk.evict(victim.ledger.node, reason))


async def test_nothing_takes_effect_before_enough_owners_have_signed() -> None:
    a, b, c, victim = await owned(4, 3, 2)
    motion = await evict(a, victim)
    assert (motion.missing, motion.signed) == (1, {a.identity.key})
    await meet([a, b, c, victim])
    for node in (a, b, c, victim):
        assert node.ledger.authority.is_member(victim.ledger.node)
    (seen,) = await b.ledger.council.proposals()
    assert (seen.id, seen.missing, seen.ours) == (motion.id, 1, True)
    (seen,) = await victim.ledger.council.proposals()
    assert not seen.ours
    with pytest.raises(DeniedError, match="owner's key"):
        await victim.ledger.council.sign(motion.id)
    assert (await b.ledger.council.sign(motion.id)).missing == 0
    assert not b.ledger.authority.is_member(victim.ledger.node)
    await meet([a, b, c, victim])
    for node in (a, b, c, victim):
        assert node.ledger.authority.evicted()[victim.ledger.node].reason == "lost"
        assert await node.ledger.council.proposals() == []
    assert len({node.ledger.authority.digest for node in (a, b, c, victim)}) == 1


async def test_a_proposal_travels_as_a_file_too() -> None:
    a, b, victim = await owned(3, 2, 2)
    motion = await evict(a, victim)
    data = await a.ledger.council.proposal(motion.id)
    assert await b.ledger.council.adopt(data)
    assert not await b.ledger.council.adopt(data)
    await b.ledger.council.sign(motion.id)
    assert victim.ledger.node in b.ledger.authority.evicted()
    with pytest.raises(NotFoundError):
        await b.ledger.council.proposal(motion.id)
    with pytest.raises(NotFoundError, match="in force, or out of date"):
        await b.ledger.council.sign(motion.id)


async def test_signatures_that_meet_on_the_way_add_up_anywhere() -> None:
    a, b, c, d = await owned(4, 3, 3)
    motion = await evict(a, d)
    data = await a.ledger.council.proposal(motion.id)
    for other in (b, c):
        await other.ledger.council.adopt(data)
        assert (await other.ledger.council.sign(motion.id)).missing == 1
    await d.ledger.adopt(await b.ledger.council.proposal(motion.id))
    assert await d.ledger.adopt(await c.ledger.council.proposal(motion.id))
    assert (
        d.ledger.node in d.ledger.authority.evicted()
    )  # a node that owns nothing put them together


async def test_strangers_propose_nothing() -> None:
    a, b, victim = await owned(3, 2, 2)
    await evict(a, victim)
    data = await a.ledger.council.proposal((await a.ledger.council.proposals())[0].id)
    stripped = root.SignedRoot(root.read_signed(data).document, ())
    with pytest.raises(RejectedError, match="fewer than"):
        await b.ledger.adopt(stripped)
    with pytest.raises(RejectedError, match="fewer than"):
        await b.ledger.adopt(root.countersign(stripped, victim.identity))
    assert await b.ledger.council.proposals() == []
    with pytest.raises(DeniedError, match="owner's key"):
        await evict(victim, a)


async def test_an_owner_signs_one_document_for_a_version_unless_it_means_to() -> None:
    a, b, victim = await owned(3, 2, 2)
    one = await evict(a, victim)
    other = await b.ledger.council.propose(lambda desk: desk.reserve([Reserved("*", "x", "s")]))
    await meet([a, b])
    with pytest.raises(ConflictError, match="has signed proposal"):
        await a.ledger.council.sign(other.id)
    assert (await a.ledger.council.sign(other.id, rival=True)).missing == 0
    assert (await b.ledger.council.proposals()) != []
    await b.ledger.council.forget(one.id)
    assert [each.id for each in await b.ledger.council.proposals()] == [other.id]
    await meet([a, b])
    assert await a.ledger.council.proposals() == []  # the other one can no longer follow
    assert a.ledger.authority.digest == b.ledger.authority.digest


async def test_rivals_hold_together_until_a_version_names_both() -> None:
    a, b, victim, other = await owned(4, 2, 2)
    one = await evict(a, victim)
    two = await b.ledger.council.propose(
        lambda desk: desk.change(other.ledger.node, roles=("mirror",))
    )
    first = await a.ledger.council.proposal(one.id)
    second = await b.ledger.council.proposal(two.id)
    await b.ledger.council.forget(two.id)
    await b.ledger.adopt(first)
    await b.ledger.council.sign(one.id)
    await a.ledger.council.forget(one.id)
    await a.ledger.adopt(second)
    await a.ledger.council.sign(two.id, rival=True)
    await meet([a, b, victim, other])
    for node in (a, b, victim, other):
        authority = node.ledger.authority
        assert authority.contested
        assert not authority.is_member(victim.ledger.node)
        assert authority.roles(other.ledger.node) == {"mirror"}
    with pytest.raises(DeniedError):
        await other.append(publish("narrowed by one of them"))
    settled = await a.ledger.council.propose(lambda desk: desk.settle())
    await meet([a, b])
    await b.ledger.council.sign(settled.id)
    await meet([a, b, victim, other])
    authority = other.ledger.authority
    assert (authority.contested, authority.version) == (False, settled.document.version)
    assert authority.roles(other.ledger.node) == {"mirror"}
    assert set(authority.evicted()) == {victim.ledger.node}
    with pytest.raises(ConflictError, match="no rival"):
        await a.ledger.council.propose(lambda desk: desk.settle())


async def test_a_member_of_one_rival_alone_is_not_lost_when_they_are_settled() -> None:
    a, b = await owned(2, 2, 2)
    joiner = await single(9, a.clock)
    entry = root.member_of(joiner.identity, roles=("writer",))
    one = await a.ledger.council.propose(lambda desk: desk.add(entry))
    await b.ledger.adopt(await a.ledger.council.proposal(one.id))
    await b.ledger.council.sign(one.id)
    two = await a.ledger.council.propose(lambda desk: desk.reserve([]), rival=True)
    stale = await single(8, a.clock)
    assert two.id != one.id
    assert stale.ledger.node not in b.ledger.authority.members()
    data = await a.ledger.council.proposal(two.id)
    signed = root.countersign(root.read_signed(data), b.identity)
    await b.ledger.adopt(signed)
    await meet([a, b])
    assert not a.ledger.authority.is_member(joiner.ledger.node)  # only one rival lists it
    settled = await a.ledger.council.propose(lambda desk: desk.settle())
    await meet([a, b])
    await b.ledger.council.sign(settled.id)
    assert b.ledger.authority.is_member(joiner.ledger.node)


async def test_who_is_evicted_keeps_its_past_and_nothing_brings_it_back() -> None:
    owner, victim, reader = await mesh(3)
    await victim.append(publish("before"))
    await meet([owner, victim, reader])
    old = await reader.ledger.roots()
    await evict(owner, victim, "stolen laptop")
    await deliver(owner, victim)
    with pytest.raises(DeniedError):  # now it has heard of it
        await victim.append(publish("after"))
    await meet([owner, reader])
    assert not [await reader.ledger.adopt(data) for data in old if await reader.ledger.adopt(data)]
    assert files(reader) == files(owner) == ["before"]
    entry = root.member_of(victim.identity)
    with pytest.raises(RejectedError, match="evicted and stays out: stolen laptop"):
        await owner.ledger.council.propose(lambda desk: desk.add(entry))


async def test_the_only_owner_cannot_be_evicted_and_an_evicted_owner_owns_nothing() -> None:
    (alone,) = await mesh(1)
    with pytest.raises(ConflictError, match="only owner"):
        await evict(alone, alone)
    a, b, c = await owned(3, 3, 2)
    motion = await evict(a, c)
    await meet([a, b, c])
    await b.ledger.council.sign(motion.id)
    document = b.ledger.authority.newest
    assert (set(document.owners), document.threshold) == ({a.identity.key, b.identity.key}, 2)
    await meet([b, c])
    with pytest.raises(DeniedError):
        await evict(c, a)
    with pytest.raises(NotFoundError):
        await evict(a, await single(7, a.clock))


# --- rotation ------------------------------------------------------------------------------------
async def test_a_node_changes_its_key_alone_and_everybody_follows() -> None:
    owner, other, reader = await mesh(3)
    await other.append(publish("old"))
    await deliver(other, reader)  # the owner has heard nothing of it
    rotation = await other.ledger.council.rotate()
    assert other.ledger.identity.key == rotation.new != other.identity.key
    assert other.ledger.node == other.identity.node
    await other.append(publish("new"))
    await meet([owner, other, reader])
    assert files(owner) == files(reader) == ["new", "old"]
    for node in (owner, reader):
        authority = node.ledger.authority
        assert authority.current_key(other.ledger.node) == rotation.new
        assert authority.retired(other.ledger.node, rotation.old)
        assert authority.follows(other.ledger.node, (), rotation.new)
    assert await owner.ledger.council.proposals() == []


async def test_an_owners_key_follows_by_a_document() -> None:
    (owner,) = await mesh(1)
    await owner.append(publish("old"))
    rotation = await owner.ledger.council.rotate()
    document = owner.ledger.authority.newest
    assert document.owners == (rotation.new,)
    assert document.members[0].key == rotation.new
    await owner.append(publish("new"))
    assert files(owner) == ["new", "old"]
    assert can_sign(owner.ledger.authority, owner.ledger.identity)
    assert owner_keys(owner.ledger.authority) == {rotation.new: owner.ledger.node}


async def test_an_owner_among_several_signs_with_its_old_key_until_they_agree() -> None:
    a, b, c = await owned(3, 2, 2)
    rotation = await a.ledger.council.rotate()
    (motion,) = await a.ledger.council.proposals()
    assert rotation.new in motion.document.owners
    await a.ledger.council.follow_keys()  # it is under way
    assert len(await a.ledger.council.proposals()) == 1
    await meet([a, b, c])
    assert b.ledger.authority.current_key(a.ledger.node) == rotation.new
    await b.ledger.council.sign(motion.id)
    await meet([a, b, c])
    assert set(c.ledger.authority.newest.owners) == {rotation.new, b.identity.key}
    follow = await a.ledger.council.propose(lambda desk: desk.evict(c.ledger.node))
    assert follow.signed == {rotation.new}


async def test_a_thief_with_the_old_key_is_undone_where_it_was_believed() -> None:
    owner, victim, deceived, reader = await mesh(4)
    await victim.append(publish("mine"))
    await meet([owner, victim, deceived, reader])
    stolen = await clone(victim)
    await stolen.append(publish("malware"))
    await deliver(stolen, deceived)
    assert "malware" in files(deceived)
    await victim.ledger.council.rotate()
    await victim.append(publish("mine too"))
    await meet([owner, victim, deceived, reader])
    for node in (owner, victim, deceived, reader):
        assert files(node) == ["mine", "mine too"]
        assert await node.ledger.forks() == []
    outcomes = await reader.ledger.apply(await stolen.batches())
    assert "not its author's" in outcomes[-1].refused
    await deliver(stolen, deceived)
    assert files(deceived) == ["mine", "mine too"]


ANY_ORDER = [*itertools.permutations(range(4))]


@pytest.mark.parametrize("order", ANY_ORDER)
async def test_owners_who_had_not_heard_of_a_new_key_vouch_for_no_thief(
    order: tuple[int, ...],
) -> None:
    owner, victim, reader = await mesh(3)
    await victim.append(publish("mine"))
    await meet([owner, victim, reader])
    stolen = await clone(victim)
    await stolen.append(publish("malware"))
    await deliver(stolen, owner)
    rotation = await victim.ledger.council.rotate()
    own = await victim.append(publish("mine too"))
    await owner.ledger.council.propose(
        lambda desk: desk.change(victim.ledger.node, site="elsewhere")
    )
    (pin,) = owner.ledger.authority.newest.epochs
    assert (pin.seq, pin.key) == (2, rotation.old)
    batches = await victim.batches(), await stolen.batches()
    document = (await owner.ledger.roots())[-1]
    news: list[Callable[[], Awaitable[object]]] = [
        lambda: reader.ledger.adopt(canonical.encode(rotation)),
        lambda: reader.ledger.adopt(document),
        lambda: reader.ledger.apply(batches[0]),
        lambda: reader.ledger.apply(batches[1]),
    ]
    for each in order:
        await news[each]()
    await meet([owner, victim, reader])
    for node in (owner, victim, reader):
        assert files(node) == ["mine", "mine too"]
        assert own in {row["id"] for row in node.rows("records") if row["status"] == "valid"}
        assert await node.ledger.forks() == []
        assert [(each.seq, each.key) for each in node.ledger.authority.vouched()] == [
            (1, rotation.old)
        ]
    await owner.ledger.council.propose(lambda desk: desk.change(victim.ledger.node, name="v"))
    (pin,) = owner.ledger.authority.newest.epochs
    assert (pin.seq, pin.key) == (1, rotation.old)  # who knows of the key writes it down so


async def test_a_thief_takes_back_nothing_of_who_was_evicted_or_whose_key_owners_took_over() -> (
    None
):
    owner, victim, evicted, reader = await mesh(4)
    for node in (victim, evicted):
        await node.append(publish(f"of {node.number}"))
    taken = await victim.ledger.council.rotate()
    await meet([owner, victim, evicted, reader])
    await owner.ledger.council.propose(lambda desk: desk.change(victim.ledger.node, site="reef"))
    await evict(owner, evicted)
    mesh_id, theirs = owner.ledger.mesh, identity(9)
    for old in (victim.identity, evicted.identity):
        said = rotate(mesh_id, old, old.rotate(theirs.seed), [], now=owner.clock() + 9)
        await owner.ledger.adopt(canonical.encode(said))
    await meet([owner, victim, reader])
    for node in (owner, victim, reader):
        assert files(node) == ["of 2", "of 3"]
        assert node.ledger.authority.current_key(victim.ledger.node) == taken.new


async def test_two_rotations_of_one_key_lock_the_node_until_an_owner_names_its_key() -> None:
    owner, victim, reader = await mesh(3)
    await victim.append(publish("mine"))
    await meet([owner, victim, reader])
    thief = Node(98, victim.clock)
    thief.identity = victim.identity
    thief.ledger = Ledger(thief.port, victim.identity, clock=victim.clock)
    await thief.ledger.initialise()
    await thief.ledger.rebase(await owner.ledger.roots())
    await deliver(owner, thief)
    stolen = await thief.ledger.council.rotate()
    good = await victim.ledger.council.rotate()
    await meet([owner, victim, thief, reader])
    node = victim.ledger.node
    for each in (owner, victim, reader):
        assert each.ledger.authority.current_key(node) is None
        assert each.ledger.authority.is_member(node)
        assert files(each) == ["mine"]
    with pytest.raises(ConflictError, match="in dispute"):
        await victim.ledger.council.rotate()
    await owner.ledger.council.propose(lambda desk: desk.change(node, key=good.new))
    await meet([owner, victim, reader])
    assert reader.ledger.authority.current_key(node) == good.new
    assert not reader.ledger.authority.follows(node, (), stolen.new)
    await victim.append(publish("again"))
    await meet([owner, victim, reader])
    assert files(reader) == ["again", "mine"]


@pytest.mark.parametrize("step", ["key written", "stated", "key in use"])
async def test_a_rotation_survives_a_crash_between_any_two_steps(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (node,) = await mesh(1)
    old = node.identity
    keyfile.save(tmp_path, old)
    keyfile.settle(tmp_path)
    ledger = Ledger(node.port, old, clock=node.clock, directory=tmp_path)
    await ledger.initialise()
    council, kept = ledger.council, []
    keep = council._keys.keep

    class CrashError(BaseException):
        pass

    async def counted(current):
        kept.append(current)
        if step == "stated" and len(kept) == 2:
            raise CrashError
        await keep(current)
        if step == "key written" or (step == "key in use" and len(kept) == 2):
            raise CrashError

    monkeypatch.setattr(council._keys, "keep", counted)
    with pytest.raises(CrashError):
        await council.rotate()
    assert not keyfile.moved(tmp_path)
    again = await Ledger.open(node.port, tmp_path)
    key = again.authority.current_key(again.node)
    assert again.identity.key == key
    assert (key == old.key) == (step == "key written")
    assert keyfile.load(tmp_path).key == key
    await again.append([publish("after")], actor="test")
    assert again.incarnation == ledger.incarnation
    if step != "key written":  # the owner's key follows at the next start
        assert again.authority.newest.owners == (key,)


# --- delegation ----------------------------------------------------------------------------------
async def with_delegate() -> tuple[Node, Node, Node]:
    owner, delegate = await mesh(2)
    terms = Delegation(
        delegate.ledger.node,
        ("mirror", "writer"),
        ("gen*",),
        ("reef",),
        int(owner.clock() * 1000) + 3_600_000,
        2,
    )
    await owner.ledger.council.propose(lambda desk: desk.delegate(terms))
    await meet([owner, delegate])
    return owner, delegate, await single(9, owner.clock)


def guest(node: Node, **changes: object) -> root.Member:
    given: dict = {"roles": ("writer",), "scopes": ("generic",), "site": "reef"}
    return root.member_of(node.identity, joined=node.clock(), **{**given, **changes})


async def test_a_delegate_admits_within_its_bounds() -> None:
    owner, delegate, joiner = await with_delegate()
    for wrong, reason in (
        ({"roles": ("admin",)}, "admin"),
        ({"scopes": ("*",)}, "only open gen"),
        ({"site": "shore"}, "only admit nodes at reef"),
        ({"roles": ()}, "without a role"),
    ):
        with pytest.raises(DeniedError, match=reason):
            await delegate.ledger.council.admit(guest(joiner, **wrong))
    with pytest.raises(DeniedError, match="no owner has let"):
        await owner.ledger.council.admit(guest(joiner))
    await delegate.ledger.council.admit(guest(joiner))
    await joiner.ledger.rebase(await delegate.ledger.roots())
    await joiner.append(publish("theirs"))
    with pytest.raises(DeniedError):
        await joiner.append(publish("elsewhere", repository="npm"))
    await meet([joiner, delegate, owner])
    assert files(owner) == ["theirs"]
    assert owner.ledger.authority.admitted() == {joiner.ledger.node: delegate.ledger.node}
    await delegate.ledger.council.admit(guest(await single(10, owner.clock)))
    with pytest.raises(DeniedError, match="no more"):
        await delegate.ledger.council.admit(guest(await single(11, owner.clock)))


async def test_a_delegation_expires() -> None:
    _, delegate, joiner = await with_delegate()
    delegate.clock.now += 4000
    with pytest.raises(DeniedError, match="expired"):
        await delegate.ledger.council.admit(guest(joiner))


async def test_an_evicted_delegates_admissions_are_void() -> None:
    owner, delegate, joiner = await with_delegate()
    await delegate.ledger.council.admit(guest(joiner))
    await joiner.ledger.rebase(await delegate.ledger.roots())
    await joiner.append(publish("before"))
    await meet([joiner, delegate, owner])
    await evict(owner, delegate)
    assert set(owner.ledger.authority.members()) == {owner.ledger.node}
    assert files(owner) == ["before"]
    await deliver(owner, joiner)
    with pytest.raises(DeniedError):
        await joiner.append(publish("after"))
    assert await owner.ledger.adopt((await delegate.ledger.roots())[-1]) is False


async def test_who_was_admitted_may_stay_when_the_delegation_ends_and_be_evicted_alone() -> None:
    owner, delegate, joiner = await with_delegate()
    await delegate.ledger.council.admit(guest(joiner))
    await meet([delegate, owner])
    await owner.ledger.council.propose(lambda desk: desk.withdraw(delegate.ledger.node))
    authority = owner.ledger.authority
    assert authority.is_member(joiner.ledger.node)
    assert authority.admitted() == {}
    assert authority.delegation(delegate.ledger.node) is None
    await evict(owner, joiner)
    assert set(owner.ledger.authority.members()) == {owner.ledger.node, delegate.ledger.node}
    with pytest.raises(NotFoundError):
        await owner.ledger.council.propose(lambda desk: desk.withdraw(delegate.ledger.node))


async def test_a_guest_alone_is_evicted_for_good() -> None:
    owner, delegate, joiner = await with_delegate()
    await delegate.ledger.council.admit(guest(joiner))
    await meet([delegate, owner])
    await evict(owner, joiner)
    await meet([delegate, owner])
    for node in (owner, delegate):
        assert not node.ledger.authority.is_member(joiner.ledger.node)
    with pytest.raises(RejectedError, match="evicted"):
        await delegate.ledger.council.admit(guest(joiner))


async def test_admissions_follow_a_delegates_new_key() -> None:
    owner, delegate, joiner = await with_delegate()
    await delegate.ledger.council.admit(guest(joiner))
    await delegate.ledger.council.rotate()
    await meet([delegate, owner])
    assert owner.ledger.authority.is_member(joiner.ledger.node)
    assert owner.ledger.authority.digest == delegate.ledger.authority.digest


async def test_delegations_only_narrow() -> None:
    owner, other = await mesh(2)
    narrow = root.member_of(other.identity, scopes=("gen*",))
    await owner.ledger.council.propose(lambda desk: desk.change(narrow.node, scopes=("gen*",)))
    for terms, reason in (
        (Delegation(narrow.node, ("admin",), ("gen*",), ("*",), 1, 1), "only owners"),
        (Delegation(narrow.node, ("writer",), ("*",), ("*",), 1, 1), "itself"),
        (Delegation(narrow.node, ("writer",), ("gen*",), ("*",), 1, 0), "admits 1 to"),
    ):
        with pytest.raises(RejectedError, match=reason):
            await owner.ledger.council.propose(partial(Desk.delegate, delegation=terms))


async def test_an_evicted_forker_keeps_what_came_before_the_fork(tmp_path: Path) -> None:
    owner, victim, reader = await mesh(3)
    await victim.append(publish("a"))
    await meet([owner, victim, reader])
    twin = await clone(victim)
    await victim.append(publish("b"))
    await twin.append(publish("c"))
    await deliver(victim, owner)
    await deliver(twin, reader)
    await owner.ledger.apply(await twin.batches())
    (proof,) = await owner.ledger.forks()
    await reader.ledger.accept_fork(proof)
    assert files(owner) == files(reader) == ["a"]
    await evict(owner, victim, "forked")
    await deliver(owner, reader)
    assert files(owner) == files(reader) == ["a"]
    kept = await owner.ledger.forks()
    assert len(kept) == 1  # the evidence stays, and a verification reads over it
    scratch = Scratch(tmp_path / "verify.db", owner.ledger.authority, now=owner.clock())
    scratch.quarantine(kept)
    scratch.close()
