"""R8: a crowd asks a remote repository for one file that it does not have yet."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from simulations.bench import crowd, payloads, upstreams
from simulations.bench.client import AnswerError, call
from simulations.bench.figures import Bench, digest_of, turned
from simulations.bench.measuring import sample
from simulations.bench.servers import Server
from simulations.bench.summary import Sample

FILES, PACKAGES = "far-files", "far-npm"
VERSION = "1.0.0"
# What a client of each server asks, given the server's URL and the origin's path.
PLACES: dict[str, Callable[[str, str], str]] = {
    "atoll": lambda url, path: f"{url}/general/{FILES}{path}",
    "atoll-site": lambda url, path: f"{url}/general/{FILES}{path}",
    "nginx-cache": lambda url, path: f"{url}{path}",
}
TARBALLS: dict[str, Callable[[str, str], str]] = {
    "atoll": lambda url, path: f"{url}/npm/{PACKAGES}{path}",
    "verdaccio-uplink": lambda url, path: f"{url}{path}",
}


def prepare(bench: Bench) -> None:
    """An origin, every cache before it, and remote repositories on our nodes."""
    origin = bench.start("origin", upstreams.origin)
    bench.try_start("nginx-cache", partial(upstreams.cache, upstream=origin.url))
    bench.try_start("verdaccio-uplink", partial(upstreams.verdaccio, upstream=origin.url))
    bench.start("atoll-site", upstreams.Site)
    for server in bench.has("atoll", "atoll-site"):
        upstreams.remote(server, FILES, "generic", origin.url)
        upstreams.remote(server, PACKAGES, "npm", origin.url)
    for server in bench.has("atoll-site"):
        upstreams.wait(partial(_known, server), "a node of the site has not heard of a repository")


def _known(site: Server) -> bool:
    try:
        for node in site.running:
            call("GET", f"{node.url}/api/v1/repositories/{FILES}")
    except AnswerError:
        return False
    return True


def crowds(bench: Bench, round_: int) -> Iterator[Sample]:
    """R8: requests that the upstream saw, and what the crowd saw meanwhile."""
    size, many = bench.sizes.remote, bench.sizes.clients
    origin = bench.servers["origin"]
    file = origin.data / f"file-{round_}"
    shutil.move(bench.noise("remote", size), file)
    name = f"package-{round_}"
    tarball = _tarball(origin, name, file)
    for case, asked, places in (
        (f"{many} GETs of {bench.label(size)}", file, PLACES),
        (f"{many} GETs of a tarball of {bench.label(size)}", tarball, TARBALLS),
    ):
        digest = digest_of(asked).removeprefix("sha256:")
        path = f"/{asked.relative_to(origin.data)}"
        for server in turned(bench.has(*places), round_):
            urls = _spread(server, places[server.name], path, many)
            work = partial(_visited, origin, path, urls, asked.stat().st_size, digest)
            yield sample("R8", case, server.name, round_, server, work)
    file.unlink()
    tarball.unlink()


def _tarball(origin: Server, name: str, content: Path) -> Path:
    """A package of the file, listed by the origin; stored, so that its size is the file's."""
    place = origin.data / name / "-"
    place.mkdir(parents=True)
    target = place / f"{name}-{VERSION}.tgz"
    payloads.write_tarball(target, name, VERSION, content)
    for each in (target, *target.parents[:2]):
        each.chmod(0o755)
    upstreams.packument(origin, name, VERSION, target)
    return target


def _spread(server: Server, place: Callable[[str, str], str], path: str, many: int) -> list[str]:
    """The crowd's URLs, its clients divided among the nodes."""
    nodes = server.running
    return [place(nodes[number % len(nodes)].url, path) for number in range(many)]


def _visited(
    origin: Server, path: str, urls: list[str], size: int, digest: str
) -> dict[str, float]:
    before, sent_before = upstreams.asked(origin, path)
    values = crowd.visit(urls, size=size, sha256=digest)
    after, sent = upstreams.asked(origin, path)
    values["upstream_fetches"] = float(after - before)
    values["upstream_copies"] = (sent - sent_before) / size
    return values
