"""B12: thousands of small packages: how many a second, and what they cost beyond their bytes."""

from __future__ import annotations

import http.client
import os
import threading
from base64 import b64encode
from pathlib import Path

from simulations.bench import install
from simulations.bench.mesh.model import Case, Experiment, Options, Run
from simulations.bench.mesh.play import Watch, reject, staged
from simulations.bench.mesh.stage import Stage, until
from simulations.bench.mesh.systems.atoll import AtollPolicy
from simulations.bench.mesh.systems.base import System
from simulations.bench.mesh.systems.sync import Syncthing
from simulations.bench.mesh.systems.web import Rsync
from simulations.lab.namespaces import address, within
from simulations.lab.net import LabError
from simulations.lab.nodes import HTTP_PORT, REPOSITORY
from simulations.lab.shaping import MBIT, uniform

SIZE = 20_000  # bytes of a file
RATE, RTT = 20 * MBIT, 0.05
THREADS = 4
PATIENCE = 900.0


def make(folder: Path, count: int) -> None:
    """Make random files, a hundred folders of them."""
    for number in range(count):
        place = folder / f"{number % 100}"
        place.mkdir(exist_ok=True, parents=True)
        (place / f"pkg{number}.bin").write_bytes(os.urandom(SIZE))


class AtollSmall(AtollPolicy):
    """Files are published while the link is cut; the receiver takes them by policy."""

    name = "atoll-small"
    config = "ATOLL_MESH_REPLICATE=everywhere; published as generic files while the link is cut"

    def prepare(self) -> None:
        super().prepare()
        make(self.stage.folder / "small", self.stage.case.extra["count"])
        self.stage.net.block([(0, 1)])
        files = sorted((self.stage.folder / "small").rglob("*.bin"))
        work = [files[start::THREADS] for start in range(THREADS)]
        self.failures: list[str] = []
        credentials = self.nodes[0].credentials()
        threads = [threading.Thread(target=self._put, args=(part, credentials)) for part in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failures:
            raise LabError(f"not published: {self.failures[0]}")

    def _put(self, files: list[Path], credentials: str) -> None:
        with within(self.stage.net.namespace(0)):
            connection = http.client.HTTPConnection(address(0), HTTP_PORT, timeout=60)
            connection.connect()
        headers = {"Authorization": "Basic " + b64encode(credentials.encode()).decode()}
        for file in files:
            path = f"/general/{REPOSITORY}/small/{file.name}"
            connection.request("PUT", path, file.read_bytes(), headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status >= 300:
                self.failures.append(f"{answer.status} {said[:200]!r}")
                return
        connection.close()

    def begin(self, receiver: int) -> None:
        self.stage.net.block([])

    def done(self, receiver: int) -> bool:
        blobs = self.nodes[receiver].data / "blobs"
        held = sum(len(list(folder.iterdir())) for folder in blobs.iterdir() if folder.is_dir())
        return held >= int(self.stage.case.extra["count"])


class SyncthingSmall(Syncthing):
    """The source has scanned the files while the link was cut."""

    name = "syncthing-small"
    config = "as syncthing; the files are scanned while the link is cut"

    def prepare(self) -> None:
        super().prepare()
        self.stage.net.block([(0, 1)])
        make(self.folder(0), self.stage.case.extra["count"])
        self.scan(0)

    def begin(self, receiver: int) -> None:
        self.stage.net.block([])

    def done(self, receiver: int) -> bool:
        return count_files(self.folder(receiver)) >= int(self.stage.case.extra["count"])


class RsyncSmall(Rsync):
    """One rsync of the whole tree."""

    name = "rsync-small"
    config = "rsync -a of the tree from the source's daemon"

    def prepare(self) -> None:
        make(self.stage.folder / "small", self.stage.case.extra["count"])
        super().prepare()

    def command(self, receiver: int) -> list[str | Path]:
        source = self.stage.address(self.stage.case.sources[0])
        url = f"rsync://{source}:8730/lab/small/"
        return [install.debian("rsync"), "-a", url, self.result(receiver)]


def count_files(folder: Path) -> int:
    """Count finished files."""
    return sum(1 for _ in folder.glob("*/pkg*.bin"))


def cases(options: Options) -> list[Case]:
    """A thousand, and ten thousand."""
    links = uniform(2, rate=RATE, rtt=RTT, congestion=options.congestion)
    found = []
    for count in (200,) if options.quick else (1000, 10_000):
        size = count * SIZE
        name = f"{count:,} files of 20 kB"
        extra = {"count": count}
        found.append(Case(name, links, size, size / RATE, patience=PATIENCE, extra=extra))
    return found


def play(case: Case, kind: type[System], round_: int) -> Run:
    """Run one system with small files."""
    run = Run("B12", case.name, kind.name, round_, case.bound, [], {})
    with staged(case, kind) as (stage, system, doubts):
        for doubt in doubts:
            reject(run, doubt)
        watch = Watch(stage)
        system.begin(1)
        until(lambda: system.done(1), case.patience, "files are missing")
        taken = watch.elapsed
        watch.finish(run)
        _figures(run, stage, watch, taken)
    return run


def _figures(run: Run, stage: Stage, watch: Watch, taken: float) -> None:
    count = int(stage.case.extra["count"])
    run.times = [round(taken, 2)]
    run.values |= {
        "seconds": taken,
        "share": stage.case.bound / taken,
        "files_per_second": count / taken,
        "bytes_overhead": sum(watch.had) / stage.case.size - 1,
    }


B12 = Experiment(
    key="B12",
    title="small packages of 20 kB over 20 Mbit/s, 50 ms",
    cases=cases,
    systems=("atoll-small", "rsync-small", "syncthing-small"),
    play=play,
    metrics=("files_per_second", "share", "seconds", "bytes_overhead", "cpu_seconds"),
)
