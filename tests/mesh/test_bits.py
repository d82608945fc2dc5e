"""Sets of indexes against Python's own sets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh import bits

sets = st.sets(st.integers(0, 300))


@given(sets)
def test_members_runs_and_the_wire_agree(chosen: set[int]) -> None:
    packed = bits.of(chosen)
    assert set(bits.members(packed)) == chosen
    assert {i for start, stop in bits.runs(packed) for i in range(start, stop)} == chosen
    assert bits.from_flat(bits.flat(packed), 301) == packed
    assert bits.from_bytes(bits.to_bytes(packed, 0, 301), 0) == packed


@given(sets, st.integers(0, 320))
def test_taking_from_the_middle_goes_round(chosen: set[int], start: int) -> None:
    taken = list(bits.take_from(bits.of(chosen), start))
    after, before = sorted(i for i in chosen if i >= start), sorted(i for i in chosen if i < start)
    assert taken == after + before
    assert bits.next_of(bits.of(chosen), start) == (after[0] if after else None)


@given(st.lists(st.integers(-5, 400), max_size=9), st.integers(0, 300))
def test_runs_from_strangers_lie_within_the_blob(edges: list[int], count: int) -> None:
    found = bits.from_flat([edge for edge in edges if edge >= 0], count)
    assert found is None or found >> count == 0


@given(st.integers(1, 9), st.integers(1, 200))
def test_stripes_part_the_blob(width: int, count: int) -> None:
    stripes = [bits.stripe(rank, width, count) for rank in range(width)]
    assert sum(stripes) == bits.full(count)
    for rank, stripe in enumerate(stripes):
        assert all(index % width == rank for index in bits.members(stripe))


def test_spans() -> None:
    assert bits.span(2, 5) == 0b11100
    assert bits.span(5, 5) == 0
    assert bits.full(0) == 0
