"""Real nodes in the lab: ``atoll up`` in a namespace each, and what is asked of them."""

from __future__ import annotations

import http.client
import math
import os
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cli.connection import running
from cli.environment import ROOT
from simulations.lab.namespaces import address, within
from simulations.lab.net import STOP_MAX, LabError, Net, close_pipes, read_line

HTTP_PORT, MESH_PORT = 8080, 7777
START_MAX = 180.0  # seconds until a node must answer, on a busy machine
TOGETHER = 4  # nodes that start at once
LINK_MAX = 120.0  # seconds until all nodes must be linked
REPOSITORY = "generic"


class LabNode:
    """One ``atoll up`` in its namespace."""

    def __init__(
        self, net: Net, index: int, folder: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        self.net, self.index = net, index
        self.settings = dict(settings or {})
        self.site = f"s{net.scenario.sites[index]}" if net.scenario.sites else f"s{index}"
        self.data = folder / f"n{index}"
        self.log = folder / f"n{index}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._token = self._watcher = ""

    @property
    def url(self) -> str:
        """Where it serves, in its namespace."""
        return f"http://{address(self.index)}:{HTTP_PORT}"

    def launch(self, join: str = "") -> None:
        """Start it without waiting."""
        here = address(self.index)
        command = [sys.executable, "-m", "cli", "up", "--data", str(self.data)]
        command += ["--http", f"{here}:{HTTP_PORT}", "--mesh", f"{here}:{MESH_PORT}"]
        command += ["--name", f"n{self.index}", "--site", self.site]
        command += ["--join", join] if join else []
        with self.log.open("ab") as log:
            self.process = self.net.inside(
                self.index,
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                cwd=ROOT,
                env={**os.environ, **self.settings},
            )

    def await_ready(self) -> None:
        """Wait until it answers.  Raises LabError."""
        assert self.process is not None
        assert self.process.stdout is not None
        try:
            read_line(self.process.stdout, START_MAX)
        except LabError as error:
            raise LabError(f"n{self.index}: {error}\n{self.log.read_text()[-2000:]}") from error

    def start(self, join: str = "") -> None:
        """Start it and wait until it answers.  Raises LabError."""
        self.launch(join)
        self.await_ready()

    def kill(self) -> None:
        """End it without a warning."""
        if self.process is not None:
            self.process.kill()
            self._ended(self.process)

    def stop(self) -> None:
        """Stop it; kill it if it does not."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._ended(self.process)

    def _ended(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        close_pipes(process)
        self.process = None

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Call its management API as its operator."""
        with within(self.net.namespace(self.index)):
            found = running(self.data)
            if found is None:
                raise LabError(f"n{self.index} does not answer")
            return found.call(method, path, body)

    def metric(self, name: str) -> float:
        """Return one of its metrics, summed over labels; NaN if it does not tell."""
        if not self._watcher:
            body = {"name": "watcher", "scopes": ["admin"]}
            self._watcher = self.call("POST", "/auth/tokens", body)["token"]
        parts = urlsplit(self.url)
        basic = b64encode(f"watcher:{self._watcher}".encode()).decode()
        with within(self.net.namespace(self.index)):
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
            connection.request("GET", "/metrics", headers={"authorization": f"Basic {basic}"})
            text = connection.getresponse().read().decode()
            connection.close()
        values = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(name)]
        mine = [float(value) for key, value in values if key.partition("{")[0] == name]
        return sum(mine) if mine else math.nan

    def invitation(self, site: str) -> str:
        """Return a fresh invitation."""
        text: str = self.call("POST", "/mesh/invitations", {"site": site})["invitation"]
        return text

    def linked(self) -> int:
        """Return how many peers it is linked with now."""
        return sum(peer["state"] == "up" for peer in self.call("GET", "/mesh/peers")["items"])

    def credentials(self) -> str:
        """Return user and password of a client that may write."""
        if not self._token:
            body = {"name": "lab", "scopes": ["write"]}
            self._token = self.call("POST", "/auth/tokens", body)["token"]
        return f"lab:{self._token}"

    def publish(self, path: str, file: Path) -> None:
        """Publish a generic file, as a client in its namespace.  Raises LabError."""
        command = ["curl", "-sSf", "-o", "/dev/null", "-u", self.credentials(), "-T", str(file)]
        command.append(self.file_url(path))
        done = self.net.inside(self.index, command, stderr=subprocess.PIPE)
        _, said = done.communicate()
        if done.returncode:
            raise LabError(f"n{self.index} does not publish: {said.decode()}")

    def file_url(self, path: str) -> str:
        """Return where a generic file lies."""
        return f"{self.url}/general/{REPOSITORY}/{path}"

    def holds(self, digest: str) -> bool:
        """Tell whether a blob is whole on its disk."""
        return self.blob(digest).exists()

    def blob(self, digest: str) -> Path:
        """Return where a blob lies on its disk, once it is whole."""
        return self.data / "blobs" / digest[:2] / digest

    def knows(self, path: str) -> bool:
        """Tell whether the record of a file has come here."""
        command = ["curl", "-sfI", "-o", "/dev/null", self.file_url(path)]
        return self.net.inside(self.index, command).wait() == 0


def form(nodes: Sequence[LabNode], seconds: float = LINK_MAX) -> None:
    """Start nodes that are one mesh, and wait until each is linked with every other.

    Raises LabError.
    """
    first, *others = nodes
    first.start()
    for start in range(0, len(others), TOGETHER):
        some = others[start : start + TOGETHER]
        for node in some:
            node.launch(join=first.invitation(node.site))
        for node in some:
            node.await_ready()
    await_each(nodes, lambda node: node.linked() >= len(others), "not all are linked", seconds)


def await_each(
    nodes: Sequence[LabNode],
    condition: Callable[[LabNode], bool],
    reason: str,
    seconds: float = LINK_MAX,
) -> None:
    """Wait until something is true of every node.  Raises LabError."""
    deadline = time.monotonic() + seconds
    waiting = list(nodes)
    while waiting := [node for node in waiting if not condition(node)]:
        if time.monotonic() > deadline:
            raise LabError(f"{reason}: {[node.index for node in waiting]}")
        time.sleep(0.3)
