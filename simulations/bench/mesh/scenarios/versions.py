"""B11: the next version of a package, to one who has the last: what has to move?

The pairs are real (``simulations.bench.mesh.pairs``).
"""

from __future__ import annotations

import shutil
import subprocess
from abc import abstractmethod
from contextlib import suppress
from operator import methodcaller
from pathlib import Path
from typing import ClassVar

from simulations.bench import install
from simulations.bench.mesh.model import Case, Experiment, Options, Run, Target
from simulations.bench.mesh.pairs import PAIRS, STEP_MAX, Pair
from simulations.bench.mesh.play import Watch, difference, reject, staged
from simulations.bench.mesh.stage import Stage, digest_of, until
from simulations.bench.mesh.systems.atoll import Nodes
from simulations.bench.mesh.systems.base import System
from simulations.bench.mesh.systems.web import PORT, SERVED, answers, nginx, said
from simulations.lab.net import LabError
from simulations.lab.nodes import await_each
from simulations.lab.shaping import MBIT, uniform

RATE, RTT = 100 * MBIT, 0.02
PATIENCE = 240.0
SETTLED = 3.0  # seconds until what one node has or begins is known
DELTA_MAX = 480.0  # seconds that the source may take to make deltas


# --- the systems --------------------------------------------------------------------------------
class Upgrade(System):
    """A system that has the old file at the receiver, and brings the new one."""

    def files(self) -> Pair:
        """Return the old and the new file."""
        make, old, new = PAIRS[self.stage.case.name]
        return make(install.folder() / "versions", old, new)

    def check(self) -> None:
        """Look at the new file.  Raises LabError."""
        if digest_of(self.result(1)) != digest_of(self.files()[1]):
            raise LabError(f"{self.name} made another file")


class AtollUpgrade(Nodes, Upgrade):
    """The old version was fetched by a client before; a client asks for the new one."""

    name = "atoll-upgrade"
    names: dict[str, str]
    settings: ClassVar[dict[str, str]] = {}
    config = (
        "deltas as by default: none over a link of this rate that costs nothing; generic files of "
        "one folder; a client of the receiver has fetched the old version before"
    )

    def prepare(self) -> None:
        self.form()
        self.names = {}
        for name, file in zip(("old", "new"), self.files(), strict=True):
            self.names[name] = f"package/{file.name.replace('%3a', '-')}"
            self.nodes[0].publish(self.names[name], file)
            await_each(self.nodes, methodcaller("knows", self.names[name]), "unknown")
            if name == "old":
                self._fetch("old").wait()
                self.stage.settle(SETTLED)  # until the source knows that the receiver has it
        self.stage.settle(SETTLED)
        until(self._settled, DELTA_MAX, "the source still makes deltas")

    def _settled(self) -> bool:
        """Tell whether no process makes a delta."""
        root = self.nodes[0].process
        assert root is not None
        for thread in Path(f"/proc/{root.pid}/task").iterdir():
            with suppress(OSError):  # it has ended
                for child in (thread / "children").read_text().split():
                    if b"delta_maker" in Path(f"/proc/{child}/cmdline").read_bytes():
                        return False
        return True

    def _fetch(self, name: str) -> subprocess.Popen[bytes]:
        url = self.nodes[1].file_url(self.names[name])
        return self.stage.start(1, ["curl", "-sSf", "-o", self.stage.place(1) / name, url])

    def begin(self, receiver: int) -> None:
        self.client = self._fetch("new")

    def done(self, receiver: int) -> bool:
        return self.client.poll() is not None

    def result(self, receiver: int) -> Path:
        return self.stage.place(1) / "new"


class AtollMetered(AtollUpgrade):
    """The receiver pays for bytes, and says so."""

    name = "atoll-metered"
    settings: ClassVar[dict[str, str]] = {"ATOLL_MESH_LINKS": "* metered"}
    config = (
        "mesh.links = * metered: the smallest delta is taken; the source has had time to make it; "
        "else as atoll-upgrade"
    )


class ByProgram(Upgrade):
    """A program of the receiver's, with the old file at hand."""

    def prepare(self) -> None:
        place, source = self.stage.place(1), self.stage.place(0) / "served"
        source.mkdir()
        old, new = self.files()
        shutil.copyfile(old, place / "old")
        shutil.copyfile(new, source / "new")
        self.serve(source)

    def serve(self, folder: Path) -> None:
        """Serve a folder by nginx."""
        address = self.stage.address(0)
        nginx(self, 0, SERVED.format(address=address, port=PORT, root=folder))
        until(lambda: answers(self, 0, f"http://{address}:{PORT}/new"), 20, "nginx is not there")

    @abstractmethod
    def command(self) -> list[str | Path]:
        """Return what makes ``result`` of ``old``."""

    def begin(self, receiver: int) -> None:
        command = self.command()
        environment = install.libraries(Path(str(command[0])))
        self.client = self.stage.start(1, command, environment=environment)

    def done(self, receiver: int) -> bool:
        return self.client.poll() is not None

    def result(self, receiver: int) -> Path:
        return self.stage.place(1) / "new"


