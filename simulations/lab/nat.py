"""Two nodes behind translators, and a relay: ``python -m simulations.lab.nat``.

Both private networks use the same addresses, as such networks do.  The nodes join, meet through the
relay, and fetch; then one translator forwards a port, and the direct path must be taken.  Needs
root, iproute2 and iptables; everything is made in namespaces with a prefix of their own.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from cli.connection import running
from cli.environment import ROOT
from simulations.lab.namespaces import prefix, within
from simulations.lab.namespaces import why_not as no_lab
from simulations.lab.net import LabError, close_pipes, read_line

PUBLIC = "198.51.100"  # RFC 5737: for documentation
PRIVATE = "192.168.1"  # behind both translators
MESH_PORT, HTTP_PORT = 7777, 8080
START_MAX, STOP_MAX = 120.0, 20.0
PATIENCE = 150.0  # seconds: a direct path is looked for every minute, give or take a quarter
LOOK = 0.25
PATH = "/general/generic/blob/{}/x.bin"


class Report(msgspec.Struct):
    """What one run has shown.  Times in seconds."""

    linked: float  # from both nodes being ready to a relayed link between them
    synced: float  # until the record of a publish is at the other end
    fetched: float  # bytes
    fetch_seconds: float
    opened: float  # from the port being forwarded to a direct link
    direct_fetch_seconds: float
    paths: list[str]


def why_not() -> str:
    """Return why this cannot run here, or ""."""
    if reason := no_lab():
        return reason
    missing = [name for name in ("iptables", "curl") if shutil.which(name) is None]
    return f"the lab of translators needs {' and '.join(missing)}" if missing else ""


def run(*command: str) -> None:
    """Run a command that must succeed.  Raises LabError."""
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stderr.decode().strip()}")


class Net:
    """Six namespaces: the public network, a relay, two translators and two nodes behind them."""

    def __init__(self) -> None:
        self.prefix = prefix()
        self._made: list[str] = []

    def name(self, part: str) -> str:
        """Return a namespace's full name."""
        return f"{self.prefix}-{part}"

    def close(self) -> None:
        """Delete what was made."""
        while self._made:
            subprocess.run(["ip", "netns", "del", self._made.pop()], check=False)

    def build(self) -> None:
        """Make it all.  Raises LabError."""
        for part in ("inet", "relay", "nat-a", "nat-b", "a", "b"):
            run("ip", "netns", "add", self.name(part))
            self._made.append(self.name(part))
            self._ip(part, "link", "set", "lo", "up")
        self._ip("inet", "link", "add", "br0", "type", "bridge")
        self._ip("inet", "link", "set", "br0", "up")
        for number, part in enumerate(("relay", "nat-a", "nat-b"), 1):
            self._wire("inet", f"p{number}", part, "wan")
            self._ip("inet", "link", "set", f"p{number}", "master", "br0")
            self._ip(part, "addr", "add", f"{PUBLIC}.{number}/24", "dev", "wan")
        for node in ("a", "b"):
            self._translate(f"nat-{node}", node)

    def _translate(self, translator: str, node: str) -> None:
        self._wire(translator, "lan", node, "eth0")
        self._ip(translator, "addr", "add", f"{PRIVATE}.1/24", "dev", "lan")
        self._ip(node, "addr", "add", f"{PRIVATE}.2/24", "dev", "eth0")
        self._ip(node, "route", "add", "default", "via", f"{PRIVATE}.1")
        self.inside(translator, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        masquerade = ("-A", "POSTROUTING", "-o", "wan", "-j", "MASQUERADE")
        self.inside(translator, "iptables", "-t", "nat", *masquerade)

    def forward(self, node: str) -> None:
        """Let a translator forward the port of the mesh to the node behind it."""
        rule = ("-A", "PREROUTING", "-i", "wan", "-p", "tcp", "--dport", str(MESH_PORT))
        target = ("-j", "DNAT", "--to-destination", f"{PRIVATE}.2:{MESH_PORT}")
        self.inside(f"nat-{node}", "iptables", "-t", "nat", *rule, *target)

    def _wire(self, one: str, name: str, two: str, other: str) -> None:
        peer = ("peer", "name", other, "netns", self.name(two))
        self._ip(one, "link", "add", name, "type", "veth", *peer)
        self._ip(one, "link", "set", name, "up")
        self._ip(two, "link", "set", other, "up")

    def _ip(self, part: str, *arguments: str) -> None:
        run("ip", "-n", self.name(part), *arguments)

    def inside(self, part: str, *command: str) -> None:
        """Run a command in a namespace.  Raises LabError."""
        run("ip", "netns", "exec", self.name(part), *command)


class Node:
    """One ``atoll up`` in its namespace."""

    def __init__(self, net: Net, part: str, folder: Path) -> None:
        self.net, self.part, self.data = net, part, folder / part
        self._log = folder / f"{part}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, join: str = "") -> None:
        """Start it and wait until it answers.  Raises LabError."""
        command = ["ip", "netns", "exec", self.net.name(self.part), sys.executable, "-m", "cli"]
        command += ["up", "--data", str(self.data), "--http", f"127.0.0.1:{HTTP_PORT}"]
        command += ["--mesh", f"0.0.0.0:{MESH_PORT}", "--name", self.part, "--site", self.part]
        command += ["--join", join] if join else []
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                cwd=ROOT,
                env={**os.environ, "ATOLL_MESH_MDNS": "off"},
            )
        assert self._process.stdout is not None
        try:
            read_line(self._process.stdout, START_MAX)
        except LabError as error:
            raise LabError(f"{self.part}: {error}\n{self._log.read_text()[-2000:]}") from error

    def stop(self) -> None:
        """Stop it; kill it if it does not."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_MAX)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            close_pipes(self._process)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Call its management API as its operator.  Raises LabError."""
        with within(self.net.name(self.part)):
            found = running(self.data)
            if found is None:
                raise LabError(f"{self.part} does not answer")
            return found.call(method, path, body)

    def peer(self, name: str) -> dict[str, Any]:
        """Return what it knows of another node."""
        items = self.call("GET", "/mesh/peers")["items"]
        node: dict[str, Any] = next((each for each in items if each["site"] == name), {})
        return node

    def curl(self, *arguments: str) -> bool:
        """Run curl in its namespace; tell whether it succeeded."""
        command = ["ip", "netns", "exec", self.net.name(self.part), "curl", "-sf", *arguments]
        return subprocess.run(command, check=False).returncode == 0

    def publish(self, number: int, file: Path) -> None:
        """Publish a generic file.  Raises LabError."""
        body = {"name": "lab", "scopes": ["write"]}
        token = self.call("POST", "/auth/tokens", body)["token"]
        if not self.curl("-o", os.devnull, "-u", f"lab:{token}", "-T", str(file), url(number)):
            raise LabError(f"{self.part} does not publish")


