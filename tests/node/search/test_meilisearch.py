"""Meilisearch beside the local index: fed in order, asked first, missed without harm."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.config import Searching
from node.search import meilisearch
from node.search.asking import read
from node.search.meilisearch import Fed, document, filters, identifier, quote
from store.errors import UnavailableError
from store.facts import Delete
from store.search_query import Query
from store.search_writing import DocumentKey
from tests.node.search.fake_meilisearch import Fake, serving
from tests.node.search.support import append, npm
from tests.node.world import World, world


def configured(url: str) -> Searching:
    return Searching(meilisearch_url=url, meilisearch_key="secret", meilisearch_index="test")


async def feed(node: World) -> None:
    await node.core.search.indexer.ensure()
    assert node.core.search.meili is not None
    while await node.core.search.meili.feed():
        pass


async def ask(node: World, text: str, *keys: str) -> tuple[str, list[str]]:
    page = await node.core.search.search(read(text, keys or ("npm",)).query, limit=10)
    return page.engine, sorted(f"{row['package']} {row['version']}" for row in page.rows)


async def fed_and_asked(node: World) -> None:
    """What must hold with any server."""
    await npm(node, "left-pad", "1.0.0", description="Pads strings", license="MIT")
    await npm(node, "left-pad", "2.0.0", description="Pads strings", license="ISC")
    await npm(node, "right-pad", "1.0.0", description="Pads strings")
    assert (await ask(node, "pads"))[0] == "local"  # nothing was sent yet
    await feed(node)
    assert await ask(node, "pads") == ("meilisearch", ["left-pad 2.0.0", "right-pad 1.0.0"])
    assert await ask(node, "name:left") == ("meilisearch", ["left-pad 2.0.0"])
    assert await ask(node, "version:1.0.0 left") == ("meilisearch", ["left-pad 1.0.0"])
    assert await ask(node, 'license:"ISC"') == ("meilisearch", ["left-pad 2.0.0"])
    assert (await ask(node, "name:left strings"))[0] == "local"  # words in two places
    assert await ask(node, "pads", "pypi") == ("meilisearch", [])
    await append(
        node, *(Delete("npm", f"left-pad/-/left-pad-2.0.0.{e}", ()) for e in ("tgz", "json"))
    )
    await feed(node)
    assert await ask(node, "left") == ("meilisearch", ["left-pad 1.0.0"])


async def test_it_is_fed_and_asked(tmp_path: Path) -> None:
    fake = Fake()
    with serving(fake) as url:
        async with world(tmp_path, search=configured(url)) as node:
            await fed_and_asked(node)
            assert fake.keys == {"Bearer secret"}
            page = await node.core.search.search(read("pads", ("npm", "pypi")).query, limit=1)
            assert (page.total, len(page.rows), page.exact) == (2, 1, True)
            assert page.facets["repository"] == {"npm": 2}
            last = fake.searches[-1]
            assert 'repository IN ["npm", "pypi"]' in last["filter"]
            await node.core.search.rebuild()
            assert (await ask(node, "pads"))[0] == "local"
            await feed(node)
            assert (await ask(node, "pads"))[0] == "meilisearch"
            assert len(fake.indexes["test"]) == 2
        async with world(tmp_path, search=configured(url)) as node:  # the next start goes on
            searches = len(fake.searches)
            await feed(node)
            assert (await ask(node, "pads"))[0] == "meilisearch"
            assert len(fake.searches) == searches + 1
            fake.indexes.clear()  # somebody lost it
            assert node.core.search.meili is not None
            node.core.search.meili.fed = None
            await feed(node)
            assert len(fake.indexes["test"]) == 2


async def test_the_node_works_while_it_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake()
    monkeypatch.setattr(meilisearch, "AWAY", 0.0)
    with serving(fake) as url:
        async with world(tmp_path, search=configured(url)) as node:
            await npm(node, "demo", "1.0.0")
            await feed(node)
            fake.fails = True
            assert await ask(node, "demo") == ("local", ["demo 1.0.0"])
            assert "ready" in (await node.core.search.status()).meilisearch  # to be tried again
            monkeypatch.setattr(meilisearch, "AWAY", 1000.0)
            assert (await ask(node, "demo"))[0] == "local"
            asked = len(fake.searches)
            assert (await ask(node, "demo"))[0] == "local"
            assert len(fake.searches) == asked  # it is left alone for a while
            told = (await node.core.search.status()).meilisearch
            assert "ready" not in told
            assert "secret" not in told
            await npm(node, "late", "1.0.0")
            await node.core.search.indexer.ensure()
            with pytest.raises(UnavailableError):
                await feed(node)
            fake.fails = False
            fake.failing_tasks = True
            with pytest.raises(UnavailableError):  # what it did not take is sent again
                await feed(node)
            fake.failing_tasks = False
            await feed(node)
            assert len(fake.indexes["test"]) == 2


@pytest.mark.parametrize(
    "liar",
    [
        {},
        {"hits": "x", "estimatedTotalHits": 1},
        {"hits": [{"key": ["npm", "a"]}], "estimatedTotalHits": 1},
        {"hits": [], "estimatedTotalHits": "many"},
        {"hits": [], "estimatedTotalHits": 0, "facetDistribution": {"repository": [1]}},
    ],
)
async def test_answers_that_are_none_are_not_believed(tmp_path: Path, liar: Any) -> None:
    fake = Fake()
    with serving(fake) as url:
        async with world(tmp_path, search=configured(url)) as node:
            await npm(node, "demo", "1.0.0")
            await feed(node)
            fake.liar = liar
            assert await ask(node, "demo") == ("local", ["demo 1.0.0"])


async def test_hits_of_other_repositories_are_dropped(tmp_path: Path) -> None:
    fake = Fake()
    with serving(fake) as url:
        async with world(tmp_path, search=configured(url)) as node:
            await npm(node, "demo", "1.0.0")
            await feed(node)
            hit = {"key": ["npm", "demo", "1.0.0", ""]}
            fake.liar = {"hits": [hit, hit], "estimatedTotalHits": 2}
            assert await ask(node, "demo", "pypi") == ("meilisearch", [])


def test_filters_quote_what_people_type() -> None:
    assert quote('a" OR b = "c\\') == '"a\\" OR b = \\"c\\\\"'
    query = Query(("a", "b"), formats=("npm",), version='1" OR repository = "x', latest=False)
    assert filters(query) == [
        'repository IN ["a", "b"]',
        'format IN ["npm"]',
        'version = "1\\" OR repository = \\"x"',
    ]
    key = DocumentKey("r", "@s/p", "1", "")
    assert identifier(key) != identifier(DocumentKey("r", "@s/p", "", "1"))
    row = dict.fromkeys(("names", "words", "filenames", "tags", "format", "license"), "")
    told = document({**row, **key._asdict(), "latest": 1, "updated": 5})
    assert (told["id"], told["latest"], told["tags"]) == (identifier(key), True, [])
    assert Fed().stamp == 0


@pytest.fixture
def real_server(tmp_path: Path) -> Iterator[str]:
    """Start the real program, where there is one."""
    program = shutil.which("meilisearch")
    if program is None:
        pytest.skip("no meilisearch on this machine: the client's package brings no server")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{listener.getsockname()[1]}"
    command = [program, "--db-path", str(tmp_path / "meili"), "--http-addr", place]
    with subprocess.Popen([*command, "--master-key", "secret", "--no-analytics"]) as server:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://{place}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://{place}"
        server.terminate()


async def test_a_real_server_agrees(tmp_path: Path, real_server: str) -> None:
    async with world(tmp_path, search=configured(real_server)) as node:
        await fed_and_asked(node)
