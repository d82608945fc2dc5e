"""Search as a whole: an empty node, and how far it is."""

from __future__ import annotations

from pathlib import Path

from node.search.service import Page, Search
from store.search_query import Query
from tests.node.search.support import npm
from tests.node.world import world


async def test_nothing_is_found_where_nothing_may_be_read(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        search: Search = node.core.search
        await npm(node, "demo", "1.0.0")
        page: Page = await search.search(Query(()), limit=10)
        assert (list(page.rows), page.total, page.exact) == ([], 0, True)
        assert await search.by_digest(f"sha256:{'0' * 63}x", ["npm"], 10) == []
        assert (await search.status()).pending > 0
        found = await search.newest("npm", "demo")
        assert found is not None
        assert found["version"] == "1.0.0"
        status = await search.status()
        assert (status.pending, status.documents, status.meilisearch) == (0, 1, "off")
