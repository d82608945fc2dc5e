"""Parts of names of what an older program left: made by and by, and through a crash."""

from __future__ import annotations

import signal
import sys
import textwrap
from functools import partial

import sqlalchemy as sa
import trio

from store import schema, search_matching
from store.database import open_database
from store.search import SearchIndex
from store.search_query import Query, Term
from store.search_text import SQLITE_GONE
from store.search_writing import Document, DocumentKey

COUNT = 60
WORKER = textwrap.dedent(
    """
    import os, signal, sys
    import trio
    from store import schema, search_text
    from store.database import open_database
    from store.search import SearchIndex
    from store.search_writing import DocumentKey

    async def main(url, ranges):
        search_text.PARTS_RANGE = 7
        async with open_database(url, schema.local) as local:
            index = SearchIndex(local)
            await index.prepare()
            for number in range(ranges):
                await index.fill_parts()
                gone = DocumentKey("npm", f"package{ranges}{number}", "1")
                await index.put([], [gone], turn=1)
            os.kill(os.getpid(), signal.SIGKILL)

    trio.run(main, sys.argv[1], int(sys.argv[2]))
    """
)


async def test_a_kill_in_the_middle_loses_nothing(sqlite_url: str) -> None:
    def older(connection: sa.Connection) -> None:
        for statement in SQLITE_GONE:
            if "search_parts" in statement:
                connection.exec_driver_sql(statement)

    async with open_database(sqlite_url, schema.local) as local:
        index = SearchIndex(local)
        await index.prepare()
        documents = [
            Document(DocumentKey("npm", f"package{n}", "1"), "npm", names=f"package{n}")
            for n in range(COUNT)
        ]
        await index.put(documents, turn=1)
        await local.write(older)
    for ranges in (1, 3):
        command = [sys.executable, "-c", WORKER, sqlite_url, str(ranges)]
        ended = await trio.run_process(command, check=False)
        assert ended.returncode == -signal.SIGKILL
    async with open_database(sqlite_url, schema.local) as local:
        index = SearchIndex(local)
        await index.prepare()
        assert index.partial
        while await index.fill_parts():
            pass
        gone = {"package10", "package30", "package31", "package32"}
        found = await index.search(Query(("npm",), (Term(("ckage",)),)))
        assert {each.package for each in found.matches} == {
            each.key.package for each in documents
        } - gone
        assert not found.more
        check = "INSERT INTO search_parts(search_parts) VALUES ('integrity-check')"
        await local.write(lambda connection: connection.exec_driver_sql(check).rowcount)
        await index.prepare()  # at the next start there is nothing left to do
        assert not index.partial


async def test_the_index_is_asked_once_and_not_for_each_document(sqlite_url: str) -> None:
    def plans(connection: sa.Connection, query: Query) -> list[list[str]]:
        asked: list[tuple[str, object]] = []

        @sa.event.listens_for(connection, "before_cursor_execute")
        def note(_: object, __: object, text: str, values: object, *___: object) -> None:
            asked.append((text, values))

        search_matching.matches(connection, query)
        search_matching.look(connection, query, search_matching.Place.first(query), 10)
        found = []
        for text, values in [each for each in asked if "search_documents.format" in each[0]]:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)  # type: ignore[arg-type]  # positional values, as compiled
            found.append([str(row.detail) for row in rows])
        return found

    by_id = "SEARCH search_documents USING INTEGER PRIMARY KEY (rowid=?)"
    async with open_database(sqlite_url, schema.local) as local:
        index = SearchIndex(local)
        await index.prepare()
        named = Document(DocumentKey("npm", "left", "1"), "npm", names="left")
        await index.put([named], turn=1)
        for term in (Term(("left",)), Term(("left",), "names")):
            query = Query(("npm",), (term,))
            words, parts, looked = await local.read(partial(plans, query=query))
            assert words[0].startswith("SCAN search_text ")
            assert any(each.startswith("SCAN search_parts ") for each in parts)
            assert any("repository=? AND package>? AND package<?" in each for each in looked)
            for plan in (words, parts, looked):
                assert by_id in plan
                assert not any(each.startswith("SCAN search_documents") for each in plan)
