"""Which blobs the catalog of this node needs, as bundles ask for them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable, Mapping

from mesh.shell.exporting import Named
from node.core import Core
from node.garbage import RESTORABLE
from store.authority import in_scope
from store.digest import Digest

EVERY = ("*",)


class Names:
    """Asks catalog and references; what other members hold is their own word."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def named(self, blobs: Iterable[Digest]) -> Mapping[Digest, Named]:
        """Those of the blobs that the catalog needs, with size and manifest id where known."""
        since = time.time() - RESTORABLE
        asked = list(blobs)
        needed = await self._core.references.among(asked, deleted_since=since)
        found = {}
        for digest in asked:
            if digest in needed:
                rows = await self._core.catalog.by_digest(None, digest)
                sizes = [row.size for row in rows if row.size]
                ids = [row.manifest_id for row in rows if row.manifest_id]
                found[digest] = Named(sizes[0] if sizes else 0, ids[0] if ids else b"")
        return found

    async def all(self, repositories: tuple[str, ...]) -> AsyncGenerator[Digest]:
        """Every blob that it needs, of repositories that match; some more than once."""
        if repositories == EVERY:
            since = time.time() - RESTORABLE
            async for digest in self._core.references.all(deleted_since=since):
                yield digest
            return
        for entry in self._core.directory_repositories():
            if in_scope(repositories, entry.key):
                async for each in self._core.catalog.all_artifacts(entry.key):
                    yield each.digest
                    if each.metadata_digest is not None:
                        yield each.metadata_digest

    async def held(self, node: str, blobs: Iterable[Digest]) -> set[Digest]:
        """Those of the blobs that a member said it holds."""
        asked = {digest.raw: digest for digest in blobs}
        found = await self._core.placer.holders.of(list(asked))
        return {asked[raw] for raw, nodes in found.items() if node in nodes}
