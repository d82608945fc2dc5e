"""What every system can be asked for."""

from __future__ import annotations

import os
import signal
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from simulations.bench.mesh.stage import Stage, end
from simulations.lab.net import LabError


class System(ABC):
    """One way to bring the blob of a stage from its sources to its receivers.

    ``prepare`` puts programs and the blob in place and waits until they know each other; nothing of
    the blob has moved to a receiver then.  ``begin`` lets a receiver fetch it.
    """

    name: ClassVar[str]
    config: ClassVar[str]  # published beside the figures

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """Return the version, once it is installed.  Raises PeerMissingError."""

    @abstractmethod
    def prepare(self) -> None:
        """Put everything in place.  Raises LabError."""

    @abstractmethod
    def begin(self, receiver: int) -> None:
        """Let a receiver fetch the blob, now."""

    @abstractmethod
    def done(self, receiver: int) -> bool:
        """Tell whether a receiver has it.  Raises LabError if it never will."""

    @abstractmethod
    def result(self, receiver: int) -> Path:
        """Return the file that a receiver has."""

    def kill(self, node: int) -> None:
        """End a node's programs without a warning.  Only for systems of B8 and B9."""
        raise NotImplementedError  # no other scenario calls it

    def held(self, node: int) -> Path:
        """Return the file of a node that has the blob before the beginning.  Only for B10."""
        raise NotImplementedError  # no other scenario calls it

    def restart(self, receiver: int) -> None:
        """Start a killed receiver again, and let it go on.  Only for systems of B8."""
        raise NotImplementedError  # no other scenario calls it

    def close(self) -> None:  # noqa: B027  most have nothing to do
        """Stop what the stage does not stop by itself."""


class ClientSystem(System):
    """A system whose receivers run a program that ends when it has the blob."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.clients: dict[int, subprocess.Popen[bytes]] = {}

    @abstractmethod
    def command(self, receiver: int) -> list[str | Path]:
        """Return the program that fetches the blob into ``result(receiver)``."""

    def environment(self) -> dict[str, str]:
        """Return what the program needs in its environment."""
        return {}

    def begin(self, receiver: int) -> None:
        self.clients[receiver] = self.stage.start(
            receiver, self.command(receiver), environment=self.environment()
        )

    def done(self, receiver: int) -> bool:
        client = self.clients.get(receiver)
        code = client.poll() if client else None  # None: killed, and not back yet
        if code:
            log = Path(str(self.command(receiver)[0])).name
            words = (self.stage.place(receiver) / f"{log}.log").read_text("utf-8", "replace")
            raise LabError(f"{self.name} on n{receiver} ended with {code}: {words[-500:]}")
        return code == 0

    def result(self, receiver: int) -> Path:
        return self.stage.place(receiver) / "fetched"

    def kill(self, node: int) -> None:
        process = self.clients.pop(node, None)
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            end(process)

    def restart(self, receiver: int) -> None:
        self.begin(receiver)
