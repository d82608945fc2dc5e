"""The blobs of a bundle on their way into the store, by the doors that a fetch uses."""

from __future__ import annotations

from typing import Protocol

from mesh.bundle.parts import Blob, Chunks, Page
from mesh.ports import IndexPort, PartialsPort
from mesh.shell.exporting import Named, NamesPort
from store.blobs import BlobStore
from store.chunking import WHOLE_MAX, sizes_at
from store.chunks import PAGE_CHUNKS
from store.chunks import Root as ManifestRoot
from store.digest import Digest
from store.errors import DigestMismatchError, RegistryError, RejectedError, UnavailableError
from store.partial import PartialBlob

UNKNOWN_MAX = 256 << 20  # bytes of a blob whose size no record names
WRONG_MAX = 16  # wrong chunks after which the rest of a blob is skipped


class Counts(Protocol):
    """What is counted; ``mesh.shell.importing.Report`` is one."""

    blobs: int
    known_blobs: int
    unnamed_blobs: int
    partial_blobs: int
    size: int

    def refuse(self, why: str) -> None:
        """Count a refusal."""
        ...


class Blobs:
    """Takes one blob after another; ``open`` while one is under way."""

    def __init__(
        self,
        store: BlobStore,
        index: IndexPort,
        partials: PartialsPort,
        names: NamesPort,
        counts: Counts,
    ) -> None:
        self._store, self._index, self._partials = store, index, partials
        self._names, self._counts = names, counts
        self._digest: Digest | None = None
        self._size = 0
        self._root: ManifestRoot | None = None  # while pages are awaited
        self._pages: list[bytes] = []
        self._partial: PartialBlob | None = None
        self._wrong = 0
        self._skip = True
        self.open = False

    async def begin(self, part: Blob) -> None:
        """A new blob begins; the one before it ends."""
        await self.end()
        self.open, self._skip, self._wrong = True, True, 0
        self._digest, self._size = Digest.sha256(part.digest), part.size
        if await self._store.has(self._digest):
            self._counts.known_blobs += 1
            return
        named = (await self._names.named([self._digest])).get(self._digest)
        if named is None:
            self._counts.unnamed_blobs += 1
            return
        why = self._unwelcome(self._digest, part, named)
        if why:
            self._counts.refuse(why)
            return
        self._skip = False
        if self._size == 0:
            await self._whole(b"")

    def _unwelcome(self, digest: Digest, part: Blob, named: Named) -> str:
        """Why a blob is not what a record names, or "".  Reads the root of its manifest."""
        if part.size != named.size and (named.size or part.size > UNKNOWN_MAX):
            return "a blob of another size than its record names"
        self._root = None
        if part.size <= WHOLE_MAX:
            return ""
        try:
            root = ManifestRoot.decode(part.manifest)
        except RejectedError as error:
            return str(error)
        if (root.blob, root.size) != (digest, part.size) or root.count > _count_max(part.size):
            return "the chunk manifest is not the blob's"
        if named.manifest and named.manifest != root.id:
            return "another chunk manifest than the record names"
        self._root = root
        return ""

    async def page(self, part: Page) -> None:
        """Take a page of the manifest; with the last one chunks can be stored."""
        if self._skip or self._root is None:
            return
        try:
            self._root.page(len(self._pages), part.data)
            self._pages.append(part.data)
            if len(self._pages) < len(self._root.pages):
                return
            manifest = self._root.assemble(self._pages)
        except RejectedError as error:
            self._refuse(str(error))
            return
        self._root, self._pages = None, []
        self._partial = await self._partials.open(manifest)
        if self._partial.missing:
            await self._partial.copy_known(self._index, self._store)

    async def chunks(self, part: Chunks) -> None:
        """Verify and store chunks.  What is here already is not touched."""
        if self._skip:
            return
        if self._digest is not None and self._size <= WHOLE_MAX:
            await self._whole(part.raw)
            return
        partial = self._partial
        if partial is None:
            self._refuse("chunks before their manifest")
            return
        stop = part.first + part.count
        if stop > len(partial.manifest.chunks):
            self._refuse("chunks that the manifest does not list")
            return
        if not partial.active or partial.next_missing(part.first, stop) is None:
            return
        before = len(partial.missing)
        wrong = await partial.write_runs([(part.first, stop, part.raw)])
        if len(partial.missing) < before:
            self._counts.size += len(part.raw)
        self._wrong += len(wrong)
        if wrong:
            self._counts.refuse("chunks with wrong bytes")
        if self._wrong > WRONG_MAX:
            await partial.flush()
            self._skip = True

    async def _whole(self, data: bytes) -> None:
        """Store a blob of one chunk."""
        digest, self._skip = self._digest, True
        if digest is None or len(data) != self._size:
            self._refuse("a blob of another size than it says")
            return
        try:
            async with self._store.ingest(digest) as ingest:
                await ingest.write(data)
        except DigestMismatchError:
            self._refuse("a blob with wrong bytes")
            return
        await self._index.record(ingest.result)
        self._counts.blobs += 1
        self._counts.size += len(data)

    async def end(self) -> None:
        """No more of this blob comes: publish it if it is whole.  Raises StoreFullError."""
        partial, begun = self._partial, self.open and not self._skip
        self._partial, self._root, self._pages, self.open = None, None, [], False
        self._skip = True
        if partial is None:
            self._counts.partial_blobs += begun
            return
        if partial.missing:
            self._counts.partial_blobs += 1
            await partial.flush()
            return
        try:
            ingested = await partial.complete(self._store)
        except UnavailableError:
            raise
        except RegistryError:
            self._counts.refuse("a manifest of other bytes than the blob's")
            return
        await self._index.record(ingested)
        self._counts.blobs += 1

    async def leave(self) -> None:
        """Make what has arrived of an unfinished blob durable, as far as the disk lets us."""
        if self._partial is not None and self._partial.active:
            try:
                await self._partial.flush()
            except UnavailableError:
                return

    def _refuse(self, why: str) -> None:
        self._counts.refuse(why)
        self._skip = True


def _count_max(size: int) -> int:
    """The most chunks that a blob of this size can have."""
    return size // sizes_at(0).min + PAGE_CHUNKS
