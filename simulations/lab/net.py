"""The hub and its namespaces, as an experiment holds them."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

import msgspec

from cli.environment import ROOT
from simulations.lab.hub import Counts
from simulations.lab.namespaces import prefix
from simulations.lab.shaping import Scenario

STOP_MAX = 20.0
HUB_MAX = 60.0  # seconds until it has made its namespaces
NICENESS = -5  # of everything measured, alike: others may use the machine


class LabError(RuntimeError):
    """The lab could not do what it was asked."""


def read_line(pipe: IO[bytes], seconds: float) -> str:
    """Read a line from an unbuffered pipe.  Raises LabError when none comes."""
    deadline, line = time.monotonic() + seconds, b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        data = os.read(pipe.fileno(), 4096) if ready else b""
        if not data:
            raise LabError(f"no answer after {seconds:.0f} s, only {line[-2000:]!r}")
        line += data
    return line.decode().strip()


def close_pipes(process: subprocess.Popen[bytes]) -> None:
    """Close our ends of an ended process's pipes."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


class Net:
    """The hub and its namespaces.  Use as a context."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self.name = prefix()
        self.scenario = scenario
        file = folder / "scenario.json"
        file.write_bytes(msgspec.json.encode(scenario))
        self._hub = subprocess.Popen(
            [sys.executable, "-m", "simulations.lab.hub", self.name, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd=ROOT,
            start_new_session=True,  # an interrupt is for us; it ends when its input does
        )

    def __enter__(self) -> Self:
        self._answer("ready")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._hub.stdin is not None
        self._hub.stdin.close()
        self._hub.wait(STOP_MAX)
        close_pipes(self._hub)

    def _answer(self, expected: str = "") -> str:
        assert self._hub.stdout is not None
        line = read_line(self._hub.stdout, HUB_MAX)
        if expected and line != expected:
            raise LabError(f"the hub says {line!r}")
        return line

    def _say(self, words: bytes) -> None:
        assert self._hub.stdin is not None
        self._hub.stdin.write(words + b"\n")

    def go(self) -> None:
        """Start the clock of the outages."""
        self._say(b"go")
        self._answer("gone")

    def block(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Cut exactly these pairs of nodes, until told otherwise."""
        self._say(b"block " + msgspec.json.encode(pairs))
        self._answer("blocked")

    def counts(self) -> Counts:
        """Return what was carried so far."""
        self._say(b"count")
        return msgspec.json.decode(self._answer(), type=Counts)

    def namespace(self, index: int) -> str:
        """Return the name of a node's namespace."""
        return f"{self.name}-{index}"

    def inside(self, index: int, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a command in a node's namespace."""
        nicer = NICENESS - os.getpriority(os.PRIO_PROCESS, 0)
        into = ["ip", "netns", "exec", self.namespace(index), "nice", "-n", str(nicer)]
        return subprocess.Popen([*into, *command], **options)
