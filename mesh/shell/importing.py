"""Taking bundles: records into the ledger, blobs into the store, as their bytes arrive.

Everything goes the way it goes when a peer brings it: ``Ledger.apply`` and ``adopt`` judge, and
chunks are verified before they touch the disk.  So a hostile bundle wastes time, nothing else:
blobs are only taken that valid records name, in the size they name.  Spec: docs/bundles.md §4.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec
import trio

from mesh.bundle.codec import BEGINNING, Position, Reader
from mesh.bundle.parts import (
    HELD,
    Blob,
    Chunks,
    End,
    Fork,
    Head,
    Omitted,
    Opening,
    Page,
    Part,
    Records,
    Root,
    read_end,
    read_head,
)
from mesh.ports import IndexPort, LedgerPort, PartialsPort
from mesh.shell.exporting import NamesPort
from mesh.shell.intake import Blobs
from store.applying import Outcome
from store.blobs import BlobStore
from store.digest import Digest
from store.errors import RegistryError, RejectedError, UnavailableError
from store.records import read_batch

GROUP_MAX = 16  # batches judged in one transaction
REASONS_MAX = 16  # different reasons and gaps that a report names
SAVE_SIZE = 8 << 20  # bytes between two checkpoints
FEED = 256 << 10


class Gap(msgspec.Struct):
    """A chain of which earlier records are missing here."""

    author: str
    incarnation: int
    have: int  # the last seq that is here
    first: int  # the first seq in the bundle


class Report(msgspec.Struct):
    """What an import has done."""

    bundle: str = ""
    exporter: str = ""
    created: float = 0.0
    previous: str = ""  # the bundle that this one continues: what a gap asks for first
    complete: bool = False  # read to its end, whose signature is right
    offset: int = 0  # where to go on if it is not
    roots: int = 0
    records: int = 0  # new here
    known_records: int = 0
    refused: dict[str, int] = {}  # why → batches, documents and blobs
    gaps: list[Gap] = []
    blobs: int = 0  # new here, whole
    known_blobs: int = 0
    unnamed_blobs: int = 0  # no record here names them: import the records, then this again
    partial_blobs: int = 0  # chunks are missing
    size: int = 0  # bytes of chunks that are new here
    omitted: int = 0
    lacking: int = 0  # omitted as held here, but not here

    def refuse(self, why: str) -> None:
        """Count a refusal; a hostile bundle cannot make the report long."""
        known = why in self.refused or len(self.refused) < REASONS_MAX
        key = why if known else "other reasons"
        self.refused[key] = self.refused.get(key, 0) + 1


class Checkpoint(msgspec.Struct):
    """What is needed to go on in the middle of a bundle."""

    offset: int
    digest: bytes
    head: bytes  # the encoded Head
    report: Report


@dataclass(frozen=True, slots=True)
class Parts:
    """What importing writes to."""

    ledger: LedgerPort
    store: BlobStore
    index: IndexPort
    partials: PartialsPort
    names: NamesPort


class CheckpointPort:
    """Where checkpoints are kept; this one keeps none."""

    async def save(self, bundle: str, checkpoint: Checkpoint) -> None:
        """Keep the newest one of a bundle."""

    async def forget(self, bundle: str) -> None:
        """Drop it: the bundle is through."""


class Import:
    """One bundle on its way in.  ``run`` it once; ``report`` may be looked at meanwhile."""

    def __init__(
        self,
        parts: Parts,
        checkpoints: CheckpointPort | None = None,
        resume: Checkpoint | None = None,
    ) -> None:
        self._parts = parts
        self._checkpoints = checkpoints or CheckpointPort()
        self.report = resume.report if resume else Report()
        self._head: Head | None = None
        self._opening: Opening | None = None
        self._admitted = False
        self._batches: list[bytes] = []
        # Chains with a gap: the rest of them is not tried.
        self._cut = {(gap.author, gap.incarnation) for gap in self.report.gaps}
        self._blobs = Blobs(parts.store, parts.index, parts.partials, parts.names, self.report)
        position = BEGINNING
        if resume is not None:
            self._take_head(msgspec.msgpack.decode(resume.head, type=Head))
            position = Position(resume.offset, resume.digest)
        self._reader = Reader(position)
        self._safe = self._saved = position  # all before it is durable, or was refused

    async def run(self, chunks: AsyncIterator[bytes]) -> Report:
        """Take a bundle from its beginning, or from where the checkpoint stands.

        What has arrived stays, whatever happens: a truncated one gives a report that is not
        ``complete``.  Raises RejectedError for bytes that are no bundle of a member of this mesh,
        StoreFullError and UnavailableError when the disk or the database refuses.
        """
        try:
            async for data in chunks:
                view = memoryview(data)
                for start in range(0, len(view), FEED):
                    self._reader.feed(view[start : start + FEED])
                    await self._drain()
            await self._settle()
        finally:
            with trio.CancelScope(shield=True):
                await self._leave()
        return self.report

    async def _drain(self) -> None:
        while (part := self._reader.next()) is not None:
            if isinstance(part, Records):
                self._batches.append(part.batch)
                if len(self._batches) < GROUP_MAX:
                    continue
            await self._flush()
            if isinstance(part, Blob):
                await self._blobs.end()
                self._safe = self._reader.before
            await self._take(part)
            if not self._blobs.open:
                self._safe = self._reader.position
            if self._safe.offset - self._saved.offset >= SAVE_SIZE:
                await self._save()

    async def _take(self, part: Part | Chunks) -> None:
        match part:
            case Head():
                self._take_head(part)
            case Root():
                await self._adopt(part)
            case Records():
                pass
            case _:
                self._admit()
                await self._take_content(part)

    async def _take_content(self, part: Part | Chunks) -> None:
        match part:
            case Fork():
                await self._parts.ledger.accept_fork(part.proof)
            case Blob():
                await self._blobs.begin(part)
            case Page():
                await self._blobs.page(part)
            case Chunks():
                await self._blobs.chunks(part)
            case Omitted():
                await self._blobs.end()
                self.report.omitted += len(part.digests)
                if part.reason == HELD:
                    await self._count_lacking(part)
            case End():
                await self._blobs.end()
                self._close(part)
            case _:
                await self._blobs.end()  # places and reach: nothing to do here

    # --- who made it ---------------------------------------------------------------------------
    def _take_head(self, head: Head) -> None:
        opening = read_head(head)
        mesh = self._parts.ledger.mesh
        if opening.mesh.hex() != mesh:
            raise RejectedError(
                f"a bundle of mesh {opening.mesh.hex()[:12]}; this node belongs to {mesh[:12]}"
            )
        self._head, self._opening = head, opening
        report = self.report
        report.bundle, report.exporter = head.id.hex(), opening.exporter.hex()
        report.created, report.previous = opening.created_ms / 1000, opening.previous.hex()

    def _admit(self) -> None:
        """Only members' bundles go past the root documents.  Raises RejectedError."""
        if self._admitted:
            return
        if self._head is None or self._opening is None:
            raise RejectedError("a bundle without a head")
        exporter = self._opening.exporter.hex()
        if self._parts.ledger.authority.current_key(exporter) != self._head.key:
            raise RejectedError(f"its exporter {exporter[:12]} is not a member with that key now")
        self._admitted = True

    def _close(self, end: End) -> None:
        assert self._head is not None  # _admit has seen it
        read_end(end, self._head, self._reader.before.digest)
        self.report.complete = True

    # --- records -------------------------------------------------------------------------------
    async def _adopt(self, part: Root) -> None:
        try:
            self.report.roots += await self._parts.ledger.adopt(part.document)
        except UnavailableError:
            raise
        except RegistryError as error:
            self.report.refuse(f"root document: {error}")

    async def _flush(self) -> None:
        """Judge the batches that have been gathered, in one transaction."""
        if not self._batches:
            return
        self._admit()
        gathered, self._batches = self._batches, []
        batches = []
        for data in gathered:
            try:
                batch = read_batch(data)
            except RejectedError as error:
                self.report.refuse(str(error))
                continue
            if (batch.head.author, batch.head.incarnation) not in self._cut:
                batches.append(batch)
        outcomes = await self._parts.ledger.apply(batches) if batches else []
        for batch, outcome in zip(batches, outcomes, strict=True):
            self._note(outcome, len(batch.records), batch.head.seq - len(batch.records) + 1)

    def _note(self, outcome: Outcome, count: int, first: int) -> None:
        report, key = self.report, (outcome.author, outcome.incarnation)
        if outcome.resend_from is not None and outcome.forked is None:
            if key not in self._cut and len(report.gaps) < REASONS_MAX:
                report.gaps.append(Gap(*key, outcome.reach, first))
            self._cut.add(key)
        elif outcome.refused:
            report.refuse(outcome.refused)
        else:
            report.records += outcome.stored
            report.known_records += count - outcome.stored
            for result in outcome.results:
                report.refuse(f"{result.status}: {result.reason}")

    async def _count_lacking(self, part: Omitted) -> None:
        for raw in part.digests:
            if not await self._parts.store.has(Digest.sha256(raw)):
                self.report.lacking += 1

    # --- stopping ------------------------------------------------------------------------------
    async def _settle(self) -> None:
        await self._flush()
        if self.report.complete:
            self._safe = self._reader.position

    async def _leave(self) -> None:
        await self._blobs.leave()
        report = self.report
        if report.complete:
            await self._checkpoints.forget(report.bundle)
        elif self._head is not None and self._safe != BEGINNING:
            await self._save()
        report.offset = self._reader.position.offset if report.complete else self._safe.offset

    async def _save(self) -> None:
        if self._head is None:
            return
        self._saved = self._safe
        head = msgspec.msgpack.encode(self._head)
        checkpoint = Checkpoint(self._safe.offset, self._safe.digest, head, self.report)
        await self._checkpoints.save(self.report.bundle, checkpoint)
