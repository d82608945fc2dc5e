"""Search as the API asks for it: one query, the local index or Meilisearch behind it.

Whoever asks names the repositories that the caller may read; nothing of any other is matched
or told, by either engine.  How common a word is, and so the order of results, is over all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import structlog
import trio

from node.config import Searching
from node.search.documents import Source
from node.search.indexer import Indexer
from node.search.meilisearch import FACETS, Meilisearch
from store.database import Database
from store.digest import Digest
from store.errors import DigestInvalidError, RegistryError, UnavailableError
from store.followers import Followers
from store.journal import Journal
from store.ledger import Ledger
from store.search import SearchIndex
from store.search_matching import MATCH_MAX
from store.search_query import Query
from store.search_writing import DocumentKey

WARM_AFTER = 1.0  # seconds after the start: the first requests have the processor to themselves
RETRY = 30.0  # seconds after following failed
DAMAGED_RETRY = 1.0  # seconds before a damaged index is made anew
FEED_RETRY = 15.0  # seconds after Meilisearch could not be fed
FACET_MAX = 100  # values of one facet
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of results.  ``exact`` says whether ``total`` counts all of them."""

    rows: Sequence[Mapping[str, Any]]
    total: int
    exact: bool
    facets: Mapping[str, Mapping[str, int]]
    engine: str


@dataclass(frozen=True, slots=True)
class Status:
    """How search stands, for people."""

    documents: int
    pending: int  # changes not indexed yet
    rebuilding: bool
    written: int  # by the rebuild that runs, or ran last
    meilisearch: str  # off | ready | why it is not


class Search:
    """One node's search."""

    def __init__(
        self, index: SearchIndex, indexer: Indexer, source: Source, meili: Meilisearch | None
    ) -> None:
        self.index, self.indexer, self.source, self.meili = index, indexer, source, meili

    # --- following -------------------------------------------------------------------------------
    async def run(self, ledger: Ledger) -> None:
        """Keep the indices in step, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, ledger)
            if self.meili is not None:
                nursery.start_soon(self._feed, self.meili)

    async def _follow(self, ledger: Ledger) -> None:
        grown = ledger.subscribe()
        await trio.sleep(WARM_AFTER)
        while True:
            try:
                await self.indexer.run(grown)
            except RegistryError as error:
                log.warning("search.failed", error=str(error))
                await trio.sleep(RETRY)
            except sa.exc.DatabaseError as error:  # all that is in it can be made again
                log.error("search.damaged", error=str(error.orig))
                self.indexer.rebuild(damaged=True)
                await trio.sleep(DAMAGED_RETRY)

    async def _feed(self, meili: Meilisearch) -> None:
        while True:
            changed = self.indexer.changed
            try:
                while await meili.feed():
                    await trio.lowlevel.checkpoint()
                await changed.wait()
            except RegistryError:  # it was logged once
                await trio.sleep(FEED_RETRY)

    async def rebuild(self) -> None:
        """Index everything anew, in the background; the old index answers meanwhile."""
        self.indexer.rebuild()
        if self.meili is not None:
            await self.meili.forget()

    # --- asking ----------------------------------------------------------------------------------
    async def search(self, query: Query, *, limit: int, offset: int = 0) -> Page:
        """A page of what matches, and how the matches divide."""
        if not query.repositories:
            return Page((), 0, True, {name: {} for name in FACETS}, "local")
        try:
            await self.indexer.ensure()  # whoever published a moment ago finds it
            return await self._search(query, limit, offset)
        except sa.exc.DatabaseError as error:
            log.error("search.damaged", error=str(error.orig))
            self.indexer.rebuild(damaged=True)
            raise UnavailableError("the search index is damaged, and made anew") from error

    async def _search(self, query: Query, limit: int, offset: int) -> Page:
        if self.meili is not None and self.meili.ready and self.meili.can(query):
            try:
                return await self._outside(self.meili, query, limit, offset)
            except RegistryError:
                log.debug("search.fallback")
        found = await self.index.search(query)
        rows = await self.index.load([each.id for each in found.matches[offset : offset + limit]])
        facets = {
            name: _most(Counter(getattr(each, name) for each in found.matches)) for name in FACETS
        }
        return Page(rows, len(found.matches), not found.more, facets, "local")

    async def _outside(self, meili: Meilisearch, query: Query, limit: int, offset: int) -> Page:
        hits = await meili.search(query, limit, offset)
        readable = set(query.repositories)
        keys = [DocumentKey(*each) for each in hits.keys if each[0] in readable]
        rows = await self.index.load_keys(keys)
        facets = {name: _most(hits.facets.get(name, {})) for name in FACETS}
        return Page(rows, hits.total, hits.total < MATCH_MAX, facets, "meilisearch")

    async def by_digest(
        self, digest: str, repositories: Sequence[str], limit: int
    ) -> list[tuple[str, str]]:
        """(repository, path) of files with a digest of any recorded algorithm."""
        algorithm, _, value = digest.partition(":")
        readable = set(repositories)
        if algorithm not in {"sha256", "sha512"}:
            await self.indexer.ensure()
            return await self.index.by_digest(f"{algorithm}:{value.lower()}", repositories, limit)
        try:
            wanted = Digest.parse(f"{algorithm}:{value.lower()}")
        except DigestInvalidError:
            return []
        rows = await self.source.catalog.by_digest(None, wanted)
        return [(each.repository, each.path) for each in rows if each.repository in readable][
            :limit
        ]

    async def newest(self, repository: str, package: str) -> Mapping[str, Any] | None:
        """What the index keeps of the version that was changed last, if it knows one."""
        await self.indexer.ensure()
        return await self.index.newest(repository, package)

    async def status(self) -> Status:
        """How far the index is."""
        state, progress = self.indexer.state, self.indexer.progress
        pending = await self.indexer.pending()
        told = "off"
        if self.meili is not None:
            told = "ready" if self.meili.ready else self.meili.trouble or "not fed yet"
        unfinished = state is None or not state.complete
        return Status(
            await self.index.count(),
            pending,
            progress.running or unfinished or self.index.partial,
            progress.documents,
            told,
        )


def _most(counted: Mapping[str, int]) -> dict[str, int]:
    """The most frequent values; nothing for what has none."""
    ordered: Iterable[tuple[str, int]] = sorted(counted.items(), key=lambda x: (-x[1], x[0]))
    return dict([(value, number) for value, number in ordered if value and number][:FACET_MAX])


def open_search(
    config: Searching, local: Database, ledger: Ledger, journal: Journal, source: Source
) -> Search:
    """Wire one node's search; nothing is read yet."""
    index, followers, meili = SearchIndex(local), Followers(local), None
    if config.meilisearch_url:
        meili = Meilisearch(
            index,
            followers,
            url=config.meilisearch_url,
            key=config.meilisearch_key,
            index=config.meilisearch_index,
        )
    indexer = Indexer(
        index,
        source,
        journal,
        followers,
        lambda: ledger.incarnation,
        keep_gone=meili is not None,
    )
    return Search(index, indexer, source, meili)
