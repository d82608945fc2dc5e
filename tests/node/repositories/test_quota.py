"""Quotas hold, in bytes and files; usage is what a recount finds, after any history on three nodes."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formats.contract import Publish as Wish
from formats.contract import Response
from node.config import Blobs
from node.directory import RepositoryEntry
from node.repositories.quota import Quota, Usage, check_quota, usage
from store.digest import Digest
from store.errors import StoreFullError
from store.facts import Cached, Delete, Fact, Point, Publish, Restore
from store.schema import packages
from tests.node.world import world
from tests.store.ledgers import Node, file, mesh

steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["publish", "mutable", "cached", "delete", "restore", "point", "sync"]),
        st.sampled_from(["generic", "other"]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["x", "yy", "zzz"]),
    ),
    max_size=24,
)


def fact(kind: str, repository: str, path: str, content: str) -> Fact:
    """One write; the package differs by content, so that files move between packages."""
    if kind == "delete":
        return Delete(repository, path, ())
    if kind == "restore":
        return Restore(repository, path, ())
    if kind == "point":
        return Point(repository, "p", path, content.encode())
    files = (file(path, content),)
    if kind == "cached":
        return Cached(repository, f"p{len(content)}", "1", files)
    return Publish(repository, f"p{len(content)}", "1", files, kind == "mutable")


def recounted(node: Node, repository: str | None) -> Usage:
    rows = [r for r in node.rows("files") if repository in {None, r["repository"]}]
    return Usage(sum(row["size"] for row in rows), len(rows))


@given(steps)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_usage_equals_a_recount_whatever_happens(history: Any) -> None:
    async def run() -> None:
        nodes = await mesh(3)
        for index, kind, *rest in history:
            if kind == "sync":
                await nodes[(index + 1) % 3].ledger.apply(await nodes[index].batches())
            else:
                await nodes[index].append(fact(kind, *rest))
            nodes[index].clock.now += 1.0
            for node, key in itertools.product(nodes, (None, "generic", "other")):
                found = await node.port.read(partial(usage, repository=key))
                assert found == recounted(node, key)
        for a, b in (*itertools.permutations(nodes, 2), *itertools.permutations(nodes, 2)):
            await b.ledger.apply(await a.batches())
        assert len({await n.port.read(partial(usage, repository=None)) for n in nodes}) == 1

    trio.run(run)


async def test_usage_is_one_row_however_much_there_is() -> None:
    (node,) = await mesh(1)
    await node.append(Publish("r", "p", "1", (file("a", "12345"), file("b", "12"))))
    await node.append(Publish("other", "p", "1", (file("a", "123"),)))

    def unit(connection: sa.Connection) -> tuple[Usage, Usage]:
        connection.execute(sa.delete(packages))  # what would be added up
        return usage(connection, "r"), usage(connection, None)

    assert await node.port.write(unit) == (Usage(7, 2), Usage(10, 3))


async def test_files_and_bytes_are_bounded_and_what_is_replaced_makes_room() -> None:
    (node,) = await mesh(1)
    await node.append(Publish("r", "p", "1", (file("a", "12345"),), mutable=True))
    entry = RepositoryEntry(key="r", format="generic", quota_bytes=8, quota_files=2)

    def wanted(*names: tuple[str, str], bounds: RepositoryEntry, own: Quota) -> Any:
        facts = [Publish("r", "p", "1", tuple(file(*each) for each in names), mutable=True)]
        return lambda connection: check_quota(connection, bounds, own, facts)

    none = Quota()
    await node.port.read(wanted(("a", "12345678"), bounds=entry, own=none))
    await node.port.read(wanted(("b", "123"), bounds=entry, own=none))
    with pytest.raises(StoreFullError, match="r holds 5 of 8 bytes; 4 more"):
        await node.port.read(wanted(("b", "1234"), bounds=entry, own=none))
    with pytest.raises(StoreFullError, match="r holds 1 of 2 files; 2 more"):
        await node.port.read(wanted(("b", "1"), ("c", "1"), bounds=entry, own=none))
    free = RepositoryEntry(key="r", format="generic")
    with pytest.raises(StoreFullError, match="this node holds 5 of 6 bytes"):
        await node.port.read(wanted(("b", "12"), bounds=free, own=Quota(bytes=6)))
    await node.port.read(wanted(("a", "1"), bounds=free, own=Quota(bytes=1, files=1)))


async def test_of_parallel_publishes_only_as_many_fit_as_the_quota_takes(tmp_path: Path) -> None:
    async with world(tmp_path, blobs=Blobs(quota_files=4)) as node:
        entry = RepositoryEntry(key="generic", format="generic", quota_bytes=30)
        refused = 0

        async def push(number: int) -> None:
            nonlocal refused
            data = b"%010d" % number
            made = file(f"f{number}", data.decode())
            assert made.digest == str(Digest.of(data))
            wish = Wish((Publish("generic", "p", "1", (made,)),), Response())
            try:
                await node.core.publisher.commit(wish, entry, actor="t")
            except StoreFullError:
                refused += 1

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(push, number)
        assert refused == 5
        assert await node.core.catalog.read(partial(usage, repository="generic")) == (30, 3)
