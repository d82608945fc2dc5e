"""The demo's nodes: real processes with data directories of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from cli.connection import Node, running
from mesh import invitation as invitations
from store.errors import UnavailableError

NOWHERE = "tls://127.0.0.1:9"  # advertised, so that nobody is reached but through a cable
ROOT = Path(__file__).resolve().parents[2]


class DemoNode:
    """One ``atoll up``."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.data, self.url = name, folder / name, ""
        self.mesh_port = _free_port()
        self._log = folder / f"{name}.log"
        self._process: trio.Process | None = None

    async def start(self, nursery: trio.Nursery, *, join: str = "") -> None:
        """Start it and wait until it answers.  Raises UnavailableError with its last words."""
        command = [sys.executable, "-m", "cli", "up", "--data", str(self.data)]
        command += ["--http", "127.0.0.1:0", "--mesh", f"127.0.0.1:{self.mesh_port}"]
        command += ["--name", self.name, "--site", self.name]
        command += ["--join", join] if join else []
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "ATOLL_MESH_ADVERTISE": NOWHERE}
        with self._log.open("wb") as log:
            run = partial(
                trio.run_process,
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                check=False,
                deliver_cancel=_terminate,
            )
            self._process = await nursery.start(run)
        stdout = self._process.stdout if self._process else None
        line = b""
        while stdout is not None and not line.endswith(b"\n"):
            data = await stdout.receive_some()
            if not data:
                raise UnavailableError(
                    f"{self.name} did not start:\n{self._log.read_text()[-2000:]}"
                )
            line += data
        self.url = line.decode().split()[-1]

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Call its management API as its operator.  Blocking."""
        return self._node().call(method, path, body)

    def _node(self) -> Node:
        node = running(self.data)
        if node is None:
            raise UnavailableError(f"{self.name} does not answer")
        return node

    def invitation(self, port: int, site: str) -> str:
        """An invitation that leads through a cable's port."""
        text = self.call("POST", "/mesh/invitations", {"site": site})["invitation"]
        found = invitations.read(text)
        return invitations.write(
            msgspec.structs.replace(found, addresses=(f"tls://127.0.0.1:{port}",))
        )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def _terminate(process: trio.Process) -> None:
    process.terminate()
    with trio.move_on_after(20):
        await process.wait()
        return
    process.kill()
