"""Real nodes in the lab: ``atoll up`` in a namespace each, and what is asked of them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Self

import msgspec

from cli.connection import running
from simulations.lab.hub import Counts
from simulations.lab.namespaces import address, prefix, within
from simulations.lab.shaping import Scenario

ROOT = Path(__file__).resolve().parents[2]
HTTP_PORT, MESH_PORT = 8080, 7777
START_MAX = 120.0  # seconds until a node must answer, on a busy machine
LINK_MAX = 120.0  # seconds until all nodes must be linked
STOP_MAX = 20.0
HUB_MAX = 30.0
REPOSITORY = "generic"


class LabError(RuntimeError):
    """The lab could not do what it was asked."""


def read_line(pipe: IO[bytes], seconds: float) -> str:
    """Read a line from an unbuffered pipe.  Raises LabError when none comes."""
    deadline, line = time.monotonic() + seconds, b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        data = os.read(pipe.fileno(), 1) if ready else b""
        if not data:
            raise LabError(f"no answer after {seconds:.0f} s, only {line!r}")
        line += data
    return line.decode().strip()


class Net:
    """The hub and its namespaces.  Use as a context."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self.name = prefix()
        file = folder / "scenario.json"
        file.write_bytes(msgspec.json.encode(scenario))
        self._hub = subprocess.Popen(
            [sys.executable, "-m", "simulations.lab.hub", self.name, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd=ROOT,
            start_new_session=True,  # an interrupt is for us; it ends when its input does
        )

    def __enter__(self) -> Self:
        self._answer("ready")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._hub.stdin is not None
        self._hub.stdin.close()
        self._hub.wait(STOP_MAX)

    def _answer(self, expected: str = "") -> str:
        assert self._hub.stdout is not None
        line = read_line(self._hub.stdout, HUB_MAX)
        if expected and line != expected:
            raise LabError(f"the hub says {line!r}")
        return line

    def _say(self, word: str) -> None:
        assert self._hub.stdin is not None
        self._hub.stdin.write(f"{word}\n".encode())

    def go(self) -> None:
        """Start the clock of the outages."""
        self._say("go")
        self._answer("gone")

    def counts(self) -> Counts:
        """Return what was carried so far."""
        self._say("count")
        return msgspec.json.decode(self._answer(), type=Counts)

    def inside(self, index: int, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a command in a node's namespace."""
        return subprocess.Popen(
            ["ip", "netns", "exec", f"{self.name}-{index}", *command], **options
        )


class LabNode:
    """One ``atoll up`` in its namespace."""

    def __init__(self, net: Net, index: int, folder: Path, replicate: str) -> None:
        self.net, self.index, self.replicate = net, index, replicate
        self.data = folder / f"n{index}"
        self.log = folder / f"n{index}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it serves, in its namespace."""
        return f"http://{address(self.index)}:{HTTP_PORT}"

    def start(self, join: str = "") -> None:
        """Start it and wait until it answers.  Raises LabError."""
        here = address(self.index)
        command = ["nice", "-n", "5", sys.executable, "-m", "cli", "up", "--data", str(self.data)]
        command += ["--http", f"{here}:{HTTP_PORT}", "--mesh", f"{here}:{MESH_PORT}"]
        command += ["--name", f"n{self.index}", "--site", f"s{self.index}"]
        command += ["--join", join] if join else []
        with self.log.open("ab") as log:
            self.process = self.net.inside(
                self.index,
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                cwd=ROOT,
                env={**os.environ, "ATOLL_MESH_REPLICATE": self.replicate},
            )
        assert self.process.stdout is not None
        try:
            read_line(self.process.stdout, START_MAX)
        except LabError as error:
            raise LabError(f"n{self.index}: {error}\n{self.log.read_text()[-2000:]}") from error

    def stop(self) -> None:
        """Stop it; kill it if it does not."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Call its management API as its operator."""
        with within(f"{self.net.name}-{self.index}"):
            found = running(self.data)
            if found is None:
                raise LabError(f"n{self.index} does not answer")
            return found.call(method, path, body)

    def invitation(self) -> str:
        """Return a fresh invitation."""
        text: str = self.call("POST", "/mesh/invitations", {"site": "lab"})["invitation"]
        return text

    def linked(self) -> int:
        """Return how many peers it is linked with now."""
        return sum(peer["state"] == "up" for peer in self.call("GET", "/mesh/peers")["items"])

    def publish(self, path: str, file: Path) -> None:
        """Publish a generic file, as a client in its namespace.  Raises LabError."""
        body = {"name": "lab", "scopes": ["write"]}
        token = self.call("POST", "/auth/tokens", body)["token"]
        command = ["curl", "-sSf", "-o", "/dev/null", "-u", f"lab:{token}", "-T", str(file)]
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
        return (self.data / "blobs" / digest[:2] / digest).exists()

    def knows(self, path: str) -> bool:
        """Tell whether the record of a file has come here."""
        asked = self.net.inside(
            self.index, ["curl", "-sfI", "-o", "/dev/null", self.file_url(path)]
        )
        return asked.wait() == 0


class Fleet:
    """Nodes that know each other, every one linked with every other.  Use as a context."""

    def __init__(self, scenario: Scenario, replicate: str = "on-demand") -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="atoll-lab-")
        self.folder = Path(self._folder.name)
        self.net = Net(scenario, self.folder)
        self.nodes = [LabNode(self.net, n, self.folder, replicate) for n in range(scenario.count)]

    def __enter__(self) -> Self:
        try:
            self.net.__enter__()
            self._form()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything and delete what was made."""
        for node in self.nodes:
            node.stop()
        self.net.__exit__()
        self._folder.cleanup()

    def _form(self) -> None:
        first, *others = self.nodes
        first.start()
        for node in others:
            node.start(join=first.invitation())
        self.await_each(lambda node: node.linked() == len(others), "not everybody is linked")

    def await_each(self, condition: Any, reason: str, seconds: float = LINK_MAX) -> None:
        """Wait until something is true of every node.  Raises LabError."""
        deadline = time.monotonic() + seconds
        while not all(condition(node) for node in self.nodes):
            if time.monotonic() > deadline:
                raise LabError(reason)
            time.sleep(0.5)
