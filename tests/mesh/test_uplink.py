"""Turns at a shared uplink."""

from __future__ import annotations

import pytest

from mesh.messages import COURIER, URGENT
from mesh.uplink import Uplink

A, B, C = b"a" * 32, b"b" * 32, b"c" * 32


def run(uplink: Uplink, peers: dict[bytes, tuple[int, int]], seconds: float) -> dict[bytes, int]:
    """Let peers, each (size of its pieces, priority), send whenever it is their turn."""
    sent = dict.fromkeys(peers, 0)
    due = dict.fromkeys(peers, 0.0)
    now = 0.0
    while now < seconds:
        for peer, (size, priority) in peers.items():
            if due[peer] <= now:
                pause = uplink.wait(peer, now)
                due[peer] = now + pause
                if not pause:
                    uplink.sent(peer, size, priority, now)
                    sent[peer] += size
        now = max(now + 1e-4, min(due.values()))
    return sent


def test_without_a_cap_every_turn_comes_at_once() -> None:
    uplink = Uplink()
    for _ in range(10):
        assert uplink.wait(A, 0.0) == 0.0
        uplink.sent(A, 1_000_000, URGENT, 0.0)
    assert uplink.sent_total == 10_000_000


def test_the_cap_holds() -> None:
    sent = run(Uplink(1e6), {A: (64_000, URGENT)}, 10.0)
    assert sent[A] == pytest.approx(10e6, rel=0.03)


def test_peers_share_alike_whatever_their_pieces() -> None:
    sent = run(Uplink(1e6), {A: (200_000, URGENT), B: (20_000, URGENT), C: (64_000, URGENT)}, 20.0)
    assert sum(sent.values()) == pytest.approx(20e6, rel=0.03)
    for size in sent.values():
        assert size == pytest.approx(20e6 / 3, rel=0.1)


def test_who_waits_goes_before_the_courier_who_is_not_starved() -> None:
    sent = run(Uplink(1e6), {A: (64_000, URGENT), B: (64_000, COURIER)}, 20.0)
    assert sent[A] == pytest.approx(8 * sent[B], rel=0.15)
    assert sent[B] > 0


def test_a_latecomer_has_no_claim_on_the_past_and_a_peer_that_hangs_holds_up_nobody() -> None:
    uplink = Uplink(1e6)
    run(uplink, {A: (64_000, URGENT)}, 10.0)
    uplink._at = 0.0
    uplink.wait(C, 0.0)  # and never comes again
    sent = run(uplink, {A: (64_000, URGENT), B: (64_000, URGENT)}, 10.0)
    assert sent[A] == pytest.approx(sent[B], rel=0.2)
    uplink.forget(C)


def test_the_backlog_is_told_by_what_leaves_while_there_is_always_more() -> None:
    uplink = Uplink()
    assert uplink.backlog(5_000_000, 0.0) == 0.0  # nothing is known yet
    for step in range(1, 20):
        uplink.sent(A, 50_000, URGENT, step * 0.1)
        uplink.backlog(5_000_000, step * 0.1)
    assert uplink.backlog(1_000_000, 2.0) == pytest.approx(2.0, rel=0.25)
    assert uplink.backlog(0, 2.1) == 0.0
    assert Uplink(2e6).backlog(1_000_000, 0.0) == pytest.approx(0.5)
