"""Answers read beforehand: the same as one by one, for a while, and not too many."""

from __future__ import annotations

from typing import Any

import pytest

from store import foreseeing, schema
from store.catalog import Catalog
from store.database import Database
from store.foreseeing import foreseen
from tests.store.catalogs import file, flag, insert, pointer

REPOSITORY = "pypi"
VERSIONS = [("a", "1"), ("a", "2"), ("b", "1"), ("none", "1")]


class Counted:
    """A database that counts its reads."""

    def __init__(self, database: Database) -> None:
        self._database, self.reads = database, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def read(self, unit: Any, *, hot: bool = False) -> Any:
        self.reads += 1
        return await self._database.read(unit, hot=hot)


@pytest.fixture
async def counted(facts: Database) -> Counted:
    rows = [file(REPOSITORY, p, v, f"{p}/{p}-{v}.{n}") for p in "ab" for v in "123" for n in "yx"]
    pointers = [pointer(REPOSITORY, "a", name) for name in ("old", "latest")]
    await facts.write(insert(schema.files, *rows))
    await facts.write(insert(schema.pointers, *pointers))
    await facts.write(insert(schema.flags, flag(REPOSITORY, "b", "1", "yanked")))
    return Counted(facts)


async def answers(catalog: Catalog) -> list[Any]:
    return [
        (
            await catalog.artifacts(REPOSITORY, package, version),
            await catalog.pointers(REPOSITORY, package),
            await catalog.flags(REPOSITORY, package),
        )
        for package, version in VERSIONS
    ]


async def test_all_is_answered_by_one_read_and_then_forgotten(
    facts: Database, counted: Counted
) -> None:
    catalog = Catalog(counted)  # type: ignore[arg-type]  # as good as one here
    expected = await answers(Catalog(facts))
    assert [len(each[0]) for each in expected] == [2, 2, 2, 0]
    async with foreseen(catalog, REPOSITORY, VERSIONS):
        assert await answers(catalog) == expected
        if facts.dialect == "sqlite":  # elsewhere nothing is remembered
            assert counted.reads == 1
            catalog.touched([(REPOSITORY, "a")], 1)
            assert await answers(catalog) == expected
            assert counted.reads > 1, "asked again, as something has changed"
    if catalog.lookups is not None:
        assert (len(catalog.lookups), catalog.lookups.size) == (0, 0)


async def test_too_many_are_asked_for_one_by_one(
    facts: Database, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog(counted)  # type: ignore[arg-type]  # as good as one here
    expected = await answers(Catalog(facts))
    monkeypatch.setattr(foreseeing, "VERSIONS_MAX", 3)
    async with foreseen(catalog, REPOSITORY, VERSIONS):
        assert counted.reads == 0
    monkeypatch.undo()
    monkeypatch.setattr(foreseeing, "LIMIT", 3)
    async with foreseen(catalog, REPOSITORY, VERSIONS):
        assert await answers(catalog) == expected
        assert counted.reads > 1
