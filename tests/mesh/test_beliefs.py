"""What is believed of a peer after what it did."""

from __future__ import annotations

from collections import deque

import pytest

from mesh.beliefs import BAN, PeerBelief
from mesh.scheduler import WINDOW_MIN, window


def test_the_rate_is_measured_while_the_path_is_busy() -> None:
    belief = PeerBelief(b"p")
    belief.rtt.add(0.05, 0.0)
    asked = belief.asked(10_000_000, 0.0)
    for step in range(50):  # 64 KiB every 50 ms: 1.31 MB/s
        belief.arrived(65536, 0.1 + step * 0.05, asked)
    assert belief.rate.average == pytest.approx(65536 / 0.05, rel=0.01)
    assert belief.source(0, 65536).window > WINDOW_MIN


def test_chunks_that_waited_together_and_come_together_are_no_fast_path() -> None:
    belief = PeerBelief(b"p")
    belief.rtt.add(0.1, 0.0)
    asked = [belief.asked(65536, 0.0), belief.asked(65536, 0.0)]
    for second in range(2, 20, 2):  # behind what others have asked for, two at a time
        for number in range(2):
            belief.arrived(65536, second + 0.1 * number, asked.pop(0))
            asked.append(belief.asked(65536, second + 0.1 * number))
    assert belief.rate.average == pytest.approx(65536, rel=0.1)
    assert belief.rate.maximum < 80_000


def test_the_first_bytes_after_a_pause_are_counted_without_the_round_trip() -> None:
    belief = PeerBelief(b"p")
    belief.rtt.add(0.05, 0.0)
    for start in (0.0, 10.0, 20.0):
        belief.arrived(65536, start + 0.05 + 0.025, belief.asked(65536, start))
    assert belief.rate.maximum == pytest.approx(65536 / 0.025, rel=0.01)


@pytest.mark.parametrize("rtt", [0.0005, 0.05, 0.3])
def test_a_burst_makes_no_window_that_stays(rtt: float) -> None:
    """The first 128 KiB come at once, all else at 1 MB/s: a cap lets a tenth of a second go."""
    belief, chunk, now = PeerBelief(b"p"), 65536, 100.0
    belief.rtt.add(rtt, 0.0)
    asked = deque(belief.asked(chunk, now) for _ in range(30))  # all that is left of a blob
    for number in range(24):
        now += (rtt if number == 0 else 1e-3) if number < 2 else chunk / 1e6
        belief.arrived(chunk, now, asked.popleft())
    assert belief.rate.maximum < 1.6e6
    assert belief.rate.average < 1.6e6
    assert belief.window() < 1.3 * window(1e6, rtt)


def test_a_small_blob_tells_the_round_trip_only() -> None:
    belief = PeerBelief(b"p")
    belief.rtt.add(0.0005, 0.0)
    for number in range(20):
        belief.arrived(4096, number + 0.003, belief.asked(4096, float(number)))
    assert not belief.rate.measured
    belief.arrived(65536, 30.6, belief.asked(65536, 30.0))  # but that it is slow, is told
    assert belief.rate.average == pytest.approx(65536 / 0.6, rel=0.01)


def test_a_path_that_we_did_not_fill_seems_no_slower() -> None:
    belief, chunk = PeerBelief(b"p"), 65536
    belief.rtt.add(0.2, 0.0)
    belief.rate.add(5_000_000, 1.0, 0.0)
    asked = deque(belief.asked(chunk, 1.0) for _ in range(2))
    for round_trip in range(1, 40):  # two chunks a round trip is all that we ask for
        belief.arrived(chunk, 1.0 + round_trip * 0.2, asked.popleft())
        asked.append(belief.asked(chunk, 1.0 + round_trip * 0.2))
        belief.arrived(chunk, 1.01 + round_trip * 0.2, asked.popleft())
        asked.append(belief.asked(chunk, 1.01 + round_trip * 0.2))
    assert belief.rate.average == 5_000_000


def test_silence_is_a_stall_only_while_something_is_owed() -> None:
    belief = PeerBelief(b"p")
    assert not belief.stalled(100.0)
    asked = belief.asked(65536, 100.0)
    assert not belief.stalled(101.9)
    assert belief.stalled(104.0)
    belief.snubbed = True
    assert not belief.stalled(104.0)
    belief.arrived(65536, 105.0, asked)
    assert not belief.snubbed


def test_who_keeps_still_is_expected_to_for_as_long_again() -> None:
    belief = PeerBelief(b"p")
    belief.rtt.add(0.05, 0.0)
    asked = belief.asked(131_072, 10.0)
    assert belief.source(0, 65536, now=10.1).eta(0) == belief.source(0, 65536).eta(0)
    late = belief.source(0, 65536, now=11.5).eta(0)
    assert late == pytest.approx(belief.source(0, 65536).eta(0) + 1.5 - 0.05 - 0.065536)
    belief.arrived(65536, 11.5, asked)
    assert belief.source(0, 65536, now=11.5).delay == 0


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


def test_a_peer_with_several_sockets_is_asked_for_something_to_carry_on_each() -> None:
    peer = PeerBelief(b"p" * 32)
    one = peer.window(65536)
    peer.sockets = 4
    assert peer.window(65536) == 4 * (WINDOW_MIN + 2 * 65536) > one
