"""The scenes of the benchmarks: their bounds, and that nobody in them is cut off."""

from __future__ import annotations

import pytest

from simulations.crowd import Scene, Seat
from simulations.scenes import FULL_MESH, MBIT, MIB, SCENES, SITES, fluid_bound, wide


def reached(scene: Scene) -> set[int]:
    """Return who can be reached from the first node."""
    near = dict[int, set[int]]()
    for one, two in scene.links:
        near.setdefault(one, set()).add(two)
        near.setdefault(two, set()).add(one)
    seen, fresh = {0}, [0]
    while fresh:
        fresh = [n for n in near[fresh.pop()] if n not in seen] + fresh
        seen |= set(fresh)
    return seen


def test_the_bound_of_one_thin_source():
    seats = (Seat(0, MBIT, MBIT, 1.0, wants=False), *[Seat(n, 4 * MBIT, 4 * MBIT) for n in (1, 2)])
    assert fluid_bound(seats, ((0.0, 0.0),) * 3, MIB) == pytest.approx(MIB / MBIT)


def test_the_bound_of_thin_receivers_and_of_thin_sites():
    seats = (Seat(0, 9 * MBIT, MBIT, 1.0, wants=False), Seat(1, MBIT, 2 * MBIT))
    assert fluid_bound(seats, ((0.0, 0.0),) * 2, MIB) == pytest.approx(MIB / (2 * MBIT))
    assert fluid_bound(seats, ((9e9, 9e9), (9e9, MBIT / 2)), MIB) == pytest.approx(2 * MIB / MBIT)


def test_the_bound_of_all_uplinks_together():
    seats = (Seat(0, 4 * MBIT, 4 * MBIT, 1.0, wants=False), *[Seat(1, 0.0, 4 * MBIT)] * 3)
    assert fluid_bound(seats, ((0.0, 0.0),) * 2, MIB) == pytest.approx(3 * MIB / (4 * MBIT))


@pytest.mark.parametrize("name", SCENES)
def test_every_scene_can_be_set(name: str):
    scene = SCENES[name](MIB, 3)
    assert (scene.name, scene.seed, scene.size) == (name, 3, MIB)
    assert scene.bound > 0
    assert reached(scene) == set(range(len(scene.seats)))


@pytest.mark.parametrize("count", [10, FULL_MESH, 100, 1000])
def test_nobody_in_a_wide_mesh_is_cut_off(count: int):
    scene = wide(count, MIB, 0)
    assert reached(scene) == set(range(count))
    if count > FULL_MESH:
        degrees = [0] * count
        for one, two in scene.links:
            degrees[one] += 1
            degrees[two] += 1
        assert max(degrees) < 64
        crossing = [pair for pair in scene.links if pair[0] % SITES != pair[1] % SITES]
        assert len(crossing) <= SITES * 2 * 3  # each site has two gateways with three links
