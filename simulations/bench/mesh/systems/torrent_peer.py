"""One libtorrent peer, run by the Python that has libtorrent: ``torrent_peer.py CONFIG.json``.

Prints ``ready`` when it listens; a line ``go`` on standard input adds the torrent and dials.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

SECONDS = 0.02


def main() -> None:
    """Take part until standard input ends or somebody kills us."""
    lt: Any = importlib.import_module("libtorrent")
    config = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    session = lt.session({**config["settings"], "listen_interfaces": config["listen"]})
    info = lt.torrent_info(config["torrent"])
    while session.listen_port() == 0:
        time.sleep(SECONDS)
    handle: Any = add(lt, session, info, config) if config["seed"] else None
    say("ready")
    for line in sys.stdin:
        if line.strip() == "go" and handle is None:
            handle = add(lt, session, info, config)
        if line.strip() == "go":
            for host, port in config["peers"]:
                handle.connect_peer((host, port))
        if line.strip() == "go" and not config["seed"]:
            wait(handle)
            Path(config["done"]).write_text("done", "utf-8")


def add(lt: Any, session: Any, info: Any, config: dict[str, Any]) -> Any:
    """Add the torrent."""
    params = lt.add_torrent_params()
    params.ti, params.save_path = info, config["folder"]
    flags = lt.torrent_flags
    params.flags &= ~flags.auto_managed & ~flags.paused
    if config["seed"]:
        params.flags |= flags.seed_mode
        if config["super"]:
            params.flags |= flags.super_seeding
    return session.add_torrent(params)


def wait(handle: Any) -> None:
    """Wait until everything is here and written."""
    while not handle.status().is_seeding:
        time.sleep(SECONDS)
    handle.flush_cache()


def say(text: str) -> None:
    """Tell whoever started us."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
