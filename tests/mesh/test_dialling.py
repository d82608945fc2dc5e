"""When to dial whom."""

from __future__ import annotations

import random

from mesh.dialling import AT_ONCE, ATTEMPTS_MAX, BACKOFF_MAX, BUSY_INTERVAL, DEFERENCE, Dialling


def make(node: bytes = b"a") -> Dialling:
    return Dialling(node, random.Random(1))


def test_the_smaller_id_dials_first() -> None:
    small, large = make(b"a"), make(b"b")
    assert small.want(b"b", 10.0).next_at == 10.0
    assert 10.0 + DEFERENCE / 2 <= large.want(b"a", 10.0).next_at <= 10.0 + 1.5 * DEFERENCE


def test_idle_peers_are_dialled_ever_less_often_but_always_again() -> None:
    dialling, now, waits = make(), 0.0, []
    dialling.want(b"b", now)
    for _ in range(60):
        assert dialling.due(now) == [b"b"]
        dialling.begin(b"b", now, busy=False)
        assert dialling.deadline() is None
        dialling.failed(b"b", "no answer", now, busy=False)
        deadline = dialling.deadline()
        assert deadline is not None
        waits.append(deadline - now)
        now = deadline
    assert max(waits) <= BACKOFF_MAX
    assert max(waits[30:]) > 60


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


def test_hearing_of_a_peer_resets_its_pause() -> None:
    dialling, now = make(), 0.0
    dialling.want(b"b", now)
    for _ in range(20):
        dialling.failed(b"b", "no answer", now, busy=False)
    dialling.heard(b"b", 5.0)
    assert dialling.due(5.0 + AT_ONCE) == [b"b"]
    dialling.failed(b"b", "no answer", 5.0, busy=False)
    assert (dialling.deadline() or 0) <= 5.0 + 4.0


def test_work_hurries_everybody() -> None:
    dialling = make()
    dialling.want(b"b", 0.0)
    dialling.failed(b"b", "no answer", 0.0, busy=False)
    dialling.dials[b"b"].next_at = 200.0
    dialling.hurry(1.0)
    assert (dialling.deadline() or 0) <= 1.5
    dialling.drop(b"b")
    assert dialling.deadline() is None
