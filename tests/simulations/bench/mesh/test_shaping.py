"""What the hub does to packets, and what it counts."""

from __future__ import annotations

import struct

import pytest

from simulations.lab.hub import payload_size
from simulations.lab.shaping import Change, Outage, Scenario, Shaper, flapping, two_sites, uniform

PACKET = 1000


def test_a_packet_takes_its_time_at_both_ends_and_on_the_way() -> None:
    shaper = Shaper(uniform(2, rate=10_000.0, rtt=0.2))
    assert shaper.admit(0, 1, PACKET, 5.0, 0.0) == pytest.approx(5.0 + 0.1 + 0.1 + 0.1)
    assert shaper.admit(0, 1, PACKET, 5.0, 0.0) == pytest.approx(5.0 + 0.2 + 0.1 + 0.1)
    assert shaper.carried[0, 1] == 2 * PACKET


def test_a_full_queue_drops() -> None:
    shaper = Shaper(uniform(2, rate=1e6, rtt=0.0))
    found = [shaper.admit(0, 1, PACKET, 0.0, 0.0) for _ in range(200)]
    assert 100 <= sum(due >= 0 for due in found) <= 103  # 0.1 s of data
    assert shaper.dropped["uplink queue"] == sum(due < 0 for due in found)


def test_the_queue_of_a_slow_link_still_holds_some_packets() -> None:
    shaper = Shaper(uniform(2, rate=1000.0, rtt=0.0))
    assert sum(shaper.admit(0, 1, PACKET, 0.0, 0.0) >= 0 for _ in range(50)) > 16


def test_sites_share_one_line() -> None:
    links = two_sites(2, lan=1e6, wan=1e4, lan_rtt=0.0, wan_rtt=0.2)
    shaper = Shaper(links)
    assert shaper.admit(0, 1, PACKET, 0.0, 0.0) == pytest.approx(0.002)
    first = shaper.admit(0, 2, PACKET, 1.0, 0.0)
    assert first == pytest.approx(1.0 + 0.001 + 0.1 + 0.1 + 0.001 + 0.1)
    assert shaper.admit(1, 3, PACKET, 1.0, 0.0) == pytest.approx(first + 0.1)
    assert [links.apart(0, node) for node in range(4)] == [False, False, True, True]


def test_outages_blocks_and_changes() -> None:
    links = uniform(3, rate=1e4, rtt=0.0, outages=(Outage(1.0, 1.0, ((0, 1),)),))
    shaper = Shaper(links)
    assert shaper.admit(1, 0, PACKET, 9.0, 1.5) == -1.0
    assert shaper.admit(1, 2, PACKET, 9.0, 1.5) > 0
    shaper.block([(2, 1)])
    assert shaper.admit(1, 2, PACKET, 9.0, 3.0) == -1.0
    shaper.block([])
    assert shaper.admit(1, 2, PACKET, 9.0, 3.0) > 0
    assert shaper.dropped == {"outage": 2}


def test_a_rate_changes_at_its_time() -> None:
    flat = ((0.0,) * 2,) * 2
    links = Scenario((1e4,) * 2, (1e6,) * 2, flat, flat, changes=(Change(2.0, 0, 0.1),))
    shaper = Shaper(links)
    assert shaper.admit(0, 1, PACKET, 0.0, 1.9) == pytest.approx(0.101)
    assert shaper.admit(0, 1, PACKET, 10.0, 2.0) == pytest.approx(11.001)


def test_loss_is_as_often_as_asked() -> None:
    shaper = Shaper(uniform(2, rate=1e9, rtt=0.0, loss=0.1))
    lost = sum(shaper.admit(0, 1, PACKET, float(n), 0.0) < 0 for n in range(2000))
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
