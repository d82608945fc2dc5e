"""Experiments of the lab, and their figures beside the physical limit.

B1: one source, several receivers, thin links: how near to the fluid bound does the last one finish?
B7: one source, one receiver, a link that comes and goes: how soon does it move again, and what is
fetched twice?  Spec: docs/simulations.md, "The lab".
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from simulations.lab.nodes import Fleet, LabError, LabNode
from simulations.lab.shaping import MBIT, Scenario, flapping, uniform

MIB = 1 << 20
SETTLE = 3.0  # seconds of quiet before an experiment
PATIENCE = 20.0  # times the bound until an experiment is given up
PATIENCE_MIN = 120.0  # seconds


class Report(msgspec.Struct):
    """One experiment's figures.  Times are seconds, sizes bytes."""

    name: str
    size: int
    bound: float  # the fluid bound
    times: list[float]  # of each receiver
    share: float  # of the bound that the slowest receiver reached
    source_copies: float  # bytes that left the source, in copies of the blob
    carried: int  # bytes over all links
    hub_cpu: float
    hub_late_ms: float
    load: float  # of the machine, while it ran
    details: dict[str, float] = {}

    def __str__(self) -> str:
        times = " ".join(f"{each:.1f}" for each in self.times)
        lines = [
            f"{self.name}: {self.size / MIB:.0f} MiB, bound {self.bound:.1f} s",
            f"  receivers     {times} s",
            f"  share         {self.share:.0%} of the fluid bound",
            f"  source sent   {self.source_copies:.2f} copies",
            f"  hub           {self.hub_cpu:.0%} of a core, 99 % within {self.hub_late_ms:.1f} ms",
            f"  machine load  {self.load:.1f}",
        ]
        lines += [f"  {key:13s} {value:.2f}" for key, value in self.details.items()]
        return "\n".join(lines)


def fluid_bound(size: int, scenario: Scenario) -> float:
    """Return the least time in which every node but the first has ``size`` bytes (mesh.md A.3)."""
    receivers = scenario.count - 1
    slowest = min(scenario.down[1:])
    return max(size / scenario.up[0], size / slowest, receivers * size / sum(scenario.up))


@dataclass
class Fetching:
    """Clients that fetch one file, each from its own node."""

    fleet: Fleet
    path: str
    expected: str

    def start(self, node: LabNode) -> subprocess.Popen[bytes]:
        """Begin to fetch into a file beside the node."""
        command = ["curl", "-sSf", "-o", str(self.target(node)), node.file_url(self.path)]
        return self.fleet.net.inside(node.index, command)

    def target(self, node: LabNode) -> Path:
        """Where the fetched file lies."""
        return self.fleet.folder / f"fetched{node.index}"

    def all(self, receivers: list[LabNode], patience: float) -> list[float]:
        """Fetch everywhere at once; return the seconds each took.  Raises LabError."""
        began = time.monotonic()
        clients = {node.index: self.start(node) for node in receivers}
        times: dict[int, float] = {}
        while len(times) < len(clients):
            for index, client in clients.items():
                if index not in times and client.poll() is not None:
                    times[index] = time.monotonic() - began
            if time.monotonic() - began > patience:
                raise LabError(f"only {len(times)} of {len(clients)} have it after {patience} s")
            time.sleep(0.02)
        for node in receivers:
            self.check(node, clients[node.index].returncode)
        return [times[node.index] for node in receivers]

    def check(self, node: LabNode, status: int | None) -> None:
        """Compare what came with what was published.  Raises LabError."""
        if status:
            raise LabError(f"n{node.index}: its client failed with {status}")
        with self.target(node).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != self.expected:
                raise LabError(f"n{node.index}: wrong bytes")


def publish(fleet: Fleet, size: int) -> Fetching:
    """Publish random bytes on the first node, and wait until every node knows of them."""
    data = os.urandom(size)
    file = fleet.folder / "published"
    file.write_bytes(data)
    fleet.nodes[0].publish("blob.bin", file)
    fleet.await_each(lambda node: node.knows("blob.bin"), "the record does not get around")
    time.sleep(SETTLE)
    return Fetching(fleet, "blob.bin", hashlib.sha256(data).hexdigest())


def measure(name: str, scenario: Scenario, size: int) -> Report:
    """Run one experiment."""
    bound = fluid_bound(size, scenario)
    with Fleet(scenario) as fleet:
        fetching = publish(fleet, size)
        before = fleet.net.counts()
        fleet.net.go()
        patience = max(PATIENCE_MIN, PATIENCE * bound)
        times = fetching.all(fleet.nodes[1:], patience)
        after = fleet.net.counts()
    moved = [
        [late - early for late, early in zip(*rows, strict=True)]
        for rows in zip(after.carried, before.carried, strict=True)
    ]
    return Report(
        name=name,
        size=size,
        bound=bound,
        times=[round(each, 2) for each in times],
        share=bound / max(times),
        source_copies=sum(moved[0]) / size,
        carried=sum(map(sum, moved)),
        hub_cpu=(after.cpu - before.cpu) / max(1e-9, after.elapsed - before.elapsed),
        hub_late_ms=after.late_ms,
        load=os.getloadavg()[0],
    )


def one_to_many(
    *,
    receivers: int = 4,
    mbit: float = 20.0,
    rtt: float = 0.05,
    size: int = 32 * MIB,
    congestion: str = "",
) -> Report:
    """B1: one source and several receivers on thin links of equal rate."""
    scenario = uniform(receivers + 1, rate=mbit * MBIT, rtt=rtt, congestion=congestion)
    return measure("B1", scenario, size)


def flap(
    *,
    mbit: float = 20.0,
    rtt: float = 0.05,
    size: int = 32 * MIB,
    up: float = 5.0,
    down: float = 5.0,
    congestion: str = "",
) -> Report:
    """B7: one receiver, and a link that is up and down by turns.

    The bound is the time that the link must be up, and the outages before that time is through.
    """
    outages = flapping(up, up, down, until=600.0)
    scenario = uniform(2, rate=mbit * MBIT, rtt=rtt, outages=outages, congestion=congestion)
    report = measure("B7", scenario, size)
    needed = report.bound
    count = int(max(0.0, needed - 1e-9) // up)
    report.bound = needed + count * down
    report.share = report.bound / max(report.times)
    report.details = {
        "outages": float(count),
        "fetched twice": report.carried / size - 1.0,
        "lag per up, s": (max(report.times) - report.bound) / max(1, count),
    }
    return report


EXPERIMENTS: dict[str, Callable[..., Report]] = {"B1": one_to_many, "B7": flap}
