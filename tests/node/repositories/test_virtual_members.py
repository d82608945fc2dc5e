"""Who stands behind a virtual repository, whatever the settings of several nodes came to say."""

from __future__ import annotations

import pytest

from formats.contract import Format
from formats.pypi import FORMAT
from node.access.gate import Caller, Gate
from node.directory import Directory, GrantEntry, RepositoryEntry
from node.repositories.virtual.members import (
    DEPTH_MAX,
    LEAVES_MAX,
    VISITS_MAX,
    Crew,
    gather,
    judge,
)
from node.repositories.virtual.settings import MEMBERS_MAX, Composition, Member
from store.errors import ConflictError, RejectedError

ANN = Caller("ann", "user")


class NoSettings:
    async def settings(self, kind: str) -> list[object]:
        return []

    async def setting(self, kind: str, key: str) -> None:
        return None


class Mesh:
    """Repositories, and who may read the private ones."""

    def __init__(self, *entries: RepositoryEntry, readable: tuple[str, ...] = ()) -> None:
        self.entries = {each.key: each for each in entries}
        directory = Directory(NoSettings())  # type: ignore[arg-type]  # a fake of it
        for key in readable:
            directory._entries["grant"][key] = GrantEntry(
                id=key, principal_type="user", principal="ann", repository=key, actions=("read",)
            )
        self.gate = Gate(directory, anonymous_read=True)

    def crew(self, key: str = "all", served: Format = FORMAT) -> Crew:
        return gather(self.entries[key], self.entries.get, self.gate, ANN, served)

    def keys(self, key: str = "all") -> list[str]:
        return [each.entry.key for each in self.crew(key).leaves]


def local(key: str, kind: str = "local", *, public: bool = True) -> RepositoryEntry:
    return RepositoryEntry(key=key, format="pypi", repo_type=kind, is_public=public)


def virtual(key: str, *members: str | Member, public: bool = True, **more) -> RepositoryEntry:
    found = tuple(Member(key=each) if isinstance(each, str) else each for each in members)
    entry = local(key, "virtual", public=public)
    entry.virtual = Composition(members=found, **more)
    return entry


def test_members_come_in_order_those_of_members_in_their_place() -> None:
    mesh = Mesh(*map(local, "abcd"), virtual("in", "c", "b"), virtual("all", "d", "in", "a"))
    assert mesh.keys() == ["d", "c", "b", "a"]


def test_a_circle_that_settings_merged_into_ends() -> None:
    mesh = Mesh(local("a"), virtual("in", "all", "in", "a"), virtual("all", "in", "all"))
    assert mesh.keys() == ["a"]
    assert mesh.keys("in") == ["a"]


def test_what_may_not_be_read_is_not_there_nor_what_is_below_it() -> None:
    entries = [local("a"), local("b", public=False), local("c"), local("d", public=False)]
    mesh = Mesh(
        *entries,
        virtual("in", "c", public=False),
        virtual("all", "a", "b", "in", "d"),
        readable=("d",),
    )
    assert mesh.keys() == ["a", "d"]


def test_members_that_are_gone_or_of_another_format_are_passed_over() -> None:
    other = RepositoryEntry(key="npm", format="npm")
    poetry = RepositoryEntry(key="poetry", format="poetry")
    mesh = Mesh(local("a"), other, poetry, virtual("all", "gone", "npm", "poetry", "a"))
    assert mesh.keys() == ["poetry", "a"]


def test_no_settings_make_a_request_ask_without_end() -> None:
    wide = [virtual(f"v{n}", *(f"v{m}" for m in range(MEMBERS_MAX) if m > n)) for n in range(32)]
    assert Mesh(*wide, virtual("all", "v0")).keys() == []  # and it returned
    leaves = [local(f"l{n}") for n in range(2 * MEMBERS_MAX + MEMBERS_MAX)]
    names = [each.key for each in leaves]
    parts = [virtual(f"p{n}", *names[n * 32 : n * 32 + 32]) for n in range(3)]
    assert len(Mesh(*leaves, *parts, virtual("all", "p0", "p1", "p2")).keys()) == LEAVES_MAX
    many = virtual("all", *names)
    assert len(Mesh(*leaves, many).keys()) == MEMBERS_MAX
    deep = [virtual(f"d{n}", f"d{n + 1}") for n in range(DEPTH_MAX + 2)]
    bottom = virtual(f"d{DEPTH_MAX + 2}", "a")
    assert Mesh(local("a"), *deep, bottom).keys("d0") == []
    assert VISITS_MAX < 1000


def test_of_too_many_members_none_is_looked_up_outside() -> None:
    """The one that owns the name may have been cut off."""
    leaves = [local(f"l{n}") for n in range(2 * LEAVES_MAX)]
    names = [each.key for each in leaves]
    parts = [virtual(f"p{n}", *names[n * 32 : n * 32 + 32]) for n in range(4)]
    below = ["up", *(each.key for each in parts)]
    mesh = Mesh(*leaves, *parts, local("up", "remote"), virtual("all", *below, guard=True))
    assert mesh.keys()[0] == "l0"
    mesh = Mesh(*leaves, *parts, local("up", "remote"), virtual("all", *below, guard=False))
    assert mesh.keys()[0] == "up"
    assert Mesh(local("up", "remote"), virtual("all", "up")).keys() == ["up"]


