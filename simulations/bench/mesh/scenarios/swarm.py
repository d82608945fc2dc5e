"""B1, B2, B3: one source, several receivers, thin links: how near to the fluid bound?"""

from __future__ import annotations

from functools import partial

from simulations.bench.mesh.bounds import fluid_bound, others
from simulations.bench.mesh.model import Case, Experiment, Options, Target
from simulations.bench.mesh.play import distribute
from simulations.lab.shaping import MBIT, Scenario, uniform

MIB = 1 << 20
RTT = 0.05
PATIENCE = 12.0  # times the bound
SHARE = ("seconds", "source_copies", "overhead", "cpu_seconds", "peak_bytes")


def _case(name: str, links: Scenario, size: int) -> Case:
    bound = fluid_bound(size, links)
    receivers = others(links.count, (0,))
    return Case(name, links, size, bound, receivers=receivers, patience=60 + PATIENCE * bound)


def equal(options: Options) -> list[Case]:
    """B1: four receivers, 20 Mbit/s each way."""
    links = uniform(5, rate=20 * MBIT, rtt=RTT, congestion=options.congestion)
    sizes = options.sizes or ((4 * MIB,) if options.quick else (32 * MIB, 256 * MIB))
    return [_case(f"{size // MIB} MiB to 4", links, size) for size in sizes]


def unequal(options: Options) -> list[Case]:
    """B2: the source's uplink is a quarter of the others', or four times it."""
    cases = []
    for factor in (0.25, 4.0):
        rate = 20 * MBIT
        links = uniform(5, rate=rate, rtt=RTT, congestion=options.congestion)
        up = (rate * factor, *links.up[1:])
        links = Scenario(
            up=up,
            down=links.down,
            delay=links.delay,
            loss=links.loss,
            congestion=options.congestion,
        )
        size = options.sizes[0] if options.sizes else (16 if factor < 1 else 32) * MIB
        cases.append(_case(f"source × {factor:g}, {size // MIB} MiB to 4", links, size))
    return cases


def many(options: Options) -> list[Case]:
    """B3: eight and twelve receivers on 5 Mbit/s."""
    cases = []
    for count in (8, 12):
        links = uniform(count + 1, rate=5 * MBIT, rtt=RTT, congestion=options.congestion)
        size = options.sizes[0] if options.sizes else 8 * MIB
        cases.append(_case(f"{size // MIB} MiB to {count}", links, size))
    return cases


PEERS = ("atoll", "atoll-policy", "libtorrent", "libtorrent-super", "syncthing", "curl", "aria2")
B1 = Experiment(
    key="B1",
    title="one source, four receivers, 20 Mbit/s, 50 ms",
    cases=equal,
    systems=PEERS,
    play=partial(distribute, "B1"),
    target=Target("share", 0.9, more_is_better=True),
    metrics=SHARE,
)
B2 = Experiment(
    key="B2",
    title="as B1, the source's uplink × 0.25 and × 4",
    cases=unequal,
    systems=("atoll", "atoll-policy", "libtorrent", "libtorrent-super", "syncthing", "curl"),
    play=partial(distribute, "B2"),
    target=Target("share", 0.9, more_is_better=True),
    metrics=SHARE,
)
B3 = Experiment(
    key="B3",
    title="eight and twelve receivers, 5 Mbit/s, 50 ms",
    cases=many,
    systems=("atoll", "atoll-policy", "libtorrent", "curl"),
    play=partial(distribute, "B3"),
    target=Target("share", 0.85, more_is_better=True),
    metrics=SHARE,
)
