"""Folders out of paths: each entry once, whatever lies below it, a page at a time."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from store import schema, tree
from store.database import Database
from tests.store.catalogs import file, insert
from tests.store.ledgers import MemoryPort

PATHS = ("a/b/1", "a/b/2", "a/c", "a-b/x", "a.txt", "b", "z/y/x/w")


async def test_a_folder_lists_what_lies_in_it(facts: Database) -> None:
    rows = [file("r", "p", "1", path) for path in PATHS]
    await facts.write(insert(schema.files, *rows, file("other", "p", "1", "a/secret")))

    async def listed(folder: str, after: str = "", limit: int = 10) -> list[str]:
        unit = partial(tree.children, repository="r", folder=folder, after=after, limit=limit)
        found = await facts.read(unit)
        return [each.name + ("" if each.artifact else "/") for each in found]

    assert await listed("") == ["a-b/", "a.txt", "a/", "b", "z/"]
    assert await listed("a") == ["b/", "c"]
    assert await listed("z/y") == ["x/"]
    assert await listed("b") == []
    assert await listed("", limit=2) == ["a-b/", "a.txt"]
    assert await listed("", after="a.txt", limit=2) == ["a/", "b"]
    assert await listed("", after="a/", limit=2) == ["b", "z/"]


@given(
    st.sets(st.text("ab/.-", min_size=1, max_size=6).filter(lambda p: "//" not in f"/{p}/")),
    st.integers(1, 3),
)
def test_pages_together_are_the_whole(paths: set[str], limit: int) -> None:
    if not paths:
        return
    port = MemoryPort()
    with port.engine.begin() as connection:
        insert(schema.files, *(file("r", "p", "1", path) for path in paths))(connection)
        found: list[str] = []
        after = ""
        while page := tree.children(connection, "r", "", after, limit):
            found += [each.name for each in page]
            after = page[-1].cursor
    tops = {(path.split("/")[0], "/" in path) for path in paths}
    assert sorted(found) == sorted(name for name, _ in tops)
