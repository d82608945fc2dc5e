"""Chunks on their way from the links to the disk, several at a time.

A thread costs as much as a chunk: what comes while one writes is written by the next, in one go.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping

import trio

from mesh import bits
from mesh.effects import Write
from store.digest import Digest
from store.errors import RegistryError
from store.partial import PartialBlob

GATHER_MAX = 2 << 20  # bytes written in one go
UNWRITTEN_MAX = 2 << 20  # bytes of one peer that wait for the disk; it is read no further then
UNWRITTEN_ALL = 32 << 20  # and of all together


class Fetch:
    """One blob on its way: who waits for it shares this."""

    def __init__(self, blob: Digest) -> None:
        self.blob = blob
        self.partial: PartialBlob | None = None
        self.opened = trio.Event()
        self.done = trio.Event()
        self.error: RegistryError | None = None
        self.unwritten: deque[tuple[PartialBlob, Write]] = deque()
        self.writing = False  # a task is at it
        self.behind: Fetch | None = None  # the delta of which it is being made

    @property
    def here(self) -> int:
        """How many chunks are here, of the blob and of its delta: while it grows there is hope."""
        own = 0
        if self.partial is not None:
            own = len(self.partial.manifest.chunks) - len(self.partial.missing)
        return own + (self.behind.here if self.behind is not None else 0)

    def hold(self, partial: PartialBlob | None) -> PartialBlob | None:
        """Go on with this one, or with none yet.  Return the one to leave for it, if any.

        What was whole before is being judged, and ends by that.
        """
        old, self.partial = self.partial, partial
        if partial is not None:
            self.opened.set()
        elif self.opened.is_set():
            self.opened = trio.Event()
        if old is None or old is partial or not old.active or not old.missing:
            return None
        return old

    def stale(self, manifest: bytes) -> bool:
        """Tell whether what is open is of another manifest than this."""
        return self.partial is not None and self.partial.manifest.id != manifest

    def end(self, error: RegistryError | None = None) -> None:
        """It is here, or will not come."""
        self.error = error
        self.opened.set()
        self.done.set()


class Writing:
    """Writes chunks, in order for each blob, and tells what became of them.

    ``written`` hears of each effect and its wrong chunks, ``failed`` of a disk that refuses.
    """

    def __init__(
        self,
        fetches: Mapping[bytes, Fetch],
        written: Callable[[Write, PartialBlob, list[int]], None],
        failed: Callable[[bytes, RegistryError], None],
    ) -> None:
        self.start: Callable[..., None] = lambda *_: None  # a task
        self._fetches = fetches
        self._written, self._failed = written, failed
        self._unwritten: Counter[bytes] = Counter()  # bytes that came from each peer
        self._all = 0
        self._moved = trio.Event()

    def put(self, effect: Write) -> None:
        """Write chunks soon.  Wait for ``room`` before more of the same peer is taken."""
        fetch = self._fetches.get(effect.blob)
        if fetch is None or fetch.partial is None:
            return
        fetch.unwritten.append((fetch.partial, effect))
        self._count(effect, len(effect.data))
        if not fetch.writing:
            fetch.writing = True
            self.start(self._work, fetch)

    async def room(self, peer: bytes) -> None:
        """Wait while too much of the peer, or of all, waits for the disk."""
        while self._unwritten[peer] >= UNWRITTEN_MAX or self._all >= UNWRITTEN_ALL:
            if self._moved.is_set():  # several may wait for one event
                self._moved = trio.Event()
            await self._moved.wait()

    def _count(self, effect: Write, size: int) -> None:
        self._unwritten[effect.peer] += size
        self._all += size
        if not self._unwritten[effect.peer]:
            del self._unwritten[effect.peer]

    async def _work(self, fetch: Fetch) -> None:
        try:
            while fetch.unwritten:
                partial, batch = gather(fetch.unwritten)
                try:
                    await self._write(fetch, partial, batch)
                finally:
                    for effect in batch:
                        self._count(effect, -len(effect.data))
                    self._moved.set()
        finally:
            fetch.writing = False

    async def _write(self, fetch: Fetch, partial: PartialBlob, batch: list[Write]) -> None:
        raw = fetch.blob.raw
        if fetch.partial is not partial:
            return  # of a manifest that is believed no longer
        try:
            runs = [(each.first, each.first + each.count, each.data) for each in batch]
            wrong = set(await partial.write_runs(runs))
        except RegistryError as error:
            if self._fetches.get(raw) is fetch and fetch.partial is partial:
                await partial.abandon(error)  # else whoever gave it up has told the exchange
                self._failed(raw, error)
            return
        if fetch.partial is not partial:
            return  # the numbers of these chunks mean others by now
        for effect in batch:
            span = range(effect.first, effect.first + effect.count)
            self._written(effect, partial, [index for index in span if index in wrong])


def gather(waiting: deque[tuple[PartialBlob, Write]]) -> tuple[PartialBlob, list[Write]]:
    """Take what is to be written in one go: no chunk twice, so that each has one giver."""
    partial, first = waiting.popleft()
    batch, size, chunks = (
        [first],
        len(first.data),
        bits.span(first.first, first.first + first.count),
    )
    while waiting and waiting[0][0] is partial and size < GATHER_MAX:
        span = bits.span(waiting[0][1].first, waiting[0][1].first + waiting[0][1].count)
        if chunks & span:
            break
        chunks |= span
        batch.append(waiting.popleft()[1])
        size += len(batch[-1].data)
    return partial, batch


def have(partial: PartialBlob) -> int:
    """Return the chunks that are here."""
    found = bits.full(len(partial.manifest.chunks))
    for run in partial.missing.runs():
        found &= ~bits.span(run.start, run.stop)
    return found
