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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from simulations.lab.nodes import Fleet, LabError
from simulations.lab.shaping import MBIT, Scenario, flapping, uniform

MIB = 1 << 20
SETTLE = 3.0  # seconds of quiet before an experiment
PATIENCE = 600.0  # seconds until an experiment is given up
LOOK = 0.02  # seconds between looks at whether somebody is done


@dataclass(frozen=True)
class Links:
    """What every link of an experiment is like: bytes per second, seconds, TCP's congestion."""

    rate: float = 20 * MBIT
    rtt: float = 0.05
    congestion: str = ""


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


Act = Callable[[Fleet, Path, str], list[float]]  # (fleet, blob's file, its digest) → seconds each


def clients(fleet: Fleet, file: Path, digest: str) -> list[float]:
    """Let a client of every other node fetch the blob, all at once; they read it in order.

    Raises LabError.
    """
    fleet.nodes[0].publish("blob.bin", file)
    fleet.await_each(lambda node: node.knows("blob.bin"), "the record does not get around")
    time.sleep(SETTLE)
    receivers = fleet.nodes[1:]
    targets = [fleet.folder / f"fetched{node.index}" for node in receivers]
    fleet.net.go()
    began = time.monotonic()
    running = [
        fleet.net.inside(node.index, ["curl", "-sSf", "-o", str(to), node.file_url("blob.bin")])
        for node, to in zip(receivers, targets, strict=True)
    ]
    times = watch([partial(_over, each) for each in running], began)
    for client, to in zip(running, targets, strict=True):
        with to.open("rb") as fetched:
            if client.returncode or hashlib.file_digest(fetched, "sha256").hexdigest() != digest:
                raise LabError(f"a client failed with {client.returncode}, or has wrong bytes")
    return times


def replication(fleet: Fleet, file: Path, digest: str) -> list[float]:
    """Let every other node fetch the blob by policy, in whatever order; nobody reads it.

    Raises LabError.
    """
    fleet.net.go()
    fleet.nodes[0].publish("blob.bin", file)
    began = time.monotonic()
    return watch([partial(node.holds, digest) for node in fleet.nodes[1:]], began)


def _over(client: subprocess.Popen[bytes]) -> bool:
    return client.poll() is not None


def watch(conditions: Sequence[Callable[[], bool]], began: float) -> list[float]:
    """Return when each became true, in seconds.  Raises LabError after PATIENCE."""
    times: dict[int, float] = {}
    while len(times) < len(conditions):
        for index, condition in enumerate(conditions):
            if index not in times and condition():
                times[index] = time.monotonic() - began
        if time.monotonic() - began > PATIENCE:
            raise LabError(f"{len(times)} of {len(conditions)} after {PATIENCE:.0f} s")
        time.sleep(LOOK)
    return [times[index] for index in sorted(times)]


def measure(name: str, scenario: Scenario, size: int, act: Act) -> Report:
    """Run one experiment."""
    bound = fluid_bound(size, scenario)
    replicate = "everywhere" if act is replication else "on-demand"
    with Fleet(scenario, replicate) as fleet:
        data = os.urandom(size)
        file = fleet.folder / "published"
        file.write_bytes(data)
        time.sleep(SETTLE)
        before = fleet.net.counts()
        times = act(fleet, file, hashlib.sha256(data).hexdigest())
        after = fleet.net.counts()
    moved = [
        [late - early for late, early in zip(*rows, strict=True)]
        for rows in zip(after.carried, before.carried, strict=True)
    ]
    return Report(
        name=f"{name} by {act.__name__}",
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


def one_to_many(links: Links, size: int, act: Act, *, receivers: int = 4) -> Report:
    """B1: one source and several receivers on thin links of equal rate."""
    scenario = uniform(receivers + 1, rate=links.rate, rtt=links.rtt, congestion=links.congestion)
    return measure("B1", scenario, size, act)


def flap(links: Links, size: int, act: Act, *, up: float = 5.0, down: float = 5.0) -> Report:
    """B7: one receiver, and a link that is up and down by turns.

    What counts is the time that the link was up, and how much of it was needed.
    """
    outages = flapping(up, up, down, until=PATIENCE)
    scenario = uniform(
        2, rate=links.rate, rtt=links.rtt, outages=outages, congestion=links.congestion
    )
    report = measure("B7", scenario, size, act)
    taken = max(report.times)
    count = sum(outage.at + outage.length <= taken for outage in outages)
    used = taken - count * down
    report.share = report.bound / used
    report.details = {
        "outages": float(count),
        "link was up": used,
        "lag per up": (used - report.bound) / max(1, count),
        "bytes / size": report.carried / size,
    }
    return report


EXPERIMENTS: dict[str, Callable[..., Report]] = {"B1": one_to_many, "B7": flap}
ACTS: dict[str, Act] = {"clients": clients, "replication": replication}