def url(number: int) -> str:
    """Return where a file lies on any node, seen from itself."""
    return f"http://127.0.0.1:{HTTP_PORT}{PATH.format(number)}"


def until(what: str, condition: Callable[[], bool]) -> float:
    """Wait; return how long it took, in seconds.  Raises LabError."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > PATIENCE:
            raise LabError(f"{what}: not within {PATIENCE:.0f} s")
        time.sleep(LOOK)
    return time.monotonic() - began


def linked(one: Node, two: Node, path: str) -> bool:
    """Tell whether two nodes are linked in a certain way, as both see it."""
    sides = one.peer(two.part), two.peer(one.part)
    return all(s.get("state") == "up" and s["path"].startswith(path) for s in sides)


def fetch(source: Node, target: Node, number: int, folder: Path, size: int) -> tuple[float, float]:
    """Publish here and fetch there; return the seconds that each took.  Raises LabError."""
    data, got = folder / f"{number}.bin", folder / f"{number}.got"
    data.write_bytes(os.urandom(size))
    source.publish(number, data)
    head = ("-I", "-o", os.devnull, url(number))
    synced = until("the record does not come", lambda: target.curl(*head))
    began = time.monotonic()
    if not target.curl("-o", str(got), url(number)):
        raise LabError("the file cannot be fetched")
    took = time.monotonic() - began
    if hashlib.sha256(got.read_bytes()).digest() != hashlib.sha256(data.read_bytes()).digest():
        raise LabError("the bytes are wrong")
    return synced, took


def experiment(size: int) -> Report:
    """Run it once.  Raises LabError."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="atoll-nat-")))
        net = Net()
        stack.callback(net.close)
        net.build()
        relay, a, b = (Node(net, part, folder) for part in ("relay", "a", "b"))
        for node in (relay, a, b):
            stack.callback(node.stop)
        relay.start()
        for node in (a, b):
            node.start(relay.call("POST", "/mesh/invitations", {"site": node.part})["invitation"])
        met = until("no relayed link", lambda: linked(a, b, "relayed"))
        paths = [a.peer("b")["path"]]
        synced, took = fetch(a, b, 1, folder, size)
        net.forward("a")
        opened = until("no direct link", lambda: linked(a, b, "direct"))
        _, directly = fetch(a, b, 2, folder, size)
        paths += [a.peer("b")["path"], f"chunks {b.peer('a')['bulk_path']}"]
        return Report(met, synced, size, took, opened, directly, paths)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser("python -m simulations.lab.nat", description=__doc__)
    parser.add_argument("--mib", type=int, default=8, help="size of each file")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 2
    report = experiment(options.mib << 20)
    print(msgspec.json.format(msgspec.json.encode(report)).decode())
    if options.json:
        options.json.write_bytes(msgspec.json.encode(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
