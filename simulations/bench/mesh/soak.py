"""Real nodes under work and flapping links for a long time: does anything grow?

``python -m simulations.bench soak --minutes 20``.  Files appear at one node and are fetched at
others, links come and go, and every few seconds each node's memory, tasks, sockets, files and
temporary files are looked at.  Before that the databases' caches are filled by many small files:
they have a bound, and what they take until they reach it is no leak.
"""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from simulations.bench import usage
from simulations.bench.mesh.bounds import middle
from simulations.lab.net import LabError, Net
from simulations.lab.nodes import LabNode, form
from simulations.lab.shaping import MBIT, Outage, Scenario, uniform

NODES = 4
RATE, RTT = 20 * MBIT, 0.05
SIZES = (1 << 12, 1 << 18, 1 << 20, 1 << 22)  # bytes of published files
PERIOD = 5.0  # seconds between publishes
LOOK = 10.0  # between looks
QUIET = 30.0  # at the end, without work or outages
WARM = 2000  # small files beforehand: some 8 KiB of database each, for a cache of 16 MiB
FETCHERS_MAX = 8
GROWTH_MAX = 0.05  # of memory, from the second quarter to the last
ROOM = {"rss": 4e6, "tasks": 6.0, "sockets": 6.0, "files": 8.0, "temporary": 4.0, "threads": 4.0}


class Look(msgspec.Struct):
    """One node at one moment.  ``rss`` in bytes, the others are numbers."""

    at: float
    node: int
    rss: float
    tasks: float
    sockets: float
    files: float
    temporary: float
    threads: float


class Verdict(msgspec.Struct):
    """One figure of one node: the middles of the second and of the last quarter."""

    node: int
    figure: str
    early: float
    late: float
    flat: bool


class Soaked(msgspec.Struct):
    """A whole soak: what was done, seen and found."""

    minutes: float
    outages: int
    published: int
    fetched: int
    failed: int
    load: float
    looks: list[Look]
    last: list[Look]
    verdicts: list[Verdict]
    flat: bool


def flapping_pairs(seconds: float, seed: int) -> tuple[Outage, ...]:
    """Return outages of single pairs, 1 to 10 s long, at random, some of them at once."""
    rng, found, at = random.Random(seed), [], 5.0
    pairs = [(one, two) for two in range(NODES) for one in range(two)]
    while at < seconds:
        found.append(Outage(at, rng.uniform(1.0, 10.0), (rng.choice(pairs),)))
        at += rng.uniform(2.0, 8.0)
    return tuple(found)


def look(node: LabNode, at: float) -> Look:
    """Look at one node."""
    assert node.process is not None
    place = Path(f"/proc/{node.process.pid}")
    descriptors = []
    for each in (place / "fd").iterdir():
        try:
            descriptors.append(str(each.readlink()))
        except FileNotFoundError:
            continue  # closed meanwhile
    status = (place / "status").read_text("utf-8")
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    temporary = sum(
        1
        for folder in ("tmp", "sessions", "partials")
        for each in (node.data / folder).rglob("*")
        if each.is_file()
    )
    return Look(
        at,
        node.index,
        float(values["VmRSS"].split()[0]) * 1024,
        node.metric("atoll_tasks"),
        float(sum(each.startswith("socket:") for each in descriptors)),
        float(sum(each.startswith("/") for each in descriptors)),
        float(temporary),
        float(values["Threads"]),
    )


class Work:
    """Publishes and fetches, a few at a time."""

    def __init__(self, nodes: Sequence[LabNode], folder: Path, seed: int) -> None:
        self._nodes, self._folder = nodes, folder
        self._rng = random.Random(seed)
        self._names: list[tuple[str, int]] = []
        self._running: list[subprocess.Popen[bytes]] = []
        self.published = self.fetched = self.failed = 0

    def step(self) -> None:
        """Publish one file; let two nodes fetch something, old or new."""
        number, size = len(self._names), self._rng.choice(SIZES)
        file, home = self._folder / "work.bin", self._rng.choice(self._nodes)
        file.write_bytes(os.urandom(size))
        home.publish(f"soak/{number}.bin", file)
        self._names.append((f"soak/{number}.bin", home.index))
        self.published += 1
        for node in self._rng.sample(list(self._nodes), 2):
            name, _ = self._rng.choice(self._names[-20:])
            if len(self._running) < FETCHERS_MAX:
                command = ["curl", "-sf", "-m", "60", "-o", "/dev/null", node.file_url(name)]
                self._running.append(node.net.inside(node.index, command))
        self.reap()

    def reap(self) -> None:
        """Count the clients that have ended."""
        for client in [each for each in self._running if each.poll() is not None]:
            self._running.remove(client)
            self.fetched += client.returncode == 0
            self.failed += client.returncode != 0

    def finish(self) -> None:
        """Wait for the last clients."""
        for client in self._running:
            client.wait()
        self.reap()


