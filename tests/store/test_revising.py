"""Drafts of root documents: whose past they vouch for, and what they leave as it was."""

from __future__ import annotations

from store import revising, root
from store.root import Delegation, Reserved, RootDocument
from tests.store.ledgers import NOW, identity

ONE, TWO, THREE = identity(1), identity(2), identity(3)
MESH = "ab" * 32


def test_whoever_loses_something_gets_an_epoch_and_nobody_else() -> None:
    members = [root.member_of(who, scopes=("*",)) for who in (ONE, TWO, THREE)]
    heads = {(who.node, 5): (9, bytes([9]) * 32) for who in (ONE, TWO, THREE)}
    before = {b"1" * 32: RootDocument("", 1, (), (ONE.key,), 1, tuple(members))}

    def epochs(*after: root.Member, **changes: object) -> list[tuple[str, int, tuple[str, ...]]]:
        drafted = revising.revise(MESH, before, members=after, heads=heads, now=NOW, **changes)
        return [(epoch.node, epoch.seq, epoch.scopes) for epoch in drafted.epochs]

    assert epochs(*members) == []
    assert epochs(*members[:2]) == [(THREE.node, 9, ("*",))]
    narrowed = root.member_of(TWO, scopes=("a-*",))
    assert epochs(members[0], narrowed, members[2]) == [(TWO.node, 9, ("*",))]
    rotated = root.member_of(TWO.rotate())
    assert epochs(members[0], rotated, members[2]) == [(TWO.node, 9, ("*",))]
    wider = root.member_of(TWO, roles=("writer", "mirror"))
    assert epochs(members[0], wider, members[2]) == []
    assert len(epochs(*members, reserved=(Reserved("*", "acme-", "reef"),))) == 3


def test_a_draft_leaves_as_it_was_what_it_does_not_name() -> None:
    members = tuple(root.member_of(who) for who in (ONE, TWO, THREE))
    terms = [Delegation(who.node, ("writer",), ("*",), ("*",), 9, 9) for who in (TWO, THREE)]
    reserved = (Reserved("*", "acme-", "reef"),)
    before = RootDocument("", 1, (), (ONE.key,), 1, members, (), reserved, 0, b"", tuple(terms))
    drafted = revising.revise(
        MESH, {b"1" * 32: before}, members=members[:2], heads={}, now=NOW, owners=None
    )
    assert (drafted.owners, drafted.threshold) == (before.owners, before.threshold)
    assert drafted.reserved == reserved
    assert drafted.delegations == (terms[0],)  # who is out admits nobody
    assert [each.node for each in drafted.evicted] == [THREE.node]
