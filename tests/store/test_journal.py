"""The journal: nothing that changes the catalog is missing from it, and it stays bounded."""

from __future__ import annotations

from functools import partial

import pytest

from store import fold, journal
from store.database import Database
from store.facts import Delete, Flag, Point, Setting
from store.journal import Entry, Journal
from tests.store.ledgers import deliver, file, mesh, publish, single


def entry(number: int) -> Entry:
    return Entry(fold.FILE, journal.CREATED, "r", "p", f"{number:04}")


async def test_a_commit_notes_what_it_changed() -> None:
    node = await single()
    log = Journal(node.port)
    await node.append(Setting("user", "me", b"{}"))
    first = await node.append(publish("a", "one", mutable=True))
    await node.append(publish("a", "two", mutable=True))
    await node.append(Point("generic", "demo", "latest", b"1\xff"))
    await node.append(Flag("generic", "demo", "1", "a", "yanked", b""))
    last = await node.append(Delete("generic", "a", ()))
    found = await log.after(0)
    assert [each.position for each in found] == list(range(1, len(found) + 1))
    told = [(e.kind, e.change, e.repository, e.name, e.version) for _, e in found]
    assert told == [
        ("s", "created", "user", "me", ""),
        ("f", "created", "generic", "a", "1"),
        ("f", "updated", "generic", "a", "1"),
        ("p", "created", "generic", "latest", ""),
        ("m", "created", "generic", "yanked", "1"),
        ("f", "removed", "generic", "a", "1"),
    ]
    published, pointed, marked, gone = (found[n].entry for n in (1, 3, 4, 5))
    assert published.detail == file("a", "one").digest
    assert (published.size, published.record, published.author) == (3, first, node.identity.node)
    assert (pointed.detail, marked.detail) == ("1�", "a")
    assert (gone.package, gone.detail, gone.record) == ("demo", file("a", "two").digest, last)
    assert (await log.bounds(), await log.newest()) == ((0, 6), 6)
    assert await log.after(6) == []
    assert [each.position for each in await log.after(4)] == [5, 6]


async def test_a_file_that_moves_leaves_its_version() -> None:
    node = await single()
    await node.append(publish("a", "one", mutable=True, version="1"))
    await node.append(publish("a", "two", mutable=True, version="2"))
    found = [(e.change, e.version) for _, e in await Journal(node.port).after(1)]
    assert found == [("removed", "1"), ("updated", "2")]


async def test_what_peers_carry_is_noted_with_its_author() -> None:
    one, two = await mesh(2)
    await one.append(publish("a"))
    before = await Journal(two.port).newest()
    await deliver(one, two)
    (found,) = await Journal(two.port).after(before)
    assert (found.entry.name, found.entry.author) == ("a", one.identity.node)
    await deliver(one, two)
    assert await Journal(two.port).newest() == found.position


async def test_what_fails_leaves_nothing() -> None:
    node = await single()

    def refuse(_: object) -> None:
        raise ValueError

    with pytest.raises(ValueError):
        await node.ledger.append([publish("a")], actor="me", check=refuse)
    assert await Journal(node.port).bounds() == (0, 0)


async def test_it_is_read_in_pages_and_trimmed(facts: Database) -> None:
    log = Journal(facts)
    many = [entry(number) for number in range(1, 1203)]
    await facts.write(partial(journal.write, entries=many))
    await facts.write(partial(journal.write, entries=[]))
    await facts.write(partial(journal.write, entries=[entry(1203)]))
    page = await log.after(499)
    assert (page[0].position, page[0].entry.name) == (500, "0500")
    assert page[-1].position == 1000
    assert [each.position for each in await log.after(1200)] == [1201, 1202, 1203]
    assert await log.trim(kept=500) == 1
    assert await log.bounds() == (500, 1203)
    assert await log.trim(kept=0) == 2
    assert await log.bounds() == (1202, 1203)  # the last row tells where to go on
    await facts.write(partial(journal.write, entries=[entry(1204)]))
    assert await log.newest() == 1204
