"""What a mesh costs when nothing happens: ``python -m simulations.bench idle``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from simulations.bench import usage
from simulations.bench.mesh.bounds import middle
from simulations.bench.mesh.play import difference
from simulations.lab.net import Net
from simulations.lab.nodes import LabNode, await_each, form
from simulations.lab.shaping import MBIT, uniform

SETTLE = 30.0  # seconds after all are linked
START_MAX = 400.0
LINK_BYTES_MAX, CORE_MAX = 200.0, 0.01  # per second and link; of a core


class Idle(msgspec.Struct):
    """What was seen.  Bytes per second and link are of both directions, headers included."""

    peers: int
    seconds: float
    link_bytes: float  # the middle of all links
    link_bytes_max: float
    payload: float
    cores: float  # of the first node; the middle of all is beside it
    cores_middle: float
    rss: float  # of the first node
    load: float

    def __str__(self) -> str:
        return (
            f"{self.peers} idle peers, {self.seconds:.0f} s: {self.link_bytes:.0f} bytes/s a link "
            f"(most {self.link_bytes_max:.0f}; without headers {self.payload:.0f}), "
            f"{self.cores:.2%} of a core (middle {self.cores_middle:.2%}), "
            f"{self.rss / 1e6:.0f} MB, load {self.load:.1f}"
        )


def run(peers: int, seconds: float, note: Callable[[str], None]) -> Idle:
    """Form a mesh, wait until it is quiet, and look what it does."""
    links = uniform(peers + 1, rate=100 * MBIT, rtt=0.02)
    with tempfile.TemporaryDirectory(prefix="atoll-lab-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        with Net(links, folder) as net:
            nodes = [LabNode(net, index, folder) for index in range(links.count)]
            try:
                form(nodes, START_MAX)
                note(f"{links.count} nodes are linked")
                return _look(net, nodes, seconds)
            finally:
                for node in nodes:
                    node.stop()


def _look(net: Net, nodes: list[LabNode], seconds: float) -> Idle:
    time.sleep(SETTLE)
    await_each(nodes, lambda node: node.linked() >= len(nodes) - 1, "links have gone")
    time.sleep(SETTLE)  # what asking has cost is over, too
    pids = [node.process.pid for node in nodes if node.process is not None]
    before, spent = net.counts(), [usage.cpu_seconds(pid) for pid in pids]
    time.sleep(seconds)
    after = net.counts()
    cores = [
        (usage.cpu_seconds(pid) - early) / seconds for pid, early in zip(pids, spent, strict=True)
    ]
    carried = per_link(difference(after.carried, before.carried), seconds)
    payload = per_link(difference(after.payload, before.payload), seconds)
    return Idle(
        peers=len(nodes) - 1,
        seconds=seconds,
        link_bytes=middle(carried),
        link_bytes_max=max(carried),
        payload=middle(payload),
        cores=cores[0],
        cores_middle=middle(cores),
        rss=float(usage.resident(pids[0])),
        load=usage.load(),
    )


def per_link(moved: list[list[int]], seconds: float) -> list[float]:
    """Return the bytes per second of each pair, both directions."""
    count = len(moved)
    return [
        (moved[one][two] + moved[two][one]) / seconds for two in range(count) for one in range(two)
    ]
