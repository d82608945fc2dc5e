"""Waiting as long as there is hope, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from mesh.shell.patience import LOOK, Patience, Patient
from mesh.shell.writing import Fetch
from store.digest import Digest
from store.errors import NoHolderError

BLOB = Digest.of(b"blob")


class Partial:
    """A partial of which so many chunks are missing."""

    def __init__(self) -> None:
        self.missing = [0] * 10
        self.manifest = self
        self.chunks = [0] * 10


class Slow(AsyncIterator[int]):
    """Numbers, each after some seconds."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = list(seconds)
        self._due: float | None = None

    async def __anext__(self) -> int:
        if not self._seconds:
            raise StopAsyncIteration
        self._due = self._due or trio.current_time() + self._seconds[0]
        await trio.sleep_until(self._due)
        self._due = None
        self._seconds.pop(0)
        return len(self._seconds)


def patience(*, hope: bool = True, wait: float = 5.0) -> Patience:
    fetch = Fetch(BLOB)
    fetch.partial = cast("Any", Partial())
    return Patience(fetch, wait, lambda _: not hope)


async def test_it_gives_up_without_progress(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    with pytest.raises(NoHolderError, match="nobody reachable"):
        await patience().over(trio.sleep_forever)
    assert 5.0 <= trio.current_time() - began <= 5.0 + 3 * LOOK


async def test_it_goes_on_while_anything_comes(autojump_clock: MockClock) -> None:
    waiting = patience()
    began = trio.current_time()

    async def bring() -> None:
        for _ in range(4):
            await trio.sleep(4.0)
            cast("Any", waiting.fetch.partial).missing.pop()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bring)
        with pytest.raises(NoHolderError):
            await waiting.over(trio.sleep_forever)
    assert trio.current_time() - began > 20.0


async def test_where_nobody_has_it_it_says_so_soon(autojump_clock: MockClock) -> None:
    with pytest.raises(NoHolderError):
        await patience(hope=False).over(trio.sleep_forever)
    assert trio.current_time() <= 2 * LOOK


async def test_parts_are_passed_on_as_they_come(autojump_clock: MockClock) -> None:
    found = [each async for each in Patient(patience(), Slow(0.0, 3.0, 1.0))]
    assert found == [2, 1, 0]
    with pytest.raises(NoHolderError):
        await anext(Patient(patience(), Slow(9.0)))
