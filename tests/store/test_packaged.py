"""Files and pointers of many packages, by few queries; one package a page at a time."""

from __future__ import annotations

from functools import partial

import pytest

from store import packaged, schema
from store.catalog import Catalog
from store.database import Database
from tests.store.catalogs import RECORD, digest, file, insert, package, pointer

FILES = [
    file("pypi", "demo", "2.0", "demo/demo-2.0.tar.gz"),
    file("pypi", "demo", "1.0", "demo/demo-1.0.tar.gz"),
    file("pypi", "other", "1.0", "other/other-1.0.tar.gz"),
    file("npm", "demo", "1.0", "demo/-/demo-1.0.tgz"),
]


@pytest.fixture
async def held(facts: Database) -> Database:
    await facts.write(insert(schema.files, *FILES))
    tags = [pointer("pypi", "demo", "latest"), pointer("pypi", "other", "a")]
    await facts.write(insert(schema.pointers, *tags))
    return facts


async def test_files_come_by_package_without_what_is_heavy(held: Database) -> None:
    unit = partial(packaged.files_of, repository="pypi", packages=["demo", "other", "none"])
    found = await held.read(unit)
    paths = {name: [each.path for each in files] for name, files in found.items()}
    assert paths == {
        "demo": ["demo/demo-1.0.tar.gz", "demo/demo-2.0.tar.gz"],
        "other": ["other/other-1.0.tar.gz"],
    }
    first = found["demo"][0]
    assert (first.record, first.metadata, first.manifest_id) == (RECORD, b"", b"")
    assert first.checksums == {"sha256": digest(first.path).hex}


async def test_pointers_come_with_the_records_that_set_them(held: Database) -> None:
    unit = partial(packaged.pointers_of, repository="pypi", packages=["demo", "none"])
    found = await held.read(unit)
    assert list(found) == ["demo"]
    assert list(found["demo"]) == ["latest"]
    assert isinstance(found["demo"]["latest"], bytes)


async def test_some_files_are_found_by_name(held: Database) -> None:
    paths = ["demo/demo-1.0.tar.gz", "demo/none"]
    found = await held.read(partial(packaged.named, repository="pypi", paths=paths))
    assert list(found) == paths[:1]


@pytest.mark.parametrize("size", [1, 2, 3, 500])
async def test_one_package_comes_in_steps(
    size: int, held: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = [file("pypi", "demo", "1.0", f"demo/{n}") for n in range(3)]
    await held.write(insert(schema.files, *more))
    monkeypatch.setattr(packaged, "PAGE", size)
    after, found, last = None, list[str](), False
    while not last:
        unit = partial(packaged.step, repository="pypi", package="demo", after=after)
        files, after = await held.read(unit)
        last = after is None
        found += [each.path for each in files]
    held_by_demo = ["demo/0", "demo/1", "demo/2", "demo/demo-1.0.tar.gz", "demo/demo-2.0.tar.gz"]
    assert sorted(found) == held_by_demo


@pytest.mark.parametrize("size", [1, 2, 500])
async def test_a_package_is_walked_whole_or_in_pages(
    size: int, held: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [package("pypi", "demo", files=2), package("pypi", "other", files=1)]
    await held.write(insert(schema.packages, *rows))
    monkeypatch.setattr(packaged, "PAGE", size)
    catalog = Catalog(held)
    found = [each.path async for each in packaged.walk(catalog, "pypi", "demo", "demo/")]
    assert found == ["demo/demo-1.0.tar.gz", "demo/demo-2.0.tar.gz"]
    assert [each async for each in packaged.walk(catalog, "pypi", "none")] == []
