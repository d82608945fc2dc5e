"""Events: what they say, that they are the same everywhere, and who hears of them."""

from __future__ import annotations

from node.events.happening import event_of, may_hear, repository_of, wanted
from store import hlc
from store.journal import Entry, Positioned

STAMP = hlc.stamp(1000.0)


def entry(kind: str, change: str, repository: str, name: str, **fields: object) -> Positioned:
    told: dict[str, object] = {"package": "p", "hlc": STAMP, "author": "a" * 64, **fields}
    package = str(told.pop("package"))
    return Positioned(7, Entry(kind, change, repository, package, name, **told))  # type: ignore[arg-type]  # keywords of Entry


def test_each_kind_has_its_event() -> None:
    file = event_of(entry("f", "created", "npm", "a.tgz", detail="sha256:0", size=5), "n")
    assert (file.type, file.repository, file.name) == ("artifact.created", "npm", "a.tgz")
    assert (file.digest, file.size, file.value, file.at) == ("sha256:0", 5, "", 1000.0)
    assert (file.node, file.seen_by) == ("a" * 64, "n")
    tag = event_of(entry("p", "updated", "npm", "latest", detail="2.0"), "n")
    assert (tag.type, tag.value, tag.digest) == ("tag.updated", "2.0", "")
    assert event_of(entry("m", "removed", "npm", "yanked"), "n").type == "mark.deleted"
    user = event_of(entry("s", "created", "user", "me"), "n")
    assert (user.type, user.repository, user.name) == ("user.created", "", "me")
    made = event_of(entry("s", "created", "repository", "wheels"), "n")
    assert (made.type, made.repository) == ("repository.created", "wheels")
    odd = event_of(entry("s", "created", "x\ndata: y", "me"), "n")
    assert odd.type == "x_data__y.created"  # nobody's setting ends a line of the stream
    assert repository_of(entry("s", "created", "token", "x")) == ""


def test_ids_are_the_same_on_every_node_and_differ_otherwise() -> None:
    first = entry("f", "created", "npm", "a", record=b"1" * 32)
    assert event_of(first, "one").id == event_of(first._replace(position=9), "two").id
    others = [
        entry("f", "removed", "npm", "a", record=b"1" * 32),
        entry("f", "created", "npm", "b", record=b"1" * 32),
        entry("f", "created", "npm", "a", record=b"2" * 32),
        entry("f", "created", "npm", "a", record=b"1" * 32, detail="x"),
    ]
    assert len({event_of(each, "n").id for each in [first, *others]}) == 5


def test_what_one_may_not_read_one_does_not_hear_of() -> None:
    file = event_of(entry("f", "created", "npm", "a"), "n")
    user = event_of(entry("s", "created", "user", "me"), "n")
    assert may_hear(file, lambda key: key == "npm", manages=False)
    assert not may_hear(file, lambda _: False, manages=False)
    assert may_hear(user, lambda _: False, manages=True)
    assert not may_hear(user, lambda _: True, manages=False)


def test_patterns() -> None:
    assert wanted((), "artifact.created")
    assert wanted(("tag.*", "artifact.*"), "artifact.created")
    assert not wanted(("tag.*",), "artifact.created")
