"""The ledger over the real port: SQLite and PostgreSQL hold the same catalog as the stand-in."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from store import identity, schema
from store.changes import Change
from store.database import Database
from store.facts import Cached, Confirm, Delete, Flag, Point, Resolve, Restore, Setting
from store.ledger import Ledger
from tests.store.ledgers import CATALOG, Clock, Node, file, mesh, publish, revise


async def tables(database: Database) -> dict[str, list[dict[str, object]]]:
    """The catalog as ``Node.catalog`` gives it."""

    def unit(connection: sa.Connection) -> dict[str, list[dict[str, object]]]:
        found = {}
        for name in CATALOG:
            query = sa.select(schema.facts.tables[name])
            rows = [dict(row) for row in connection.execute(query).mappings()]
            found[name] = sorted(rows, key=repr)
        return found

    return await database.read(unit)


async def story(one: Node, two: Node) -> None:
    """Every kind of fact, by two authors, with conflicts."""
    await one.append(Setting("repository", "generic", b'{"home":"reef"}'))
    rival = await two.append(publish("a", "two"), publish("m", "old", mutable=True))
    await one.append(publish("a", "one"), publish("gone"), publish("m", "new", mutable=True))
    await one.append(Delete("generic", "gone", ()), Confirm("generic", "a", rival))
    await two.append(Cached("generic", "demo", "1", (file("c", "x", checksums=(("md5", "0"),)),)))
    await two.append(
        Point("generic", "demo", "latest", b"1"), Flag("generic", "demo", "1", "", "yanked", b"x")
    )
    await one.append(
        Point("generic", "demo", "latest", b"2"), Resolve("generic", "a", file("a", "one").digest)
    )
    await one.append(Restore("generic", "gone", ()), Setting("user", "ünïcode", b"{}"))
    await one.append(Delete("generic", "m", ()), Point("generic", "demo", "latest", None))


async def test_a_database_agrees_with_the_stand_in(facts: Database) -> None:
    one, two, three = await mesh(3, sites=("reef", "shore", "shore"))
    await story(one, two)
    changes: list[Change] = []

    async def observe(change: Change) -> None:
        changes.append(change)

    ledger = Ledger(facts, identity.Identity.generate(), clock=one.clock)
    await ledger.initialise()
    ledger.observe(observe)
    members = [*one.ledger.authority.members().values()]
    from store.root import member_of

    await revise(one, [*members, member_of(ledger.identity)])
    await ledger.rebase(await one.ledger.roots())
    await three.ledger.adopt((await one.ledger.roots())[-1])
    batches = [*await two.batches(), *await one.batches()]
    for node in (ledger, three.ledger):
        outcomes = await node.apply(batches)
        assert not any(outcome.refused for outcome in outcomes)
    assert await tables(facts) == three.catalog()
    assert {change.hlc > 0 for change in changes} == {True}
    assert {setting for change in changes for setting in change.settings} == {
        ("repository", "generic"),
        ("user", "ünïcode"),
    }

    await ledger.append([publish("own")], actor="me")
    range_ = await ledger.range(ledger.node, ledger.incarnation, 1)
    assert range_ is not None
    await three.ledger.apply([range_])
    await revise(one, members[:1])  # everybody else loses what is not known to the owner
    document = (await one.ledger.roots())[-1]
    for node in (ledger, three.ledger):
        await node.adopt(document)
    assert await tables(facts) == three.catalog()
    assert sum(s.refused for s in await ledger.authors_status()) > 0
    assert await ledger.heads() == await three.ledger.heads()


async def test_a_data_directory_opens_again_and_notices_a_copy(
    facts: Database, tmp_path: Path
) -> None:
    first = await Ledger.open(facts, tmp_path, site="reef", name="one")
    await first.append([publish("a")], actor="me")
    again = await Ledger.open(facts, tmp_path)
    assert (again.node, again.incarnation, again.mesh) == (
        first.node,
        first.incarnation,
        first.mesh,
    )
    (tmp_path / identity.PLACE_FILE).write_text("elsewhere\n")
    copy = await Ledger.open(facts, tmp_path)
    assert copy.incarnation > first.incarnation
    await copy.append([publish("b")], actor="me")
    assert len(await copy.heads()) == 2
    assert copy.root.members[0].site == "reef"


@pytest.mark.parametrize("seconds", [0.0, -5000.0])
async def test_a_clock_that_was_set_back_does_not_stop_the_node(seconds: float) -> None:
    clock = Clock()
    (node,) = await mesh(1)
    node.clock.now = clock.now
    await node.append(publish("a"))
    node.clock.now += seconds
    await node.append(publish("b"))
    moments = [row["hlc"] for row in node.rows("records")]
    assert len(set(moments)) == len(moments) == 2
