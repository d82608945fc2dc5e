"""Rival root documents, and what is left of rights when a later one names them all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import canonical, root
from store.authority import Authority
from store.drafts import Desk
from store.errors import ConflictError
from store.records import CONTENT, ZERO, Header
from store.root import Delegation, Heads, Reserved, RootDocument
from tests.store.ledgers import NOW, identity, publish

ONE, TWO, THREE, FOUR = (identity(number) for number in range(1, 5))
PEOPLE = (TWO, THREE)
MESH = "ab" * 32
LIFE, END = 7, 12  # incarnation of everybody; how far the node that settles has every chain
Draft = Callable[[Desk], RootDocument]
Documents = dict[bytes, RootDocument]


def heads(seq: int) -> Heads:
    return {(who.node, LIFE): (seq, bytes([seq]) * 32) for who in PEOPLE}


def add(documents: Documents, draft: Draft, seq: int = END, known: Documents | None = None) -> None:
    """Put what an owner drafts, who knows of ``known``, among the documents."""
    authority = Authority(MESH, documents if known is None else known)
    made = draft(Desk(authority, heads(seq), NOW + len(documents), {}))
    documents[hashlib.sha256(canonical.encode(made)).digest()] = made


def founded(*owners: bytes) -> Documents:
    members = tuple(
        root.member_of(who, roles=("writer", "mirror"), site="reef") for who in (ONE, *PEOPLE)
    )
    keys = owners or (ONE.key,)
    delegation = Delegation(THREE.node, ("mirror",), ("*",), ("*",), 10**15, 9)
    return {
        b"1" * 32: RootDocument(
            "", 1, (), keys, len(keys) // 2 + 1, members, delegations=(delegation,)
        )
    }


def rivals(*sides: tuple[tuple[Draft, int], ...], owners: tuple[bytes, ...] = ()) -> Documents:
    """Let owners who know nothing of each other go on from one document."""
    base = founded(*owners)
    found = dict(base)
    for side in sides:
        known = dict(base)
        for draft, seq in side:
            add(known, draft, seq)
        found |= known
    return found


def counted(authority: Authority, scope: str = "generic") -> set[tuple[str, int]]:
    """Which of their records of version 1 would count."""
    return {
        (who.node, seq)
        for who in PEOPLE
        for seq in range(1, END + 4)
        if authority.judge(
            Header(who.node, LIFE, seq, ZERO, 1, MESH, 1, CONTENT, scope, ZERO),
            [publish("a", repository=scope)],
        )
        is None
    }


def settle(documents: Documents) -> tuple[Authority, Authority]:
    """Return what holds while they are rivals, and once they are settled."""
    contested = Authority(MESH, documents)
    add(documents, lambda desk: desk.settle())
    settled = Authority(MESH, documents)
    assert contested.contested
    assert not settled.contested
    return contested, settled


def narrow(desk: Desk) -> RootDocument:
    return desk.change(TWO.node, roles=("mirror",))


def confine(desk: Desk) -> RootDocument:
    return desk.change(TWO.node, scopes=("gen*",))


def shut_out(desk: Desk) -> RootDocument:
    return desk.evict(TWO.node)


def open_nothing(desk: Desk) -> RootDocument:
    return desk.change(THREE.node, name="three")


@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize("taking", [narrow, shut_out])
def test_what_a_rival_had_refused_is_not_let_in_by_its_settlement(
    taking: Draft, *, older: bool
) -> None:
    sides = [((taking, 6),), ((open_nothing, 9),)]
    contested, settled = settle(rivals(*(sides if older else sides[::-1])))
    assert {seq for node, seq in counted(contested) if node == TWO.node} == set(range(1, 7))
    assert counted(settled) == counted(contested)


def test_the_earlier_end_and_the_narrower_right_hold() -> None:
    contested, settled = settle(rivals(((narrow, 6),), ((confine, 9),)))
    for scope, end in (("generic", 6), ("npm", 6)):
        assert (TWO.node, end) in counted(settled, scope)
        assert (TWO.node, end + 1) not in counted(settled, scope)
    contested, settled = settle(rivals(((shut_out, 4),), ((shut_out, 8),)))
    assert counted(settled) == counted(contested)
    assert settled.settled(TWO.node, LIFE) == 4


STEPS = st.lists(
    st.tuples(st.sampled_from([narrow, confine, shut_out, open_nothing]), st.integers(0, END)),
    min_size=1,
    max_size=2,
    unique_by=lambda step: step[0],
).filter(lambda steps: shut_out not in [draft for draft, _ in steps[:-1]])


@given(STEPS, STEPS, st.sampled_from(["generic", "npm"]))
def test_whatever_rivals_say_settling_them_widens_nothing(
    one: list[tuple[Draft, int]], other: list[tuple[Draft, int]], scope: str
) -> None:
    documents = rivals(tuple(one), tuple(other))
    if len(Authority(MESH, documents).in_force) < 2:  # both said the same
        return
    contested, settled = settle(documents)
    assert counted(settled, scope) == counted(contested, scope)


@pytest.mark.parametrize("older", [True, False])
def test_whom_one_of_them_evicts_owns_nothing_any_more(*, older: bool) -> None:
    keys = (ONE.key, TWO.key, THREE.key)
    sides = [((shut_out, 6),), ((open_nothing, 9),)]
    _, settled = settle(rivals(*(sides if older else sides[::-1]), owners=keys))
    assert set(settled.newest.owners) == {ONE.key, THREE.key}
    assert settled.newest.threshold == 2


def test_owners_that_each_of_them_added_or_dropped() -> None:
    keys = (ONE.key, TWO.key, THREE.key)
    added = (*keys, FOUR.key)
    sides = [
        ((lambda desk: desk.govern(added), 6),),
        ((lambda desk: desk.govern((ONE.key, THREE.key)), 9),),
    ]
    _, settled = settle(rivals(*sides, owners=keys))
    assert set(settled.newest.owners) == {ONE.key, THREE.key, FOUR.key}


def test_rivals_that_leave_no_owner_between_them_are_not_settled_so() -> None:
    sides = [
        ((lambda desk: desk.govern((ONE.key,)), 6),),
        ((lambda desk: desk.govern((TWO.key,)), 9),),
    ]
    documents = rivals(*sides, owners=(ONE.key, TWO.key))
    with pytest.raises(ConflictError, match="all owners"):
        add(documents, lambda desk: desk.settle())


def test_a_delegation_that_one_of_them_withdrew_and_what_either_reserved() -> None:
    sides = [
        ((lambda desk: desk.withdraw(THREE.node), 6),),
        ((lambda desk: desk.reserve([Reserved("npm", "a", "reef")]), 9),),
        ((lambda desk: desk.reserve([Reserved("npm", "b", "reef")]), 9),),
    ]
    _, settled = settle(rivals(*sides))
    assert settled.delegation(THREE.node) is None
    assert {each.prefix for each in settled.newest.reserved} == {"a", "b"}
