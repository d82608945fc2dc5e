"""Uses are listed as long as their package is, and are what they were when it comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import unlisted
from store.facts import Delete, Fact, Point, Restore, Use, Used
from tests.store.ledgers import Node, deliver, mesh, publish


async def test_nothing_to_settle_is_nothing_to_fold() -> None:
    (node,) = await mesh(1)
    assert await node.port.write(lambda c: unlisted.settle(c, {}, set())) == []


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


async def test_packages_that_come_back_cost_by_who_counted_them_and_not_by_members() -> None:
    """A ledger whose uses arrive before what was published, as when a node joins."""
    names = [f"p{number}" for number in range(60)]
    nodes = await mesh(6)
    author, counter, joining = nodes[0], nodes[1], nodes[2]
    await author.append(*(publish(name, package=name) for name in names))
    uses = tuple(Use(name, version, 2, 2) for name in names for version in ("1", "2"))
    await counter.append(Used("generic", counter.identity.node, uses))
    with statements(joining) as run:
        await deliver(counter, joining)
    assert sum("DELETE FROM uses" in each for each in run) == 1
    assert joining.rows("uses") == []
    assert len(joining.rows("unlisted")) == len(names)
    with statements(joining) as run:
        await deliver(author, joining)
    assert sum("claims.cell >=" in each for each in run) == len(names)
    assert len(joining.rows("uses")) == len(uses)
    assert joining.rows("unlisted") == []


@contextmanager
def statements(node: Node) -> Iterator[list[str]]:
    """The SQL that a node's database is given meanwhile."""
    run: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        run.append(statement)

    sa.event.listen(node.port.engine, "before_cursor_execute", note)
    yield run
    sa.event.remove(node.port.engine, "before_cursor_execute", note)


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
    aside = {(r["package"], r["node"]) for r in node.rows("unlisted")}
    assert aside == {key for key in told if key[0] not in listed}
