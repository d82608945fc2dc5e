"""A cache at the far site, and everybody there behind it: nginx, or Docker's registry."""

from __future__ import annotations

from pathlib import Path

from simulations.bench import install
from simulations.bench.client import call
from simulations.bench.mesh.stage import until
from simulations.bench.mesh.systems.base import ClientSystem
from simulations.bench.mesh.systems.web import PORT, FromOrigin, answers, nginx, said
from simulations.lab.namespaces import within

CACHED = """\
  proxy_cache_path {work}/cache levels=1:2 keys_zone=lab:10m max_size=8g use_temp_path=off;
  server {{ listen {address}:{port}; location / {{
    proxy_pass http://{origin}:{port}; proxy_http_version 1.1; proxy_cache lab;
    proxy_cache_valid 200 1h; proxy_cache_lock on; proxy_cache_lock_timeout 600s;
    proxy_cache_lock_age 600s; proxy_connect_timeout 5s; proxy_read_timeout 60s; }} }}"""
REGISTRY = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {storage}}}
  cache: {{blobdescriptor: inmemory}}
http: {{addr: "{address}:5000"}}
{more}
"""


class NginxCache(FromOrigin):
    """One nginx at the far site fetches once; its neighbours ask it, the others the origin."""

    name = "nginx-cache"
    config = (
        "nginx at the source; at the far site's first node nginx with proxy_cache, "
        "proxy_cache_lock on (lock age and time-out 600 s), HTTP/1.1 to the origin"
    )

    @classmethod
    def version(cls) -> str:
        return said(str(install.debian("nginx")), "-v").rpartition("/")[2]

    @property
    def cache(self) -> int:
        """The node that has the cache: the first of another site than the source."""
        links, source = self.stage.case.links, self.stage.case.sources[0]
        if not links.sites:
            return self.stage.case.receivers[0]
        return next(node for node in range(links.count) if links.apart(source, node))

    def prepare(self) -> None:
        super().prepare()
        stage = self.stage
        work = stage.place(self.cache) / "nginx"
        served = CACHED.format(
            work=work,
            address=stage.address(self.cache),
            origin=stage.address(stage.case.sources[0]),
            port=PORT,
        )
        nginx(self, self.cache, served)
        stage.settle(1.0)

    def url_for(self, receiver: int) -> str:
        """Return where a receiver asks."""
        links, source = self.stage.case.links, self.stage.case.sources[0]
        near = links.sites and not links.apart(source, receiver)
        node = source if near else self.cache
        return f"http://{self.stage.address(node)}:{PORT}/{self.stage.file.name}"

    def command(self, receiver: int) -> list[str | Path]:
        return ["curl", "-sSf", "-o", self.result(receiver), self.url_for(receiver)]


class DockerRegistry(ClientSystem):
    """Docker's registry at the source, and one that pulls through at the far site."""

    name = "docker-registry"
    config = (
        "docker-registry with the file system driver at the source; at the far site's first node "
        "another with proxy.remoteurl; blobs by digest"
    )

    @classmethod
    def version(cls) -> str:
        return said(str(install.debian("docker-registry")), "--version").split()[-1]

    @property
    def cache(self) -> int:
        """The node that has the cache: the first of another site than the source."""
        links, source = self.stage.case.links, self.stage.case.sources[0]
        if not links.sites:
            return self.stage.case.receivers[0]
        return next(node for node in range(links.count) if links.apart(source, node))

    def prepare(self) -> None:
        source = self.stage.case.sources[0]
        origin = self._start(source, "")
        self._start(self.cache, f"proxy: {{remoteurl: {origin}}}")
        with within(self.stage.net.namespace(source)):
            _, told = call("POST", f"{origin}/v2/bench/blobs/uploads/", b"")
            place = told["location"]
            place += f"{'&' if '?' in place else '?'}digest=sha256:{self.stage.digest}"
            binary = {"Content-Type": "application/octet-stream"}
            call("PUT", place, self.stage.file, binary)
        self.stage.settle(1.0)

    def _start(self, node: int, more: str) -> str:
        work, address = self.stage.place(node), self.stage.address(node)
        config = work / "registry.yaml"
        text = REGISTRY.format(storage=work / "registry", address=address, more=more)
        config.write_text(text, "utf-8")
        self.stage.start(node, [install.debian("docker-registry"), "serve", config])
        url = f"http://{address}:5000"
        until(lambda: answers(self, node, f"{url}/v2/"), 30, "docker-registry does not answer")
        return url

    def url_for(self, receiver: int) -> str:
        """Return where a receiver asks."""
        links, source = self.stage.case.links, self.stage.case.sources[0]
        near = links.sites and not links.apart(source, receiver)
        node = source if near else self.cache
        digest = self.stage.digest
        return f"http://{self.stage.address(node)}:5000/v2/bench/blobs/sha256:{digest}"

    def command(self, receiver: int) -> list[str | Path]:
        return ["curl", "-sSf", "-o", self.result(receiver), self.url_for(receiver)]
