"""A process to be killed: it ingests blobs and fetches one, for ever, and says what it was promised.

Run as ``python -m tests.store.crash_worker ROOT SEED``.  A line on standard output means that the
store has acknowledged that blob.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import trio

from store import partial
from store.chunks import Manifest
from store.files import FileStore
from store.intake import Intake
from store.partials import Partials

FETCHED_SIZE = 6 << 20  # bytes


def fetched(number: int) -> bytes:
    """Return the bytes of the blob that is fetched."""
    return random.Random(number).randbytes(FETCHED_SIZE)


def manifest_of(data: bytes) -> Manifest:
    intake = Intake()
    intake.update(memoryview(data))
    return intake.finish().manifest


def acknowledge(digest: object) -> None:
    os.write(1, f"{digest}\n".encode())


async def ingest(store: FileStore, rng: random.Random) -> None:
    while True:
        size = rng.choice([0, 1, 5000, 300_000, 1 << 20, 2_500_000])
        async with store.ingest() as incoming:
            for _ in range(0, size, 100_000):
                await incoming.write(rng.randbytes(min(size, 100_000)))
        acknowledge(incoming.result.digest)


async def fetch(store: FileStore, partials: Partials, rng: random.Random) -> None:
    number = 0
    while True:
        data = fetched(number)
        manifest = manifest_of(data)
        if not await store.has(manifest.blob):
            blob = await partials.open(manifest)
            order = list(blob.missing)
            rng.shuffle(order)
            for index in order:
                await blob.write(index, data[manifest.offset(index) : manifest.offset(index + 1)])
            await blob.complete(store)
            acknowledge(manifest.blob)
        number += 1


async def main() -> None:
    root, seed = Path(sys.argv[1]), int(sys.argv[2])
    partial.FLUSH_SIZE = 1 << 20
    store, partials = FileStore(root), Partials(root / "partial", flush_seconds=0.02)
    await store.open()
    await partials.load()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partials.run)
        nursery.start_soon(ingest, store, random.Random(seed))
        nursery.start_soon(ingest, store, random.Random(seed + 1_000_000))
        nursery.start_soon(fetch, store, partials, random.Random(seed))


if __name__ == "__main__":
    trio.run(main)
