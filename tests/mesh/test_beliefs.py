"""What is believed of a peer after what it did."""

from __future__ import annotations

import pytest

from mesh.beliefs import BAN, PeerBelief
from mesh.scheduler import WINDOW_MIN


def test_the_rate_is_measured_while_the_path_is_busy() -> None:
    belief = PeerBelief(b"p")
    belief.rtt.add(0.05, 0.0)
    belief.asked(10_000_000, 0.0)
    for step in range(50):  # 64 KiB every 50 ms: 1.31 MB/s
        belief.arrived(65536, 0.1 + step * 0.05)
    assert belief.rate.average == pytest.approx(65536 / 0.05, rel=0.01)
    assert belief.source(0, 65536).window > WINDOW_MIN


def test_silence_is_a_stall_only_while_something_is_owed() -> None:
    belief = PeerBelief(b"p")
    assert not belief.stalled(100.0)
    belief.asked(65536, 100.0)
    assert not belief.stalled(101.9)
    assert belief.stalled(104.0)
    belief.snubbed = True
    assert not belief.stalled(104.0)
    belief.arrived(65536, 105.0)
    assert not belief.snubbed


def test_a_slow_peer_is_not_a_stalled_one() -> None:
    belief = PeerBelief(b"p")
    belief.rate.add(20_000, 1.0, 0.0)  # a chunk takes it 13 s
    belief.asked(262_144, 0.0)
    assert not belief.stalled(20.0)
    assert belief.stalled(30.0)


def test_two_strikes_ban_a_peer_for_a_day() -> None:
    belief = PeerBelief(b"p", linked=True)
    belief.strike("sent wrong bytes", 0.0)
    assert belief.usable(0.0)
    belief.strike("sent wrong bytes again", 1.0)
    assert not belief.usable(1.0)
    assert belief.usable(1.0 + BAN)
    assert "banned" in belief.notes[-1]


def test_failures_space_out_the_next_try() -> None:
    belief = PeerBelief(b"p")
    waits = []
    for _ in range(8):
        belief.fail(0.0)
        waits.append(belief.bulk_retry_at)
    assert waits == sorted(waits)
    assert waits[0] == 0.25
    assert waits[-1] == 5.0


def test_background_traffic_yields_in_proportion_to_the_queue() -> None:
    belief = PeerBelief(b"p" * 32)
    belief.rtt.add(0.05, 0.0)
    for number in range(10):
        belief.rate.add(1_000_000, 0.5, float(number))
    shares = []
    for queue in (0.0, 0.1, 0.15, 0.2, 1.0):
        for number in range(80):
            belief.rtt.add(0.05 + queue, 1.0 + number / 100)
        whole = belief.source(0, 65536)
        shares.append(belief.source(0, 65536, background=True).window / whole.window)
    assert shares[0] == 1
    assert shares[1] > 0.99  # its own queue does not keep it back
    assert 0.4 < shares[2] < 0.6
    assert belief.source(0, 65536, background=True).window == WINDOW_MIN
    assert belief.source(0, 1 << 20, background=True).window == 2 << 20
