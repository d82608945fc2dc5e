"""Looking at everything a node keeps: blobs against their names, chunks, ledger and catalog.

What can be put right is: wrong bytes go to ``DATA/damaged`` and come again from peers, the chunk
index and the catalog are made again from what they follow from.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Literal

import msgspec
import structlog
import trio

from mesh.messages import REPAIR
from node.core import Core
from store import counting, refolding
from store.blobs import Ingested
from store.chunkindex import ChunkIndex
from store.digest import Digest
from store.errors import BlobUnknownError, DigestMismatchError, RegistryError
from store.refolding import Difference, Scratch

log = structlog.get_logger(__name__)
AT_ONCE = 50  # small blobs compared with the index in one step
LARGE = 16 << 20  # bytes of a blob whose chunks are not kept until others have come
EVERY = 500  # blobs between two reports of progress


class Finding(msgspec.Struct, tag="finding", tag_field="type"):
    """Something is wrong.  ``healed`` tells whether it is right again, ``detail`` how or why."""

    kind: Literal["blob", "chunks", "ledger", "catalog", "count"]
    name: str
    trouble: str
    healed: bool = False
    detail: str = ""


class Progress(msgspec.Struct, tag="progress", tag_field="type"):
    """How far it is."""

    what: str
    done: int


class Verdict(msgspec.Struct, tag="verdict", tag_field="type"):
    """The end."""

    blobs: int
    bytes: int
    records: int
    findings: int
    healed: int


Event = Finding | Progress | Verdict


class Verification:
    """One look at everything; with ``repair`` it puts right what it can."""

    def __init__(self, core: Core, *, repair: bool) -> None:
        self._core, self._repair = core, repair
        self._verdict = Verdict(0, 0, 0, 0, 0)

    async def run(self) -> AsyncIterator[Event]:
        """Yield what is found, as it is found, and the verdict last."""
        for part in (self._blobs(), self._ledger()):
            async for event in part:
                if isinstance(event, Finding):
                    self._verdict.findings += 1
                    self._verdict.healed += event.healed
                    log.warning("verify.finding", **msgspec.structs.asdict(event))
                yield event
        yield self._verdict

    # --- blobs ------------------------------------------------------------------------------------
    async def _blobs(self) -> AsyncIterator[Event]:
        core, verdict = self._core, self._verdict
        read: list[Ingested] = []  # and not compared with the index yet
        async for digest in core.blobs.store.digests():
            try:
                read.append(await core.blobs.index.examine(digest))
            except BlobUnknownError:
                continue  # collected meanwhile
            except DigestMismatchError:
                yield await self._damaged(digest)
                continue
            verdict.blobs += 1
            verdict.bytes += read[-1].size
            if len(read) == AT_ONCE or read[-1].size > LARGE:
                async for found in self._compared(read):
                    yield found
                read.clear()
            if not verdict.blobs % EVERY:
                yield Progress("blobs", verdict.blobs)
        async for found in self._compared(read):
            yield found
        async for found in self._gone(core.blobs.index):
            yield found

    async def _compared(self, read: Sequence[Ingested]) -> AsyncIterator[Finding]:
        """Blobs whose chunks are noted wrongly."""
        index = self._core.blobs.index
        for ingested in await index.disagreeing(read):
            found = Finding("chunks", str(ingested.digest), "its chunks are indexed wrongly")
            if self._repair:
                await index.forget(ingested.digest)
                await index.record(ingested)
                found.healed, found.detail = True, "indexed again"
            yield found

    async def _damaged(self, digest: Digest) -> Finding:
        found = Finding("blob", str(digest), "its bytes are not what its name says")
        if not self._repair:
            return found
        core = self._core
        path = core.blobs.path(digest)
        if path is not None:  # kept for whoever wants to know what the disk did to it
            aside = core.config.path / "damaged"
            aside.mkdir(mode=0o700, exist_ok=True)
            path.replace(aside / path.name)
        await core.blobs.index.forget(digest)
        await core.blobs.store.delete(digest)
        return await self._fetched(found, digest)

    async def _fetched(self, found: Finding, digest: Digest) -> Finding:
        """Bring a blob from peers, if anything names it."""
        core = self._core
        named = await core.references.among([digest], deleted_since=0.0)
        if not named:
            found.healed, found.detail = True, "nothing names it: removed"
            return found
        if core.mesh is None:
            found.detail = "peers were not asked: the node is not running"
            return found
        try:
            await core.mesh.fetch(digest, priority=REPAIR)
        except RegistryError as error:
            found.detail = f"peers did not give it: {error}"
        else:
            found.healed, found.detail = True, "fetched from peers"
        return found

    async def _gone(self, index: ChunkIndex) -> AsyncIterator[Finding]:
        """Blobs that the index has and the disk has not."""
        after = b""
        while page := await index.blobs(after):
            after = page[-1].raw
            for digest in page:
                if await self._core.blobs.store.has(digest):
                    continue
                found = Finding("blob", str(digest), "it is gone from the disk")
                if self._repair:
                    await index.forget(digest)
                    found = await self._fetched(found, digest)
                yield found

    # --- ledger and catalog -----------------------------------------------------------------------
    async def _ledger(self) -> AsyncIterator[Event]:
        core = self._core
        file = core.config.path / "tmp" / "verify.db"
        file.parent.mkdir(exist_ok=True)
        in_thread = partial(trio.to_thread.run_sync, abandon_on_cancel=False)
        now = time.time()
        made = await in_thread(lambda: Scratch(file, core.ledger.authority, now=now))
        try:
            async for event in self._chains(made):
                yield event
            proofs = await core.ledger.forks()
            await in_thread(made.quarantine, proofs)
            walk = refolding.differences(core.catalog, made, in_thread)
            async with aclosing(walk) as differences:
                async for difference in differences:
                    found = await self._different(difference, made)
                    if found is not None:
                        yield found
            async for event in self._counts():
                yield event
        finally:
            with trio.CancelScope(shield=True):
                await in_thread(made.close)

    async def _chains(self, made: Scratch) -> AsyncIterator[Event]:
        for (author, incarnation), (end, _) in sorted((await self._core.ledger.heads()).items()):
            first = 1
            while first <= end:
                name = f"{author}/{incarnation}"
                try:
                    batch = await self._core.ledger.range(
                        author, incarnation, first, refolding.RANGE_MAX
                    )
                    trouble = "records are missing" if batch is None else ""
                    if batch is not None:
                        trouble = await trio.to_thread.run_sync(made.add, batch)
                except RegistryError as error:
                    batch, trouble = None, str(error)
                if trouble or batch is None:
                    advice = "restore a backup, or join the mesh again"
                    yield Finding("ledger", name, f"from {first} on: {trouble}", detail=advice)
                    break
                self._verdict.records += batch.head.seq - first + 1
                first = batch.head.seq + 1
                yield Progress("records", self._verdict.records)

    async def _different(self, found: Difference, made: Scratch) -> Finding | None:
        """Judge a difference again, for writes go on; put it right."""
        event = Finding(
            "catalog", " ".join((found.table, *found.key)), f"the row is {found.trouble}"
        )
        work = partial(refolding.heal, found=found, scratch=made)
        if not await self._core.ledger.repair(work, commit=self._repair):
            return None  # written since the chains were read
        if self._repair:
            event.healed, event.detail = True, "folded again"
        return event

    async def _counts(self) -> AsyncIterator[Finding]:
        """Package counts and totals against what they count; only what is wrong is written."""
        core = self._core
        if await core.catalog.read(counting.wrong_totals):
            wrong = await core.ledger.repair(refolding.totalled, commit=self._repair)
            if wrong:
                yield self._miscounted("totals", f"{wrong} repositories are added up wrongly")
        after: tuple[str, ...] = ()
        while True:
            keys, found = await core.catalog.read(partial(refolding.counted, after=after))
            if found:
                work = partial(refolding.recounted, keys=found)
                wrong = await core.ledger.repair(work, commit=self._repair)
                if wrong:
                    if self._repair:  # packages may have come or gone, and nobody was told
                        core.catalog.touched({(key[0], "") for key in found}, 0)
                    name = f"{found[0][0]} {found[0][1]} to {found[-1][0]} {found[-1][1]}"
                    yield self._miscounted(name, f"{wrong} packages are counted wrongly")
            if len(keys) < refolding.PAGE:
                return
            after = keys[-1]

    def _miscounted(self, name: str, trouble: str) -> Finding:
        detail = "counted again" if self._repair else ""
        return Finding("count", name, trouble, healed=self._repair, detail=detail)
