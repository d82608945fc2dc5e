"""The proxy engine: what is kept, what is fresh, who fetches, and what a client gets meanwhile.

One for the node.  It gives a remote repository's answers to requests; formats tell it, by pure
functions (``formats.remote``), what of the upstream a request wants.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog
import trio

from formats.contract import Format, Response
from formats.remote import Aim, Origin, Promise, Remote
from node.blobs import Blobs
from node.config import Upstreams
from node.directory import RepositoryEntry
from node.repositories.publishing import Publisher
from node.repositories.remote.counting import Counts
from node.repositories.remote.flight import Flight
from node.repositories.remote.freshness import States
from node.repositories.remote.promises import Promises
from node.repositories.remote.recording import Recorder
from node.repositories.remote.vault import Vault
from node.repositories.rendered import Shelf
from node.turns import Turns
from node.upstream.guard import Guard
from node.upstream.settings import Secrets, Upstream
from store.catalog import Catalog
from store.errors import (
    NotFoundError,
    RegistryError,
    RejectedError,
    UnavailableError,
    UpstreamError,
)
from store.rows import Artifact

if TYPE_CHECKING:
    from node.upstream.client import Client  # imported when an upstream is first asked

log = structlog.get_logger(__name__)
FLIGHTS_MAX = 512  # fetches at a time, over all repositories
TICK = 0.05  # seconds
SHELF_MAX = 16 << 20  # bytes of rewritten documents that are kept in memory
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the engine works with."""

    catalog: Catalog
    blobs: Blobs
    publisher: Publisher
    promises: Promises
    vault: Vault
    counts: Counts


class Neighbours(Protocol):
    """Nodes of this site, one of which asks the upstream for all (mesh.shell.errands)."""

    def chosen(self, name: str) -> bytes | None:
        """The neighbour that goes for this name; None: we do."""
        ...

    async def ask(self, peer: bytes, repository: str, path: str, accept: str) -> bool:
        """Have it fetch something; whether it says that it is done."""
        ...


@dataclass(slots=True)
class Connected:
    """A client, and the settings it was made of."""

    upstream: Upstream
    secrets: Secrets
    client: Client


