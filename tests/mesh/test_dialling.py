"""When to dial whom."""

from __future__ import annotations

import random

from mesh.dialling import (
    AT_ONCE,
    ATTEMPTS_MAX,
    BACKOFF_MAX,
    BACKOFF_MIN,
    BUSY_INTERVAL,
    DEFERENCE,
    HELD_AGAIN,
    Dialling,
)


def make(node: bytes = b"a") -> Dialling:
    return Dialling(node, random.Random(1))


def test_the_smaller_id_dials_first() -> None:
    small, large = make(b"a"), make(b"b")
    assert small.want(b"b", 10.0).next_at == 10.0
    assert 10.0 + DEFERENCE / 2 <= large.want(b"a", 10.0).next_at <= 10.0 + 1.5 * DEFERENCE


def test_idle_peers_are_dialled_ever_less_often_but_always_again() -> None:
    dialling, now, waits = make(), 0.0, []
    dialling.want(b"b", now)
    for _ in range(600):
        assert dialling.due(now) == [b"b"]
        dialling.begin(b"b", now, busy=False)
        assert dialling.deadline() is None
        dialling.failed(b"b", "no answer", now, busy=False)
        deadline = dialling.deadline()
        assert deadline is not None
        waits.append(deadline - now)
        now = deadline
    assert max(waits) <= BACKOFF_MAX
    assert max(waits[:30]) < 1.0
    assert min(waits[-50:]) > 60.0


def test_what_a_pause_adds_to_an_outage_is_in_proportion() -> None:
    """Also for a peer that cannot be dialled back, and so cannot say that it has work for us."""
    dialling = make()
    dialling.want(b"b", 0.0)
    for outage, longest in ((8.0, 0.5), (30.0, 0.9), (600.0, 18.0), (86_400.0, BACKOFF_MAX)):
        dialling.failed(b"b", "no answer", outage, busy=False)
        deadline = dialling.deadline()
        assert deadline is not None
        assert longest / 2 <= deadline - outage <= longest + 1e-9


def test_with_work_pending_nobody_waits_longer_than_half_a_second() -> None:
    dialling, now = make(), 0.0
    dialling.want(b"b", now)
    for _ in range(50):
        dialling.failed(b"b", "no answer", now, busy=True)
        deadline = dialling.deadline()
        assert deadline is not None
        assert deadline - now <= BUSY_INTERVAL
        now = deadline


def test_with_work_pending_a_dial_does_not_wait_for_the_one_before() -> None:
    dialling, now = make(), 0.0
    dialling.want(b"b", now)
    for _ in range(ATTEMPTS_MAX):
        assert dialling.due(now) == [b"b"]
        dialling.begin(b"b", now, busy=True)
        now += BUSY_INTERVAL
    assert dialling.due(now) == []
    dialling.failed(b"b", "no answer", now, busy=True)
    assert dialling.due(now + BUSY_INTERVAL) == [b"b"]


def test_hearing_of_a_peer_makes_its_pause_short_again() -> None:
    dialling, now = make(), 0.0
    dialling.want(b"b", now)
    for _ in range(20):
        dialling.failed(b"b", "no answer", now + 9000.0, busy=False)
    assert (dialling.deadline() or 0) > 9000.0 + 60.0
    dialling.heard(b"b", 9001.0)
    assert dialling.due(9001.0 + AT_ONCE) == [b"b"]
    dialling.failed(b"b", "no answer", 9001.0, busy=False)
    assert (dialling.deadline() or 0) <= 9001.0 + BUSY_INTERVAL


def test_work_hurries_everybody() -> None:
    dialling = make()
    dialling.want(b"b", 0.0)
    dialling.failed(b"b", "no answer", 0.0, busy=False)
    dialling.dials[b"b"].next_at = 200.0
    dialling.hurry(1.0)
    assert (dialling.deadline() or 0) <= 1.5
    dialling.drop(b"b")
    assert dialling.deadline() is None


def test_whom_a_fault_parted_from_us_is_not_dialled_for_a_while_longer_each_time() -> None:
    dialling = make()
    dialling.want(b"b", 0.0)
    pauses = []
    now = 0.0
    for _ in range(12):
        dialling.hold(b"b", now)
        dialling.heard(b"b", now)
        assert not dialling.due(now + 0.5)
        deadline = dialling.deadline()
        assert deadline is not None
        assert dialling.due(deadline) == [b"b"]
        pauses.append(deadline - now)
        now = deadline
    assert pauses[:3] == [BACKOFF_MIN, 2 * BACKOFF_MIN, 4 * BACKOFF_MIN]
    assert pauses[-1] == BACKOFF_MAX
    now += HELD_AGAIN
    dialling.hold(b"b", now)
    assert dialling.deadline() == now + BACKOFF_MIN
