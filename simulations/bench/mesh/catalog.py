"""Everything that can be run, by name."""

from __future__ import annotations

from simulations.bench.mesh.model import Experiment
from simulations.bench.mesh.scenarios import outages, swarm
from simulations.bench.mesh.systems import atoll, sync, torrent, web
from simulations.bench.mesh.systems.base import System

SYSTEMS: dict[str, type[System]] = {
    kind.name: kind
    for kind in (
        atoll.Atoll,
        atoll.AtollPolicy,
        web.Curl,
        web.Aria2,
        web.Rsync,
        torrent.Libtorrent,
        torrent.LibtorrentSuper,
        torrent.LibtorrentTcp,
        torrent.LibtorrentUtp,
        sync.Syncthing,
    )
}
EXPERIMENTS: dict[str, Experiment] = {
    each.key: each for each in (swarm.B1, swarm.B2, swarm.B3, outages.B7)
}
