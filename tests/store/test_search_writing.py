"""A page of a rebuild: what is there stays, what is not is written, and one version is the newest."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from store.database import Database
from store.followers import Followers
from store.schema_followers import search_digests, search_documents
from store.search import SearchIndex
from store.search_writing import Document, DocumentKey

SUMS = (("md5:00", "a"), ("sha1:11", "a"))


class Walk(msgspec.Struct):
    """What a rebuild keeps."""

    at: int = 0


@pytest.fixture
async def index(local: Database) -> SearchIndex:
    made = SearchIndex(local)
    await made.prepare()
    return made


def made(package: str, version: str, updated: int, path: str = "", **more: Any) -> Document:
    return Document(DocumentKey("npm", package, version, path), "npm", updated=updated, **more)


async def fill(index: SearchIndex, documents: list[Document], turn: int) -> None:
    ordered = sorted(documents, key=lambda each: each.key)
    await index.fill(ordered, turn=turn, name="walk", state=Walk(turn))


async def rows(local: Database) -> list[dict[str, Any]]:
    query = sa.select(search_documents).order_by(search_documents.c.id)
    return await local.read(lambda c: [dict(row) for row in c.execute(query).mappings()])


async def count_digests(local: Database) -> int:
    query = sa.select(sa.func.count()).select_from(search_digests)
    return await local.read(lambda connection: connection.execute(query).scalar() or 0)


def shown(found: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    """All but what is the index's own."""
    own = {"id", "turn", "stamp"}
    return {tuple(value for name, value in row.items() if name not in own) for row in found}


def catalog(chance: random.Random) -> list[Document]:
    """A few packages with a few versions, and files without any."""
    every = [
        made(f"p{p}", f"1.{v}", chance.randrange(5), words=f"w{chance.randrange(2)}", digests=sums)
        for p in range(4)
        for v in range(3)
        for sums in chance.sample([SUMS, (), SUMS[:1]], 1)
    ]
    every += [made(f"p{p}", "", 1, f"p{p}/{n}") for p in range(3) for n in range(2)]
    return [each for each in every if chance.random() < 0.7]


async def test_pages_and_changes_one_by_one_make_the_same(
    index: SearchIndex, local: Database
) -> None:
    chance = random.Random(3)
    for turn in range(1, 13):
        wanted = catalog(chance)
        packages = sorted({each.key.package for each in wanted})
        cut = chance.randrange(len(packages))
        for part in (packages[:cut], packages[cut:]):  # some pages are of one package
            await fill(index, [each for each in wanted if each.key.package in part], turn)
        while await index.drop_older(turn):
            pass
        filled = await rows(local)
        assert await count_digests(local) == sum(len(each.digests) for each in wanted)
        assert len({row["stamp"] for row in filled}) == len(filled)
        await index.reset()
        for each in chance.sample(wanted, len(wanted)):
            await index.put([each], turn=turn)
        assert shown(filled) == shown(await rows(local))
    assert (await Followers(local).load("walk", Walk)) == Walk(12)


async def test_what_is_there_is_not_written_again(index: SearchIndex, local: Database) -> None:
    every = [made("a", "1", 1, digests=SUMS), made("a", "2", 2), made("b", "1", 1)]
    every.append(made("c", "", 1, "c/1"))
    await fill(index, every, 1)
    before = await rows(local)
    await fill(index, every, 2)
    assert [row | {"turn": 2} for row in before] == await rows(local)
    await fill(index, [*every[1:], made("a", "1", 1, digests=SUMS[:1])], 2)
    after = await rows(local)
    assert [row["id"] for row in after[:-1]] == [row["id"] for row in before[1:]]
    assert await index.by_digest("sha1:11", ["npm"], 5) == []
    assert await index.by_digest("md5:00", ["npm"], 5) == [("npm", "a")]


async def test_marks_of_what_was_dropped_are_replaced(index: SearchIndex) -> None:
    every = [made("a", "1", 1), made("a", "2", 2), made("b", "1", 1)]
    await fill(index, every, 1)
    await index.put([], [every[1].key], turn=1, keep_gone=True)
    newest = await index.newest("npm", "a")
    assert newest is not None
    assert newest["version"] == "1"
    await fill(index, every, 2)
    newest = await index.newest("npm", "a")
    assert newest is not None
    assert newest["version"] == "2"
    assert await index.count() == 3
