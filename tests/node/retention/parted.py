"""Whole nodes of one mesh in this process, parted: what one of them writes, others hear when told.

Their services are those that run in a node; only the network between them is a copy of ledgers and
blobs.  Time is virtual: an hour passes with every step of a history, and that is the grace period.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from inspect import isawaitable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
import trio

from node import garbage, service
from node.access.gate import Caller
from node.api import retention as routes
from node.config import Access, Blobs, Config
from node.core import Core
from node.directory import PinEntry, PlacementEntry, RepositoryEntry, RetentionEntry, UserEntry
from node.promotion.rules import Rules
from node.retention.policy import Policy
from node.run import build_front
from node.service import open_core
from store import hlc, revising, root, schema
from store.database import open_database
from store.digest import Digest
from store.facts import Delete, Fact, Flag, Point
from tests.node.world import PASSWORD, World

HOUR, DAY = 3600.0, 86400.0
RESTORABLE = garbage.RESTORABLE
NAMES = ("dev", "lead")  # administrators: who asks for promotions, and who approves
STAGE, REL, IMAGES = "stage", "rel", "images"
TABLES = ("files", "burnt", "pointers", "flags", "packages", "totals", "uses", "settings")


@dataclass
class Hold:
    """A write that waits, between its last look and its transaction, until others are done."""

    reached: trio.Event = field(default_factory=trio.Event)
    opened: trio.Event = field(default_factory=trio.Event)


HELD: ContextVar[Hold | None] = ContextVar("HELD", default=None)


class Clock:
    """Seconds since 1970, which a test can move on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def pass_by(self, seconds: float) -> None:
        """Let time pass.  The store's own clock stays: its blobs are made older instead."""
        self.ahead += seconds
        garbage.RESTORABLE = routes.RESTORABLE = RESTORABLE - self.ahead


@dataclass
class Look:
    """What one node has at one moment."""

    files: dict[tuple[str, str], Any]  # (repository, path) → row
    burnt: dict[tuple[str, str], float]  # → when it was deleted
    pointed: set[str]  # digests that pointers name
    staged: set[str]
    blobs: set[str]
    rivals: set[str]  # digests at conflicted coordinates
    used: dict[str, tuple[int, int]]  # repository → files, bytes
    pins: list[PinEntry]
    rules: list[PlacementEntry]
    policies: list[Policy]
    pending: set[tuple[str, str]]  # package and version, asked for out of STAGE
    tags: dict[str, set[str]]  # manifest digest → its tags

    @property
    def named(self) -> set[str]:
        """Digests that the catalog names."""
        rows = self.files.values()
        found = {row.digest for row in rows} | {row.metadata_digest for row in rows}
        return (found | self.pointed) - {""}


class Site(World):
    """One of the nodes."""

    clock: Clock
    number: int

    def begin(self) -> None:
        """Forget what an earlier history left behind."""
        self.taken: list[Fact] = []  # by retention, in this step
        self.pushed: set[str] = set()  # digests, in this step
        self.shown: dict[tuple[str, str], set[str]] = {}  # what was ever visible, where
        for file in self.stored():
            file.unlink()

    def stored(self) -> list[Path]:
        """The files of all blobs."""
        return [f for f in (self.core.config.path / "blobs").glob("??/*") if f.is_file()]

    def grow_old(self, seconds: float) -> None:
        """Make every blob older."""
        for file in self.stored():
            then = file.stat().st_mtime - seconds
            os.utime(file, (then, then))

    async def write(self, *facts: Fact) -> None:
        await self.core.ledger.append(facts, actor="t")

    async def look(self) -> Look:
        """Look at everything, and re-hash every blob."""
        core = self.core
        for file in self.stored():
            assert hashlib.sha256(file.read_bytes()).hexdigest() == file.name, "other bytes"
        files, burnt, pointers, packages, totals = await core.catalog.read(_tables)
        _check_counts(files, packages, totals)
        keys = {STAGE, REL, IMAGES}
        mine = {(row.repository, row.path): row for row in files if row.repository in keys}
        rivals: set[str] = set()
        for place, row in mine.items():
            self.shown.setdefault(place, set()).add(row.digest)
            if row.conflicted:
                rivals |= {str(each.digest) for each in await core.conflicts.rivals(*place)}
        tags: dict[str, set[str]] = {}
        for row in pointers:
            tags.setdefault(bytes(row.value).decode(), set()).add(row.name)
        blobs = {f"sha256:{file.name}" for file in self.stored()}
        pending = await core.promotions.page(REL, status="pending")
        return Look(
            files=mine,
            burnt={(row.repository, row.path): hlc.seconds(row.hlc) for row in burnt},
            pointed=set(tags),
            staged={str(digest) async for digest in core.staging.digests()},
            blobs=blobs,
            rivals=rivals,
            used={row.repository: (row.files, row.size) for row in totals},
            pins=core.directory.all(PinEntry),
            rules=core.directory.all(PlacementEntry),
            policies=[e.policy for e in core.directory.all(RetentionEntry) if not e.disabled],
            pending={(i.package, i.resolved) for each in pending for i in each.asked.items},
            tags=tags,
        )

    def restorable(self, look: Look) -> set[str]:
        """What was visible here and was deleted within the time in which it may come back."""
        since = self.clock() - RESTORABLE
        return {
            digest
            for place, digests in self.shown.items()
            if place not in look.files and look.burnt.get(place, 0.0) >= since
            for digest in digests
        }

    def needed(self, look: Look) -> set[str]:
        """Digests that must not be collected."""
        return look.named | look.rivals | look.staged | self.restorable(look)

    async def tables(self) -> dict[str, list[str]]:
        """The catalog, for comparison."""
        return await self.core.catalog.read(_everything)


