"""Rival root documents, and what is left of rights when a later one names them all."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import canonical, root, statements
from store.authority import Authority
from store.drafts import Desk
from store.errors import ConflictError
from store.records import CONTENT, ZERO, Header
from store.revising import Heads
from store.root import Delegation, Reserved, RootDocument
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
    data = canonical.encode(made)
    documents[hashlib.sha256(data).digest()] = root.read_document(data)


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


ENDS = st.integers(0, END)
STEPS = st.lists(
    st.tuples(st.sampled_from([narrow, confine, shut_out, open_nothing]), ENDS),
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


# --- keys ----------------------------------------------------------------------------------------
OLD = TWO.key
NEW, OTHER = (TWO.rotate(bytes([number]) * 32).key for number in (20, 21))


def rekey(desk: Desk) -> RootDocument:
    return desk.change(TWO.node, key=NEW)


def rekey_otherwise(desk: Desk) -> RootDocument:
    return desk.change(TWO.node, key=OTHER)


def ends(authority: Authority) -> list[tuple[int, bytes]]:
    """Where the past of the second node ends, and under which key."""
    return [(e.seq, e.key) for e in authority.newest.epochs if e.node == TWO.node]


TURNS = st.lists(
    st.tuples(st.sampled_from([rekey, narrow, confine, shut_out, open_nothing]), ENDS),
    min_size=1,
    max_size=3,
    unique_by=lambda step: step[0],
).filter(lambda steps: shut_out not in [draft for draft, _ in steps[:-1]])


@given(TURNS, TURNS, st.sampled_from(["generic", "npm"]))
def test_whatever_rivals_say_of_keys_settling_them_widens_nothing(
    one: list[tuple[Draft, int]], other: list[tuple[Draft, int]], scope: str
) -> None:
    documents = rivals(tuple(one), tuple(other))
    if len(Authority(MESH, documents).in_force) < 2:
        return
    contested, settled = settle(documents)
    assert counted(settled, scope) <= counted(contested, scope)
    if rekey in [draft for draft, _ in (*one, *other)]:
        assert settled.current_key(TWO.node) in {NEW, None}


@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize("other", [narrow, rekey, open_nothing])
def test_where_the_key_is_undecided_nothing_of_the_past_is_vouched_for(
    other: Draft, *, older: bool
) -> None:
    sides = [((rekey, 5),), ((other, 9),)]
    documents = rivals(*(sides if older else sides[::-1]))
    for draft in (shut_out, lambda desk: desk.govern((ONE.key, THREE.key)), open_nothing):
        drafted = dict(documents)
        add(drafted, draft)  # it can be read again
        assert (5, OLD) in ends(Authority(MESH, drafted))
    _, settled = settle(documents)
    found = ends(settled)
    assert [end for end in found if end[1] != NEW] == [(5, OLD)]
    assert settled.current_key(TWO.node) == NEW


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_key_that_one_of_them_replaced_stays_gone_in_whatever_order_they_came(
    order: tuple[int, ...],
) -> None:
    documents = rivals(((rekey, 6),), ((open_nothing, 9),))
    items = list(documents.items())
    found = dict(items[number] for number in order)
    contested = Authority(MESH, found)
    assert contested.current_key(TWO.node) is None
    draft = Desk(contested, heads(END), NOW + 9, {}).settle()
    assert draft == Desk(Authority(MESH, documents), heads(END), NOW + 9, {}).settle()
    add(found, lambda desk: desk.settle())
    settled = Authority(MESH, found)
    assert settled.current_key(TWO.node) == NEW
    assert ends(settled) == [(6, OLD)]


def test_an_owner_chooses_between_two_new_keys_or_shuts_the_node_out() -> None:
    documents = rivals(((rekey, 6),), ((rekey_otherwise, 9),))
    for draft in (open_nothing, lambda desk: desk.settle(), narrow):
        with pytest.raises(ConflictError, match=f"in dispute.*{NEW.hex()}.* --key KEY"):
            add(documents, draft)
    for draft, key in ((rekey, NEW), (rekey_otherwise, OTHER), (shut_out, None)):
        chosen = dict(documents)
        add(chosen, draft)
        settled = Authority(MESH, chosen)
        assert not settled.contested
        assert settled.current_key(TWO.node) == key
        assert (6, OLD) in ends(settled)
        assert OLD not in [end[1] for end in ends(settled) if end[0] > 6]


def test_of_two_nodes_whose_keys_are_in_dispute_an_owner_names_one_after_the_other() -> None:
    keys = [THREE.rotate(bytes([number]) * 32).key for number in (30, 31)]
    one, two = [lambda desk, key=key: desk.change(THREE.node, key=key) for key in keys]
    documents = rivals(((rekey, 6), (one, 6)), ((rekey_otherwise, 9), (two, 9)))
    with pytest.raises(ConflictError, match="in dispute"):
        add(documents, shut_out)
    add(documents, rekey)
    add(documents, one)
    settled = Authority(MESH, documents)
    assert settled.current_key(TWO.node) == NEW
    assert settled.current_key(THREE.node) == keys[0]


def test_whoever_is_shut_out_owns_nothing_under_any_of_its_keys() -> None:
    keys = (ONE.key, TWO.key, THREE.key)
    sides = [
        ((rekey, 6), (lambda desk: desk.succeed(OLD, NEW), 6)),
        ((rekey_otherwise, 9), (lambda desk: desk.succeed(OLD, OTHER), 9)),
    ]
    documents = rivals(*sides, owners=keys)
    add(documents, shut_out)
    assert set(Authority(MESH, documents).newest.owners) == {ONE.key, THREE.key}


def test_a_locked_node_gets_no_rights_without_a_key() -> None:
    stolen = [statements.rotate(MESH, TWO, TWO.rotate(bytes([n]) * 32), (), now=n) for n in (1, 2)]
    authority = Authority(MESH, founded(), stolen)
    assert authority.current_key(TWO.node) is None
    for draft in (shut_out, narrow):
        made = draft(Desk(authority, heads(END), NOW, {}))
        assert not root.read_document(canonical.encode(made)).epochs


def test_what_has_ended_is_not_ended_again_before_that() -> None:
    documents = founded()
    add(documents, rekey, 9)
    add(documents, narrow, 5)  # by an owner that has less of its chain
    assert ends(Authority(MESH, documents)) == [(9, OLD)]


@pytest.mark.parametrize("older", [True, False])
def test_of_two_branches_that_rivals_pin_a_settlement_chooses_none(*, older: bool) -> None:
    documents = founded()
    sides = [(narrow, b"a"), (confine, b"b")]
    for draft, branch in sides if older else sides[::-1]:
        pinned = dict.fromkeys(heads(6), (6, branch * 32))
        made = draft(Desk(Authority(MESH, founded()), pinned, NOW + len(documents), {}))
        documents[hashlib.sha256(canonical.encode(made)).digest()] = made
    for draft in (shut_out, lambda desk: desk.settle()):
        settled = dict(documents)
        add(settled, draft)
        assert ends(Authority(MESH, settled)) == []
        assert not {seq for node, seq in counted(Authority(MESH, settled)) if node == TWO.node}


# --- the mesh itself -----------------------------------------------------------------------------
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


def test_what_a_second_round_of_rivals_drops_came_before_it() -> None:
    keys = (ONE.key, TWO.key, THREE.key)
    deputy = Delegation(TWO.node, ("mirror",), ("*",), ("*",), 10**15, 9)
    sides = [
        (
            (lambda desk: desk.govern((*keys, FOUR.key)), 6),
            (lambda desk: desk.delegate(deputy), 6),
        ),
        ((open_nothing, 9), (open_nothing, 9), (open_nothing, 9)),
    ]
    documents = rivals(*sides, owners=keys)
    known = dict(documents)
    add(documents, lambda desk: desk.settle())
    assert FOUR.key in Authority(MESH, documents).newest.owners
    assert Authority(MESH, documents).delegation(TWO.node) == deputy
    for draft, taken in (
        (lambda desk: desk.govern(keys), FOUR.key),
        (lambda desk: desk.withdraw(TWO.node), deputy),
    ):
        second = dict(documents)
        add(second, draft, known=known)
        _, settled = settle(second)
        assert taken not in (*settled.newest.owners, *settled.newest.delegations)


@pytest.mark.parametrize("older", [True, False])
def test_whom_owners_signed_in_while_a_rival_leaves_it_to_a_delegate_stays(*, older: bool) -> None:
    guest = root.member_of(FOUR, roles=("mirror",), site="reef")
    admission = statements.admit(MESH, THREE, 1, guest)
    base, documents = founded(), founded()
    sides: list[Draft] = [lambda desk: desk.withdraw(THREE.node), narrow]
    for draft in sides if older else sides[::-1]:
        made = draft(Desk(Authority(MESH, base, [admission]), {}, NOW + len(documents), {}))
        documents[hashlib.sha256(canonical.encode(made)).digest()] = made
    contested = Authority(MESH, documents, [admission])
    assert contested.is_member(FOUR.node)
    made = Desk(contested, {}, NOW + 9, {}).settle()
    documents[hashlib.sha256(canonical.encode(made)).digest()] = made
    settled = Authority(MESH, documents, [admission])
    assert settled.is_member(FOUR.node)
    assert not settled.evicted()
