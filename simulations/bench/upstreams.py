"""An origin that counts what is asked of it, and the caches before it."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cli.environment import ROOT
from simulations.bench import servers
from simulations.bench.client import call
from simulations.bench.install import PeerMissingError
from simulations.bench.publishing import ADMIN
from simulations.bench.servers import CLI, Server

SITE = 3  # nodes
LINK_SECONDS_MAX = 60.0
LOGGED_SECONDS = 0.3  # until a request that has ended stands in the log

_HEAD = """\
daemon off; master_process on; worker_processes 1; pid {work}/nginx.pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  sendfile on; tcp_nopush on; keepalive_requests 1000000;
  default_type application/octet-stream; types {{ application/json json; }}
  client_body_temp_path {work}/b; proxy_temp_path {work}/p; fastcgi_temp_path {work}/f;
  uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;
"""
ORIGIN_CONFIG = (
    _HEAD
    + """\
  log_format asked '$request_method $uri $status $body_bytes_sent';
  access_log {work}/asked asked;
  server {{ listen 127.0.0.1:{port}; root {storage}; try_files $uri $uri.json =404; }}
}}
"""
)
CACHE_CONFIG = (
    _HEAD
    + """\
  access_log off;
  proxy_cache_path {storage}/cache levels=1:2 keys_zone=bench:10m inactive=1h use_temp_path=off;
  server {{
    listen 127.0.0.1:{port};
    location = /ready {{ return 204; }}
    location / {{
      proxy_pass ORIGIN; proxy_http_version 1.1; proxy_cache bench; proxy_cache_valid 200 1h;
      proxy_cache_lock on; proxy_cache_lock_timeout 600s; proxy_cache_lock_age 600s;
    }}
  }}
}}
"""
)
UPLINK_CONFIG = """\
storage: {storage}
uplinks: {{origin: {{url: ORIGIN, timeout: 600s, maxage: 1h, max_fails: 100}}}}
packages: {{'**': {{access: $all, proxy: origin}}}}
web: {{enable: false}}
log: {{type: stdout, format: json, level: error}}
"""


def origin(work: Path) -> Server:
    """Nginx over a folder of files, which logs every request."""
    server = servers.nginx(work, "origin", ORIGIN_CONFIG)
    server.probe = "/ready"
    return server


def cache(work: Path, upstream: str) -> Server:
    """Nginx before an origin, one fetch at a time for a path."""
    return servers.nginx(work, "nginx-cache", CACHE_CONFIG.replace("ORIGIN", upstream))


def verdaccio(work: Path, upstream: str) -> Server:
    """Verdaccio with an origin as its uplink."""
    template = UPLINK_CONFIG.replace("ORIGIN", upstream)
    return servers.verdaccio(work, "verdaccio-uplink", template)


def asked(server: Server, path: str) -> tuple[int, int]:
    """How often an origin was asked for the bytes of a path, and how many bytes it sent."""
    time.sleep(LOGGED_SECONDS)
    lines = [line.split() for line in (server.work / "asked").read_text("utf-8").splitlines()]
    sent = [int(fields[3]) for fields in lines if fields[:2] == ["GET", path]]
    return len(sent), sum(sent)


def packument(server: Server, name: str, version: str, tarball: Path) -> None:
    """Let an origin list the one version of a package whose tarball is there."""
    digest = subprocess.run(
        ["sha512sum", str(tarball)], check=True, capture_output=True, text=True
    ).stdout.split()[0]
    dist = {
        "tarball": f"{server.url}/{name}/-/{name}-{version}.tgz",
        "integrity": "sha512-" + base64.b64encode(bytes.fromhex(digest)).decode(),
    }
    manifest = {"name": name, "version": version, "dist": dist}
    document = {"name": name, "dist-tags": {"latest": version}, "versions": {version: manifest}}
    (server.data / f"{name}.json").write_text(json.dumps(document), "utf-8")


def remote(server: Server, key: str, form: str, upstream: str) -> None:
    """Make a public remote repository on our node."""
    body = {"key": key, "format": form, "repo_type": "remote", "upstream_url": upstream}
    headers = {**ADMIN, "Content-Type": "application/json"}
    made = json.dumps({**body, "is_public": True}).encode()
    call("POST", f"{server.url}/api/v1/repositories", made, headers)


# --- several nodes of ours ----------------------------------------------------------------------
class Site(Server):
    """Our nodes, joined in one mesh at one site; its first one's URL is its own."""

    def __init__(self, work: Path, count: int = SITE) -> None:
        self.nodes: list[Server] = []
        for number in range(count):
            place = work / f"node-{number}"
            place.mkdir()
            self.nodes.append(servers.atoll(place))
        first = self.nodes[0]
        shown = f"{count} nodes of one site, each with {first.config}"
        super().__init__(
            "atoll-site", first.version, (), {}, "", first.probe, work, shown, first.size
        )

    @property
    def running(self) -> Sequence[Server]:
        return [each for each in self.nodes if each.process is not None]

    def start(self) -> float:
        """Start all, and wait until each is linked with every other.  Raises PeerMissingError."""
        began = time.monotonic()
        try:
            self._join()
        except BaseException:  # cancelled, too
            self.stop()
            raise
        return time.monotonic() - began

    def _join(self) -> None:
        first, *others = self.nodes
        first.start()
        for each in others:
            each.command = [*each.command, "--join", self._invitation()]
            each.start()
        self.url = first.url
        wait(lambda: all(self._linked(each) for each in self.nodes), "the nodes are not linked")

    def _invitation(self) -> str:
        first = self.nodes[0]
        command = [*CLI, "mesh", "invite", "--data", str(first.data)]
        told = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
        )
        return told.stdout.strip()

    def _linked(self, node: Server) -> bool:
        body, _ = call("GET", f"{node.url}/api/v1/mesh/peers", headers=ADMIN)
        up: int = sum(peer["state"] == "up" for peer in json.loads(body)["items"])
        return up >= len(self.nodes) - 1

    def stop(self) -> None:
        """End all of them."""
        for each in self.nodes:
            each.stop()


def wait(condition: Callable[[], bool], reason: str) -> None:
    """Wait until something is so.  Raises PeerMissingError."""
    deadline = time.monotonic() + LINK_SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise PeerMissingError(reason)
        time.sleep(0.2)
