"""Two namespaces and a veth pair between them: no hub, no limits but the machine's."""

from __future__ import annotations

import subprocess
import time
from typing import Self

from simulations.lab.hub import Counts
from simulations.lab.namespaces import NETWORK, address
from simulations.lab.net import Net
from simulations.lab.shaping import Scenario

DEVICE = "lab0"


class Wire(Net):
    """What a net is, for two nodes that are joined directly.  Use as a context."""

    def __init__(self, scenario: Scenario, name: str) -> None:  # no hub, so not the parent's
        self.name, self.scenario = name, scenario
        self._began = time.monotonic()
        self._made: list[str] = []

    def __enter__(self) -> Self:
        try:
            for index in range(2):
                subprocess.run(["ip", "netns", "add", self.namespace(index)], check=True)
                self._made.append(self.namespace(index))
            self._join()
        except BaseException:  # cancelled, too
            self.__exit__()
            raise
        return self

    def _join(self) -> None:
        one, two = self._made
        pair = ["type", "veth", "peer", "name", DEVICE, "netns", two]
        subprocess.run(["ip", "-n", one, "link", "add", DEVICE, *pair], check=True)
        for index, name in enumerate(self._made):
            ip = ["ip", "-n", name]
            subprocess.run([*ip, "addr", "add", f"{address(index)}/24", "dev", DEVICE], check=True)
            for device in ("lo", DEVICE):
                subprocess.run([*ip, "link", "set", device, "up"], check=True)
            if self.scenario.congestion:
                route = [f"{NETWORK}.0/24", "dev", DEVICE, "proto", "kernel", "scope", "link"]
                pinned = ["src", address(index), "congctl", "lock", self.scenario.congestion]
                subprocess.run([*ip, "route", "change", *route, *pinned], check=True)

    def __exit__(self, *_: object) -> None:
        while self._made:
            subprocess.run(["ip", "netns", "del", self._made.pop()], check=False)

    def go(self) -> None:
        """Nothing happens to a wire."""

    def counts(self) -> Counts:
        """Return zeros: nobody counts here."""
        none = [[0, 0], [0, 0]]
        elapsed = time.monotonic() - self._began
        return Counts(elapsed, none, none, {}, 0.0, 0.0)
