"""Ledgers for tests: over a synchronous SQLite in memory, on one virtual clock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from store import revising, root, schema
from store.facts import Fact, File, Publish
from store.identity import Identity
from store.ledger import Ledger
from store.records import Batch
from store.root import Member

T = TypeVar("T")
NOW = 1_700_000_000.0  # seconds; all tests begin here
CATALOG = ("files", "burnt", "pointers", "flags", "settings", "packages", "totals", "claims")


class MemoryPort:
    """The database port, without the port."""

    def __init__(self) -> None:
        self.engine = sa.create_engine(
            "sqlite://",
            poolclass=sa.pool.StaticPool,
            connect_args={"check_same_thread": False, "isolation_level": None},
        )

        @sa.event.listens_for(self.engine, "begin")
        def begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        schema.facts.create_all(self.engine)

    async def read(self, unit: Callable[[sa.Connection], T], /) -> T:
        with self.engine.begin() as connection:
            return unit(connection)

    async def write(self, unit: Callable[[sa.Connection], T], /) -> T:
        with self.engine.begin() as connection:
            return unit(connection)


class Clock:
    """Seconds that move when a test says so."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def identity(number: int) -> Identity:
    """The same identity for the same number, always."""
    return Identity.from_seed(hashlib.sha256(b"seed %d" % number).digest())


class Node:
    """A ledger, its database and its clock."""

    def __init__(self, number: int, clock: Clock) -> None:
        self.number = number
        self.identity = identity(number)
        self.port = MemoryPort()
        self.clock = clock
        self.ledger = Ledger(self.port, self.identity, clock=clock)

    async def append(self, *facts: Fact, actor: str = "tester") -> bytes:
        """Append; the last record's id."""
        return (await self.ledger.append(facts, actor=actor)).records[-1]

    async def batches(self) -> list[Batch]:
        """All this node has, in the smallest batches."""
        return await self.batches_of(1)

    async def batches_of(self, max_bytes: int) -> list[Batch]:
        """All this node has, in batches of about this size."""
        return [
            batch
            for author, incarnation in sorted(await self.ledger.heads())
            for batch in await self.chain(author, incarnation, max_bytes=max_bytes)
        ]

    async def chain(
        self, author: str, incarnation: int, first: int = 1, *, max_bytes: int = 1
    ) -> list[Batch]:
        """One chain, in the smallest batches."""
        found = []
        while batch := await self.ledger.range(author, incarnation, first, max_bytes):
            found.append(batch)
            first = batch.head.seq + 1
        return found

    def rows(self, table: str) -> list[dict[str, Any]]:
        """A whole table, in a fixed order."""
        with self.port.engine.begin() as connection:
            query = sa.select(schema.facts.tables[table])
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return sorted(rows, key=repr)

    def catalog(self) -> dict[str, list[dict[str, Any]]]:
        """Every table of the catalog."""
        return {table: self.rows(table) for table in CATALOG}


async def single(number: int = 1, clock: Clock | None = None) -> Node:
    """A mesh of one."""
    node = Node(number, clock or Clock())
    await node.ledger.initialise(name=f"node{number}")
    return node


async def clone(node: Node) -> Node:
    """A copy of a node's disk, alive: its twin, or its thief."""
    twin = Node(node.number, node.clock)
    source, target = node.port.engine.raw_connection(), twin.port.engine.raw_connection()
    source.driver_connection.backup(target.driver_connection)
    await twin.ledger.initialise()
    return twin


async def mesh(
    count: int, *, sites: Sequence[str] = (), roles: Iterable[str] = root.ROLES
) -> list[Node]:
    """Several members of one mesh, the first of them its owner; nothing is synchronised yet."""
    clock = Clock()
    first = await single(1, clock)
    members = [
        root.member_of(
            identity(number),
            roles=roles if number > 1 else root.ROLES,
            site=sites[number - 1] if sites else "",
            name=f"node{number}",
        )
        for number in range(1, count + 1)
    ]
    await revise(first, members)
    nodes = [first]
    for number in range(2, count + 1):
        node = await single(number, clock)
        await node.ledger.rebase(await first.ledger.roots())
        nodes.append(node)
    return nodes


async def revise(owner: Node, members: Iterable[Member], **changes: Any) -> bytes:
    """The owner signs and adopts the next root document."""
    authority = owner.ledger.authority
    draft = revising.revise(
        authority.mesh,
        authority.in_force,
        members=list(members),
        heads=await owner.ledger.heads(),
        now=owner.clock(),
        **changes,
    )
    signed = root.sign(draft, owner.identity)
    assert await owner.ledger.adopt(signed)
    return root.encode_root(signed)


async def deliver(source: Node, target: Node) -> None:
    """Bring the target up to date."""
    for document in await source.ledger.roots():
        await target.ledger.adopt(document)
    await target.ledger.apply(await source.batches())


def file(path: str, content: str = "x", **changes: Any) -> File:
    """A file whose digest follows from its content."""
    digest = hashlib.sha256(content.encode()).hexdigest()
    return File(path, "file", f"sha256:{digest}", len(content), **changes)


def publish(
    path: str,
    content: str = "x",
    *,
    repository: str = "generic",
    package: str = "demo",
    version: str = "1",
    mutable: bool = False,
) -> Publish:
    """One file, published."""
    return Publish(repository, package, version, (file(path, content),), mutable)
