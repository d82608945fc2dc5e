"""Making and taking bundles at this node: at most a few at a time, counted and noted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager

from prometheus_client import Counter

from mesh.shell import exporting, importing
from mesh.shell.exporting import Export, Wish
from mesh.shell.importing import Import, Report
from node.bundles.checkpoints import Checkpoints
from node.bundles.names import EVERY, Names
from node.core import Core
from store.errors import ConflictError, RangeInvalidError, TooManyRequestsError

AT_ONCE = 4  # imports and exports together
LACKING_MAX = 10_000  # digests that this node says it lacks


class Bundles:
    """The bundles of one node.  Kept for its life: it knows what is under way."""

    def __init__(self, core: Core) -> None:
        self._core, self._names = core, Names(core)
        self._checkpoints = Checkpoints(core.config.path / "bundles")
        self._under_way: list[str] = []  # ids of imports, "" for exports
        metrics = core.metrics
        self._count = metrics.counter("bundles", "Bundles made and taken", ("direction", "outcome"))
        self._bytes = metrics.counter("bundle_bytes", "Bytes of bundles", ("direction",))

    async def export(self, wish: Wish) -> AsyncGenerator[bytes]:
        """The bytes of a new bundle.  Raises TooManyRequestsError."""
        core, outcome = self._core, "broken"
        parts = exporting.Parts(
            core.identity, core.ledger, core.blobs.store, core.blobs.index, self._names
        )
        counted = self._bytes.labels("export")
        with self._turn(""):
            try:
                async with aclosing(Export(parts, wish).stream()) as stream:
                    async for data in stream:
                        counted.inc(len(data))
                        yield data
                outcome = "complete"
            finally:
                self._count.labels("export", outcome).inc()

    async def take(self, chunks: AsyncIterator[bytes], bundle: str, offset: int) -> Report:
        """Import a bundle from its beginning, or from where it was interrupted.

        Raises RangeInvalidError when that is elsewhere, and what ``Import.run`` raises.
        """
        resume = await self._checkpoints.load(bundle) if offset else None
        if offset and (resume is None or resume.offset != offset):
            place = resume.offset if resume else 0
            raise RangeInvalidError(f"this import goes on at byte {place}")
        core, outcome = self._core, "refused"
        parts = importing.Parts(
            core.ledger, core.blobs.store, core.blobs.index, core.partials, self._names
        )
        with self._turn(bundle):
            work = Import(parts, self._checkpoints, resume)
            try:
                report = await work.run(Counted(chunks, self._bytes.labels("import")))
                outcome = "complete" if report.complete else "truncated"
            finally:
                self._count.labels("import", outcome).inc()
        return report

    async def offset(self, bundle: str) -> int:
        """Where an interrupted import goes on, 0 for its beginning."""
        found = await self._checkpoints.load(bundle)
        return 0 if found is None else found.offset

    async def lacking(self) -> tuple[list[str], bool]:
        """Blobs that the catalog needs and that are not here, and whether those are not all."""
        found: dict[str, None] = {}
        async with aclosing(self._names.all(EVERY)) as named:
            async for digest in named:
                if not await self._core.blobs.store.has(digest):
                    if len(found) == LACKING_MAX:
                        return list(found), True
                    found[str(digest)] = None
        return list(found), False

    @contextmanager
    def _turn(self, bundle: str) -> Iterator[None]:
        if bundle and bundle in self._under_way:
            raise ConflictError("this bundle is being imported already")
        if len(self._under_way) >= AT_ONCE:
            raise TooManyRequestsError("too many bundles at a time", 5.0)
        self._under_way.append(bundle)
        try:
            yield
        finally:
            self._under_way.remove(bundle)


class Counted(AsyncIterator[bytes]):
    """Counts bytes as they pass."""

    def __init__(self, chunks: AsyncIterator[bytes], counter: Counter) -> None:
        self._chunks, self._counter = chunks, counter

    async def __anext__(self) -> bytes:
        data = await anext(self._chunks)
        self._counter.inc(len(data))
        return data
