"""Pages, composite keys, and which texts a database can hold."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from store import schema
from store.database import Database
from store.paging import Paged, keyed, like, prefix_end, storable
from tests.store.catalogs import file, insert

CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXT = st.text(CHARACTERS, max_size=4)


async def test_pages_join_up() -> None:
    asked: list[int | None] = []

    async def load(last: int | None) -> Sequence[int]:
        asked.append(last)
        start = 0 if last is None else last + 1
        return list(range(start, min(start + 3, 7)))

    assert [number async for number in Paged(load)] == list(range(7))
    assert asked == [None, 2, 5, 6]


async def test_a_caller_may_stop_half_way() -> None:
    async def load(last: int | None) -> Sequence[int]:
        return [1, 2]

    async for number in Paged(load):
        if number == 2:
            break


@given(prefix=TEXT, text=TEXT)
def test_a_prefix_is_a_range(prefix: str, text: str) -> None:
    end = prefix_end(prefix)
    for candidate in (text, prefix + text):
        inside = candidate >= prefix and (end is None or candidate < end)
        assert inside == candidate.startswith(prefix)


def test_the_ends_of_the_alphabet() -> None:
    assert prefix_end("") is None
    assert prefix_end("\U0010ffff") is None
    assert prefix_end("a\U0010ffff") == "b"
    assert prefix_end("\ud7ff") == "\ue000"  # what lies between are no characters


def test_what_no_database_holds() -> None:
    assert storable("", "a", "é", "\N{GRINNING FACE}")
    assert not storable("a", "\0")
    assert not storable("\ud800")


def test_wildcards_are_escaped() -> None:
    assert like("50%_\\") == "%50\\%\\_\\\\%"


async def test_composite_keys_are_found(facts: Database) -> None:
    keys = [("a", "1"), ("a", "2"), ("b", "1"), ("b", "3")]
    await facts.write(insert(schema.files, *(file(r, "p", "1", path) for r, path in keys)))
    columns = (schema.files.c.repository, schema.files.c.path)
    wanted = [("a", "2"), ("b", "1"), ("b", "3"), ("b", "4"), ("c", "1")]

    def unit(connection: sa.Connection) -> list[tuple[str, str]]:
        queries = [sa.select(*columns).where(condition) for condition in keyed(columns, wanted)]
        assert len(queries) == 3  # one per repository
        return [(row[0], row[1]) for query in queries for row in connection.execute(query)]

    assert sorted(await facts.read(unit)) == keys[1:]
