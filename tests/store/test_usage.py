"""Download counts: totals that only grow, merged over nodes, said again without harm."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator

import pytest

from store import root, schema
from store.database import Database, open_database
from store.errors import DeniedError, RejectedError
from store.facts import Use, Used
from store.ledger import Ledger
from store.root import MIRROR
from store.schema_followers import own_uses
from store.usage import UsageLog, VersionKey
from tests.store.ledgers import (
    Clock,
    Node,
    deliver,
    identity,
    mesh,
    publish,
    revise,
    single,
)

ONE = VersionKey("generic", "demo", "1")
TWO = VersionKey("generic", "demo", "2")


@pytest.fixture
async def both(database_url: str) -> AsyncGenerator[tuple[Database, Database]]:
    """Open both databases one after the other: their migrations share Alembic's globals."""
    async with (
        open_database(database_url, schema.facts, synchronous="NORMAL") as facts,
        open_database(database_url, schema.local, synchronous="NORMAL") as local,
    ):
        yield facts, local


@pytest.fixture
async def kept(both: tuple[Database, Database]) -> tuple[UsageLog, Ledger]:
    facts, local = both
    ledger = Ledger(facts, identity(1), clock=Clock())
    await ledger.initialise()
    await ledger.append([publish("x")], actor="t")  # of the package that is used
    return UsageLog(facts, local, ledger.node), ledger


async def tell(kept: UsageLog, ledger: Ledger) -> None:
    untold = await kept.untold()
    await ledger.append(kept.facts(untold), actor="usage")
    await kept.tell_done(untold)


async def test_counts_add_up_over_nodes(kept: tuple[UsageLog, Ledger]) -> None:
    log, ledger = kept
    assert await log.usage(*ONE) == (0, 0.0)
    await log.add({ONE: (2, 5000), TWO: (0, 7000)})
    assert await log.usage(*ONE) == (2, 5.0)
    assert await log.usage("generic", "demo") == (2, 7.0)
    await tell(log, ledger)
    assert await log.untold() == []
    await log.add({ONE: (3, 6000)})
    assert await log.usage(*ONE) == (5, 6.0)
    await tell(log, ledger)
    await tell_twice(log, ledger)
    assert await log.usage("generic", "demo") == (5, 7.0)
    await log.add({TWO: (1, 9000)})
    shown = await log.versions("generic", "demo", ["1", "2", "3"])
    assert shown == {"1": (5, 6.0), "2": (1, 9.0)}
    assert await log.versions("generic", "demo", ["\0"]) == {}
    assert await log.versions("generic", "demo", []) == {}
    assert await log.most(["generic"], 5) == [("generic", "demo", (5, 7.0))]
    assert await log.most(["other"], 5) == []
    assert await log.usage("generic", "de\0mo") == (0, 0.0)


async def test_totals_of_many_add_up_over_nodes(both: tuple[Database, Database]) -> None:
    here, there = await mesh(2)
    await here.append(publish("x"))
    await deliver(here, there)
    log = UsageLog(here.ledger._database, both[1], here.identity.node)
    await log.add({ONE: (2, 5000), TWO: (1, 7000)})
    assert await log.totals("generic", ["demo"]) == {ONE[1:]: (2, 5.0), TWO[1:]: (1, 7.0)}
    await here.append(*log.facts(await log.untold()))
    assert (await log.totals("generic", ["demo"]))[ONE[1:]] == (2, 5.0), "told, and counted once"
    await there.append(Used("generic", there.identity.node, (Use("demo", "1", 9, 6000),)))
    assert (await log.totals("generic", ["demo"]))[ONE[1:]] == (2, 5.0), "not heard yet"
    await deliver(there, here)
    assert (await log.totals("generic", ["demo", "x"], ["1"])) == {ONE[1:]: (11, 6.0)}
    await log.add({ONE: (1, 8000)})
    assert (await log.totals("generic", ["demo"]))[ONE[1:]] == (12, 8.0)
    assert await log.totals("generic", ["demo"], ["3"]) == {}


async def tell_twice(log: UsageLog, ledger: Ledger) -> None:
    """A crash after the append and before the note: the same totals again."""
    await log.add({ONE: (0, 1)})
    untold = await log.untold()
    await ledger.append(log.facts(untold), actor="usage")
    await ledger.append(log.facts(untold), actor="usage")


