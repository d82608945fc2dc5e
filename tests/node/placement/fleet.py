"""Whole nodes in one process, without HTTP listeners: real stores, ledgers and TLS links."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from node.config import Access, Blobs, Config, Mesh
from node.run import build_front
from node.service import open_core
from node.swarm import start_mesh
from store.digest import Digest
from store.facts import File, Publish
from tests.node.world import PASSWORD, World


class Node(World):
    """A node of a fleet."""

    config: Config
    scope: trio.CancelScope
    ended: trio.Event

    @property
    def id(self) -> str:
        return self.core.identity.node

    async def publish(self, path: str, data: bytes, repository: str = "generic") -> Digest:
        """Store a blob and publish a file that names it."""
        async with self.core.blobs.ingest() as ingest:
            await ingest.write(data)
        made = ingest.result
        file = File(path, "file", str(made.digest), made.size, made.manifest.id)
        package = path.partition("/")[0]
        fact = Publish(repository, package, "1", (file,))
        await self.core.ledger.append([fact], actor="t")
        return made.digest

    async def settle(self) -> None:
        """Wait until placement has seen everything that this node knows."""
        await self.core.placer.follower.settled.wait()

    async def has(self, digest: Digest) -> bool:
        return await self.core.holds(digest)


class Fleet:
    """Nodes that know each other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[Node] = []
        self.nursery: trio.Nursery | None = None

    async def node(
        self, site: str, *, replicate: str = "on-demand", budget: int = 0, **mesh: Any
    ) -> Node:
        """Start a node; all but the first join the first's mesh."""
        assert self.nursery is not None
        name = f"n{len(self.nodes)}"
        config = Config(
            data=str(self.folder / name),
            mesh=Mesh(site=site, name=name, replicate=replicate, mdns="off", wait=5.0, **mesh),
            blobs=Blobs(budget=budget, gc_interval=0),
            access=Access(admin_password=PASSWORD),
        )
        made: Node = await self.nursery.start(self._run, config)
        self.nodes.append(made)
        return made

    async def stop(self, node: Node) -> None:
        """Stop a node; its data stays."""
        node.scope.cancel()
        await node.ended.wait()

    async def again(self, node: Node) -> Node:
        """Start a node that was stopped, at the address that it had."""
        assert self.nursery is not None
        assert node.core.mesh is not None
        (address,) = node.core.mesh._links.listening[:1]
        mesh = msgspec.structs.replace(node.config.mesh, listen=address.removeprefix("tls://"))
        config = msgspec.structs.replace(node.config, mesh=mesh)
        made: Node = await self.nursery.start(self._run, config)
        self.nodes[self.nodes.index(node)] = made
        return made

    async def _run(
        self, config: Config, *, task_status: trio.TaskStatus[Node] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run one node, in a task of its own: what it opens it closes in order."""
        joining = bool(self.nodes) and not (Path(config.data) / "facts.db").exists()
        scope, ended, invitation = trio.CancelScope(), trio.Event(), ""
        with scope:
            async with open_core(config, joining=joining) as core, trio.open_nursery() as nursery:
                if joining:
                    inviter = self.nodes[0].core.mesh
                    assert inviter is not None
                    site = config.mesh.site
                    invitation = await inviter.invite(site=site, roles=("writer", "admin"))
                core.mesh = await start_mesh(core, nursery, invitation)
                nursery.start_soon(core.placer.run, core.mesh, core.publisher)
                made = Node(core, build_front(core))
                made.config, made.scope, made.ended = config, scope, ended
                task_status.started(made)
                await trio.sleep_forever()
        ended.set()


@asynccontextmanager
async def fleet(folder: Path) -> AsyncGenerator[Fleet]:
    made = Fleet(folder)
    async with trio.open_nursery() as nursery:
        made.nursery = nursery
        yield made
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 15.0) -> None:
    """Wait for an async condition."""
    with trio.fail_after(seconds):
        while not await condition():  # noqa: ASYNC110  it watches a whole fleet
            await trio.sleep(0.03)
