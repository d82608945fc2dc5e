"""Who holds a blob lets a bounded number of couriers carry it; who asked in vain is remembered."""

from __future__ import annotations

import pytest

from mesh import leases as module
from mesh.leases import CARRIERS, LEASE, WAITS_MAX, Leases, Waits

X, Y = b"x" * 32, b"y" * 32
COURIERS = [bytes([index]) * 32 for index in range(5)]


def test_only_so_many_carry_one_blob_until_their_time_is_over() -> None:
    leases = Leases()
    granted = [leases.grant(courier, [X], 0.0) for courier in COURIERS]
    assert granted == [(X,)] * CARRIERS + [()] * (len(COURIERS) - CARRIERS)
    assert leases.grant(COURIERS[0], [X, Y], LEASE / 2) == (X, Y)  # it does so already
    assert leases.carriers(X, LEASE / 2) == COURIERS[:CARRIERS]
    assert leases.grant(COURIERS[4], [X], LEASE - 1) == ()
    assert leases.grant(COURIERS[4], [X], LEASE + 1) == (X,)  # the others have vanished
    assert leases.carriers(X, LEASE + 1) == [COURIERS[4]]


def test_asking_again_does_not_lengthen_a_lease() -> None:
    leases = Leases(carriers=1, life=10.0)
    for now in range(10):
        assert leases.grant(COURIERS[0], [X], float(now)) == (X,)
    assert leases.grant(COURIERS[1], [X], 10.5) == (X,)


def test_what_is_remembered_of_leases_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASES_MAX", 10)
    leases = Leases()
    for index in range(100):
        leases.grant(COURIERS[0], [index.to_bytes(32, "big")], 0.0)
    assert leases.carriers((99).to_bytes(32, "big"), 0.0) == [COURIERS[0]]
    assert leases.carriers((0).to_bytes(32, "big"), 0.0) == []


def test_waits_lapse_unless_somebody_asks_again_and_are_bounded() -> None:
    waits = Waits(life=10.0)
    waits.note(X, 5, 0.0)
    waits.note(Y, 6, 0.0)
    waits.note(X, 5, 8.0)
    waits.expire(11.0)
    assert list(waits.blobs) == [X]
    for index in range(2 * WAITS_MAX):
        waits.note(index.to_bytes(32, "big"), 1, 9.0)
    assert len(waits.blobs) == WAITS_MAX
    assert X not in waits.blobs