def warm_up(nodes: Sequence[LabNode], folder: Path, files: int) -> None:
    """Publish small files at all nodes at once, before any link is cut."""
    small = folder / "small.bin"
    small.write_bytes(os.urandom(1 << 10))
    share = files // len(nodes)
    if not share:
        return
    clients = []
    for node in nodes:
        command = ["curl", "-sSf", "-o", os.devnull, "-u", node.credentials(), "-T", str(small)]
        names = f"warm/n{node.index}-[1-{share}].bin"
        clients.append(node.net.inside(node.index, [*command, node.file_url(names)]))
    ended = [client.wait() for client in clients]
    if any(ended):
        raise LabError("a client could not publish before the soak")


def run(minutes: float, note: Callable[[str], None], seed: int = 1, warm: int = WARM) -> Soaked:
    """Soak; returns what was seen, and the verdicts.  ``warm`` files are published beforehand."""
    seconds = minutes * 60
    links = uniform(NODES, rate=RATE, rtt=RTT, outages=flapping_pairs(seconds, seed))
    with tempfile.TemporaryDirectory(prefix="atoll-lab-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        with Net(links, folder) as net:
            nodes = [LabNode(net, index, folder) for index in range(links.count)]
            try:
                form(nodes)
                warm_up(nodes, folder, warm)
                return _soak(net, nodes, folder, seconds, links, note)
            finally:
                for node in nodes:
                    node.stop()


def _soak(
    net: Net,
    nodes: Sequence[LabNode],
    folder: Path,
    seconds: float,
    links: Scenario,
    note: Callable[[str], None],
) -> Soaked:
    looks: list[Look] = []
    work = Work(nodes, folder, links.seed)
    net.go()
    began, due, seen = time.monotonic(), 0.0, 0.0
    while (at := time.monotonic() - began) < seconds:
        if at >= due:
            due = at + PERIOD
            work.step()
        if at >= seen:
            seen = at + LOOK
            looks += [look(node, at) for node in nodes]
            note(_line(looks[-len(nodes) :], work))
        time.sleep(0.1)
    work.finish()
    time.sleep(QUIET)
    last = [look(node, time.monotonic() - began) for node in nodes]
    note(_line(last, work))
    found = verdicts(looks, last)
    return Soaked(
        minutes=seconds / 60,
        outages=len(links.outages),
        published=work.published,
        fetched=work.fetched,
        failed=work.failed,
        load=usage.load(),
        looks=looks,
        last=last,
        verdicts=found,
        flat=all(each.flat for each in found),
    )


def _line(looks: Sequence[Look], work: Work) -> str:
    shown = "; ".join(
        f"n{each.node} {each.rss / 1e6:.0f} MB, {each.tasks:.0f} tasks, {each.sockets:.0f} sockets,"
        f" {each.files:.0f} files, {each.temporary:.0f} temporary"
        for each in looks
    )
    clients = f"{work.published} published, {work.fetched} fetched, {work.failed} failed"
    return f"{looks[0].at:6.0f} s: {clients}: {shown}"


def verdicts(looks: Sequence[Look], last: Sequence[Look]) -> list[Verdict]:
    """Compare the second quarter with the last one, node by node.

    Memory may grow by GROWTH_MAX and a few MB: the ledger, its caches and the allocator's rest.
    Of temporary files nothing may be left once everything is quiet.
    """
    end = max((each.at for each in looks), default=0.0)
    found = []
    for node in sorted({each.node for each in looks}):
        mine = [each for each in looks if each.node == node]
        second = [each for each in mine if end / 4 <= each.at < end / 2]
        fourth = [each for each in mine if each.at >= end * 3 / 4]
        for figure, room in ROOM.items():
            early = middle([getattr(each, figure) for each in second])
            late = middle([getattr(each, figure) for each in fourth])
            allowed = early * (1 + GROWTH_MAX) + room
            found.append(Verdict(node, figure, early, late, late <= allowed))
        left = [each.temporary for each in last if each.node == node]
        rest = max(left, default=0.0)
        found.append(Verdict(node, "temporary at the end", 0.0, rest, rest == 0))
    return found


def report(found: Sequence[Verdict]) -> str:
    """Lines of Markdown."""
    lines = ["| node | figure | second quarter | last quarter | flat |", "|---|---|---|---|---|"]
    for each in found:
        scale = 1e-6 if each.figure == "rss" else 1.0
        unit = " MB" if each.figure == "rss" else ""
        early, late = each.early * scale, each.late * scale
        flat = "yes" if each.flat else "NO"
        lines.append(
            f"| n{each.node} | {each.figure} | {early:.1f}{unit} | {late:.1f}{unit} | {flat} |"
        )
    return "\n".join(lines)
