"""A node with a remote repository before a counting upstream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from node.config import Upstreams
from tests.node.world import Answer, World, world
from tests.upstreams import Upstream, upstream

LOOPBACK = Upstreams(allow=("127.0.0.0/8",))
MOUNTS = {"generic": "/general", "pypi": "/pypi", "npm": "/npm", "docker": "/v2"} | {
    "maven": "/maven",
    "debian": "/debian",
}


@asynccontextmanager
async def proxy(
    folder: Path, form: str = "generic", **fields
) -> AsyncGenerator[tuple[World, Upstream]]:
    """A node with a remote repository ``up``, and its upstream."""
    async with upstream() as server, world(folder, upstream=LOOPBACK) as node:
        await make_remote(node, server.url, form=form, **fields)
        yield node, server


async def make_remote(
    node: World, url: str, key: str = "up", form: str = "generic", **fields
) -> None:
    """Make a public remote repository."""
    body = {"key": key, "format": form, "repo_type": "remote", "upstream_url": url}
    answer = await node.api("POST", "/repositories", {**body, "is_public": True, **fields})
    assert answer.status == 201, answer.body


async def settle(node: World, **values) -> None:
    """Change the repository's cache settings."""
    answer = await node.api("PUT", "/repositories/up/cache-ttl", values)
    assert answer.status == 200, answer.body


async def distrust(node: World) -> None:
    """Have every document asked for again each time."""
    await settle(node, **{f"{name}_ttl_seconds": 0 for name in ("index", "cache", "negative")})
    await settle(node, stale_while_revalidate_seconds=0)


async def get(node: World, path: str, form: str = "generic", **headers: str) -> Answer:
    """GET a path of the repository, and wait until the fetch behind it is over."""
    answer = await node.ask("GET", f"{MOUNTS[form]}/up{path}", headers=headers)
    await node.core.engine.settled()
    return answer


def kept(node: World) -> list[Path]:
    """Temporary files that are left."""
    return [each for each in (node.core.config.path / "tmp").iterdir() if each.is_file()]
