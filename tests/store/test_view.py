"""What documents and statements give together: never more than the documents alone would."""

from __future__ import annotations

import fnmatch

import hypothesis.strategies as st
import msgspec
from hypothesis import given

from store import root, statements
from store.root import Delegation, Epoch, Evicted, Member, Reserved, RootDocument
from store.statements import Closing, Statements
from store.view import LOCKED, View, covers, covers_all, exceeds, follow
from tests.store.ledgers import identity

ONE, TWO, THREE = identity(1), identity(2), identity(3)
MESH = "ab" * 32
NEXT, OTHER = TWO.rotate(b"n" * 32), TWO.rotate(b"o" * 32)
END = Closing(1, 5, b"r" * 32)


def document(*members: Member, **more: object) -> RootDocument:
    return RootDocument("", 1, (), (ONE.key,), 1, members, **more)  # type: ignore[arg-type]  # keywords of the document


def view(made: RootDocument, *said: statements.Statement) -> View:
    return View(made, Statements.of(said), {made.version: made.reserved})


def rotation(old=TWO, new=NEXT, *ends: Closing, now: float = 1.0) -> statements.Rotation:
    return statements.rotate(MESH, old, new, ends or (END,), now=now)


globs = st.text(st.sampled_from("ab*?[]-"), max_size=5)


@given(globs, globs, st.text(st.sampled_from("ab-"), max_size=5))
def test_what_a_glob_covers_it_matches(wider: str, narrower: str, name: str) -> None:
    if covers(wider, narrower) and fnmatch.fnmatchcase(name, narrower):
        assert fnmatch.fnmatchcase(name, wider)


def test_globs_cover_what_they_surely_match() -> None:
    assert covers("*", "anything")
    assert covers("npm-*", "npm-a")
    assert covers("npm-*", "npm-a*")
    assert covers("npm-?", "npm-a")
    assert not covers("npm-a*", "npm-*")
    assert not covers("npm", "npm*")
    assert covers_all(("a*", "b"), ("a", "b"))
    assert not covers_all(("a*",), ("a", "b"))


def test_a_rotation_moves_the_rights_to_another_key_from_where_it_says() -> None:
    found = view(document(root.member_of(TWO)), rotation())
    assert found.members[TWO.node].key == NEXT.key
    assert found.rights(TWO.node, 1, 5).key == TWO.key  # type: ignore[union-attr]  # a member has rights
    assert found.rights(TWO.node, 1, 6).key == NEXT.key  # type: ignore[union-attr]  # a member has rights
    assert found.rights(TWO.node, 2, 1).key == NEXT.key  # type: ignore[union-attr]  # a member has rights


def test_two_rotations_of_one_key_lock_it_after_what_both_vouch_for() -> None:
    earlier = rotation(TWO, OTHER, Closing(1, 3, b"q" * 32))
    found = view(document(root.member_of(TWO)), rotation(), earlier)
    assert found.members[TWO.node].key == LOCKED
    assert found.rights(TWO.node, 1, 3).key == TWO.key  # type: ignore[union-attr]  # a member has rights
    assert found.rights(TWO.node, 1, 4).key == LOCKED  # type: ignore[union-attr]  # a member has rights


def test_a_key_that_was_given_up_never_comes_back() -> None:
    back = rotation(NEXT, TWO, now=2.0)
    found = follow(root.member_of(TWO), Statements.of([rotation(), back]), 1)
    assert found.key == LOCKED


def test_rotations_follow_each_other() -> None:
    again = NEXT.rotate(b"3" * 32)
    found = view(
        document(root.member_of(TWO)),
        rotation(NEXT, again, Closing(1, 9, b"s" * 32), now=2.0),
        rotation(),
    )
    keys = [found.rights(TWO.node, 1, seq).key for seq in (5, 9, 10)]  # type: ignore[union-attr]  # a member has rights
    assert keys == [TWO.key, NEXT.key, again.key]


def pin(seq: int, key: bytes = TWO.key, life: int = 1, *roles: str) -> Epoch:
    return Epoch(TWO.node, life, seq, bytes([seq]) * 32, key, roles or ("writer",), "", ("*",), 1)


def ends(*pins: Epoch, key: bytes = TWO.key, said: tuple[statements.Rotation, ...] = ()) -> list:
    member = msgspec.structs.replace(root.member_of(TWO, roles=("mirror",)), key=key)
    found = view(document(member, epochs=pins), *(said or (rotation(),)))
    return [(e.incarnation, e.seq, e.key, e.roles[0]) for e in found.all_epochs()]


