"""Two tables in step, and a catalog made again from its chains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from store import refolding, schema
from store.port import Port
from store.refolding import PAGE, Difference, Scratch, Walk, compare, differences
from tests.store.ledgers import Node, mesh, publish

T = TypeVar("T")


def walk(*rows: tuple[Any, ...]) -> Walk:
    found = Walk(1)
    found.take(rows)
    return found


def test_rows_are_compared_by_their_keys() -> None:
    live = walk(("a", 1), ("b", 1), ("d", 1))
    made = walk(("a", 1), ("b", 2), ("c", 1))
    assert list(compare("t", live, made)) == [
        Difference("t", ("b",), "wrong"),
        Difference("t", ("c",), "missing"),
        Difference("t", ("d",), "unfounded"),
    ]
    assert live.ended
    assert made.ended


def test_pages_that_are_alike_are_used_up_at_once() -> None:
    live, made = walk(("a", 1), ("b", 1)), walk(("a", 1), ("b", 1))
    assert list(compare("t", live, made)) == []
    assert live.ended
    assert made.ended


def test_a_page_that_ends_first_waits_for_the_next() -> None:
    live, made = Walk(1), walk(("a", 1), ("z", 1))
    live.take([("a", 1)] * PAGE)
    assert not live.last
    live.rows = [("a", 1)]
    assert list(compare("t", live, made)) == []
    assert live.wants
    live.take([("z", 1)])
    assert list(compare("t", live, made)) == []
    assert live.ended


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Callable[[Node], Scratch]]:
    made: list[Scratch] = []

    def make(node: Node) -> Scratch:
        file = tmp_path / "scratch.db"
        made.append(Scratch(file, node.ledger.authority, now=node.clock()))
        return made[-1]

    yield make
    for each in made:
        each.close()
    assert list(tmp_path.iterdir()) == []


async def inline(work: Callable[..., T], *arguments: Any) -> T:
    return work(*arguments)


async def test_every_author_s_chain_gives_the_same_catalog(
    scratch: Callable[[Node], Scratch],
) -> None:
    one, two = await mesh(2)
    for number in range(PAGE + 20):  # more than a page
        await one.append(publish(f"p/{number:04}"))
    await two.append(publish("p/0000", "rival"), publish("q"))
    await one.ledger.apply(await two.batches())
    made = scratch(one)
    assert [made.add(batch) for batch in await one.batches()].count("") == PAGE + 21
    port: Port = one.port
    assert [each async for each in differences(port, made, inline)] == []
    await port.write(lambda c: c.execute(sa.delete(schema.files).where(schema.files.c.path == "q")))
    (found,) = [each async for each in differences(port, made, inline)]
    assert (found.table, found.trouble) == ("files", "missing")
    healed = await one.ledger.repair(
        lambda c, authority: refolding.heal(c, authority, found, made), commit=True
    )
    assert healed
    assert [each async for each in differences(port, made, inline)] == []


async def test_the_scratch_keeps_no_index_that_nothing_asks(
    scratch: Callable[[Node], Scratch],
) -> None:
    (one,) = await mesh(1)
    with scratch(one)._engine.begin() as connection:
        kept = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        assert set(connection.exec_driver_sql(kept).scalars()) == refolding.ASKED


async def test_a_batch_that_does_not_verify_is_named(scratch: Callable[[Node], Scratch]) -> None:
    one, _ = await mesh(2)
    await one.append(publish("a"), publish("b"))
    await one.append(publish("c"))
    *_, last = await one.batches()
    assert "missing" in scratch(one).add(last)
