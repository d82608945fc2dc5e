"""Everybody fetches from one origin: nginx, and curl or aria2."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from simulations.bench import install
from simulations.bench.mesh.stage import until
from simulations.bench.mesh.systems.base import ClientSystem, System
from simulations.lab.net import LabError

PORT = 8000
NGINX = """\
daemon off; master_process off; worker_processes 1; pid {work}/nginx.pid; error_log stderr error;
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream;
  client_body_temp_path {work}/b; proxy_temp_path {work}/p; fastcgi_temp_path {work}/f;
  uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;
  {more}
}}
"""
SERVED = "server {{ listen {address}:{port}; root {root}; }}"


class FromOrigin(ClientSystem):
    """Clients of an nginx at each source."""

    def prepare(self) -> None:
        for source in self.stage.case.sources:
            origin(self, source)

    def url(self) -> str:
        """Return where the first source serves the blob."""
        source = self.stage.case.sources[0]
        return f"http://{self.stage.address(source)}:{PORT}/{self.stage.file.name}"


def origin(system: System, source: int) -> None:
    """Serve the stage's folder from a node by nginx.  Raises LabError."""
    stage = system.stage
    root = stage.place(source) / "served"
    root.mkdir()
    (root / stage.file.name).hardlink_to(stage.file)
    served = SERVED.format(address=stage.address(source), port=PORT, root=root)
    nginx(system, source, served)
    url = f"http://{stage.address(source)}:{PORT}/{stage.file.name}"
    until(lambda: answers(system, source, url), 20, "nginx does not answer")


def nginx(system: System, node: int, served: str) -> None:
    """Start an nginx with some servers in a node's namespace."""
    work = system.stage.place(node) / "nginx"
    work.mkdir()
    work.chmod(0o755)
    user = "user root;\n" if os.geteuid() == 0 else ""
    config = work / "nginx.conf"
    config.write_text(user + NGINX.format(work=work, more=served), "utf-8")
    program = install.debian("nginx")
    command: list[str | Path] = [program, "-c", config, "-p", work, "-e", "stderr"]
    system.stage.start(node, command, environment=install.libraries(program))


def answers(system: System, node: int, url: str) -> bool:
    """Tell whether a URL answers a client in a node's namespace."""
    asking = system.stage.net.inside(node, ["curl", "-sfI", "-o", "/dev/null", url])
    return asking.wait() == 0


class Curl(FromOrigin):
    """One curl a receiver, again and again until it has everything."""

    name = "curl"
    config = (
        "nginx (sendfile, tcp_nopush) at the source; at each receiver: "
        "until curl -C - --connect-timeout 2 --speed-limit 1 --speed-time 3; do sleep 0.2; done"
    )

    @classmethod
    def version(cls) -> str:
        told = said("curl", "--version").split()
        return f"{told[1]}, nginx {said(str(install.debian('nginx')), '-v').rpartition('/')[2]}"

    def command(self, receiver: int) -> list[str | Path]:
        careful = "--connect-timeout 2 --speed-limit 1 --speed-time 3"
        fetch = f"curl -sS -C - {careful} -o {self.result(receiver)} {self.url()}"
        return ["sh", "-c", f"until {fetch}; do sleep 0.2; done"]


class Aria2(FromOrigin):
    """aria2 with four connections to the origin."""

    name = "aria2"
    config = (
        "nginx as for curl; aria2c -x4 -s4 -k1M --file-allocation=none --connect-timeout=2 "
        "--timeout=3 --max-tries=0 --retry-wait=1 --auto-save-interval=1"
    )

    @classmethod
    def version(cls) -> str:
        program = install.debian("aria2c")
        return said(str(program), "--version", environment=install.libraries(program)).split()[2]

    def environment(self) -> dict[str, str]:
        return install.libraries(install.debian("aria2c"))

    def command(self, receiver: int) -> list[str | Path]:
        target = self.result(receiver)
        options = ["-q", "-x4", "-s4", "-k1M", "--file-allocation=none", "--connect-timeout=2"]
        options += ["--timeout=3", "--max-tries=0", "--retry-wait=1", "--auto-save-interval=1"]
        options += ["--no-conf", "--enable-dht=false", "--async-dns=false", "--continue=true"]
        where = ["-d", str(target.parent), "-o", target.name]
        return [install.debian("aria2c"), *options, *where, self.url()]


class Rsync(ClientSystem):
    """The source runs rsync's daemon."""

    name = "rsync"
    config = (
        "rsync --daemon at the source; at each receiver: until rsync --inplace --append-verify "
        "--timeout=3 --contimeout=2; do sleep 0.2; done"
    )

    @classmethod
    def version(cls) -> str:
        program = install.debian("rsync")
        return said(str(program), "--version", environment=install.libraries(program)).split()[2]

    def environment(self) -> dict[str, str]:
        return install.libraries(install.debian("rsync"))

    def prepare(self) -> None:
        for source in self.stage.case.sources:
            work = self.stage.place(source)
            config = work / "rsyncd.conf"
            user = "uid = root\ngid = root\n" if os.geteuid() == 0 else ""
            module = f"[lab]\npath = {self.stage.folder}\nread only = yes\n"
            config.write_text(f"use chroot = no\n{user}{module}", "utf-8")
            options = ["--daemon", "--no-detach", f"--config={config}", "--port=8730"]
            command: list[str | Path] = [install.debian("rsync"), *options]
            self.stage.start(source, command, environment=self.environment())
        self.stage.settle(1.0)

    def fetch(self, receiver: int) -> str:
        """Return the rsync command of a receiver."""
        program, source = install.debian("rsync"), self.stage.case.sources[0]
        url = f"rsync://{self.stage.address(source)}:8730/lab/{self.stage.file.name}"
        options = "--inplace --append-verify --timeout=3 --contimeout=2"
        return f"{program} {options} {url} {self.result(receiver)}"

    def command(self, receiver: int) -> list[str | Path]:
        return ["sh", "-c", f"until {self.fetch(receiver)}; do sleep 0.2; done"]


def said(*command: str, environment: dict[str, str] | None = None) -> str:
    """Return what a program says.  Raises LabError."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except OSError as error:
        raise LabError(f"{command[0]}: {error}") from error
    return (done.stdout + done.stderr).strip()