def test_no_pin_of_a_key_reaches_beyond_the_end_of_it_that_its_owners_had_not_heard_of() -> None:
    assert ends(pin(3), pin(9)) == [(1, 3, TWO.key, "writer"), (1, 5, TWO.key, "writer")]
    assert ends(pin(9)) == [(1, 5, TWO.key, "writer")]
    assert ends(pin(9, TWO.key, 2)) == [(1, 5, TWO.key, "mirror")]  # a life that it never led
    found = view(document(root.member_of(TWO), epochs=(pin(9),)), rotation())
    assert [each.record for each in found.all_epochs()] == [END.record]


def test_pins_of_owners_who_knew_of_the_end_hold_whatever_is_said_later() -> None:
    assert ends(pin(9), key=NEXT.key) == [(1, 9, TWO.key, "writer")]
    gone = document(epochs=(pin(9), pin(3)), evicted=(Evicted(TWO.node, "", 0),))
    assert [each.seq for each in view(gone, rotation()).all_epochs()] == [3, 9]


def test_a_key_ends_nothing_below_where_one_before_it_has_ended() -> None:
    again = rotation(NEXT, NEXT.rotate(b"3" * 32), Closing(1, 2, b"s" * 32), now=2.0)
    assert ends(said=(rotation(), again)) == [(1, 5, TWO.key, "mirror")]
    assert ends(pin(4, ONE.key), pin(9), said=(rotation(TWO, NEXT, Closing(1, 3, b"s" * 32)),)) == [
        (1, 4, ONE.key, "writer")
    ]


def delegated(**changes: object) -> RootDocument:
    delegation = Delegation(TWO.node, ("mirror", "writer"), ("npm-*",), ("reef",), 5000, 2)
    return document(
        root.member_of(TWO, scopes=("npm-*", "pypi")),
        delegations=(msgspec.structs.replace(delegation, **changes),),
    )


def third(**changes: object) -> Member:
    given: dict = {"roles": ("writer",), "scopes": ("npm-x",), "site": "reef", "joined": 1.0}
    return root.member_of(THREE, **{**given, **changes})


def test_an_admission_gives_what_was_delegated() -> None:
    found = view(delegated(), statements.admit(MESH, TWO, 1, third()))
    assert found.members[THREE.node].scopes == ("npm-x",)
    assert found.admitted == {THREE.node: TWO.node}


def test_an_admission_beyond_the_delegation_gives_nothing() -> None:
    for member, number in (
        (third(scopes=("pypi",)), 1),
        (third(scopes=("*",)), 1),
        (third(roles=("admin",)), 1),
        (third(roles=("owner", "writer")), 1),
        (third(roles=()), 1),
        (third(site="shore"), 1),
        (third(joined=6.0), 1),
        (third(), 3),
        (third(), 0),
    ):
        found = view(delegated(), statements.admit(MESH, TWO, number, member))
        assert THREE.node not in found.members
    void = statements.admit(MESH, TWO, 1, third())
    nobody = document(root.member_of(TWO))
    assert THREE.node not in view(nobody, void).members
    gone = msgspec.structs.replace(delegated(), evicted=(Evicted(THREE.node, "", 0),))
    assert THREE.node not in view(gone, void).members


def test_a_delegate_gives_no_more_than_it_has() -> None:
    delegation = delegated().delegations[0]
    mirror = root.member_of(TWO, roles=("mirror",), scopes=("npm-*",))
    assert "writer" in exceeds(mirror, delegation, third())
    assert not exceeds(mirror, delegation, third(roles=("mirror",)))
    narrow = root.member_of(TWO, scopes=("npm-a",))
    assert "npm-a" in exceeds(narrow, delegation, third())


def test_an_admission_by_a_key_that_was_given_up_is_void() -> None:
    made = statements.admit(MESH, TWO, 1, third())
    assert THREE.node not in view(delegated(), made, rotation()).members
    again = statements.admit(MESH, NEXT, 1, third())
    assert THREE.node in view(delegated(), made, again, rotation()).members


def test_reservations_bind_the_past_as_they_were() -> None:
    reserved = (Reserved("npm-*", "", "reef"),)
    epoch = Epoch(TWO.node, 1, 5, b"r" * 32, TWO.key, ("writer",), "", ("*",), 1)
    made = msgspec.structs.replace(
        document(root.member_of(TWO), reserved=(), epochs=(epoch,)), version=2
    )
    found = View(made, Statements(), {1: reserved, 2: ()})
    assert found.rights(TWO.node, 1, 5).reserved == reserved  # type: ignore[union-attr]  # a member has rights
    assert found.rights(TWO.node, 1, 6).reserved == ()  # type: ignore[union-attr]  # a member has rights
