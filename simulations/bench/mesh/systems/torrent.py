"""BitTorrent: libtorrent, every peer told of every other, nothing else to find them by."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any, ClassVar

from simulations.bench import install
from simulations.bench.mesh.systems.base import System
from simulations.bench.mesh.systems.web import said
from simulations.lab.net import read_line

REQUIREMENTS = ("libtorrent==2.1.1",)
PORT = 6881
PIECE = 1 << 16
SETTINGS: dict[str, Any] = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "allow_multiple_connections_per_ip": False,
    "min_reconnect_time": 1,
    "peer_connect_timeout": 3,
    "connections_limit": 200,
    "unchoke_slots_limit": -1,
    "alert_mask": 0,
}
MAKE = """
import libtorrent as lt, sys
files = lt.file_storage(); lt.add_files(files, sys.argv[1])
made = lt.create_torrent(files, int(sys.argv[3])); lt.set_piece_hashes(made, sys.argv[4])
open(sys.argv[2], "wb").write(lt.bencode(made.generate()))
"""


class Libtorrent(System):
    """libtorrent's defaults, uTP and TCP; no limits, no discovery."""

    name = "libtorrent"
    settings: ClassVar[dict[str, Any]] = SETTINGS
    super_seeding: ClassVar[bool] = False
    piece: ClassVar[int] = PIECE
    config = f"pieces of {PIECE >> 10} KiB, seed_mode at the source, {json.dumps(SETTINGS)}"

    @classmethod
    def python(cls) -> Path:
        """Return the Python that has libtorrent.  Raises PeerMissingError."""
        return install.python("libtorrent", REQUIREMENTS) / "python"

    @classmethod
    def version(cls) -> str:
        return said(str(cls.python()), "-c", "import libtorrent as l; print(l.__version__)")

    def prepare(self) -> None:
        self.peers: dict[int, subprocess.Popen[bytes]] = {}
        stage, python = self.stage, str(self.python())
        self.torrent = stage.folder / "blob.torrent"
        command = [
            python,
            "-W",
            "ignore",
            "-c",
            MAKE,
            str(stage.file),
            str(self.torrent),
            str(self.piece),
        ]
        subprocess.run([*command, str(stage.folder)], check=True, timeout=300)
        for node in range(stage.case.links.count):
            self._start(node)

    def _start(self, node: int) -> None:
        stage, case = self.stage, self.stage.case
        seed, place = node in case.sources, stage.place(node)
        others = [each for each in range(case.links.count) if each != node]
        config = {
            "settings": self.settings,
            "listen": f"{stage.address(node)}:{PORT}",
            "torrent": str(self.torrent),
            "folder": str(stage.folder if seed and len(case.sources) == 1 else place),
            "seed": seed,
            "super": self.super_seeding,
            "peers": [(stage.address(each), PORT) for each in others],
            "done": str(place / "done"),
        }
        if seed and len(case.sources) > 1:
            (place / stage.file.name).write_bytes(stage.file.read_bytes())
        file = place / "torrent.json"
        file.write_text(json.dumps(config), "utf-8")
        script = Path(__file__).with_name("torrent_peer.py")
        process = stage.start(node, [self.python(), script, file], pipes=True)
        assert process.stdout is not None
        read_line(process.stdout, 30)
        self.peers[node] = process

    def begin(self, receiver: int) -> None:
        pipe = self.peers[receiver].stdin
        assert pipe is not None
        pipe.write(b"go\n")

    def done(self, receiver: int) -> bool:
        return (self.stage.place(receiver) / "done").exists()

    def result(self, receiver: int) -> Path:
        return self.stage.place(receiver) / self.stage.file.name

    def held(self, node: int) -> Path:
        return self.result(node)

    def kill(self, node: int) -> None:
        process = self.peers.pop(node)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def restart(self, receiver: int) -> None:
        self._start(receiver)
        self.begin(receiver)


class LibtorrentSuper(Libtorrent):
    """The same with a source that super-seeds: it means to send each piece once."""

    name = "libtorrent-super"
    super_seeding = True
    config = "as libtorrent, and the source is super-seeding"


class LibtorrentTcp(Libtorrent):
    """The same without uTP: TCP alone."""

    name = "libtorrent-tcp"
    settings: ClassVar[dict[str, Any]] = {
        **SETTINGS,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
    }
    config = "as libtorrent, without uTP"


class LibtorrentUtp(Libtorrent):
    """The same without TCP: uTP alone."""

    name = "libtorrent-utp"
    settings: ClassVar[dict[str, Any]] = {
        **SETTINGS,
        "enable_incoming_tcp": False,
        "enable_outgoing_tcp": False,
    }
    config = "as libtorrent, without TCP"
