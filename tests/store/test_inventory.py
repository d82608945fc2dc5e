"""The inventory: what is due to each blob, counted as it changes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from store import schema
from store.database import open_database
from store.inventory import (
    CACHED,
    HELD,
    OTHER,
    SURPLUS,
    WANTED,
    Inventory,
    Placed,
    decayed,
)

DAY = 86400.0


def blob(index: int) -> bytes:
    return hashlib.sha256(b"%d" % index).digest()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite+aiosqlite:///{tmp_path / 'l.db'}"


@asynccontextmanager
async def opened(url: str, clock: Clock) -> AsyncGenerator[Inventory]:
    async with open_database(url, schema.local) as database:
        inventory = Inventory(database, clock=clock)
        await inventory.load()
        yield inventory


def counted(inventory: Inventory) -> dict[tuple[str, str], tuple[int, int]]:
    tally = inventory.tally
    return {key: (n, tally.bytes[key]) for key, n in tally.blobs.items() if n}


async def same_when_counted_anew(inventory: Inventory) -> dict[Any, Any]:
    before = counted(inventory)
    await inventory.load()
    assert counted(inventory) == before
    return before


async def test_tallies_follow_every_change(url: str) -> None:
    async with opened(url, Clock()) as inventory:
        await inventory.place(
            [
                Placed(blob(1), 10, "r", wanted=True),
                Placed(blob(2), 20, "r", wanted=True),
                Placed(blob(3), 30, "r", wanted=False),
                Placed(blob(4), 40, "", wanted=False),
            ]
        )
        await inventory.hold({blob(1): 10, blob(3): 30, blob(4): 40, blob(5): 50})
        assert await same_when_counted_anew(inventory) == {
            ("r", WANTED): (2, 30),
            ("r", HELD): (1, 10),
            ("r", SURPLUS): (1, 30),
            ("", CACHED): (1, 40),
            ("", OTHER): (1, 50),
        }
        assert inventory.tally.stored == 130
        assert [row.blob for row in await inventory.missing()] == [blob(2)]
        await inventory.hold({blob(2): 20})
        await inventory.hold({blob(1): 0, blob(5): 0}, held=False)
        await inventory.place([Placed(blob(3), 30, "q", wanted=True)])
        await inventory.unname([blob(4), blob(1)])
        assert await same_when_counted_anew(inventory) == {
            ("r", WANTED): (1, 20),
            ("r", HELD): (1, 20),
            ("q", WANTED): (1, 30),
            ("q", HELD): (1, 30),
            ("", OTHER): (1, 40),
        }


async def test_what_may_go_comes_in_the_order_of_use(url: str) -> None:
    clock = Clock()
    async with opened(url, clock) as inventory:
        verdicts = [Placed(blob(n), 10, "r" if n % 2 else "", wanted=False) for n in range(6)]
        await inventory.place(verdicts)
        for n in (3, 0, 4, 1, 2, 5):
            clock.now += 1
            await inventory.hold({blob(n): 10})
        await inventory.read({blob(3): (1, clock.now + 5)})
        surplus = await inventory.spare(surplus=True)
        cached = await inventory.spare(surplus=False)
        assert [row.blob for row in surplus] == [blob(1), blob(5), blob(3)]
        assert [row.blob for row in cached] == [blob(0), blob(4), blob(2)]
        assert len(await inventory.spare(surplus=True, after=surplus[1].used)) == 2


async def test_a_walk_forgets_what_it_did_not_see(url: str) -> None:
    async with opened(url, Clock()) as inventory:
        await inventory.place([Placed(blob(n), 1, "r", wanted=True) for n in range(3)])
        inventory.turn += 1
        await inventory.place([Placed(blob(1), 1, "", wanted=False)])
        unseen = await inventory.unseen()
        assert sorted(unseen) == sorted([blob(0), blob(2)])
        await inventory.hold({blob(2): 1})
        await inventory.unname(unseen)
        assert set(await inventory.rows([blob(n) for n in range(3)])) == {blob(1), blob(2)}
        assert await inventory.unseen() == []


async def test_metadata_of_several_files_is_wanted_if_one_of_them_is(url: str) -> None:
    async with opened(url, Clock()) as inventory:
        await inventory.place([Placed(blob(1), 0, "r", wanted=True, due=9.0)], union=True)
        await inventory.place([Placed(blob(1), 0, "", wanted=False, due=7.0)], union=True)
        row = (await inventory.rows([blob(1)]))[blob(1)]
        assert (row.rule, row.wanted, row.due) == ("r", True, 7.0)
        assert await inventory.due(8.0) == [blob(1)]
        inventory.turn += 1
        await inventory.place([Placed(blob(1), 0, "", wanted=False)], union=True)
        assert not (await inventory.rows([blob(1)]))[blob(1)].wanted


async def test_reads_fade(url: str) -> None:
    async with opened(url, Clock()) as inventory:
        await inventory.hold({blob(1): 1})
        await inventory.read({blob(1): (4, 1000.0), blob(2): (1, 1000.0)})
        await inventory.read({blob(1): (1, 1000.0 + DAY)})
        (row,) = (await inventory.rows([blob(1), blob(2)])).values()
        assert row.reads == pytest.approx(3.0)
        assert decayed(row, 1000.0 + 3 * DAY) == pytest.approx(0.75)


async def test_shards_hold_what_is_held(url: str) -> None:
    async with opened(url, Clock()) as inventory:
        await inventory.hold({blob(n): n for n in range(100)})
        await inventory.place([Placed(blob(200), 1, "r", wanted=True)])
        found = [each for shard in range(256) for each in await inventory.held(shard)]
        assert found == sorted(blob(n) for n in range(100))
