"""Sets of chunk indexes as integers: 7 KB for a 10 GiB blob, with set algebra at memory speed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache


def full(count: int) -> int:
    """Return the set of all indexes below ``count``."""
    return (1 << count) - 1


def span(start: int, stop: int) -> int:
    """Return the set of indexes in ``[start, stop)``."""
    return ((1 << (stop - start)) - 1) << start if stop > start else 0


def of(indexes: Iterable[int]) -> int:
    """Return the set of these indexes."""
    bits = 0
    for index in indexes:
        bits |= 1 << index
    return bits


def members(bits: int) -> Iterator[int]:
    """Iterate over the indexes, rising."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def next_of(bits: int, start: int) -> int | None:
    """Return the first index from ``start`` on, or None."""
    rest = bits >> start
    return start + (rest & -rest).bit_length() - 1 if rest else None


def runs(bits: int) -> Iterator[tuple[int, int]]:
    """Iterate over the maximal runs ``[start, stop)``, rising."""
    base = 0
    while bits:
        skip = (bits & -bits).bit_length() - 1
        bits >>= skip
        length = (~bits & (bits + 1)).bit_length() - 1
        yield base + skip, base + skip + length
        bits >>= length
        base += skip + length


def flat(bits: int) -> tuple[int, ...]:
    """Return the runs as the wire has them: start, stop, start, stop, …"""
    return tuple(edge for run in runs(bits) for edge in run)


def from_flat(edges: Sequence[int], count: int) -> int | None:
    """Read what ``flat`` made, or None if it does not lie rising within ``count`` indexes."""
    bits, last = 0, -1
    if len(edges) % 2:
        return None
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        if not last < start < stop <= count:
            return None
        bits |= span(start, stop)
        last = stop - 1
    return bits


def to_bytes(bits: int, start: int, count: int) -> bytes:
    """Pack indexes ``[start, start + count)``, bit 0 of byte 0 first."""
    return ((bits >> start) & full(count)).to_bytes(-(-count // 8), "little")


def from_bytes(data: bytes, start: int) -> int:
    """Read what ``to_bytes`` made."""
    return int.from_bytes(data, "little") << start


@lru_cache(maxsize=64)
def stripe(rank: int, width: int, count: int) -> int:
    """Return every ``width``-th index below ``count``, from ``rank`` on."""
    repeats = -(-count // width)
    pattern = ((1 << (width * repeats)) - 1) // ((1 << width) - 1)
    return (pattern << rank) & full(count)


def take_from(bits: int, start: int) -> Iterator[int]:
    """Iterate over the indexes from ``start`` on, then from the beginning."""
    yield from members(bits >> start << start)
    yield from members(bits & full(start))
