"""Versions put in order outside of memory."""

from __future__ import annotations

import tracemalloc
from contextlib import closing

import pytest

from store import ordered
from store.ordered import Ordered


def test_the_newest_comes_first_with_all_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "PAGE", 2)
    rows = [("1", 5.0, "a"), ("2", 9.0, "b"), ("3", 5.0, "c"), ("1", 7.0, "d"), ("4", 1.0, "e")]
    with closing(Ordered()) as found:
        found.add(rows[:2])
        found.add(rows[2:])
        found.sort()
        steps = list(found.steps())
    assert [list(each) for each in steps] == [["2", "1"], ["3", "4"]]
    assert steps[0]["1"] == ["a", "d"]


def test_memory_does_not_hold_what_is_put_in_order() -> None:
    tracemalloc.start()
    try:
        with closing(Ordered()) as found:
            for first in range(0, 40_000, 1000):
                found.add(
                    (f"1.{n}", float(n % 977), f"demo/{n}") for n in range(first, first + 1000)
                )
            found.sort()
            tracemalloc.reset_peak()
            assert sum(len(each) for each in found.steps()) == 40_000
            assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