@dataclass(slots=True)
class Engine:
    """Fetches for every remote repository of a node."""

    parts: Parts
    nursery: trio.Nursery
    folder: Path  # for temporary files, in the blob store's file system
    local: Upstreams  # what this node's operator decides, whatever repositories say
    states: States = field(default_factory=States)
    shelf: Shelf[Response] = field(default_factory=lambda: Shelf(SHELF_MAX, _weigh))
    flights: dict[Key, Flight] = field(default_factory=dict[Key, Flight])
    clients: dict[str, Connected] = field(default_factory=dict[str, Connected])
    sharing: Turns[Key] = field(default_factory=Turns[Key])
    errands: Neighbours | None = None  # of this site; None without a mesh
    clock: Callable[[], float] = time.time
    guard: Guard = field(init=False)
    recorder: Recorder = field(init=False)
    _turns: Turns[str] = field(default_factory=Turns[str])
    _busy: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        self.guard = Guard(self.local.allow)
        self.recorder = Recorder(self.parts.publisher.ledger.append)

    # --- clients ---------------------------------------------------------------------------------
    async def client(self, entry: RepositoryEntry) -> Client:
        """The client of a repository, made anew when its settings changed."""
        upstream = upstream_of(entry)
        async with self._turns.of(entry.key):
            secrets = await self.parts.vault.open(entry.key)
            found = self.clients.get(entry.key)
            if found is not None and (found.upstream, found.secrets) == (upstream, secrets):
                return found.client
            module = await trio.to_thread.run_sync(importlib.import_module, "node.upstream.client")
            local = self.local
            context = await trio.to_thread.run_sync(module.tls_context, local.ca_file)
            made: Client = module.Client(
                upstream, secrets, self.guard, proxy=local.proxy, context=context
            )
            self.clients[entry.key] = Connected(upstream, secrets, made)
        if found is not None:
            self.nursery.start_soon(found.client.close)
        return made

    async def close(self) -> None:
        """Close every connection."""
        for each in self.clients.values():
            await each.client.close()
        self.clients.clear()

    # --- flights ---------------------------------------------------------------------------------
    def under_way(self, repository: str, path: str) -> Flight | None:
        """The fetch of a path, if there is one."""
        return self.flights.get((repository, path))

    def start(
        self,
        entry: RepositoryEntry,
        served: Format,
        aim: Aim,
        promise: Promise,
        held: Artifact | None = None,
        origin: Origin | None = None,
    ) -> Flight:
        """Fetch a path, or join who does.  Raises UnavailableError when there is too much to do."""
        key = (entry.key, aim.path)
        found = self.flights.get(key)
        if found is not None:
            return found
        if self.local.offline or upstream_of(entry).offline:
            raise UnavailableError(f"{entry.key} is offline, and does not have {aim.path[:200]}")
        if len(self.flights) >= FLIGHTS_MAX:
            raise UnavailableError("too many fetches from upstreams are under way")
        flight = self.flights[key] = Flight(aim, promise, held, origin or Origin())
        self._busy.set()
        self.nursery.start_soon(self._lead, entry, served, flight)
        return flight

    async def tick(self) -> None:
        """Let readers have, now and then, what is less than a step of their spool."""
        while True:
            await self._busy.wait()
            self._busy = trio.Event()
            while self.flights:
                await trio.sleep(TICK)
                for flight in self.flights.values():
                    if flight.spool is not None:
                        flight.spool.tell()

    async def _lead(self, entry: RepositoryEntry, served: Format, flight: Flight) -> None:
        """Carry a flight through, whoever still waits; what it fails with goes to them."""
        key, path = entry.key, flight.aim.path
        received = 0
        try:
            module = await trio.to_thread.run_sync(
                importlib.import_module, "node.repositories.remote.fetching"
            )
            fetching = module.Fetching(await self._means(module, entry, served), flight)
            try:
                await fetching.run()
            finally:
                received = fetching.received
            await self._arrived(entry, flight)
        except NotFoundError as error:
            self.states.checked(key, path, self.clock(), missing=True)
            flight.fail(error)
        except RejectedError as error:  # of the upstream's making, and no fault of the client
            flight.fail(UpstreamError(f"upstream: {error}"))
        except RegistryError as error:
            flight.fail(error)
        except Exception as error:  # a bug: told to all who wait, and logged, and no node stops
            log.exception("a fetch crashed", repository=key, path=path[:200])
            flight.fail(error)
        finally:
            failed = flight.error is not None and not isinstance(flight.error, NotFoundError)
            self.parts.counts.fetch(key, size=received, failed=failed)
            if flight.error is not None:
                log.info("a fetch failed", repository=key, path=path[:200], why=str(flight.error))
            self.flights.pop((key, path), None)
            flight.end()

    async def _means(self, module: object, entry: RepositoryEntry, served: Format) -> object:
        async def room() -> int | None:
            return await self.parts.publisher.room(entry) if entry.quota_bytes else None

        make = getattr(module, "Means")  # noqa: B009  the module is imported late
        return make(
            repository=entry.key,
            format=served,
            remote=remote_of(served),
            client=await self.client(entry),
            blobs=self.parts.blobs,
            promises=self.parts.promises,
            recorder=self.recorder,
            folder=self.folder,
            room=room,
        )

    async def _arrived(self, entry: RepositoryEntry, flight: Flight) -> None:
        """Note what the upstream just said; who waits finds it in the catalog."""
        aim = flight.aim
        self.states.checked(entry.key, aim.path, self.clock())
        flight.artifact = await self.parts.catalog.find(entry.key, aim.path)
        before = flight.held.digest if flight.held else None
        after = flight.artifact.digest if flight.artifact else None
        if before is not None and before != after:
            self.states.expire(entry.key, aim.siblings)

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        while self.flights:
            await next(iter(self.flights.values())).done.wait()

    # --- administration --------------------------------------------------------------------------
    async def forget(self, repository: str) -> None:
        """Drop what is remembered of a repository that is gone, or has another upstream now."""
        self.states.drop(repository)
        await self.parts.promises.forget(repository)
        found = self.clients.pop(repository, None)
        if found is not None:
            await found.client.close()

    def circuit(self, repository: str) -> str:
        """The state of the circuit to a repository's upstream."""
        found = self.clients.get(repository)
        return found.client.breaker.state(trio.current_time()) if found else "closed"


def _weigh(response: Response) -> int:
    return 1024 + (len(response.content) if isinstance(response.content, bytes) else 0)


def upstream_of(entry: RepositoryEntry) -> Upstream:
    """The upstream of an entry.  Raises UnavailableError if it has none."""
    if entry.upstream is None:
        raise UnavailableError(f"{entry.key} has no upstream")
    return entry.upstream


def remote_of(served: Format) -> Remote:
    """How a format is proxied.  Raises UnavailableError if it is not."""
    if served.remote is None:
        raise UnavailableError(f"{served.name} repositories cannot be remote")
    return served.remote


@asynccontextmanager
async def open_engine(parts: Parts, data: Path, local: Upstreams) -> AsyncGenerator[Engine]:
    """Run an engine for the length of the block; fetches under way end with it."""
    folder = data / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    failed: BaseException | None = None
    async with trio.open_nursery() as nursery:
        engine = Engine(parts, nursery, folder, local)
        nursery.start_soon(engine.tick)
        try:
            yield engine
        except BaseException as error:  # noqa: BLE001  raised below, outside of the nursery's group
            failed = error
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
            await engine.close()
    if failed is not None:
        raise failed