def test_rules_add_up_along_the_way() -> None:
    inner = virtual("in", Member(key="a", deny=("x*",)))
    mesh = Mesh(local("a"), inner, virtual("all", Member(key="in", allow=("?1", "?2"))))
    (leaf,) = mesh.crew().leaves
    assert [name for name in ("x1", "y1", "y2", "y3") if leaf.admits(name)] == ["y1", "y2"]


def test_patterns_are_read_in_the_form_that_names_have() -> None:
    mesh = Mesh(local("a"), virtual("all", Member(key="a", allow=("My_*",))))
    (leaf,) = mesh.crew().leaves
    assert leaf.admits("my-thing")


def test_the_guard_knows_the_owners_that_have_a_say() -> None:
    inner = virtual("in", "up", "b", guard=False)
    mesh = Mesh(
        local("a"),
        local("b"),
        local("up", "remote"),
        inner,
        virtual("all", "in", Member(key="a", deny=("open*",)), unguarded=("free*",)),
    )
    up = next(each for each in mesh.crew().leaves if each.remote)
    assert set(up.owners("thing")) == {"a", "b"}
    assert set(up.owners("open-thing")) == {"b"}
    assert set(up.owners("free-thing")) == set()
    assert [list(e.owners("thing")) for e in mesh.crew("in").leaves if e.remote] == [[]]


def test_hidden_owners_guard_unless_they_are_to_guard_for_readers_alone() -> None:
    entries = [local("a"), local("b", public=False), local("c"), local("up", "remote")]
    hidden = [virtual("in", "c", "far", public=False), local("far", "remote")]
    mesh = Mesh(*entries, *hidden, virtual("all", "b", "in", "up", "a"))
    assert mesh.keys() == ["up", "a"]
    assert mesh.crew().keys == ("up", "a")
    assert mesh.crew().guarding == ("b", "c", "a")
    assert set(mesh.crew().leaves[0].owners("x")) == {"a", "b", "c"}
    mesh = Mesh(*entries, *hidden, virtual("all", "b", "in", "up", "a", guard_for="readers"))
    assert mesh.crew().guarding == ("a",)
    mesh = Mesh(*entries, *hidden, virtual("all", "b", "in", "up", "a", guard_for="something new"))
    assert mesh.crew().guarding == ("b", "c", "a")
    mesh = Mesh(*entries, *hidden, virtual("all", "b", "in", "up", "a", guard=False))
    assert mesh.crew().guarding == ()


def test_reserved_names_are_nobodys_outside() -> None:
    mesh = Mesh(
        local("a"),
        local("up", "remote"),
        virtual("all", "a", "up", guard=False, reserved=("corp-*",), unguarded=("corp-open",)),
    )
    ours, up = mesh.crew().leaves
    assert ours.admits("corp-x")
    assert not up.admits("corp-x")
    assert up.admits("corp-open")


def test_documents_of_other_members_or_rules_have_other_marks() -> None:
    entries = [local("a"), local("b", public=False)]
    one = Mesh(*entries, virtual("all", "a", "b")).crew()
    two = Mesh(*entries, virtual("all", "a", "b"), readable=("b",)).crew()
    three = Mesh(*entries, virtual("all", "b", "a"), readable=("b",)).crew()
    four = Mesh(*entries, virtual("all", "a", Member(key="b", deny=("x",))), readable=("b",)).crew()
    assert len({each.mark for each in (one, two, three, four)}) == 4
    assert not one.private
    assert two.private


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        (virtual("all"), RejectedError),
        (virtual("all", "gone"), RejectedError),
        (virtual("all", "npm"), RejectedError),
        (virtual("all", "a", "a"), RejectedError),
        (virtual("all", "all"), ConflictError),
        (virtual("all", "a", "in"), ConflictError),
        (virtual("all", *(f"x{n}" for n in range(MEMBERS_MAX + 1))), RejectedError),
        (virtual("all", "a", deploy="b"), RejectedError),
        (virtual("all", "a", "up", deploy="up"), RejectedError),
        (virtual("all", "d0"), RejectedError),
    ],
)
def test_what_cannot_work_is_refused(entry: RepositoryEntry, error: type[Exception]) -> None:
    entries = [local("a"), local("b"), local("up", "remote"), virtual("in", "mid")]
    entries += [virtual("mid", "all"), RepositoryEntry(key="npm", format="npm")]
    entries += [virtual(f"d{n}", f"d{n + 1}") for n in range(DEPTH_MAX + 2)]
    known = {each.key: each for each in entries}
    with pytest.raises(error):
        judge(entry, known.get, FORMAT)


def test_what_can_work_is_taken() -> None:
    known = {"a": local("a"), "in": virtual("in", "a"), "up": local("up", "remote")}
    judge(virtual("all", "in", "up", "a", deploy="a"), known.get, FORMAT)
