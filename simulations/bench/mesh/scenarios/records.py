"""B13, B17: ledgers meet again after a partition, and a fresh node joins a large mesh."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

from cli.environment import ROOT
from simulations.bench.mesh.model import Case, Experiment, Options, Run, Target
from simulations.bench.mesh.play import Watch, difference, reject, staged
from simulations.bench.mesh.stage import Stage, until
from simulations.bench.mesh.systems.atoll import Nodes
from simulations.bench.mesh.systems.base import System
from simulations.bench.mesh.systems.sync import Syncthing
from simulations.lab.net import LabError
from simulations.lab.nodes import LabNode
from simulations.lab.shaping import MBIT, uniform

RATE = 100 * MBIT
RTT = 0.2  # long, so that round trips show
PATIENCE = 600.0
DIFFERENT = 0.01  # of the records, half of them on each side

Totals = tuple[int, int]  # records, and their bytes


class AtollRecords(Nodes):
    """Two nodes whose ledgers are filled while they do not run."""

    name = "atoll-records"
    config = "defaults; records of one small file each, written below the API while the node is off"

    def prepare(self) -> None:
        first = self.nodes[0]
        seed(first.data, self.stage.case.extra["count"], "common")
        self.launch(first)

    def launch(self, node: LabNode, join: str = "") -> None:
        """Start a node, and count what it uses."""
        node.start(join)
        assert node.process is not None
        self.stage.usage.watch(node.process.pid)

    def meet(self) -> None:
        """Let the second node join, and wait until it has everything."""
        first, second = self.nodes
        self.launch(second, first.invitation(second.site))
        until(lambda: totals(first.data) == totals(second.data), PATIENCE, "ledgers differ")

    def part(self, count: int) -> None:
        """Add records at both, neither running; then let them run."""
        for node in self.nodes:
            node.stop()
            seed(node.data, count, f"n{node.index}-")
        for node in self.nodes:
            self.launch(node)

    def begin(self, receiver: int) -> None:
        raise LabError(f"n{receiver} fetches no blob here")

    def done(self, receiver: int) -> bool:
        return totals(self.nodes[receiver].data) == totals(self.nodes[0].data)

    def result(self, receiver: int) -> Path:
        return self.nodes[receiver].data


def seed(data: Path, count: int, name: str) -> None:
    """Fill a ledger.  Raises LabError."""
    command = [sys.executable, "-m", "simulations.lab.seed", str(data), str(count), name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"no records: {done.stderr[-500:]}")


def totals(data: Path) -> Totals:
    """Return how many records a node has, and their bytes, as its database says."""
    try:
        with sqlite3.connect(f"file:{data / 'facts.db'}?mode=ro", uri=True) as connection:
            query = "select count(*), sum(length(header) + length(body)) from records"
            count, size = connection.execute(query).fetchone()
    except sqlite3.Error:
        return 0, 0
    return int(count), int(size or 0)


def counts(options: Options) -> tuple[int, ...]:
    """Return how many records there are."""
    return (1000,) if options.quick else (10_000, 100_000)


# --- B13 ----------------------------------------------------------------------------------------
def differing(options: Options) -> list[Case]:
    """One in a hundred records was written on one side only."""
    links = uniform(2, rate=RATE, rtt=RTT, congestion=options.congestion)
    return [
        Case(f"{count:,} records, 1 % differ", links, 1, 5 * RTT, extra={"count": count})
        for count in counts(options)
    ]


def play_reconcile(case: Case, kind: type[System], round_: int) -> Run:
    """Let two nodes that have parted meet again; count what that takes beyond the records."""
    run = Run("B13", case.name, kind.name, round_, case.bound, [], {})
    with staged(case, kind) as (stage, system, doubts):
        for doubt in doubts:
            reject(run, doubt)
        assert isinstance(system, AtollRecords)
        system.meet()
        before = totals(system.nodes[0].data)
        stage.net.block([(0, 1)])
        system.part(int(case.extra["count"] * DIFFERENT / 2))
        each = [totals(node.data) for node in system.nodes]
        new = sum(size - before[1] for _, size in each)
        stage.settle(3.0)
        _reconcile(run, stage, system, new)
    return run


def _reconcile(run: Run, stage: Stage, system: AtollRecords, new: int) -> None:
    def same() -> bool:
        one, two = (totals(node.data) for node in system.nodes)
        return one == two

    watch = Watch(stage)
    stage.net.block([])
    until(same, PATIENCE, "ledgers differ")
    taken = watch.elapsed
    watch.tick()
    stage.settle(1.0)
    after = stage.net.counts()
    payload = difference(after.payload, watch.before.payload)
    watch.finish(run)
    run.times = [round(taken, 2)]
    run.values |= {
        "seconds": taken,
        "excess_bytes": float(payload[0][1] + payload[1][0] - new),
        "moved": float(payload[0][1] + payload[1][0]),
        "records_bytes": float(new),
    }


B13 = Experiment(
    key="B13",
    title="ledgers of which 1 % differs meet again, 200 ms, 100 Mbit/s",
    cases=differing,
    systems=("atoll-records",),
    play=play_reconcile,
    target=Target("excess_bytes", 200_000),
    metrics=("seconds", "moved"),
)


# --- B17 ----------------------------------------------------------------------------------------
def fresh(options: Options) -> list[Case]:
    """A node that has nothing joins one that has everything."""
    links = uniform(2, rate=RATE, rtt=0.05, congestion=options.congestion)
    found = []
    for count in counts(options):
        extra = {"count": count}
        found.append(Case(f"{count:,} records", links, 1, 1.0, extra=extra, patience=PATIENCE))
    return found


class SyncthingIndex(Syncthing):
    """As many small files in one folder, scanned before; the second device takes the index only.

    Its folder ignores every file, so nothing but the index moves.
    """

    name = "syncthing-index"
    config = "as syncthing, running; the receiver ignores all files (.stignore): only indexes move"

    def prepare(self) -> None:
        super().prepare()
        count, receiver = self.stage.case.extra["count"], self.stage.case.receivers[0]
        (self.folder(receiver) / ".stignore").write_text("*\n", "utf-8")
        self.scan(receiver)
        self.stage.net.block([(0, 1)])
        for number in range(count):
            folder = self.folder(0) / f"{number % 100}"
            folder.mkdir(exist_ok=True)
            (folder / f"pkg{number}.bin").write_bytes(b"%0100d" % number)
        self.scan(0)
        self.expected = count

    def begin(self, receiver: int) -> None:
        self.stage.net.block([])

    def done(self, receiver: int) -> bool:
        told = self.ask(receiver, "GET", "/rest/db/status?folder=lab").decode()
        return bool(told) and json.loads(told).get("globalFiles", 0) >= self.expected


def play_join(case: Case, kind: type[System], round_: int) -> Run:
    """Let a fresh node join; look at time, bytes and memory."""
    run = Run("B17", case.name, kind.name, round_, case.bound, [], {})
    with staged(case, kind) as (stage, system, doubts):
        for doubt in doubts:
            reject(run, doubt)
        invitation = ""
        if isinstance(system, AtollRecords):
            invitation = system.nodes[0].invitation("s1")
        watch = Watch(stage)
        if isinstance(system, AtollRecords):
            system.launch(system.nodes[1], invitation)
        else:
            system.begin(1)
        until(lambda: system.done(1), case.patience, "the fresh node has not everything")
        taken = watch.elapsed
        watch.finish(run)
        count = case.extra["count"]
        run.times = [round(taken, 2)]
        run.values |= {
            "seconds": taken,
            "moved": float(sum(watch.had)),
            "bytes_per_record": sum(watch.had) / count,
            "records_per_second": count / taken,
        }
    return run


B17 = Experiment(
    key="B17",
    title="a fresh node starts and joins a mesh with many records, 50 ms, 100 Mbit/s",
    cases=fresh,
    systems=("atoll-records", "syncthing-index"),
    play=play_join,
    metrics=("seconds", "records_per_second", "moved", "bytes_per_record", "peak_bytes"),
)
