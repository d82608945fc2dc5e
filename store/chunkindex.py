"""Where the chunks of complete local blobs lie: what makes a new version out of old bytes.

A cache over the blob store, in the local database: it can be lost, and is rebuilt blob by blob.  A
blob's row in ``manifests`` is written last, so a blob with one is indexed whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
import trio

from store import schema
from store.blobs import BlobStore, Ingested
from store.chunks import Manifest
from store.digest import Digest
from store.disk import disk_errors
from store.errors import BlobUnknownError, ManifestInvalidError
from store.gathering import Gathering
from store.intake import Intake

T = TypeVar("T")

ROWS_MAX = 4096  # rows inserted in one transaction: others want to write too
SMALL_MAX = 1 << 20  # bytes of a blob that is read in one step
KEYS_MAX = 500  # keys looked up in one statement: SQLite binds at most 999 in old builds
SMALL = 16  # chunks of a blob that shares its transaction with others that come at the time
TOGETHER = 64  # of them in one transaction


class Port(Protocol):
    """What this needs of ``store.database.Database``."""

    async def read(self, unit: Callable[[sa.Connection], T]) -> T:
        """Run a unit that only reads."""
        ...

    async def write(self, unit: Callable[[sa.Connection], T]) -> T:
        """Run a unit and commit it."""
        ...


ENCODED = sa.select(schema.manifests.c.encoded).where(
    schema.manifests.c.blob == sa.bindparam("blob")
)
NOTED = sa.select(schema.chunks).where(schema.chunks.c.blob == sa.bindparam("blob"))


@dataclass(frozen=True, slots=True)
class ChunkLocation:
    """``length`` bytes at ``offset`` of a local blob."""

    blob: Digest
    offset: int
    length: int


class ChunkIndex:
    """Chunks, manifests and other digests of the blobs in ``store``."""

    def __init__(self, database: Port, store: BlobStore) -> None:
        self._database = database
        self._store = store
        self.observer: Callable[[Digest, int | None], None] = lambda *_: None
        self._recording = Gathering(self._record_small, most=TOGETHER)
        self._finding = Gathering(self._find_small, most=TOGETHER)

    async def record(self, ingested: Ingested) -> None:
        """Note a blob's chunks, manifest and checksums.  Recording it twice changes nothing.

        The observer hears of every blob that comes, with its size, and of those about to go (None).
        """
        self.observer(ingested.digest, ingested.size)
        manifest = ingested.manifest
        if len(manifest.chunks) <= SMALL:
            await self._recording.do(ingested)
            return
        end = _manifest_row(manifest)
        if await self._database.write(partial(_begin, ingested=ingested, end=end)):
            return
        for rows in _batches(_chunk_rows(manifest), ROWS_MAX):
            await self._database.write(partial(_insert, table=schema.chunks, rows=rows))
        await self._database.write(partial(_insert, table=schema.manifests, rows=[end]))

    async def _record_small(self, blobs: Sequence[Ingested]) -> Sequence[None]:
        await self._database.write(partial(_record, blobs=blobs))
        return [None] * len(blobs)

    async def manifest(self, blob: Digest) -> Manifest | None:
        """Return a local blob's manifest, made again from its bytes if need be.

        None if the blob is not here.  Raises DigestMismatchError if the disk has changed its bytes.
        """
        if not await self._store.has(blob):
            return None
        encoded = await self._database.read(partial(_encoded, blob=blob.raw))
        if encoded is not None:
            try:
                return Manifest.decode(encoded)
            except ManifestInvalidError:  # written by a version with other parameters
                await self.forget(blob)
        try:
            ingested = await self.examine(blob)
        except BlobUnknownError:
            return None
        await self.record(ingested)
        return ingested.manifest

    async def find(self, sha256s: Sequence[bytes]) -> Mapping[bytes, ChunkLocation]:
        """Return where those chunks lie that some local blob holds, one place each.

        A blob deleted behind the index's back is still named: whoever reads it must verify anyway.
        """
        if len(sha256s) <= SMALL:
            return await self._finding.do(sha256s)
        return await self._locate(sha256s)

    async def _locate(self, sha256s: Iterable[bytes]) -> dict[bytes, ChunkLocation]:
        found: dict[bytes, ChunkLocation] = {}
        for keys in _batches(dict.fromkeys(sha256s), KEYS_MAX):
            found |= await self._database.read(partial(_locations, keys=keys))
        return found

    async def _find_small(
        self, asked: Sequence[Sequence[bytes]]
    ) -> Sequence[Mapping[bytes, ChunkLocation]]:
        found = await self._locate(key for each in asked for key in each)
        return [{key: found[key] for key in each if key in found} for each in asked]

    async def forget(self, blob: Digest) -> None:
        """Drop everything about a blob that leaves the store."""
        self.observer(blob, None)
        await self._database.write(partial(_forget, blob=blob.raw))

    async def disagreeing(self, found: Sequence[Ingested]) -> list[Ingested]:
        """Those of which something else is noted than what was just read; one step for all.

        Nothing noted is right: without a manifest a blob is indexed when somebody asks.
        """
        return await self._database.read(
            lambda connection: [each for each in found if not _agrees(connection, each)]
        )

    async def blobs(self, after: bytes) -> Sequence[Digest]:
        """Return the next blobs that are noted, in the order of their digests."""
        table = schema.manifests
        query = sa.select(table.c.blob).where(table.c.blob > after).order_by(table.c.blob)
        query = query.limit(KEYS_MAX)
        found = await self._database.read(lambda c: c.execute(query).scalars().all())
        return [Digest.sha256(bytes(blob)) for blob in found]

    async def alias(self, algorithm: str, value: str) -> Digest | None:
        """Return the local blob with this other checksum, in lower-case hex."""
        table = schema.aliases
        query = sa.select(table.c.blob).where(table.c.algorithm == algorithm, table.c.hex == value)
        blob = await self._database.read(lambda connection: connection.scalar(query))
        return None if blob is None else Digest.sha256(bytes(blob))

    async def examine(self, blob: Digest) -> Ingested:
        """Read a blob through once more.  Raises BlobUnknownError, DigestMismatchError."""
        path = self._store.path(blob)
        if path is not None:
            small = await trio.to_thread.run_sync(_examine_small, path, blob)
            if small is not None:
                return small
        intake = Intake(blob)
        async with self._store.read(blob) as blocks:
            async for block in blocks:
                await trio.to_thread.run_sync(intake.update, memoryview(block))
        return await trio.to_thread.run_sync(intake.finish)


def _examine_small(path: Path, blob: Digest) -> Ingested | None:
    """Read a file in one step; None for one that takes longer than others should wait."""
    try:
        with disk_errors(), path.open("rb") as file:
            data = file.read(SMALL_MAX + 1)
    except FileNotFoundError:
        raise BlobUnknownError(f"no blob {blob}") from None
    if len(data) > SMALL_MAX:
        return None
    intake = Intake(blob)
    intake.update(memoryview(data))
    return intake.finish()


def _agrees(connection: sa.Connection, ingested: Ingested) -> bool:
    blob = ingested.digest.raw
    encoded = _encoded(connection, blob)
    if encoded is None:
        return True
    rows = {(r["sha256"], r["offset"], r["length"]) for r in _chunk_rows(ingested.manifest)}
    noted = {
        (bytes(row.sha256), row.offset, row.length)
        for row in connection.execute(NOTED, {"blob": blob})
    }
    whole = {row[0] for row in noted} == {row[0] for row in rows}
    return whole and noted <= rows and bytes(encoded) == ingested.manifest.encode()


def _record(connection: sa.Connection, blobs: Sequence[Ingested]) -> None:
    """Record blobs of few chunks: four statements, however many they are."""
    aliases = [row for each in blobs for row in _alias_rows(each)]
    _insert(connection, schema.aliases, aliases)
    table = schema.manifests
    named = table.c.blob.in_([each.digest.raw for each in blobs])
    known = {
        bytes(blob) for blob in connection.execute(sa.select(table.c.blob).where(named)).scalars()
    }
    fresh = [each.manifest for each in blobs if each.digest.raw not in known]
    _insert(connection, schema.chunks, [row for each in fresh for row in _chunk_rows(each)])
    _insert(connection, schema.manifests, [_manifest_row(each) for each in fresh])


def _begin(connection: sa.Connection, ingested: Ingested, end: dict[str, Any]) -> bool:
    """Record a blob that fits one transaction, or begin with one that does not.

    Tells whether that was all, for this blob or because it is recorded already.
    """
    blob = ingested.digest.raw
    _insert(connection, schema.aliases, _alias_rows(ingested))
    if _encoded(connection, blob) is not None:
        return True
    if len(ingested.manifest.chunks) > ROWS_MAX:
        connection.execute(sa.delete(schema.chunks).where(schema.chunks.c.blob == blob))
        return False
    _insert(connection, schema.chunks, list(_chunk_rows(ingested.manifest)))
    _insert(connection, schema.manifests, [end])
    return True


def _insert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert what is not there yet: a chunk may occur twice in a blob."""
    if rows:
        dialect: Any
        if connection.dialect.name == "postgresql":  # a tenth of all imports
            from sqlalchemy.dialects import postgresql as dialect
        else:
            from sqlalchemy.dialects import sqlite as dialect
        connection.execute(dialect.insert(table).on_conflict_do_nothing(), rows)


