"""A blob in chunks, for the tests of partial blobs."""

from __future__ import annotations

from store.chunks import Manifest
from store.intake import Intake
from store.partial import PartialBlob
from tests.store.blob_contract import MIB, noise

DATA = noise(2 * MIB + 12345, seed=9)


def manifest_of(data: bytes) -> Manifest:
    intake = Intake()
    intake.update(memoryview(data))
    return intake.finish().manifest


MANIFEST = manifest_of(DATA)
COUNT = len(MANIFEST.chunks)


def chunk(index: int) -> bytes:
    return DATA[MANIFEST.offset(index) : MANIFEST.offset(index + 1)]


async def fill(blob: PartialBlob, *indexes: int) -> None:
    for index in indexes or list(blob.missing):
        await blob.write(index, chunk(index))


async def drain(blob: PartialBlob, start: int = 0, stop: int | None = None) -> bytes:
    async with blob.read(start, stop) as blocks:
        return b"".join([block async for block in blocks])