async def test_a_lost_local_database_goes_on_from_what_was_said(
    kept: tuple[UsageLog, Ledger], both: tuple[Database, Database]
) -> None:
    (log, ledger), (_, local) = kept, both
    await log.add({ONE: (7, 1000)})
    await tell(log, ledger)
    await local.write(lambda connection: connection.execute(own_uses.delete()))
    await log.add({ONE: (1, 2000)})
    assert await log.usage(*ONE) == (8, 2.0)
    await tell(log, ledger)
    assert await log.usage(*ONE) == (8, 2.0)


async def test_what_is_counted_while_telling_is_told_later(kept: tuple[UsageLog, Ledger]) -> None:
    log, _ = kept
    await log.add({ONE: (1, 1000)})
    untold = await log.untold()
    await log.add({ONE: (1, 2000)})
    await log.tell_done(untold)
    assert await log.untold() == [(ONE, 2, 2000)]


def test_facts_are_bounded() -> None:
    log = UsageLog(None, None, "n" * 64)  # type: ignore[arg-type]  # neither is asked
    many = [(VersionKey("r", "p" * 500, str(n)), n, n) for n in range(100)]
    facts = log.facts([*many, (VersionKey("s", "p", "1"), 1, 1)])
    assert [fact.repository for fact in facts] == ["r", "r", "s"]
    assert sum(len(fact.uses) for fact in facts) == 101


async def test_every_order_of_arrival_gives_the_same_counts() -> None:
    nodes = await mesh(3)
    await nodes[0].append(publish("x"), publish("y", package="b"))
    for number, node in enumerate(nodes):
        for total in (1, 5, 3):  # a smaller total is old news
            use = Use("demo", "1", total + number, total)
            await node.append(Used("generic", node.identity.node, (use, Use("b", "", 0, 9))))
    tables = []
    for order in itertools.permutations(nodes):
        reader = await fresh(nodes)
        for source in order:
            await deliver(source, reader)
        tables.append(reader.rows("uses"))
    assert all(table == tables[0] for table in tables)
    assert sorted(row["downloads"] for row in tables[0] if row["package"] == "demo") == [5, 6, 7]


async def fresh(nodes: list[Node]) -> Node:
    """A node that has just joined the mesh of these."""
    reader = await single(9, nodes[0].clock)
    members = list(nodes[0].ledger.authority.members().values())
    if reader.identity.node not in nodes[0].ledger.authority.members():
        await revise(nodes[0], [*members, root.member_of(reader.identity, roles=root.ROLES)])
    await reader.ledger.rebase(await nodes[0].ledger.roots())
    return reader


async def test_nobody_counts_for_another_and_mirrors_count() -> None:
    one, two = await mesh(2, roles=[MIRROR])
    with pytest.raises(DeniedError):
        await two.append(publish("a"))
    with pytest.raises(DeniedError, match="another node"):
        await two.append(Used("generic", one.identity.node, (Use("a", "1", 1, 1),)))
    await two.append(Used("generic", two.identity.node, (Use("a", "1", 1, 1),)))
    node = two.identity.node
    for bad in (
        Used("generic", node, ()),
        Used("generic", node, (Use("a", "1", 1 << 60, 1),)),
        Used("generic", node, (Use("a\0", "1", 1, 1),)),
        Used("generic", node, (Use("a", "1", 1, 1),) * 1001),
    ):
        with pytest.raises(RejectedError):
            await two.append(bad)


async def test_counting_changes_no_revision_and_is_pruned() -> None:
    node = await single()
    await node.append(publish("a"))
    heard: list[object] = []

    async def observe(change: object) -> None:
        heard.append(change)

    node.ledger.observe(observe)
    for total in range(1, 30):
        await node.append(Used("generic", node.identity.node, (Use("demo", "1", total, total),)))
    assert heard == []
    claims = [row for row in node.rows("claims") if row["cell"].startswith("u")]
    assert len(claims) < 6
    (row,) = node.rows("uses")
    assert (row["downloads"], row["last"]) == (29, 29)
