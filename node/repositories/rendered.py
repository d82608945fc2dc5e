"""Rendered documents, kept until their repository changes.  Bounded in bytes; single flight."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from formats.contract import Rendered
from node.repositories.generations import DocumentSet, Generations, Key
from node.repositories.listed import Listed, Parts, compose, write
from node.turns import Turns
from store.digest import Digest

CACHE_MAX = 24 << 20  # bytes of rendered documents a node keeps
LISTED_MAX = 512 << 20  # bytes of long ones that it keeps on disk
COMPOSED_MAX = 8 << 20  # bytes of documents of any length; what lies on disk counts a 64th
LISTED_MIN = 8 << 20  # what each counts as at least, so that there are few open files
PLACES_MAX = 1024  # things whose numbers are remembered
Built = TypeVar("Built")


@dataclass(slots=True)
class Entry(Generic[Built]):
    """A document and the repository revision it was rendered at."""

    revision: int
    value: Built
    size: int


class Shelf(Generic[Built]):
    """Least recently used documents, by (repository, key); one builder at a time for each.

    What alone is larger than ``size_max`` is kept until another comes; not at all unless ``huge``.
    """

    def __init__(
        self, size_max: int, measure: Callable[[Built], int], *, huge: bool = True
    ) -> None:
        self._entries: OrderedDict[Key, Entry[Built]] = OrderedDict()
        self._turns: Turns[Key] = Turns()
        self._size, self._size_max, self._measure = 0, size_max, measure
        self._huge = huge

    def since(self, key: Key, revision: int) -> Built | None:
        """The document, if it was built at this revision or later: revisions only grow."""
        entry = self._entries.get(key)
        if entry is None or entry.revision < revision:
            return None
        self._entries.move_to_end(key)
        return entry.value

    async def get(
        self, key: Key, revision: Callable[[], int], build: Callable[[], Awaitable[Built]]
    ) -> Built:
        """The document as of the call or later, built once for all who ask before it is begun.

        The revision is read before building: a change meanwhile leaves an entry that is already
        stale, never one that looks fresh.  Who waited takes what was built since it asked, even if
        that is stale by now: else a queue would build one document after the other where changes
        come faster than documents.
        """
        wanted = revision()
        found = self.since(key, wanted)
        if found is not None:
            return found
        async with self._turns.of(key):
            found = self.since(key, wanted)
            if found is not None:
                return found
            at = revision()
            built = await build()
            self._keep(key, Entry(at, built, self._measure(built)))
            return built

    def _keep(self, key: Key, entry: Entry[Built]) -> None:
        old = self._entries.pop(key, None)
        self._size -= old.size if old else 0
        if entry.size > self._size_max and not self._huge:
            return
        self._size += entry.size
        self._entries[key] = entry
        while self._size > self._size_max and len(self._entries) > 1:
            _, dropped = self._entries.popitem(last=False)
            self._size -= dropped.size


class Numbers:
    """Revisions of things that have none: greater than any before when one is made of others."""

    def __init__(self, places_max: int = PLACES_MAX) -> None:
        self._held: OrderedDict[Key, tuple[bytes, int]] = OrderedDict()
        self._last, self._places_max = 0, places_max

    def of(self, place: Key, made_of: bytes) -> int:
        """The number of what is at a place; ``made_of`` tells it from what was there before."""
        held = self._held.get(place)
        if held is None or held[0] != made_of:
            self._last += 1
            held = self._held[place] = made_of, self._last
        self._held.move_to_end(place)
        while len(self._held) > self._places_max:
            self._held.popitem(last=False)
        return held[1]


def _weigh(composed: Rendered | Listed) -> int:
    if isinstance(composed, Rendered):
        return len(composed.data) + 512
    return max(LISTED_MIN, composed.size) * COMPOSED_MAX // LISTED_MAX


def render(data: bytes, modified: float) -> Rendered:
    """Wrap a document with its validators."""
    return Rendered(data, str(Digest.of(data)), modified)


class RenderCache:
    """The node's shelves: small documents in memory, long ones on disk, sets kept as blobs.

    ``folder`` is where the long ones lie, nameless; None is the system's.  ``clock`` is monotonic.
    """

    def __init__(
        self, folder: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self.lists: Shelf[Listed] = Shelf(LISTED_MAX, lambda each: max(LISTED_MIN, each.size))
        self.documents: Shelf[Rendered] = Shelf(CACHE_MAX, lambda each: len(each.data) + 512)
        self.compositions: Shelf[Rendered | Listed] = Shelf(COMPOSED_MAX, _weigh)
        self.sets: Shelf[DocumentSet] = Shelf(1 << 20, lambda each: 256 * len(each) + 64)
        self._generations = Generations(clock)

    async def composed(
        self,
        key: Key,
        revision: Callable[[], int],
        parts: Parts,
        modified: Callable[[], float],
    ) -> Rendered | Listed:
        """A document of any length at the present revision."""

        async def build() -> Rendered | Listed:
            return await compose(self._folder, parts, modified())

        return await self.compositions.get(key, revision, build)

    async def listed(
        self,
        key: Key,
        revision: Callable[[], int],
        parts: Parts,
        modified: Callable[[], float],
    ) -> Listed:
        """A long document at the present revision."""

        async def build() -> Listed:
            return await write(self._folder, parts, modified())

        return await self.lists.get(key, revision, build)

    async def document_set(
        self, key: Key, revision: Callable[[], int], build: Callable[[], Awaitable[DocumentSet]]
    ) -> DocumentSet:
        """A set at the present revision; the sets before it stay known for a while."""

        async def build_and_remember() -> DocumentSet:
            built = await build()
            self._generations.add(key, built)
            return built

        return await self.sets.get(key, revision, build_and_remember)

    def generations(self, key: Key) -> Sequence[DocumentSet]:
        """Sets built under a key that are known still, newest first."""
        return self._generations.of(key)

    def referenced(self) -> set[Digest]:
        """Blobs that only a document set names: garbage collection keeps them."""
        return set(self._generations.blobs())
