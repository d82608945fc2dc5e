"""Which blobs are needed: everything that is visible, disputed, or may come back."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from store import canonical, fold, hlc, schema
from store import references as module
from store.database import Database, open_database
from store.digest import Digest
from store.facts import Delete, File, Publish
from store.references import References, published
from tests.store import ledgers
from tests.store.catalogs import digest, file, insert, pointer
from tests.store.ledgers import single

HIDDEN = Digest("sha512", "5" * 128)


def publish(path: str, content: Digest, metadata: str = "") -> Publish:
    return Publish("r", "p", "1", (File(path, "", str(content), 1, metadata_digest=metadata),))


def claim(number: int, fact: Any) -> dict[str, Any]:
    return {
        "record": number.to_bytes(32),
        "ordinal": 0,
        "cell": fold.cell_keys(fact)[0],
        "hlc": 1,
        "author": "a",
        "fact": canonical.encode(fact),
    }


def grave(path: str, deleted: float) -> dict[str, Any]:
    stamp = hlc.stamp(deleted)
    return {"repository": "r", "path": path, "digest": "", "hlc": stamp, "records": b""}


@pytest.fixture
async def references(facts: Database) -> References:
    rows = [
        file("r", "p", "1", "plain"),
        file("r", "p", "1", "twin", digest=str(digest("plain"))),
        file("r", "p", "1", "described", metadata_digest=str(digest("its metadata"))),
        file("r", "p", "1", "disputed", conflicted=True),
    ]
    await facts.write(insert(schema.files, *rows))
    pointers = [
        pointer("r", "p", "tag", str(digest("tagged")).encode()),
        pointer("r", "p", "long", str(HIDDEN).encode()),
        pointer("r", "p", "version", b"1.0"),
        pointer("r", "p", "document", str(digest("no")).encode() + b"x" * 5000),
        pointer("r", "p", "binary", b"\xff" * 71),
    ]
    await facts.write(insert(schema.pointers, *pointers))
    await facts.write(insert(schema.burnt, grave("late", 100.0), grave("early", 50.0)))
    facts_ = [
        publish("disputed", digest("disputed")),
        publish("disputed", digest("rival"), str(digest("rival's metadata"))),
        publish("late", digest("late")),
        Delete("r", "late", ()),
        publish("early", digest("early")),
    ]
    claims = [claim(number, fact) for number, fact in enumerate(facts_)]
    await facts.write(insert(schema.claims, *claims))
    return References(facts)


NEEDED = {
    *(digest(text) for text in ("plain", "described", "its metadata", "disputed", "tagged")),
    *(digest(text) for text in ("rival", "rival's metadata", "late")),
    HIDDEN,
}


@pytest.mark.parametrize("page", [1, 2, 1000])
async def test_all_needed_digests_are_named(
    references: References, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", page)
    monkeypatch.setattr(module, "CELLS", page)
    assert {each async for each in references.all(deleted_since=100.0)} == NEEDED
    earlier = {each async for each in references.all(deleted_since=50.0)}
    assert earlier == NEEDED | {digest("early")}


@pytest.mark.parametrize("size", [1, 2, 500])
async def test_any_number_of_digests_can_be_asked_for(
    references: References, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ASKED_MAX", size)
    asked = {*NEEDED, digest("early"), digest("no"), digest("unknown")}
    assert await references.among(asked, deleted_since=100.0) == NEEDED
    assert await references.among(asked, deleted_since=50.0) == NEEDED | {digest("early")}
    assert await references.among([], deleted_since=0.0) == set()


@pytest.mark.parametrize("remembered", [0, 1000])
async def test_rivals_are_remembered_for_a_while(
    references: References, facts: Database, remembered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(module, "RIVALS_MAX", remembered)
    monkeypatch.setattr(references, "_clock", lambda: now)

    async def ask() -> set[Digest]:
        return await references.among([digest("rival"), digest("x")], deleted_since=100.0)

    assert await ask() == {digest("rival")}
    await facts.write(lambda c: c.execute(sa.delete(schema.claims)).rowcount)
    assert await ask() == ({digest("rival")} if remembered else set())
    now = module.RIVALS_FRESH
    assert await ask() == set()


async def test_what_is_deleted_while_rivals_are_remembered_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = await single()
    references = References(node.port, clock=node.clock)
    for name in ("a", "b", "c"):
        await node.append(ledgers.publish(name, name))
    since = node.clock() - 1000.0

    async def kept(name: str) -> bool:
        made = Digest.parse(ledgers.file(name, name).digest)
        return bool(await references.among([made, digest("unknown")], deleted_since=since))

    assert await kept("a")
    await node.append(Delete("generic", "a", ()))
    assert await kept("a"), "a sweep under way may come to it now, and it may be restored"
    monkeypatch.setattr(module, "CHANGES_MAX", 1)
    await node.append(Delete("generic", "b", ()), Delete("generic", "c", ()))
    assert await kept("b")
    assert await kept("c")


def test_only_publishes_name_blobs() -> None:
    assert published(canonical.encode(Delete("r", "p", ()))) == []
    assert published(canonical.encode(publish("p", digest("x")))) == [digest("x")]


async def test_asking_searches_indexes(sqlite_url: str) -> None:
    statements: list[str] = []
    async with open_database(sqlite_url, schema.facts) as facts:
        engine = facts._backend._reading  # type: ignore[attr-defined]  # SQLite's has it
        sa.event.listen(
            engine, "before_cursor_execute", lambda *values: statements.append(values[2])
        )
        await References(facts).among([digest("x")], deleted_since=0.0)
        assert {each async for each in References(facts).all(deleted_since=0.0)} == set()
        asked = [statement for statement in statements if statement.startswith("SELECT")]
        assert len(asked) == 11
        plans = [await facts.read(partial(plan, statement)) for statement in asked]
    for statement, steps in zip(asked, plans, strict=True):
        assert len(steps) == 1, (statement, steps)  # no sorting
        assert "INDEX" in steps[0], (statement, steps)


def plan(statement: str, connection: sa.Connection) -> list[str]:
    """Say how SQLite would find what a statement asks for."""
    values = ("",) * statement.count("?")
    return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
