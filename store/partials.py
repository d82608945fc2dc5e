"""The partial blobs of this node: one folder each, shared while open, resumed after a restart."""

from __future__ import annotations

from pathlib import Path

import trio

from store import disk
from store.chunks import Manifest
from store.digest import Digest
from store.errors import RegistryError
from store.partial import PartialBlob
from store.partial_folder import (
    HAVE,
    MANIFEST,
    PartialFiles,
    PartialFolder,
    remove,
    stored_manifest,
)
from store.partial_memory import PartialMemory

FLUSH_SECONDS = 2.0  # what kill -9 may cost at most


class Partials:
    """Open, list and collect partial blobs below ``root``.  One process owns a root at a time."""

    def __init__(self, root: Path, *, flush_seconds: float = FLUSH_SECONDS) -> None:
        self.root = root
        self._flush_seconds = flush_seconds
        self._open: dict[Path, PartialBlob] = {}
        self._lock = trio.Lock()

    async def load(self) -> list[Manifest]:
        """Sweep what is of no use, and return the manifests of the partials to resume."""
        return await trio.to_thread.run_sync(self._load)

    async def open(self, manifest: Manifest) -> PartialBlob:
        """Begin, resume or share the fetch of a blob.  Raises StoreFullError, ReadOnlyError."""
        folder = self._folder(manifest)
        async with self._lock:
            self._forget_ended()
            if folder not in self._open:
                self._open[folder] = PartialBlob(await self._files(folder, manifest))
            return self._open[folder]

    async def leave(self, partial: PartialBlob) -> None:
        """Close one that is of no use now; who opens it meanwhile waits, and resumes it."""
        async with self._lock:
            await partial.abandon()

    async def _files(self, folder: Path, manifest: Manifest) -> PartialFiles:
        if PartialMemory.suits(manifest):
            return PartialMemory(manifest)
        return await trio.to_thread.run_sync(PartialFolder.open, folder, manifest)

    def current(self, blob: Digest) -> PartialBlob | None:
        """Return the open partial of a blob, if there is one."""
        for partial in self._open.values():
            if partial.manifest.blob == blob and partial.active:
                return partial
        return None

    async def run(self) -> None:
        """Flush every open partial now and then, for ever.  Start it in the node's nursery.

        A partial whose disk refuses is abandoned: who waits for it hears why.
        """
        while True:
            await trio.sleep(self._flush_seconds)
            self._forget_ended()
            for partial in list(self._open.values()):
                try:
                    await partial.flush()
                except RegistryError as error:
                    await partial.abandon(error)

    async def collect(self, *, older: float) -> int:
        """Delete partials nobody has open that got nothing since ``older``, seconds since 1970."""
        self._forget_ended()
        return await trio.to_thread.run_sync(self._collect, frozenset(self._open), older)

    async def close(self) -> None:
        """Close every partial cleanly."""
        for partial in list(self._open.values()):
            await partial.close()
        self._forget_ended()

    def _folder(self, manifest: Manifest) -> Path:
        """Name the folder: rival manifests of one blob do not share one."""
        return self.root / f"{manifest.blob.hex}-{manifest.id.hex()[:16]}"

    def _forget_ended(self) -> None:
        for folder in [one for one, partial in self._open.items() if not partial.active]:
            del self._open[folder]

    def _load(self) -> list[Manifest]:
        manifests = []
        with disk.disk_errors():
            self.root.mkdir(parents=True, exist_ok=True)
            for folder in sorted(self.root.iterdir()):
                manifest = stored_manifest(folder)
                if manifest is None or self._folder(manifest) != folder:
                    remove(folder)
                else:
                    manifests.append(manifest)
        return manifests

    def _collect(self, kept: frozenset[Path], older: float) -> int:
        stale = [
            folder
            for folder in self.root.iterdir()
            if folder not in kept and _touched(folder) < older
        ]
        for folder in stale:
            remove(folder)
        return len(stale)


def _touched(folder: Path) -> float:
    """Return when a partial last got anything."""
    files = [file for file in (folder / HAVE, folder / MANIFEST) if file.exists()]
    return max((file.stat().st_mtime for file in files), default=0.0)
