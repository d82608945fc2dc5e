"""What is disputed is listed, with everything that was published there; nothing else is."""

from __future__ import annotations

from functools import partial

import sqlalchemy as sa

from store import schema
from store.conflicts import Conflicts, Count, rivals
from store.database import Database, open_database
from store.digest import Digest
from store.facts import Delete, Fact, File, Point, Publish, Restore
from store.fold import Claim
from tests.store.catalogs import digest, file, insert, pointer
from tests.store.ledgers import mesh
from tests.store.test_references import plan

NONE = b"\x90"  # no siblings


def publish(text: str, path: str = "p") -> Publish:
    return Publish("r", "p", "1", (File(path, "", str(digest(text)), len(text)),))


def claims(*facts: Fact) -> list[Claim]:
    return [Claim(bytes([n]) * 32, 0, n, f"{n}" * 64, fact) for n, fact in enumerate(facts, 1)]


def test_every_content_is_listed_once_with_who_came_first() -> None:
    found = rivals(claims(publish("one"), publish("two"), publish("one")))
    assert [(each.digest, each.author[0]) for each in found] == [
        (digest("one"), "1"),
        (digest("two"), "2"),
    ]
    assert [each.size for each in found] == [3, 3]
    assert not any(each.deleted for each in found)


def test_what_is_deleted_is_told_until_it_is_restored_or_published_again() -> None:
    facts: list[Fact] = [publish("one"), publish("two"), Delete("r", "p", (b"\1" * 32,))]
    assert [each.deleted for each in rivals(claims(*facts))] == [True, False]
    facts.append(Restore("r", "p", (b"\3" * 32,)))
    assert [each.deleted for each in rivals(claims(*facts))] == [False, False]
    facts[3] = publish("one")
    assert [(r.deleted, r.author[0]) for r in rivals(claims(*facts))] == [
        (False, "4"),
        (False, "2"),
    ]


def test_mutable_files_have_no_rivals() -> None:
    mutable = Publish("r", "p", "1", (File("p", "", str(digest("x")), 1),), mutable=True)
    assert rivals(claims(mutable)) == []


async def test_pages_and_counts(facts: Database) -> None:
    await facts.write(
        insert(
            schema.files,
            *(file("r", "p", "1", f"bad{n}", conflicted=True) for n in range(5)),
            *(file("r", "p", "1", f"waits{n}", pending=True) for n in range(3)),
            *(file("r", "p", "1", f"good{n}") for n in range(3)),
            file("s", "p", "1", "good"),
            file("t", "p", "1", "bad", conflicted=True, pending=True),
        )
    )
    quiet = [{**pointer("r", "q", f"{n}"), "siblings": NONE} for n in range(3)]
    await facts.write(
        insert(schema.pointers, *quiet, pointer("r", "a", "2"), pointer("r", "b", "1"))
    )
    conflicts = Conflicts(facts)
    assert await conflicts.counts() == [Count("r", 5, 2, 3), Count("t", 1, 0, 1)]
    first = await conflicts.files("r", limit=3)
    rest = await conflicts.files("r", after=first[-1].winner.path, limit=3)
    assert [each.winner.path for each in (*first, *rest)] == [f"bad{n}" for n in range(5)]
    (tag,) = await conflicts.pointers("r", limit=1)
    assert (tag.package, tag.siblings) == ("a", (b"x",))
    (tag,) = await conflicts.pointers("r", after=(tag.package, tag.name))
    assert tag.package == "b"
    waiting = await conflicts.pending("r", after="waits0")
    assert [each.path for each in waiting] == ["waits1", "waits2"]
    for text in ("\0", "\ud800"):
        assert await conflicts.files(text) == await conflicts.rivals("r", text) == []
        assert (
            await conflicts.pending(text) == await conflicts.pointers("r", after=(text, "")) == []
        )


async def test_two_authors_apart_are_told_of_their_conflict() -> None:
    """What one node shows changes when the other's earlier publish arrives, and it says so."""
    one, two = await mesh(2)
    await one.append(publish("one"), Point("r", "p", "latest", b"1"))
    one.clock.now += 1
    await two.append(publish("two"), Point("r", "p", "latest", b"2"))
    lost: list[str] = []
    two.ledger.observe(partial(_collect, lost))
    await two.ledger.apply(await one.batches())
    conflicts = Conflicts(two.port)  # type: ignore[arg-type]  # a fake of it
    (found,) = await conflicts.files("r")
    assert found.winner.digest == digest("one")
    assert [each.author for each in found.rivals] == [one.identity.node, two.identity.node]
    assert lost == [str(digest("two"))]
    (tag,) = await conflicts.pointers("r")
    assert (tag.value, tag.siblings) == (b"2", (b"1",))


async def _collect(lost: list[str], change: object) -> None:
    lost += [cell.lost for cell in change.touched if cell.lost]  # type: ignore[attr-defined]  # what the test gathers


async def test_looking_searches_indexes(sqlite_url: str) -> None:
    statements: list[str] = []
    async with open_database(sqlite_url, schema.facts) as facts:
        engine = facts._backend._reading  # type: ignore[attr-defined]  # SQLite's has it
        sa.event.listen(
            engine, "before_cursor_execute", lambda *values: statements.append(values[2])
        )
        conflicts = Conflicts(facts)
        await conflicts.counts()
        await conflicts.files("r")
        await conflicts.pointers("r")
        await conflicts.pending("r")
        assert await conflicts.rivals("r", "p") == []
        asked = [statement for statement in statements if statement.startswith("SELECT")]
        plans = [await facts.read(partial(plan, statement)) for statement in asked]
    assert len(asked) == 7
    for statement, steps in zip(asked, plans, strict=True):
        assert "INDEX" in steps[0] or "PRIMARY KEY" in steps[0], (statement, steps)


def test_digests_are_digests() -> None:
    (found,) = rivals(claims(publish("one")))
    assert found.digest == Digest.of(b"one")
