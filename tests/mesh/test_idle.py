"""What idle links cost: real processes and real packets, in a namespace where nothing else moves."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from simulations.lab.namespaces import prefix, why_not, within
from tests.conformance.nodes import NodeProcess
from tests.mesh.nodes import Fleet, until

pytestmark = [pytest.mark.slow, pytest.mark.serial]

PEERS = 16
SETTLE = 20.0  # seconds
SECONDS = 60.0
TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def namespace() -> Iterator[str]:
    name = prefix()
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def carried() -> int:
    """Bytes over the namespace's loopback, headers of TCP and IP included."""
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[0])
    raise AssertionError("no loopback")


def processor(pid: int) -> float:
    """Seconds of processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def measure(node: NodeProcess, root: Path) -> tuple[float, float]:
    """Return bytes per second and link, and the share of a core that the node uses."""
    async with Fleet(root, tls=True).open() as fleet:
        peers = [await fleet.node(f"n{index}") for index in range(PEERS)]
        for peer in peers:
            await peer.mesh.join(node.invitation())

        async def all_linked() -> bool:
            linked = [sum(each.state == "up" for each in peer.mesh.peers()) for peer in peers]
            return linked == [PEERS] * PEERS

        await until(all_linked, 180.0)
        await trio.sleep(SETTLE)
        bytes_before, used_before = carried(), processor(node.pid)
        began = trio.current_time()
        await trio.sleep(SECONDS)
        elapsed = trio.current_time() - began
        links = (PEERS + 1) * PEERS // 2
        per_link = (carried() - bytes_before) / elapsed / links
        return per_link, (processor(node.pid) - used_before) / elapsed


def inside(name: str, folder: str) -> tuple[float, float]:
    """Measure in a namespace.  In a process of its own: its threads would stay there for ever."""
    with within(name):
        node = NodeProcess(Path(folder) / "node", environment={"ATOLL_MESH_MDNS": "off"}).start()
        try:
            return trio.run(measure, node, Path(folder) / "peers")
        finally:
            node.kill()


@pytest.mark.timeout(600)
def test_an_idle_link_costs_little_traffic_and_its_node_little_time(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    with namespace() as name, multiprocessing.get_context("spawn").Pool(1) as pool:
        per_link, share = pool.apply(inside, (name, str(tmp_path)))
    print(f"{per_link:.0f} bytes/s and link, both directions, {share:.2%} of a core")
    assert per_link <= 200
    assert share <= 0.01
