"""Everything that can be run, by name."""

from __future__ import annotations

from simulations.bench.mesh.model import Experiment
from simulations.bench.mesh.scenarios import (
    courier,
    crowd,
    faults,
    lan,
    loss,
    outages,
    partial,
    records,
    sites,
    small,
    swarm,
    versions,
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
        versions.AtollUpgrade,
        versions.AtollMetered,
        versions.RsyncUpgrade,
        versions.ZsyncUpgrade,
        versions.CasyncUpgrade,
        small.AtollSmall,
        small.RsyncSmall,
        small.SyncthingSmall,
        records.AtollRecords,
        records.SyncthingIndex,
        lan.BareSocket,
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
        versions.B11,
        small.B12,
        records.B13,
        crowd.B14,
        lan.B15,
        courier.B16,
        records.B17,
        crowd.B18,
        virtual.B19,
    )
}