def _tables(connection: sa.Connection) -> Any:
    tables = (schema.files, schema.burnt, schema.pointers, schema.packages, schema.totals)
    return [connection.execute(sa.select(table)).all() for table in tables]


def _everything(connection: sa.Connection) -> dict[str, list[str]]:
    found = {}
    for name in TABLES:
        rows = connection.execute(sa.select(schema.facts.tables[name]))
        found[name] = sorted(repr(tuple(row)) for row in rows)
    return found


def _check_counts(files: Any, packages: Any, totals: Any) -> None:
    """Usage counters equal a recount."""
    per_package: dict[Any, list[int]] = {}
    per_repository: dict[Any, list[int]] = {}
    for row in files:
        for found in (
            per_package.setdefault((row.repository, row.package), [0, 0]),
            per_repository.setdefault(row.repository, [0, 0]),
        ):
            found[0] += 1
            found[1] += row.size
    told = {(r.repository, r.package): [r.files, r.size] for r in packages if r.files or r.size}
    assert told == per_package, "the usage of packages drifted"
    assert {r.repository: [r.files, r.size] for r in totals} == per_repository, "totals drifted"


# --- making them ----------------------------------------------------------------------------------
class Sites(list[Site]):
    """All nodes, and what they share.  Each history has a package and an image of its own."""

    clock: Clock
    number: int = 0

    @property
    def package(self) -> str:
        return f"x{self.number}"

    async def begin(self) -> None:
        """Give a history three empty repositories, and nothing else."""
        self.clock.pass_by(40 * DAY)  # nothing of an earlier one can be restored
        for site in self:
            await exchange(site, self[0])
        self.number += 1
        first = self[0].core
        facts: list[Fact] = []
        for model in (PinEntry, PlacementEntry, RetentionEntry):
            facts += [first.directory.remove(model, e.named) for e in first.directory.all(model)]
        files, _, pointers, _, _ = await first.catalog.read(_tables)
        facts += [Delete(row.repository, row.path, ()) for row in files]
        flags = await first.catalog.read(lambda c: c.execute(sa.select(schema.flags)).all())
        facts += [_unflag(row) for row in flags] + [_unpoint(row) for row in pointers]
        entries = (
            RepositoryEntry(key=STAGE, format="generic", repo_type="staging"),
            RepositoryEntry(key=REL, format="generic", promotion=Rules(approvals=1)),
            RepositoryEntry(key=IMAGES, format="docker"),
        )
        facts += [first.directory.change(each.key, each) for each in entries]
        policy = Policy(id="p", repositories=(STAGE,), keep_last=1)
        precious = (f"{self.package}@precious",)
        tagged = Policy(id="q", repositories=(IMAGES,), keep_last=1, exclude=precious)
        for each in (policy, tagged):
            facts.append(first.directory.change(each.id, RetentionEntry(id=each.id, policy=each)))
        await self[0].write(*facts)
        for site in self:
            await exchange(self[0], site)
            site.begin()

    async def pass_by(self, seconds: float) -> None:
        """Let time pass for all."""
        self.clock.pass_by(seconds)
        for site in self:
            site.grow_old(seconds)


def _unflag(row: Any) -> Fact:
    return Flag(row.repository, row.package, row.version, row.path, row.name, None)


def _unpoint(row: Any) -> Fact:
    return Point(row.repository, row.package, row.name, None)


