"""B15: two nodes on a wire without limits: how near to a bare TLS socket that hashes?"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from cli.environment import ROOT
from simulations.bench.mesh.model import Case, Experiment, Options, Run, Target
from simulations.bench.mesh.play import Watch, check
from simulations.bench.mesh.stage import Stage
from simulations.bench.mesh.systems.base import ClientSystem, System
from simulations.lab.namespaces import address, prefix
from simulations.lab.net import LabError, read_line
from simulations.lab.shaping import uniform
from simulations.lab.wire import Wire

MIB, GB = 1 << 20, 1e9
PATIENCE = 300.0


class BareSocket(ClientSystem):
    """A trio TLS 1.3 socket: one end reads a file and sends, the other hashes and writes."""

    name = "bare-socket"
    config = "trio SSLStream, TLS 1.3, 256 KiB at a time; the receiver hashes (SHA-256) and writes"

    @classmethod
    def version(cls) -> str:
        return f"Python {sys.version.split()[0]}"

    def prepare(self) -> None:
        self._start(0, "serve", self.stage.file)
        self.clients[1] = self._start(1, "fetch", self.result(1))

    def _start(self, node: int, verb: str, file: Path) -> subprocess.Popen[bytes]:
        bare = [sys.executable, "-m", "simulations.lab.bare", verb, address(0)]
        command: list[str | Path] = [*bare, file]
        environment = {"PYTHONPATH": str(ROOT)}
        process = self.stage.start(node, command, pipes=True, environment=environment)
        assert process.stdout is not None
        read_line(process.stdout, 60)
        return process

    def command(self, receiver: int) -> list[str | Path]:
        raise LabError(f"the client of n{receiver} runs already")

    def begin(self, receiver: int) -> None:
        pipe = self.clients[receiver].stdin
        assert pipe is not None
        pipe.write(b"go\n")


def cases(options: Options) -> list[Case]:
    """One pair on a wire."""
    size = options.sizes[0] if options.sizes else (64 if options.quick else 512) * MIB
    links = uniform(2, rate=1e12, rtt=0.0, congestion=options.congestion)
    return [Case(f"{size // MIB} MiB over veth", links, size, size / 1e10, patience=PATIENCE)]


@contextmanager
def wired(case: Case, kind: type[System]) -> Generator[tuple[Stage, System]]:
    """Make a wire and a system on it."""
    with tempfile.TemporaryDirectory(prefix="atoll-lab-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        folder.chmod(0o755)
        with Wire(case.links, prefix()) as net, Stage(net, folder, case) as stage:
            system = kind(stage)
            try:
                system.prepare()
                yield stage, system
            finally:
                system.close()


def play(case: Case, kind: type[System], round_: int) -> Run:
    """Run one system on a wire."""
    run = Run("B15", case.name, kind.name, round_, case.bound, [], {})
    with wired(case, kind) as (stage, system):
        watch = Watch(stage)
        system.begin(1)
        times = watch.wait(system.done, (1,), case.patience)
        watch.finish(run)
        if not times:
            run.failed = "it takes too long"
            return run
        check(system, stage)
        spent = run.values["cpu_seconds"]
        run.times = [round(times[1], 3)]
        run.values = {
            "seconds": times[1],
            "rate": case.size / times[1],
            "cpu_per_gb": spent / case.size * GB,
            "cpu_seconds": spent,
            "peak_bytes": float(stage.usage.peak()),
        }
    run.load = os.getloadavg()[0]
    return run


B15 = Experiment(
    key="B15",
    title="a wire without limits (veth)",
    cases=cases,
    systems=("bare-socket", "atoll", "atoll-policy", "curl", "libtorrent-tcp"),
    play=play,
    target=Target("versus_socket", 0.8, more_is_better=True),
    metrics=("rate", "cpu_per_gb", "peak_bytes"),
    reference="bare-socket",
)
