"""Many nodes on links without faults: what the net charges, and that all get the blob."""

from __future__ import annotations

import dataclasses
import random

import pytest

from simulations.crowd import KIB, Crowd, Scene, Seat, make_manifest
from simulations.scenes import MBIT, MIB, full_mesh


def scene(
    *seats: Seat, sites=((0.0, 0.0), (0.0, 0.0)), size: int = 2 * MIB, bound: float = 1.0
) -> Scene:
    return Scene("s", seats, sites, full_mesh(len(seats)), 0.001, 0.05, size, 64 * KIB, bound)


def test_a_pair_takes_as_long_as_its_link_needs():
    rate = 8 * MBIT
    crowd = Crowd(scene(Seat(0, rate, rate, 1.0, wants=False), Seat(1, rate, rate)))
    crowd.begin()
    crowd.run(10)
    done = crowd.members[1].done_at
    assert 2 * MIB / rate < done < 1.3 * 2 * MIB / rate
    assert 2 * MIB < crowd.members[0].up.carried < 1.02 * 2 * MIB + 4000


def test_the_thin_link_of_a_site_holds_everybody_behind_it_up():
    fast = 100 * MBIT
    sites = ((0.0, 0.0), (MBIT, MBIT))
    seats = (Seat(0, fast, fast, 1.0, wants=False), Seat(1, fast, fast), Seat(1, fast, fast))
    crowd = Crowd(scene(*seats, sites=sites, size=512 * KIB, bound=4.2))
    crowd.begin()
    crowd.run(10)
    assert min(member.done_at for member in crowd.members[1:]) > 512 * KIB / MBIT
    assert crowd.downs[1].carried >= 512 * KIB


def test_what_is_said_on_a_line_stays_in_order():
    rate = 2 * MBIT
    seats = (Seat(0, rate, rate, 1.0, wants=False), Seat(1, rate, 100 * rate))
    crowd = Crowd(scene(*seats, size=MIB))
    crowd.begin()
    crowd.run(20)
    belief = crowd.members[1].transfers.exchange.peers[crowd.members[0].id]
    assert not belief.strikes  # a Done that overtakes its chunks would have cost two


def test_who_has_a_part_is_not_sent_it():
    rate = 8 * MBIT
    seats = (Seat(0, rate, rate, 1.0, wants=False), Seat(1, rate, rate, 0.75))
    crowd = Crowd(scene(*seats))
    crowd.begin()
    crowd.run(10)
    assert crowd.members[0].up.carried < 0.3 * 2 * MIB


@pytest.mark.parametrize("vice", ["mute", "corrupt"])
def test_a_bad_peer_does_not_stop_the_others(vice: str):
    rate = 8 * MBIT
    seats = (
        Seat(0, rate, rate, 1.0, wants=False),
        Seat(1, rate, rate),
        Seat(1, rate, rate, 1.0, wants=False, vice=vice),
    )
    crowd = Crowd(scene(*seats))
    crowd.begin()
    crowd.run(20)
    assert crowd.members[1].done_at > 0


def test_who_never_gets_it_is_told_of():
    rate = 8 * MBIT
    crowd = Crowd(scene(Seat(0, rate, rate, wants=False), Seat(1, rate, rate)))
    crowd.begin()
    with pytest.raises(TimeoutError, match="0 of 1"):
        crowd.run(2)


def test_a_manifest_without_bytes_is_a_manifest():
    manifest = make_manifest(3 * MIB, 72 * KIB, random.Random(1))
    pages = (manifest.page(number) for number in range(manifest.page_count))
    assert manifest.root.assemble(pages).id == manifest.id
    assert sum(manifest.chunks.lengths) == 3 * MIB


def test_what_is_said_waits_behind_chunks_where_a_queue_says_so():
    rate = 2 * MBIT
    seats = (Seat(0, rate, rate, 1.0, wants=False), Seat(1, rate, rate))
    crowd = Crowd(dataclasses.replace(scene(*seats, size=MIB), queue=0.1))
    crowd.begin()
    crowd.run(20)
    belief = crowd.members[1].transfers.exchange.peers[crowd.members[0].id]
    assert belief.rtt.minimum == pytest.approx(0.05)
    assert belief.rtt.smoothed > 0.08


def test_tcp_shares_unevenly_where_a_scene_says_so():
    rate = 8 * MBIT
    seats = (Seat(0, rate, rate, 1.0, wants=False), Seat(1, rate, rate), Seat(1, rate, rate))
    crowd = Crowd(dataclasses.replace(scene(*seats), uneven=0.4))
    limits = {crowd.buffer(crowd.members[0], crowd.members[1]) for _ in range(8)}
    assert len(limits) == 8
    assert max(limits) > 1.3 * min(limits)
