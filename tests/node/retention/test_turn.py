"""One member applies each repository's policies."""

from __future__ import annotations

from node.directory import RepositoryEntry
from node.retention.turn import ours
from store import root
from tests.store.ledgers import identity


def test_exactly_one_writer_takes_each_repository() -> None:
    members = {}
    for number, site in ((1, "reef"), (2, "shore"), (3, "shore"), (4, "shore")):
        roles = ("mirror",) if number == 4 else ("writer",)
        member = root.member_of(identity(number), roles=roles, site=site, name="n")
        members[member.node] = member
    homes = ("", "reef", "shore", "nowhere", *members)
    entries = [RepositoryEntry(key=f"r{n}", format="pypi", home=h) for n, h in enumerate(homes)]
    taken = [(key, node) for node in members for key in ours(entries, members, node)]
    assert sorted(key for key, _ in taken) == sorted(each.key for each in entries)
    at = dict(taken)
    assert members[at["r1"]].site == "reef"
    assert members[at["r2"]].site == "shore"
    assert all("writer" in members[node].roles for node in at.values())
