"""Samples before a delta: what has nothing in common is told from what has."""

from __future__ import annotations

import io
import random

import pytest

from store import delta, delta_sample
from store.delta_sample import promising
from store.digest import Digest

OLD = random.Random(1).randbytes(2_000_000)
OTHER = random.Random(2).randbytes(2_000_000)


def looks(old: bytes, new: bytes, *, packs: bool = True) -> bool:
    old_file, new_file = io.BytesIO(old), io.BytesIO(new)
    return promising(old_file, new_file, delta.window, delta.PLAIN_MAX, packs=packs)


def test_versions_are_told_from_strangers() -> None:
    edited = bytearray(OLD)
    for at in range(0, len(edited), 10_000):
        edited[at] ^= 1
    assert looks(OLD, bytes(edited))
    assert looks(OLD, OTHER[:500_000] + OLD)  # moved
    assert looks(OLD, OTHER[:1_000_000] + OLD[5:200_005] + OTHER[1_000_000:])  # a tenth of it
    assert not looks(OLD, OTHER)
    assert not looks(OLD, b"")
    assert not looks(b"", OTHER)


def test_zeros_are_no_likeness() -> None:
    assert not looks(OLD + bytes(100_000), OTHER + bytes(50_000))


def test_what_is_not_packed_yet_is_worth_it_where_that_counts() -> None:
    plain = OTHER[:500_000].hex().encode()
    assert looks(OLD, plain)
    assert not looks(OLD, plain, packs=False)


def test_a_large_basis_is_looked_at_where_the_frames_will(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "WINDOW_MAX", 400_000)
    monkeypatch.setattr(delta, "PLAIN_MAX", 100_000)
    assert looks(OLD, OLD[:-5])
    far = OLD[1_500_000:] + OTHER[:1_500_000]  # no frame would see it
    assert not looks(OLD, far)


def test_a_look_costs_little_and_none_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            read.append(len(data))
            return data

    monkeypatch.setattr(delta, "pack", lambda *_: pytest.fail("one was made"))
    target = Counted(OTHER)
    pairs = [(Digest.of(OLD), io.BytesIO(OLD)), (Digest.of(OTHER), target)]
    written = bytearray()
    made = delta.make(pairs[0], pairs[1], written.extend, limit=1 << 30, sample=True)
    assert made is None
    assert not written
    probes = delta_sample.PROBES * delta_sample.PROBE * delta_sample.DRAWS
    assert sum(read) <= delta_sample.PLACES * delta_sample.BLOCK + probes
