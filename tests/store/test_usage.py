"""Download counts: totals that only grow, merged over nodes, said again without harm."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import root, schema
from store.database import Database, open_database
from store.errors import DeniedError, RejectedError
from store.facts import Delete, Fact, Point, Restore, Use, Used
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
    log = UsageLog(None, None, "n" * 64)  # type: ignore[arg-type]
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


async def test_uses_go_with_their_package_and_come_back_with_it() -> None:
    one, two = await mesh(2)
    await one.append(publish("x"), publish("y", package="other"))
    await deliver(one, two)
    for node in (one, two):
        uses = Use("demo", "1", 5, 5), Use("demo", "2", 6, 6), Use("other", "1", 7, 7)
        await node.append(Used("generic", node.identity.node, uses))
    await deliver(two, one)
    before = one.rows("uses")
    assert len(before) == 6
    gone = await one.append(Delete("generic", "x", ()))
    assert {row["package"] for row in one.rows("uses")} == {"other"}
    late = Use("demo", "1", 9, 9)  # counted while the package was there; told when it is not
    await two.append(Used("generic", two.identity.node, (late,)))
    await deliver(two, one)
    await deliver(one, two)
    assert one.rows("uses") == two.rows("uses")
    assert len(one.rows("uses")) == 2
    await one.append(Restore("generic", "x", (gone,)))
    await deliver(one, two)
    assert one.rows("uses") == two.rows("uses")
    counts = sorted((r["package"], r["version"], r["downloads"]) for r in one.rows("uses"))
    assert counts[:4] == [("demo", "1", 5), ("demo", "1", 9), ("demo", "2", 6), ("demo", "2", 6)]
    assert one.rows("unlisted") == two.rows("unlisted") == []


steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["publish", "delete", "restore", "point", "unpoint", "use", "sync"]),
        st.sampled_from(["a", "b"]),
        st.integers(1, 9),
    ),
    max_size=24,
)
Told = dict[tuple[str, str], tuple[int, int]]  # by package and author


@given(steps)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_listed_has_all_its_counts_whatever_happens(history: Any) -> None:
    async def run() -> None:
        nodes = await mesh(3)
        told: list[Told] = [{} for _ in nodes]
        for index, kind, package, count in history:
            node, other = nodes[index], (index + 1) % 3
            if kind == "sync":
                await nodes[other].ledger.apply(await node.batches())
                for key, use in told[index].items():
                    told[other][key] = max(use, told[other].get(key, (0, 0)))
            elif kind == "use":
                use = Use(package, "1", count, count)
                await node.append(Used("generic", node.identity.node, (use,)))
                key = package, node.identity.node
                told[index][key] = max((count, count), told[index].get(key, (0, 0)))
            else:
                await node.append(step(node, kind, package))
            node.clock.now += 1.0
            for each, known in zip(nodes, told, strict=True):
                judge(each, known)

    trio.run(run)


def step(node: Node, kind: str, package: str) -> Fact:
    if kind == "publish":
        return publish(package, package=package)
    if kind in {"point", "unpoint"}:
        return Point("generic", package, "latest", None if kind == "unpoint" else b"x")
    if kind == "delete":
        return Delete("generic", package, ())
    ids = [row["records"] for row in node.rows("burnt") if row["path"] == package]
    return Restore("generic", package, tuple(i[:32] for i in ids))


def judge(node: Node, told: Told) -> None:
    listed = {row["package"] for row in node.rows("packages")}
    rows = {(r["package"], r["node"]): (r["downloads"], r["last"]) for r in node.rows("uses")}
    assert rows == {key: use for key, use in told.items() if key[0] in listed}
    assert {r["package"] for r in node.rows("unlisted")} == {k[0] for k in told} - listed


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
