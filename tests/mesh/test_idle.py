"""What idle links cost: real processes and real packets, in a namespace where nothing else moves."""

from __future__ import annotations

import multiprocessing
import os
import re
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
LINK_BYTES_MAX = 100  # per second, both directions
WAKES_MAX = 25  # of all its threads, per second
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


def wakes(pid: int) -> int:
    """How often the threads of a process have gone to sleep, and so will be woken."""
    count = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.MULTILINE)
        count += int(found[1]) if found else 0
    return count


async def measure(node: NodeProcess, root: Path) -> tuple[float, float, float]:
    """Return bytes per second and link, the node's wakes per second, and its share of a core."""
    async with Fleet(root, tls=True).open() as fleet:
        peers = [await fleet.node(f"n{index}") for index in range(PEERS)]
        for peer in peers:
            await peer.mesh.join(node.invitation())

        async def all_linked() -> bool:
            linked = [sum(each.state == "up" for each in peer.mesh.peers()) for peer in peers]
            return linked == [PEERS] * PEERS

        await until(all_linked, 180.0)
        await trio.sleep(SETTLE)
        before = carried(), wakes(node.pid), processor(node.pid)
        began = trio.current_time()
        await trio.sleep(SECONDS)
        elapsed = trio.current_time() - began
        links = (PEERS + 1) * PEERS // 2
        after = carried(), wakes(node.pid), processor(node.pid)
        moved, woken, used = ((b - a) / elapsed for a, b in zip(before, after, strict=True))
        return moved / links, woken, used


def inside(name: str, folder: str) -> tuple[float, float, float]:
    """Measure in a namespace.  In a process of its own: its threads would stay there for ever."""
    with within(name):
        node = NodeProcess(Path(folder) / "node", environment={"ATOLL_MESH_MDNS": "off"}).start()
        try:
            return trio.run(measure, node, Path(folder) / "peers")
        finally:
            node.kill()


@pytest.mark.timeout(600)
def test_an_idle_link_costs_little_traffic_and_its_node_few_wakes(tmp_path: Path) -> None:
    """What share of a core that is depends on the machine: ``bench idle`` measures it."""
    if reason := why_not():
        pytest.skip(reason)
    with namespace() as name, multiprocessing.get_context("spawn").Pool(1) as pool:
        per_link, woken, share = pool.apply(inside, (name, str(tmp_path)))
    print(f"{per_link:.0f} bytes/s and link, {woken:.1f} wakes/s, {share:.2%} of a core")
    assert per_link <= LINK_BYTES_MAX
    assert woken <= WAKES_MAX
