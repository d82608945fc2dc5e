"""The mesh as a service of the node: built from its parts, started, joined."""

from __future__ import annotations

import sys

import structlog
import trio

from mesh import invitation as invitations
from mesh.carriers import libp2p
from mesh.carriers.libp2p import Libp2pCarrier
from mesh.carriers.tls import TlsCarrier
from mesh.relay import Quota
from mesh.service import Mesh
from mesh.shell.meeting import Ways
from node.config import Mesh as MeshConfig
from node.config import split_address
from node.core import Core
from node.deltametrics import DeltaMetrics
from node.deltas import DeltaKeeper
from node.directory import UserEntry
from node.linkmetrics import LinkMetrics
from node.meshmetrics import MeshMetrics
from node.pathmetrics import PathMetrics
from store.errors import MeshError, NoHolderError, PendingError
from store.files import FileStore
from store.shelf import Shelf, Shelved, ShelvedIndex

log = structlog.get_logger(__name__)
COURIER = {"on": True, "off": False, "auto": None}  # by role
RETRY = 1.0  # seconds between attempts to join while the inviter does not answer
RETRY_MAX = 30.0
SYNC_MAX = 30.0  # seconds that a joined node waits for the mesh's users before it answers clients


def build_mesh(core: Core, keeper: DeltaKeeper | None = None) -> Mesh:
    """Make the mesh of this node; nothing is opened yet."""
    config, blobs = core.config.mesh, core.blobs
    carrier = TlsCarrier(
        core.identity.seed,
        listen=[split_address(config.listen)],
        advertise=config.advertise,
    )
    return Mesh(
        identity=core.identity,
        ledger=core.ledger,
        store=blobs.store if keeper is None else Shelved(blobs.store, keeper.shelf),
        index=blobs.index if keeper is None else ShelvedIndex(blobs.index, keeper.shelf),
        partials=core.partials,
        carriers=[carrier, *_libp2p(core)],
        directory=core.config.path / "mesh",
        site=config.site,
        wait=config.wait,
        upload_rate=config.upload_rate,
        rules=config.links,
        ways=Ways(
            config.mdns,
            config.peers,
            _quota(config),
            COURIER[config.courier],
            config.sockets_max,
        ),
    )


def _keeper(core: Core) -> DeltaKeeper | None:
    """What makes and keeps deltas, where they are wanted and blobs are files."""
    store, budget = core.blobs.store, core.config.mesh.delta_budget
    if not budget or not isinstance(store, FileStore):
        return None
    shelf = Shelf(core.config.path / "deltas", store, budget=budget)
    return DeltaKeeper(shelf, store, core.siblings)


def _libp2p(core: Core) -> list[Libp2pCarrier]:
    """The libp2p carrier, where it is wanted and can be had; nothing of it is imported yet."""
    config = core.config.mesh
    if config.libp2p == "off" or (config.libp2p == "auto" and not libp2p.installed()):
        return []
    host, _ = split_address(config.listen)
    listen = split_address(config.libp2p_listen) if config.libp2p_listen else (host, 0)
    return [Libp2pCarrier(core.identity.seed, listen=listen, mode=config.libp2p)]


def _quota(config: MeshConfig) -> Quota | None:
    """What this node carries for others, if it does."""
    if config.relay == "off":
        return None
    rates = float(config.relay_rate), float(config.relay_pair_rate)
    return Quota(*rates, streams=config.relay_streams)


async def start_mesh(core: Core, services: trio.Nursery, invitation: str) -> Mesh:
    """Start the mesh, and join by an invitation first if there is one.

    Waits for the inviter as long as it takes: a node told to join must not answer clients as a
    mesh of its own meanwhile.  Raises RejectedError for an invitation that is no good.
    """
    (core.config.path / "mesh").mkdir(exist_ok=True)
    keeper = _keeper(core)
    mesh = build_mesh(core, keeper)
    core.metrics.registry.register(PathMetrics(mesh))
    core.metrics.registry.register(LinkMetrics(mesh))
    told = MeshMetrics(core, mesh)
    core.metrics.registry.register(told)
    core.metrics.refreshers.append(told.refresh)
    await services.start(mesh.run)
    core.blobs.swarm = mesh
    if keeper is not None:
        keeper.attach(mesh, core.placer.holders)
        core.metrics.registry.register(DeltaMetrics(keeper))
        core.ledger.observe(keeper.follow)
        services.start_soon(keeper.run, mesh)
    mesh.errands.perform = core.errand
    core.engine.errands = mesh.errands
    if invitation and invitations.read(invitation).mesh.hex() != core.ledger.mesh:
        await _join(core, mesh, invitation)
    return mesh


async def _join(core: Core, mesh: Mesh, invitation: str) -> None:
    pause = RETRY
    while True:
        try:
            await mesh.join(invitation)
            break
        except (NoHolderError, PendingError, MeshError, OSError) as error:
            log.warning("cannot join yet", reason=str(error), retry=pause)
            sys.stderr.write(f"atoll: cannot join yet ({error}); trying again\n")
            sys.stderr.flush()
            await trio.sleep(pause)
            pause = min(RETRY_MAX, pause * 2)
    marker = core.config.path / "provisioned"
    marker.write_text("\n".join(each.keys[0] for each in core.formats) + "\n")
    with trio.move_on_after(SYNC_MAX), core.ledger.subscribe() as grown:
        while not core.directory.all(UserEntry):
            await grown.receive()
    log.info("joined", mesh=core.ledger.mesh)
