"""What the hub does to packets, and what it counts."""

from __future__ import annotations

import struct

import pytest

from simulations.lab.hub import LATE_STEP, LATE_STEPS, late_for, payload_size
from simulations.lab.shaping import Change, Outage, Scenario, Shaper, flapping, two_sites, uniform

PACKET = 1000


def through(shaper: Shaper, source: int, target: int, now: float, elapsed: float = 0.0) -> float:
    """Return when a packet arrives that meets nobody who is sent later."""
    at = shaper.admit(source, target, PACKET, now, elapsed)
    for hop in range(1, shaper.hops(source, target)):
        if at >= 0:
            at = shaper.onward(source, target, PACKET, hop, at)
    return at


def test_a_packet_takes_its_time_at_both_ends_and_on_the_way() -> None:
    shaper = Shaper(uniform(2, rate=10_000.0, rtt=0.2))
    assert through(shaper, 0, 1, 5.0, 0.0) == pytest.approx(5.0 + 0.1 + 0.1 + 0.1)
    assert through(shaper, 0, 1, 5.0, 0.0) == pytest.approx(5.0 + 0.2 + 0.1 + 0.1)
    assert shaper.carried[0, 1] == 2 * PACKET


def test_a_queue_serves_in_the_order_of_arrival() -> None:
    """Who is still before another queue holds no place in this one."""
    shaper = Shaper(uniform(3, rate=10_000.0, rtt=0.0))
    first = shaper.admit(0, 2, PACKET, 0.0, 0.0)
    behind = shaper.admit(0, 2, PACKET, 0.0, 0.0)  # leaves its uplink at 0.2
    other = shaper.admit(1, 2, PACKET, 0.05, 0.0)  # and this one at 0.15
    assert shaper.onward(0, 2, PACKET, 1, first) == pytest.approx(0.2)
    assert shaper.onward(1, 2, PACKET, 1, other) == pytest.approx(0.3)
    assert shaper.onward(0, 2, PACKET, 1, behind) == pytest.approx(0.4)


def test_a_full_queue_drops() -> None:
    shaper = Shaper(uniform(2, rate=1e6, rtt=0.0))
    found = [through(shaper, 0, 1, 0.0, 0.0) for _ in range(200)]
    assert 100 <= sum(due >= 0 for due in found) <= 103  # 0.1 s of data
    assert shaper.dropped["uplink queue"] == sum(due < 0 for due in found)


def test_the_queue_of_a_slow_link_still_holds_some_packets() -> None:
    shaper = Shaper(uniform(2, rate=1000.0, rtt=0.0))
    assert sum(through(shaper, 0, 1, 0.0, 0.0) >= 0 for _ in range(50)) > 16


def test_sites_share_one_line() -> None:
    links = two_sites(2, lan=1e6, wan=1e4, lan_rtt=0.0, wan_rtt=0.2)
    shaper = Shaper(links)
    assert through(shaper, 0, 1, 0.0, 0.0) == pytest.approx(0.002)
    first = through(shaper, 0, 2, 1.0, 0.0)
    assert first == pytest.approx(1.0 + 0.001 + 0.1 + 0.1 + 0.001 + 0.1)
    assert through(shaper, 1, 3, 1.0, 0.0) == pytest.approx(first + 0.1)
    assert [links.apart(0, node) for node in range(4)] == [False, False, True, True]


def test_outages_blocks_and_changes() -> None:
    links = uniform(3, rate=1e4, rtt=0.0, outages=(Outage(1.0, 1.0, ((0, 1),)),))
    shaper = Shaper(links)
    assert through(shaper, 1, 0, 9.0, 1.5) == -1.0
    assert through(shaper, 1, 2, 9.0, 1.5) > 0
    shaper.block([(2, 1)])
    assert through(shaper, 1, 2, 9.0, 3.0) == -1.0
    shaper.block([])
    assert through(shaper, 1, 2, 9.0, 3.0) > 0
    assert shaper.dropped == {"outage": 2}


def test_a_rate_changes_at_its_time() -> None:
    flat = ((0.0,) * 2,) * 2
    links = Scenario((1e4,) * 2, (1e6,) * 2, flat, flat, changes=(Change(2.0, 0, 0.1),))
    shaper = Shaper(links)
    assert through(shaper, 0, 1, 0.0, 1.9) == pytest.approx(0.101)
    assert through(shaper, 0, 1, 10.0, 2.0) == pytest.approx(11.001)


def test_loss_is_as_often_as_asked() -> None:
    shaper = Shaper(uniform(2, rate=1e9, rtt=0.0, loss=0.1))
    lost = sum(through(shaper, 0, 1, float(n), 0.0) < 0 for n in range(2000))
    assert 150 < lost < 250


def test_flapping_lasts_until_it_is_over() -> None:
    assert [each.at for each in flapping(5.0, 5.0, 5.0, 26.0)] == [5.0, 15.0, 25.0]


def test_headers_are_not_payload() -> None:
    def packet(protocol: int, header: bytes, data: int) -> bytes:
        size = 20 + len(header) + data
        start = struct.pack("!BBHIBBH8x", 0x45, 0, size, 0, 64, protocol, 0)
        return start + header + bytes(data)

    tcp = bytes(12) + bytes([8 << 4]) + bytes(19)  # 32 bytes, with time stamps
    assert payload_size(packet(6, tcp, 700)) == 700
    assert payload_size(packet(6, tcp, 0)) == 0
    assert payload_size(packet(17, bytes(8), 55)) == 55
    assert payload_size(packet(1, bytes(8), 55)) == 0


def test_delivery_errors_are_counted_in_buckets() -> None:
    buckets = [0] * LATE_STEPS
    assert late_for(buckets, 0.99) == 0.0
    buckets[0], buckets[12], buckets[-1] = 90, 9, 1
    assert late_for(buckets, 0.9) == pytest.approx(LATE_STEP)
    assert late_for(buckets, 0.99) == pytest.approx(13 * LATE_STEP)
    assert late_for(buckets, 1.0) == pytest.approx(LATE_STEPS * LATE_STEP)