@asynccontextmanager
async def parted(folder: Path, count: int = 2) -> AsyncGenerator[Sites]:
    """Open the nodes of one mesh, each with all rights."""
    sites, clock = Sites(), Clock()
    sites.clock = clock
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(os, "fsync", lambda _: None)  # nobody cuts the power
        patch.setattr(service, "open_database", _open_database)
        patch.setattr(garbage, "trio", SimpleNamespace(to_thread=SimpleNamespace(run_sync=_here)))
        for module in (garbage, routes):
            patch.setattr(module, "RESTORABLE", RESTORABLE)
        for number in range(count):
            config = Config(
                data=str(folder / f"n{number}"),
                access=Access(admin_password=PASSWORD),
                blobs=Blobs(gc_grace=HOUR / 2),
            )
            core = await stack.enter_async_context(open_core(config, joining=number > 0))
            site = Site(core, build_front(core))
            site.clock, site.number = clock, number
            _wire(site, clock)
            sites.append(site)
        await _join([site.core for site in sites])
        token, _ = await sites[0].core.accounts.create_token("admin", "t", ["*"], actor="admin")
        directory = sites[0].core.directory
        users = [UserEntry(username=name, is_admin=True) for name in NAMES]
        await sites[0].write(*(directory.change(user.username, user) for user in users))
        for site in sites:
            site.token = token
            await exchange(sites[0], site)
        yield sites


def _wire(site: Site, clock: Clock) -> None:
    """Give the node our clock, let writes be held, and remember what retention removes."""
    core: Any = site.core
    core.ledger._clock = core.retention._clock = core.promotions._clock = clock
    core.promotions._judge._clock = clock
    core.blobs.store.in_thread = _at_once
    append = core.ledger.append

    async def held(facts: Sequence[Fact], *, actor: str, check: Any = None) -> Any:
        hold = HELD.get()
        if hold is not None:
            hold.reached.set()
            await hold.opened.wait()
        return await append(facts, actor=actor, check=check)

    class Taking:
        async def append(self, facts: Sequence[Fact], *, actor: str, check: Any = None) -> Any:
            done = await held(facts, actor=actor, check=check)
            site.taken += facts
            return done

    core.ledger.append = held
    core.retention._ledger = Taking()


def _open_database(url: str, tables: sa.MetaData, **_: Any) -> Any:
    """A database that does not wait for its disk at each commit."""
    return open_database(url, tables, synchronous="NORMAL")


async def _at_once(work: Callable[[], Any]) -> Any:
    """Do what a worker thread does, which for small blobs costs more than the work."""
    await trio.lowlevel.checkpoint()
    return work()


async def _here(work: Callable[..., Any], *values: Any) -> Any:
    """The same for a collection, whose place a test may make it wait at."""
    await trio.lowlevel.checkpoint()
    done = work(*values)
    return await done if isawaitable(done) else done


async def _join(cores: Sequence[Core]) -> None:
    """Make one mesh of all, owned by the first."""
    ledger = cores[0].ledger
    members = [root.member_of(each.identity, roles=root.ROLES, site="", name="n") for each in cores]
    draft = revising.revise(
        ledger.mesh,
        ledger.authority.in_force,
        members=members,
        heads=await ledger.heads(),
        now=time.time(),
    )
    assert await ledger.adopt(root.sign(draft, cores[0].identity))
    for other in cores[1:]:
        await other.ledger.rebase(await ledger.roots())


async def exchange(source: Site, target: Site, *, again: int = 0) -> None:
    """Tell a node what it lacks of another's ledger, and the last ``again`` records once more."""
    if source is target:
        return
    there = await target.core.ledger.heads()
    for author, incarnation in sorted(await source.core.ledger.heads()):
        first = max(1, there.get((author, incarnation), (0, b""))[0] + 1 - again)
        while batch := await source.core.ledger.range(author, incarnation, first):
            await target.core.ledger.apply([batch])
            first = batch.head.seq + 1


async def fetch(source: Site, target: Site) -> None:
    """Copy the blobs that the target's catalog names and the source has."""
    look = await target.look()
    for name in sorted(look.named - look.blobs):
        path = source.core.blobs.path(Digest.parse(name)) if ":" in name else None
        if path is not None:
            async with target.core.blobs.ingest() as ingest:
                await ingest.write(path.read_bytes())


async def held(first: Callable[[], Awaitable[None]], rest: Sequence[Any]) -> None:
    """Do ``first``, and all the others between its last look and its first write."""
    hold = Hold()

    async def begin() -> None:
        HELD.set(hold)
        await first()
        hold.reached.set()

    with trio.fail_after(60.0):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin)
            await hold.reached.wait()
            async with trio.open_nursery() as others:
                for each in rest:
                    others.start_soon(each)
            hold.opened.set()


def caller(name: str) -> Caller:
    """An administrator of that name."""
    return Caller(name, "user", admin=True)
