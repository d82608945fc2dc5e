from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.bitmap import Bitmap, Saved

SETS = st.integers(0, 70).flatmap(
    lambda count: st.tuples(st.just(count), st.sets(st.integers(0, max(0, count - 1))))
)


@given(SETS)
def test_it_is_a_set(case: tuple[int, set[int]]) -> None:
    count, marked = case
    marked = {index for index in marked if index < count}
    bitmap = Bitmap(count, marked)
    rest = sorted(set(range(count)) - marked)
    assert sorted(marked) == list(bitmap)
    assert len(bitmap) == len(marked)
    assert list(bitmap.missing) == rest
    assert len(bitmap.missing) == len(rest)
    assert [index for run in bitmap.missing.runs() for index in run] == rest
    assert all(index in bitmap.missing for index in rest)
    assert bool(bitmap.missing) == bool(rest)
    assert list(Bitmap.unpack(count, bitmap.packed())) == sorted(marked)
    assert len(bitmap.packed()) == -(-count // 8)


def test_marking_twice_counts_once() -> None:
    bitmap = Bitmap(3, [1, 1])
    bitmap.clear(2)
    assert len(bitmap) == 1
    bitmap.clear(1)
    assert len(bitmap) == 0
    assert "1" not in bitmap.missing


def test_runs_are_maximal() -> None:
    assert list(Bitmap(8, [0, 3, 4]).missing.runs()) == [range(1, 3), range(5, 8)]


def test_missing_may_shrink_while_it_is_iterated() -> None:
    bitmap = Bitmap(5)
    seen = []
    for index in bitmap.missing:
        seen.append(index)
        bitmap.mark(index)
        if index == 1:
            bitmap.mark(2)
    assert seen == [0, 1, 3, 4]


@given(st.sets(st.integers(0, 99)), st.sets(st.integers(0, 99)), st.booleans())
def test_saving_round_trips(have: set[int], recent: set[int], clean: bool) -> None:
    saved = Saved(Bitmap(100, have), Bitmap(100, recent), clean)
    again = Saved.decode(saved.encode(), 100)
    assert again is not None
    assert (set(again.have), set(again.recent), again.clean) == (have, recent, clean)


@pytest.mark.parametrize("count", [99, 97, 200, 0])
def test_a_bitmap_of_another_blob_is_refused(count: int) -> None:
    assert Saved.decode(Saved(Bitmap(100), Bitmap(100), clean=True).encode(), count) is None


@given(st.integers(0, 38), st.integers(1, 255))
def test_any_damage_is_noticed(position: int, change: int) -> None:
    data = bytearray(Saved(Bitmap(100, [5]), Bitmap(100), clean=True).encode())
    data[position] ^= change
    assert Saved.decode(bytes(data), 100) is None
    assert Saved.decode(bytes(data[:-1]), 100) is None
