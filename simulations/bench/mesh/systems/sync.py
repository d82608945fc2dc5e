"""Syncthing: every device knows every other by address; the file appears in the source's folder."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path

from simulations.bench import install
from simulations.bench.mesh.stage import until
from simulations.bench.mesh.systems.base import System
from simulations.bench.mesh.systems.web import said
from simulations.lab.namespaces import within

PORT, GUI = 22000, 8384
KEY = "bench-only"
DEVICE = """\
  <device id="{id}" name="n{index}" compression="never" introducer="false">
    <address>tcp://{address}:22000</address><paused>false</paused>
  </device>"""
CONFIG = """\
<configuration version="{version}">
  <folder id="lab" path="{folder}" type="sendreceive" rescanIntervalS="3600"
    fsWatcherEnabled="false" ignorePerms="true" autoNormalize="true">
{shared}
  </folder>
{devices}
  <gui enabled="true" tls="false"><address>{address}:8384</address><apikey>bench-only</apikey></gui>
  <options>
    <listenAddress>tcp://{address}:22000</listenAddress>
    <globalAnnounceEnabled>false</globalAnnounceEnabled>
    <localAnnounceEnabled>false</localAnnounceEnabled>
    <relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled>
    <reconnectionIntervalS>1</reconnectionIntervalS><startBrowser>false</startBrowser>
    <urAccepted>-1</urAccepted><autoUpgradeIntervalH>0</autoUpgradeIntervalH>
    <progressUpdateIntervalS>1</progressUpdateIntervalS>
    <crashReportingEnabled>false</crashReportingEnabled>
    <setLowPriority>false</setLowPriority>
  </options>
</configuration>
"""


class Syncthing(System):
    """One folder that all devices share; the source is told to scan it, so no watcher delays it."""

    name = "syncthing"
    config = (
        "every device lists every other by address; TCP; no discovery, relays or NAT; "
        "compression=never, reconnectionIntervalS=1, progressUpdateIntervalS=1 (partial files are "
        "announced each second), rescan asked for by REST when the file is there"
    )

    @classmethod
    def version(cls) -> str:
        program = install.syncthing()
        built = install.folder() / "go" in program.parents  # by hand, it does not know its version
        return install.SYNCTHING[1] if built else said(str(program), "--version").split()[1]

    def prepare(self) -> None:
        self.nodes = range(self.stage.case.links.count)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.ids = {node: self._identity(node) for node in self.nodes}
        for node in self.nodes:
            self._configure(node)
            self._start(node)
        for node in self.nodes:
            until(partial(self._linked, node), 60, "devices do not meet")
        self.begun = False
        if len(self.stage.case.sources) > 1:
            self._seed()

    def _seed(self) -> None:
        """Let every other source have the blob, and nobody else."""
        case = self.stage.case
        for receiver in case.receivers:
            self.ask(receiver, "POST", "/rest/system/pause")
        shutil.copyfile(self.stage.file, self.result(case.sources[0]))
        self.scan(case.sources[0])
        for source in case.sources[1:]:
            until(self.result(source).exists, 120, "no second source")

    def knows(self, one: int, two: int) -> bool:
        """Tell whether one device lists another."""
        return one != two

    def _identity(self, node: int) -> str:
        home = self.stage.place(node) / "home"
        told = said(str(install.syncthing()), "generate", f"--home={home}")
        found = re.search(r"([A-Z2-7]{7}-){7}[A-Z2-7]{7}", told)
        return found[0] if found else self._id_of(home)

    def _id_of(self, home: Path) -> str:
        text = (home / "config.xml").read_text("utf-8")
        found = re.search(r'device id="([A-Z2-7-]{63})"', text)
        assert found is not None
        return found[1]

    def _configure(self, node: int) -> None:
        home, folder = self.stage.place(node) / "home", self.folder(node)
        (folder / ".stfolder").mkdir(parents=True, exist_ok=True)
        version = re.search(r'configuration version="(\d+)"', (home / "config.xml").read_text())
        known = [n for n in self.nodes if n == node or self.knows(node, n)]
        shared = "\n".join(f'    <device id="{self.ids[each]}"></device>' for each in known)
        devices = "\n".join(
            DEVICE.format(id=self.ids[each], index=each, address=self.stage.address(each))
            for each in known
        )
        text = CONFIG.format(
            version=version[1] if version else "37",
            folder=folder,
            shared=shared,
            devices=devices,
            address=self.stage.address(node),
        )
        (home / "config.xml").write_text(text, "utf-8")

    def _start(self, node: int) -> None:
        home = self.stage.place(node) / "home"
        options = ["serve", f"--home={home}", "--no-browser", "--no-restart", "--no-upgrade"]
        environment = {"STNODEFAULTFOLDER": "1", "STNOUPGRADE": "1", "HOME": str(home)}
        command: list[str | Path] = [install.syncthing(), *options]
        self.processes[node] = self.stage.start(node, command, environment=environment)

    def ask(self, node: int, method: str, path: str) -> bytes:
        """Call a device's REST interface; b"" while it does not answer."""
        with within(self.stage.net.namespace(node)):
            connection = http.client.HTTPConnection(self.stage.address(node), GUI, timeout=10)
            try:
                connection.request(method, path, headers={"X-API-Key": KEY})
                return connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                return b""
            finally:
                connection.close()

    def _linked(self, node: int) -> bool:
        told = self.ask(node, "GET", "/rest/system/connections").decode()
        expected = sum(self.knows(node, each) for each in self.nodes)
        return len(re.findall(r'"connected":\s*true', told)) >= expected

    def folder(self, node: int) -> Path:
        """Return the folder that a device shares."""
        return self.stage.place(node) / "shared"

    def begin(self, receiver: int) -> None:
        if self.begun:  # all devices share from the beginning: there is one beginning
            return
        self.begun = True
        first = self.stage.case.sources[0]
        if not self.result(first).exists():
            self.result(first).hardlink_to(self.stage.file)
            self.scan(first)
        for each in self.stage.case.receivers:
            self.ask(each, "POST", "/rest/system/resume")

    def scan(self, node: int) -> None:
        """Let a device look what is in its folder."""
        self.ask(node, "POST", "/rest/db/scan?folder=lab")

    def held(self, node: int) -> Path:
        return self.result(node)

    def done(self, receiver: int) -> bool:
        return self.result(receiver).exists()

    def result(self, receiver: int) -> Path:
        return self.folder(receiver) / self.stage.file.name

    def kill(self, node: int) -> None:
        process = self.processes.pop(node)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def restart(self, receiver: int) -> None:
        self._start(receiver)
