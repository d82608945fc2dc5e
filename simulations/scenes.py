"""Scenes for a crowd: those of the benchmarks, each with the least time that it can take.

The bound is the fluid one: every byte must leave the source once, enter each site and each receiver
once, and leave somebody's uplink once per receiver (Mundinger, Weber, Weiss 2008).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from mesh.messages import POLICY, URGENT
from simulations.crowd import KIB, Scene, Seat

MIB = KIB * KIB
MBIT = 125_000.0
CHUNK = 72 * KIB  # bytes: the average of the cuts of random data
FULL_MESH = 16  # members up to which everybody is linked with everybody
NEAR, GATEWAYS, FAR = 5, 2, 3  # links within a site, gateways of a site, links of a gateway
SITES = 20
QUEUE = 0.1  # seconds that a router's queue holds
UNEVEN = 0.4  # of the logarithm of a socket's share


def fluid_bound(seats: Sequence[Seat], sites: Sequence[tuple[float, float]], size: int) -> float:
    """Return the seconds that a blob needs at least, from those who have all of it."""
    sources = [seat for seat in seats if seat.have >= 1 and not seat.vice]
    wanting = [seat for seat in seats if seat.wants]
    homes = {seat.site for seat in sources}
    away = {seat.site for seat in wanting} - homes
    bounds = [size / sum(seat.up for seat in sources), size / min(seat.down for seat in wanting)]
    bounds.append(len(wanting) * size / sum(seat.up for seat in (*sources, *wanting)))
    bounds += [size / sites[site][1] for site in away if sites[site][1]]
    if away and all(sites[site][0] for site in homes):
        bounds.append(size / sum(sites[site][0] for site in homes))
        uplinks = [sites[site][0] for site in homes | away]
        if all(uplinks):
            bounds.append(len(away) * size / sum(uplinks))
    return max(bounds)


def full_mesh(count: int) -> tuple[tuple[int, int], ...]:
    """Return the links of everybody with everybody."""
    return tuple((one, two) for two in range(count) for one in range(two))


def _flat(
    name: str, size: int, seed: int, *, count: int = 4, mbit: float = 20.0, source: float = 1.0
) -> Scene:
    """One source and equal receivers on thin links, all far from each other."""
    rate = mbit * MBIT
    down = max(rate, source * rate)
    seats = (
        Seat(0, source * rate, down, 1.0, wants=False),
        *(Seat(number + 1, rate, down) for number in range(count)),
    )
    sites = ((0.0, 0.0),) * (count + 1)
    bound = fluid_bound(seats, sites, size)
    links = full_mesh(len(seats))
    return Scene(name, seats, sites, links, 0.001, 0.05, size, CHUNK, bound, seed=seed)


def _two_sites(name: str, size: int, seed: int) -> Scene:
    """Two sites of three on fast LANs, joined by a thin link."""
    lan, wan = 100 * MBIT, 5 * MBIT
    seats = tuple(
        Seat(number // 3, lan, lan, float(number == 0), wants=number != 0) for number in range(6)
    )
    sites = ((wan, wan), (wan, wan))
    bound = fluid_bound(seats, sites, size)
    return Scene(name, seats, sites, full_mesh(6), 0.001, 0.1, size, CHUNK, bound, seed=seed)


def _partial(name: str, size: int, seed: int) -> Scene:
    """A fast peer with nine tenths of the blob, a slow one with all of it, and one receiver."""
    fast, slow = 20 * MBIT, 2 * MBIT
    seats = (
        Seat(0, slow, slow, 1.0, wants=False),
        Seat(1, fast, fast, 0.9),
        Seat(2, fast, fast),
    )
    bound = max(0.1 * size / slow, size / (fast + slow), size / fast)
    sites = ((0.0, 0.0),) * 3
    return Scene(name, seats, sites, full_mesh(3), 0.001, 0.05, size, CHUNK, bound, seed=seed)


def _bad_company(name: str, size: int, seed: int) -> Scene:
    """The flat scene beside one that is slow, one that never answers, and one that corrupts."""
    flat, rate = _flat(name, size, seed), 20 * MBIT
    seats = (
        *flat.seats,
        Seat(5, rate / 100, rate, 1.0, wants=False),
        Seat(6, rate, rate, 1.0, wants=False, vice="mute"),
        Seat(7, rate / 4, rate, 1.0, wants=False, vice="corrupt"),
    )
    sites = ((0.0, 0.0),) * 8
    links = full_mesh(len(seats))
    return Scene(name, seats, sites, links, 0.001, 0.05, size, CHUNK, flat.bound, seed=seed)


def _reading(name: str, size: int, seed: int) -> Scene:
    """The flat scene, with a client at each receiver that reads the blob in order."""
    return replace(_flat(name, size, seed), reading=True)


def _routed(scene: Scene, *, priority: int = POLICY) -> Scene:
    """Let what is said wait behind chunks, as before a router, and TCP share unevenly."""
    return replace(scene, queue=QUEUE, uneven=UNEVEN, priority=priority)


def wide(count: int, size: int, seed: int, *, chunk: int = CHUNK) -> Scene:
    """``count`` nodes in 20 sites (B19): 100 Mbit/s each, 100 Mbit/s per site, 50 ms between them.

    Beyond FULL_MESH members a node is linked with NEAR others of its site and more that chose it,
    and GATEWAYS of each site with FAR gateways of other sites, the next one around a ring among
    them, so that nobody is cut off.
    """
    rng = random.Random(seed)
    rate = 100 * MBIT
    seats = tuple(
        Seat(number % SITES, rate, rate, float(number == 0), wants=number != 0)
        for number in range(count)
    )
    sites = ((rate, rate),) * SITES
    links = full_mesh(count) if count <= FULL_MESH else _sparse(count, rng)
    bound = fluid_bound(seats, sites, size)
    return Scene(f"b19-{count}", seats, sites, links, 0.001, 0.05, size, chunk, bound, seed=seed)


def _sparse(count: int, rng: random.Random) -> tuple[tuple[int, int], ...]:
    """Draw the links of a mesh that is too large for everybody to know everybody."""
    links: set[tuple[int, int]] = set()

    def join(one: int, two: int) -> None:
        if one != two:
            links.add((min(one, two), max(one, two)))

    gates = []
    for site in range(SITES):
        local = list(range(site, count, SITES))
        for place, number in enumerate(local):
            join(number, local[place - 1])
            for other in rng.sample(local, min(NEAR - 1, len(local))):
                join(number, other)
        gates.append(local[:GATEWAYS])
    for site in range(SITES):
        for gate in gates[site]:
            join(gate, gates[(site + 1) % SITES][0])
            for _ in range(FAR - 1):
                join(gate, rng.choice(gates[rng.randrange(SITES)]))
    return tuple(sorted(links))


SCENES: dict[str, Callable[[int, int], Scene]] = {
    "b1": lambda size, seed: _flat("b1", size, seed),
    "b2-thin": lambda size, seed: _flat("b2-thin", size, seed, source=0.25),
    "b2-fat": lambda size, seed: _flat("b2-fat", size, seed, source=4.0),
    "b3-8": lambda size, seed: _flat("b3-8", size, seed, count=8, mbit=5.0),
    "b3-12": lambda size, seed: _flat("b3-12", size, seed, count=12, mbit=5.0),
    "b4": lambda size, seed: _two_sites("b4", size, seed),
    "b5": lambda size, seed: _partial("b5", size, seed),
    "b10": lambda size, seed: _bad_company("b10", size, seed),
    "reading": lambda size, seed: _reading("reading", size, seed),
    "b1-routed": lambda size, seed: _routed(_flat("b1-routed", size, seed)),
    "reading-routed": lambda size, seed: _routed(
        _reading("reading-routed", size, seed), priority=URGENT
    ),
}
