"""Everything that can be run, by name."""

from __future__ import annotations

from simulations.bench.mesh.model import Experiment
from simulations.bench.mesh.scenarios import (
    courier,
    faults,
    loss,
    outages,
    partial,
    sites,
    swarm,
    virtual,
)
from simulations.bench.mesh.systems import atoll, caches, simulator, sync, torrent, web
from simulations.bench.mesh.systems.base import System

SYSTEMS: dict[str, type[System]] = {
    kind.name: kind
    for kind in (
        atoll.Atoll,
        atoll.AtollPolicy,
        simulator.Simulator,
        web.Curl,
        web.Aria2,
        web.Rsync,
        caches.NginxCache,
        caches.DockerRegistry,
        torrent.Libtorrent,
        torrent.LibtorrentSuper,
        torrent.LibtorrentTcp,
        torrent.LibtorrentUtp,
        sync.Syncthing,
    )
}
EXPERIMENTS: dict[str, Experiment] = {
    each.key: each
    for each in (
        swarm.B1,
        swarm.B2,
        swarm.B3,
        sites.B4,
        partial.B5,
        loss.B6,
        outages.B7,
        faults.B8,
        faults.B9,
        faults.B10,
        courier.B16,
        virtual.B19,
    )
}