class RsyncUpgrade(ByProgram):
    """rsync over the old file."""

    name = "rsync-upgrade"
    config = "rsync --no-whole-file, the old file under the new one's name; daemon at the source"

    @classmethod
    def version(cls) -> str:
        program = install.debian("rsync")
        return said(str(program), "--version", environment=install.libraries(program)).split()[2]

    def serve(self, folder: Path) -> None:
        config = self.stage.place(0) / "rsyncd.conf"
        module = f"[lab]\npath = {folder}\nread only = yes\n"
        config.write_text(f"use chroot = no\nuid = root\ngid = root\n{module}", "utf-8")
        program = install.debian("rsync")
        options = ["--daemon", "--no-detach", f"--config={config}", "--port=8730"]
        self.stage.start(0, [program, *options], environment=install.libraries(program))
        self.stage.settle(1.0)
        shutil.copyfile(self.stage.place(1) / "old", self.result(1))

    def command(self) -> list[str | Path]:
        url = f"rsync://{self.stage.address(0)}:8730/lab/new"
        return [install.debian("rsync"), "--no-whole-file", "--ignore-times", url, self.result(1)]


class ZsyncUpgrade(ByProgram):
    """zsync with the old file as its seed."""

    name = "zsync-upgrade"
    config = "zsyncmake's defaults (it looks into gzip) at the source, nginx; zsync -i OLD"

    @classmethod
    def version(cls) -> str:
        return said(str(install.debian("zsync")), "-V").split()[1]

    def serve(self, folder: Path) -> None:
        url = f"http://{self.stage.address(0)}:{PORT}/new"
        make = [str(install.debian("zsyncmake")), "-u", url, "-o", "new.zsync", "new"]
        subprocess.run(make, cwd=folder, check=True, capture_output=True, timeout=STEP_MAX)
        super().serve(folder)

    def command(self) -> list[str | Path]:
        place, url = self.stage.place(1), f"http://{self.stage.address(0)}:{PORT}/new.zsync"
        return [install.debian("zsync"), "-q", "-i", place / "old", "-o", place / "new", url]


class CasyncUpgrade(ByProgram):
    """casync with the old file as its seed."""

    name = "casync-upgrade"
    config = "casync make's defaults (16/64/256 KiB, zstd) at the source, nginx; extract --seed=OLD"

    @classmethod
    def version(cls) -> str:
        program = install.debian("casync")
        return said(str(program), "--version", environment=install.libraries(program)).split()[1]

    def serve(self, folder: Path) -> None:
        program = install.debian("casync")
        make = [str(program), "make", "--store=store.castr", "new.caibx", "new"]
        environment = install.libraries(program) or None
        subprocess.run(
            make, cwd=folder, check=True, capture_output=True, timeout=STEP_MAX, env=environment
        )
        super().serve(folder)

    def command(self) -> list[str | Path]:
        place, url = self.stage.place(1), f"http://{self.stage.address(0)}:{PORT}"
        seeds = [f"--store={url}/store.castr", f"--seed={place / 'old'}"]
        program = install.debian("casync")
        return [program, "extract", *seeds, f"{url}/new.caibx", place / "new"]


# --- the experiment -----------------------------------------------------------------------------
def cases(options: Options) -> list[Case]:
    """Each pair."""
    links = uniform(2, rate=RATE, rtt=RTT, congestion=options.congestion)
    names = list(PAIRS)[1:2] if options.quick else list(PAIRS)
    return [Case(name, links, 1, 1.0, patience=PATIENCE) for name in names]


def play(case: Case, kind: type[System], round_: int) -> Run:
    """Bring one new version by one system; count the payload of both directions."""
    run = Run("B11", case.name, kind.name, round_, case.bound, [], {})
    with staged(case, kind) as (stage, system, doubts):
        for doubt in doubts:
            reject(run, doubt)
        assert isinstance(system, Upgrade)
        _bring(run, stage, system)
    return run


def _bring(run: Run, stage: Stage, system: Upgrade) -> None:
    watch = Watch(stage)
    system.begin(1)
    times = watch.wait(system.done, (1,), stage.case.patience)
    watch.finish(run)
    payload = difference(stage.net.counts().payload, watch.before.payload)
    if not times:
        run.failed = "it takes too long"
        return
    system.check()
    size = system.files()[1].stat().st_size
    moved = payload[0][1] + payload[1][0]
    run.values |= {
        "seconds": times[1],
        "moved": float(moved),
        "moved_share": moved / size,
        "size": float(size),
    }


B11 = Experiment(
    key="B11",
    title="the next version to one who has the last: bytes moved both ways",
    cases=cases,
    systems=("atoll-upgrade", "atoll-metered", "rsync-upgrade", "zsync-upgrade", "casync-upgrade"),
    play=play,
    target=Target("versus_best", 1.0),
    metrics=("moved_share", "moved", "size", "seconds"),
    rivalry="moved",
)
