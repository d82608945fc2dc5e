"""One run's place: namespaces, folders, processes, and what they used."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from simulations.bench import usage
from simulations.bench.mesh.model import Case
from simulations.lab.namespaces import address
from simulations.lab.net import LabError, Net, close_pipes

STOP_SECONDS_MAX = 10.0
SAMPLE_SECONDS = 0.5
BLOCK = 1 << 20


class Stage:
    """The nodes of one run, before any program is on them.  Use as a context."""

    def __init__(self, net: Net, folder: Path, case: Case) -> None:
        self.net, self.folder, self.case = net, folder, case
        self.file = folder / "blob.bin"
        self.digest = ""
        self.usage = Usage()
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.digest = noise(self.file, self.case.size)
        self.usage.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.usage.stop()
        for process in reversed(self._started):
            end(process)
            close_pipes(process)

    def place(self, index: int) -> Path:
        """Return a node's own folder."""
        folder = self.folder / f"node{index}"
        folder.mkdir(exist_ok=True)
        return folder

    def address(self, index: int) -> str:
        """Return a node's address."""
        return address(index)

    def start(
        self,
        index: int,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        pipes: bool = False,
        counted: bool = True,
    ) -> subprocess.Popen[bytes]:
        """Start a program in a node's namespace; its words go to a log in the node's folder."""
        log = self.place(index) / f"{Path(str(command[0])).name}.log"
        with log.open("ab") as words:
            process = self.net.inside(
                index,
                [str(each) for each in command],
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else words,
                stderr=words,
                bufsize=0,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self.adopt(process, counted=counted)
        return process

    def adopt(self, process: subprocess.Popen[bytes], *, counted: bool = True) -> None:
        """End a process with this stage, and count what it uses."""
        self._started.append(process)
        if counted:
            self.usage.watch(process.pid)

    def settle(self, seconds: float = 2.0) -> None:
        """Wait until greetings are over."""
        time.sleep(seconds)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            process.send_signal(number)
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            continue


def noise(file: Path, size: int) -> str:
    """Write random bytes, which stay in the page cache; return their SHA-256."""
    digest = hashlib.sha256()
    with file.open("wb") as target:
        left = size
        while left:
            data = os.urandom(min(left, BLOCK))
            digest.update(data)
            left -= target.write(data)
    return digest.hexdigest()


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def until(condition: Callable[[], bool], seconds: float, reason: str) -> None:
    """Wait until something is true.  Raises LabError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"{reason} after {seconds:.0f} s")
        time.sleep(0.1)


class Usage:
    """CPU time and memory of process trees, looked at twice a second: they may end any time."""

    def __init__(self) -> None:
        self._pids: list[int] = []
        self._cpu: dict[int, float] = {}
        self._peak: dict[int, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._over.set()
        self._thread.join()

    def watch(self, pid: int) -> None:
        """Count a process and its descendants."""
        with self._lock:
            self._pids.append(pid)

    def cpu(self) -> float:
        """Return the CPU seconds of all so far, ended ones as last seen."""
        self._sample()
        return sum(self._cpu.values())

    def peak(self) -> int:
        """Return the largest resident memory that any single process had."""
        return max(self._peak.values(), default=0)

    def resident(self) -> int:
        """Return the resident memory of the largest process now."""
        with self._lock:
            pids = list(self._pids)
        return max((usage.resident(pid) for pid in pids), default=0)

    def _look(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        with self._lock:
            for root in self._pids:
                for pid in usage.tree(root):
                    self._cpu[pid] = max(self._cpu.get(pid, 0.0), usage.cpu_of(pid))
                    self._peak[pid] = max(self._peak.get(pid, 0), usage.peak_of(pid))
