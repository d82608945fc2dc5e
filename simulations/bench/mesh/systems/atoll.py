"""Our nodes, by their commands and interfaces only."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

from cli.environment import ROOT
from simulations.bench.mesh.stage import Stage
from simulations.bench.mesh.systems.base import ClientSystem, System
from simulations.bench.mesh.systems.web import said
from simulations.lab.nodes import LabNode, await_each, form

FILE = "blob.bin"
SETTLE_SECONDS = 3.0


class Nodes(System):
    """A mesh of nodes, one a namespace; the blob is published at the source."""

    settings: ClassVar[dict[str, str]] = {}

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        folder = stage.folder
        self.nodes = [
            LabNode(stage.net, index, folder, self.settings)
            for index in range(stage.case.links.count)
        ]

    @classmethod
    def version(cls) -> str:
        told = said("git", "-C", str(ROOT), "describe", "--always", "--dirty")
        return f"{'unknown' if ' ' in told else told}, Python {sys.version.split()[0]}"

    def form(self) -> None:
        """Start all nodes as one mesh, and count what they use.  Raises LabError."""
        form(self.nodes)
        for node in self.nodes:
            assert node.process is not None
            self.stage.usage.watch(node.process.pid)

    def held(self, node: int) -> Path:
        return self.nodes[node].blob(self.stage.digest)

    def kill(self, node: int) -> None:
        self.nodes[node].kill()

    def close(self) -> None:
        for node in self.nodes:
            node.stop()


class Atoll(Nodes, ClientSystem):
    """At each receiver a curl asks its own node for the blob: the node streams while it fetches."""

    name = "atoll"
    config = "defaults (on-demand); at each receiver one curl asks the node beside it"

    def prepare(self) -> None:
        self.form()
        for source in self.stage.case.sources[:1]:
            self.nodes[source].publish(FILE, self.stage.file)
        await_each(self.nodes, lambda node: node.knows(FILE), "the record does not get around")
        for source in self.stage.case.sources[1:]:
            self.fetch(source)
        self.stage.settle(SETTLE_SECONDS)

    def fetch(self, node: int) -> None:
        """Let a node have the blob before the experiment begins."""
        url = self.nodes[node].file_url(FILE)
        self.stage.net.inside(node, ["curl", "-sSf", "-o", "/dev/null", url]).wait()

    def url_for(self, receiver: int) -> str:
        """Return where a client beside a receiver asks."""
        return self.nodes[receiver].file_url(FILE)

    def command(self, receiver: int) -> list[str | Path]:
        target, url = self.result(receiver), self.url_for(receiver)
        fetch = f"curl -sSf -C - -o {target} {url}"
        return ["sh", "-c", f"until {fetch}; do sleep 0.2; done"]

    def kill(self, node: int) -> None:
        self.nodes[node].kill()

    def restart(self, receiver: int) -> None:
        self.nodes[receiver].start()
        process = self.nodes[receiver].process
        assert process is not None
        self.stage.usage.watch(process.pid)


class AtollPolicy(Nodes):
    """Nodes fetch by policy, in whatever order suits the swarm; nobody reads meanwhile."""

    name = "atoll-policy"
    settings: ClassVar[dict[str, str]] = {"ATOLL_MESH_REPLICATE": "everywhere"}
    config = "ATOLL_MESH_REPLICATE=everywhere; the clock runs from before the publish"

    def prepare(self) -> None:
        self.form()
        self.begun = False
        self.stage.settle(SETTLE_SECONDS)

    def begin(self, receiver: int) -> None:
        if not self.begun:  # a publish is the one beginning
            self.begun = True
            self.nodes[self.stage.case.sources[0]].publish(FILE, self.stage.file)

    def done(self, receiver: int) -> bool:
        return self.nodes[receiver].holds(self.stage.digest)

    def result(self, receiver: int) -> Path:
        return self.nodes[receiver].blob(self.stage.digest)

    def restart(self, receiver: int) -> None:
        self.nodes[receiver].start()
