"""Search as a whole: an empty node, and how far it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from node.search.service import Page, Search
from store.errors import UnavailableError
from store.search_query import Query, Term
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


async def test_a_damaged_index_is_made_anew(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        search = node.core.search
        await npm(node, "demo", "1.0.0")
        query = Query(("npm",), (Term(("demo",)),))
        assert (await search.search(query, limit=5)).total == 1

        def damage(connection: sa.Connection) -> None:
            connection.exec_driver_sql("UPDATE search_text_data SET block = x'00ff00ff'")

        await search.index._database.write(damage)
        await npm(node, "later", "1.0.0")
        with pytest.raises(UnavailableError, match="damaged"):
            await search.search(query, limit=5)
        assert (await search.search(query, limit=5)).total == 1
        assert (await search.status()).documents == 2
