"""What members say they hold, and checksums that follow every change."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from store import schema
from store.database import open_database
from store.holders import CHECKS, ID, Holders, check, contains, split


def blob(index: int) -> bytes:
    return hashlib.sha256(b"%d" % index).digest()


def suffixes(blobs: list[bytes], shard: int) -> bytes:
    return b"".join(sorted(each[1:ID] for each in blobs if each[0] == shard))


@asynccontextmanager
async def opened(folder: Path, now: float = 5.0) -> AsyncGenerator[Holders]:
    url = f"sqlite+aiosqlite:///{folder / 'l.db'}"
    async with open_database(url, schema.local) as database:
        yield Holders(database, clock=lambda: now)


async def test_who_holds_what(tmp_path: Path) -> None:
    async with opened(tmp_path) as holders:
        mine, yours = [blob(n) for n in range(500)], [blob(n) for n in range(400, 600)]
        await holders.change("a" * 64, [each[:ID] for each in mine], [])
        await holders.replace("b" * 64, {s: suffixes(yours, s) for s in range(256)})
        found = await holders.of([blob(0), blob(450), blob(599), blob(600)])
        assert [sorted(each[0] for each in nodes) for nodes in found.values()] == [
            ["a"],
            ["a", "b"],
            ["b"],
            [],
        ]
        await holders.change("b" * 64, [blob(0)[:ID]], [blob(450)[:ID], blob(7777)[:ID]])
        assert await holders.of([blob(0), blob(450)]) == {
            blob(0): {"a" * 64, "b" * 64},
            blob(450): {"a" * 64},
        }
        await holders.forget(["a" * 64])
        assert await holders.of([blob(3)]) == {blob(3): frozenset()}


async def test_checksums_are_of_the_set_however_it_came(tmp_path: Path) -> None:
    async with opened(tmp_path) as holders:
        held = [blob(n) for n in range(300)]
        await holders.change("a" * 64, [each[:ID] for each in held], [])
        await holders.replace("b" * 64, {s: suffixes(held, s) for s in range(256)})
        first, second = await holders.checks("a" * 64), await holders.checks("b" * 64)
        assert first == second
        assert len(first) == CHECKS
        await holders.change("a" * 64, [blob(1000)[:ID]], [])
        assert await holders.checks("a" * 64) != first
        await holders.change("a" * 64, [], [blob(1000)[:ID]])
        assert await holders.checks("a" * 64) == first
        assert await holders.checks("c" * 64) == bytes(CHECKS)


async def test_how_far_a_member_was_heard(tmp_path: Path) -> None:
    async with opened(tmp_path, 7.0) as holders:
        await holders.hear("a" * 64, 3, 10, b"{}")
        await holders.hear("a" * 64, 3, 11, b"{}")
        assert await holders.heard() == {"a" * 64: (3, 11, b"{}", 7.0)}


def test_a_shard_is_searched_by_halving() -> None:
    ids = b"".join(sorted(blob(n)[1:ID] for n in range(99)))
    assert all(contains(ids, blob(n)[1:ID]) for n in range(99))
    assert not any(contains(ids, blob(n)[1:ID]) for n in range(100, 200))
    assert not contains(b"", b"1234")
    assert len(split(ids)) == 99
    assert check([]) == bytes(4)
