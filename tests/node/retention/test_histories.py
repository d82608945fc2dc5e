"""Histories of pushes, promotions, retention and collections on three nodes that are often cut off.

Nothing that a node's catalog names is ever collected there, no visible file is without its bytes
everywhere, and in the end every catalog is the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formats.releases import Edition
from node.retention.policy import Policy, judge
from store.database import Database
from store.digest import Digest
from store.facts import Delete, File, Publish
from store.gc import Sweep
from store.memory import MemoryStore
from store.references import References
from tests.store.ledgers import Node, file, mesh

GRACE = 4.0  # seconds; each step takes one
RESTORABLE = 1000.0  # longer than any history, as 30 days are than a partition
POLICY = Policy(id="p", keep_last=1)
steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["begin", "finish", "finish", "promote", "retire", "collect", "sync"]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["x", "yy", "zzz"]),
    ),
    max_size=40,
)


@dataclass
class Site:
    """A node with its blobs, and the pushes that wait for their commit."""

    node: Node
    store: MemoryStore
    references: References
    waiting: list[tuple[float, str, File]] = field(default_factory=list)

    @property
    def now(self) -> float:
        return self.node.clock.now

    async def put(self, content: str) -> None:
        async with self.store.ingest() as ingest:
            await ingest.write(content.encode())

    def files(self, repository: str | None = None) -> list[dict[str, Any]]:
        rows = self.node.rows("files")
        return [row for row in rows if repository in {None, row["repository"]}]

    async def held(self) -> set[str]:
        return {str(digest) async for digest in self.store.digests()}

    async def finish(self) -> None:
        """Commit a push; one that took longer than the grace period begins anew."""
        for began, path, made in self.waiting:
            if self.now - began < GRACE:
                await self.node.append(Publish("stage", "demo", path, (made,)))
        self.waiting.clear()

    async def promote(self) -> None:
        """Publish what is staged: the same blobs, by records alone."""
        for row in self.files("stage"):
            made = File(row["path"], "file", row["digest"], row["size"])
            taken = {each["path"]: each["digest"] for each in self.files("rel")}
            if taken.get(row["path"], row["digest"]) == row["digest"]:
                await self.node.append(Publish("rel", "demo", row["version"], (made,)))

    async def retire(self) -> None:
        """Let the policy take the oldest from staging."""
        editions = [Edition(row["path"], float(row["hlc"]), ()) for row in self.files("stage")]
        for verdict in judge([POLICY], "demo", editions, {}, self.now):
            await self.node.append(Delete("stage", verdict.edition.version, ()))

    async def collect(self) -> None:
        async def marked(digests: Sequence[Digest]) -> Collection[Digest]:
            return await self.references.among(digests, deleted_since=self.now - RESTORABLE)

        before = await self.held()
        async for _ in Sweep(self.store, marked, now=self.now, grace=GRACE):
            pass
        lost = before - await self.held()
        assert not lost & {row["digest"] for row in self.files()}, "something names it"
        young = {made.digest for began, _, made in self.waiting if self.now - began < GRACE}
        assert not lost & young, "a push is about to name it"


async def sync(source: Site, target: Site) -> None:
    await target.node.ledger.apply(await source.node.batches())
    there = await target.held()
    for row in target.files():
        if row["digest"] not in there and row["digest"] in await source.held():
            async with source.store.read(Digest.parse(row["digest"])) as blocks:
                await target.put(b"".join([bytes(each) async for each in blocks]).decode())


async def sites() -> list[Site]:
    found = []
    for node in await mesh(3):
        database: Any = node.port
        assert not isinstance(database, Database)
        found.append(
            Site(node, MemoryStore(clock=node.clock), References(database, clock=node.clock))
        )
    return found


async def perform(every: list[Site], history: Any) -> None:
    for index, kind, path, content in history:
        site = every[index]
        if kind == "begin":
            await site.put(content)
            site.waiting.append((site.now, path, file(path, content)))
        elif kind == "sync":
            await sync(site, every[(index + 1) % 3])
        else:
            await getattr(site, kind)()
        site.node.clock.now += 1.0


@given(steps)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_nothing_that_is_named_is_ever_collected(history: Any) -> None:
    async def run() -> None:
        every = await sites()
        await perform(every, history)
        for source, target in (*itertools.permutations(every, 2),) * 2:
            await sync(source, target)
        for site in every:
            site.node.clock.now += GRACE + 1.0
            await site.collect()
        catalogs = [site.node.catalog() for site in every]
        assert catalogs[0] == catalogs[1] == catalogs[2]
        held = [await site.held() for site in every]
        for row in every[0].files():
            assert all(row["digest"] in each for each in held), "every node could fetch it"

    trio.run(run)
