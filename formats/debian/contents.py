"""Contents indices: which package brings which file.  Sorted outside memory.

Spec: Debian repository format §Contents indices.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import BinaryIO

from formats.contract import Repository
from formats.debian.deb import LISTING_MAX
from formats.debian.twins import Text
from store.blobs import Ingested
from store.digest import Digest

RUN_MAX = 8 << 20  # bytes of lines sorted in memory
PIECE = 128 << 10  # bytes of a run read at a time
FAN_IN = 64  # runs merged at once
COLUMN = 60


class Sorter:
    """Sorts (path, owner) lines: in memory while they fit, else in runs that are blobs."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._lines: list[bytes] = []
        self._size = 0
        self._runs: list[Ingested] = []

    async def add(self, listing: Digest, owner: str) -> None:
        """Add the file list of a package; ``owner`` is its section and name."""
        data = await self._repository.load(listing, limit=LISTING_MAX)
        mark = b"\0" + owner.encode()
        for path in data.split(b"\n"):  # no other byte ends a line
            if path:
                self._lines.append(path + mark)
        self._size += len(data) + len(mark) * data.count(b"\n")
        if self._size > RUN_MAX:
            await self._spill()

    async def _spill(self) -> None:
        lines = sorted(self._lines)
        self._lines, self._size = [], 0
        self._runs.append(await self._keep(_iterate(lines)))
        if len(self._runs) == FAN_IN:
            self._runs = [await self._keep(self._merge(self._runs))]

    async def _keep(self, lines: AsyncIterator[bytes]) -> Ingested:
        async with self._repository.ingest() as ingest:
            text = Text(ingest)
            async for line in lines:
                await text.write(line + b"\n")
            await text.flush()
        return ingest.result

    async def write(self, text: Text) -> None:
        """Render the index: a line per path, with every package that brings it."""
        if self._runs:
            await self._spill()
            lines = self._merge(self._runs)
        else:
            lines = _iterate(sorted(self._lines))
        held, owners = b"", list[bytes]()
        async for line in lines:
            path, _, owner = line.partition(b"\0")
            if path != held and owners:
                await text.write(_render(held, owners))
                owners = []
            held = path
            owners.append(owner)
        if owners:
            await text.write(_render(held, owners))

    async def _merge(self, runs: Iterable[Ingested]) -> AsyncIterator[bytes]:
        """Lines of sorted runs, in order."""
        readers = [self._read(run) for run in runs]
        heap = [(line, at) for at, each in enumerate(readers) if (line := await _next(each))]
        heapq.heapify(heap)
        while heap:
            line, at = heap[0]
            yield line
            following = await _next(readers[at])
            if following:
                heapq.heapreplace(heap, (following, at))
            else:
                heapq.heappop(heap)

    async def _read(self, run: Ingested) -> AsyncIterator[bytes]:
        rest = b""
        for offset in range(0, run.size, PIECE):
            data = await self._repository.inspect(run.digest, partial(_piece, offset))
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line


async def _next(lines: AsyncIterator[bytes]) -> bytes:
    """The next line, or nothing: no line of a run is empty."""
    return await anext(lines, b"")


async def _iterate(lines: Iterable[bytes]) -> AsyncIterator[bytes]:
    for line in lines:
        yield line


def _piece(offset: int, file: BinaryIO) -> bytes:
    file.seek(offset)
    return file.read(PIECE)


def _render(path: bytes, owners: Iterable[bytes]) -> bytes:
    return path.ljust(COLUMN) + b" " + b",".join(sorted(set(owners))) + b"\n"
