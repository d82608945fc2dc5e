"""Who holds a blob lets a bounded number of couriers carry it; who asked in vain is remembered."""

from __future__ import annotations

import pytest

from mesh import leases as module
from mesh.leases import CARRIERS, LEASE, TURN, WAITS_MAX, Doubts, Leases, Waits

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
    leases, blobs = Leases(), [index.to_bytes(32, "big") for index in range(100)]
    assert leases.grant(COURIERS[0], blobs, 0.0) == tuple(blobs[:10])
    assert len(leases._leases) == 10
    assert leases.grant(COURIERS[0], blobs[:10], 1.0) == tuple(blobs[:10])
    assert leases.grant(COURIERS[0], blobs[10:], LEASE + 1) == tuple(blobs[10:20]), "they lapse"


def test_a_flood_takes_no_more_than_its_share_and_makes_nobody_forget_who_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LEASES_MAX", 10)
    flooder, other, honest = COURIERS[:3]
    leases, blobs = Leases(), [index.to_bytes(32, "big") for index in range(100)]
    for courier in (flooder, other):
        assert leases.grant(courier, [X], 0.0) == (X,)
    assert leases.grant(honest, [X], 0.0) == ()
    leases.grant(flooder, blobs, 1.0)
    assert leases.grant(honest, blobs[50:60], 2.0) == tuple(blobs[50:55]), "half of ten"
    for courier in (flooder, other):
        leases.grant(courier, [X], LEASE + 1)
    assert leases.grant(honest, [X], LEASE + 1) == (X,), "it was remembered that it waits"


@pytest.mark.parametrize("hostile", [2, 3, 6, 9])
def test_couriers_that_take_for_ever_and_never_bring_have_one_turn_each(hostile: int) -> None:
    leases, honest = Leases(), b"h" * 32
    takers = [bytes([100 + index]) * 32 for index in range(hostile)]
    for hour in range(24 * 60):
        now = hour * 3600.0
        for taker in takers:  # each hour, the moment that a lease lapses included
            leases.grant(taker, [X], now)
        if hour % 25 == 24 and leases.grant(honest, [X], now):  # it comes once a day
            break
    assert now <= (hostile / CARRIERS + 2) * LEASE + 2 * 3600.0, "and the day that it came late"
    assert leases.carriers(X, now) != takers[:CARRIERS]


def test_a_place_is_not_kept_for_ever_for_one_that_never_comes_again() -> None:
    leases = Leases(carriers=1)
    assert leases.grant(COURIERS[0], [X], 0.0) == (X,)
    assert leases.grant(COURIERS[1], [X], 1.0) == ()
    assert leases.grant(COURIERS[0], [X], LEASE + 1) == ()
    assert leases.grant(COURIERS[2], [X], LEASE + 2) == (X,), "who never carried it may at once"
    assert leases.grant(COURIERS[0], [X], TURN + LEASE + 2) == (X,)


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


ALL = frozenset({"a", "b", "c"})


def test_who_says_that_it_holds_a_blob_and_gave_nothing_is_not_counted_on_for_a_while() -> None:
    doubts = Doubts(life=10.0)
    assert doubts.credible(X, ALL, 0.0) == ALL
    doubts.failed(X, frozenset({"a", "d"}))
    assert doubts.credible(X, ALL, 1.0) == {"b", "c"}
    assert doubts.credible(Y, ALL, 1.0) == ALL, "another blob"
    assert doubts.credible(X, frozenset({"a", "d"}), 2.0) == {"d"}, "it did not say so then"
    doubts.failed(X, frozenset({"b"}))
    assert doubts.credible(X, ALL, 5.0) == {"c"}, "those that take turns are all remembered"
    assert doubts.credible(X, ALL, 11.0) == {"a", "c"}
    assert doubts.credible(X, ALL, 15.0) == ALL


def test_what_is_remembered_of_doubts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DOUBTS_MAX", 10)
    doubts, blobs = Doubts(), [index.to_bytes(32, "big") for index in range(100)]
    for blob in blobs:
        doubts.failed(blob, ALL)
    assert len(doubts._failed) == 10
    for blob in blobs:
        doubts.failed(blob, ALL)
        doubts.credible(blob, ALL, 0.0)
    assert len(doubts._known) == 10
    assert doubts.credible(blobs[-1], ALL, 1.0) == frozenset()
    assert doubts.credible(blobs[0], ALL, 1.0) == ALL