def _chunk_rows(manifest: Manifest) -> Iterator[dict[str, Any]]:
    blob = manifest.blob.raw
    for index, chunk in enumerate(manifest.chunks):
        yield {
            "sha256": chunk.sha256,
            "blob": blob,
            "offset": manifest.offset(index),
            "length": chunk.length,
        }


def _alias_rows(ingested: Ingested) -> list[dict[str, Any]]:
    blob = ingested.digest.raw
    return [
        {"algorithm": name, "hex": value, "blob": blob}
        for name, value in ingested.checksums.items()
        if name != "sha256"
    ]


def _manifest_row(manifest: Manifest) -> dict[str, Any]:
    return {
        "blob": manifest.blob.raw,
        "id": manifest.id,
        "size": manifest.size,
        "encoded": manifest.encode(),
    }


def _encoded(connection: sa.Connection, blob: bytes) -> bytes | None:
    encoded: bytes | None = connection.scalar(ENCODED, {"blob": blob})
    return encoded


def _locations(connection: sa.Connection, keys: list[bytes]) -> dict[bytes, ChunkLocation]:
    rows = connection.execute(sa.select(schema.chunks).where(schema.chunks.c.sha256.in_(keys)))
    return {
        bytes(row.sha256): ChunkLocation(Digest.sha256(bytes(row.blob)), row.offset, row.length)
        for row in rows
    }


def _forget(connection: sa.Connection, blob: bytes) -> None:
    for table in (schema.manifests, schema.chunks, schema.aliases):
        connection.execute(sa.delete(table).where(table.c.blob == blob))


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
