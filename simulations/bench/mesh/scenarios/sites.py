"""B4: two sites of three on fast LANs, one thin line between them: is it used once, and fully?"""

from __future__ import annotations

from simulations.bench.mesh.model import Case, Experiment, Options, Run, Target
from simulations.bench.mesh.play import Watch, distribute
from simulations.bench.mesh.systems.base import System
from simulations.lab.shaping import MBIT, two_sites

MIB = 1 << 20
LAN, WAN, LAN_RTT, WAN_RTT = 100 * MBIT, 5 * MBIT, 0.001, 0.1
NODES = 3  # at each site


def cases(options: Options) -> list[Case]:
    """The source at one site, receivers at both."""
    size = options.sizes[0] if options.sizes else (2 if options.quick else 16) * MIB
    links = two_sites(
        NODES,
        lan=LAN,
        wan=WAN,
        lan_rtt=LAN_RTT,
        wan_rtt=WAN_RTT,
        congestion=options.congestion,
    )
    bound = size / WAN
    receivers = tuple(range(1, 2 * NODES))
    name = f"{size // MIB} MiB, 3 + 3"
    return [Case(name, links, size, bound, receivers=receivers, patience=60 + 8 * bound)]


def measure(run: Run, _watch: Watch, case: Case) -> None:
    """Add the makespan in units of the bound."""
    if run.times:
        run.values["makespan"] = max(run.times) / case.bound


def play(case: Case, kind: type[System], round_: int) -> Run:
    """Run one system over two sites."""
    return distribute("B4", case, kind, round_, measure=measure)


B4 = Experiment(
    key="B4",
    title="two sites of three, LAN 100 Mbit/s, WAN 5 Mbit/s, 100 ms",
    cases=cases,
    systems=(
        "atoll",
        "atoll-policy",
        "nginx-cache",
        "docker-registry",
        "libtorrent",
        "syncthing",
        "curl",
    ),
    play=play,
    target=Target("makespan", 1.10),
    metrics=("wan_copies", "seconds", "cpu_seconds", "peak_bytes"),
)
