"""The simulator beside real programs: no processes, no links, virtual time."""

from __future__ import annotations

from pathlib import Path

from simulations.bench.mesh.systems.atoll import Atoll
from simulations.bench.mesh.systems.base import System
from simulations.lab.net import LabError


class Simulator(System):
    """The product's cores on simulated links.  An experiment plays it by itself."""

    name = "simulator"
    config = "python -m simulations swarm --nodes …: the mesh's cores, no TCP, no processor"

    @classmethod
    def version(cls) -> str:
        return Atoll.version()

    def prepare(self) -> None:
        raise LabError("the simulator needs no links")

    def begin(self, receiver: int) -> None:
        raise LabError(f"the simulator has no n{receiver}")

    def done(self, receiver: int) -> bool:
        raise LabError(f"the simulator has no n{receiver}")

    def result(self, receiver: int) -> Path:
        raise LabError(f"the simulator has no n{receiver}")
