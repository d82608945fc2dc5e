"""The proxy engine against a counting upstream over real sockets."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from node.config import Upstreams
from tests.node.world import World, world
from tests.upstreams import Upstream, upstream

LOOPBACK = Upstreams(allow=("127.0.0.0/8",))


@asynccontextmanager
async def proxy(folder: Path, **fields) -> AsyncGenerator[tuple[World, Upstream]]:
    """A node with a generic remote repository ``up``, and its upstream."""
    async with upstream() as server, world(folder, upstream=LOOPBACK) as node:
        await make_remote(node, server.url, **fields)
        yield node, server


async def make_remote(node: World, url: str, key: str = "up", form: str = "generic", **fields):
    body = {"key": key, "format": form, "repo_type": "remote", "upstream_url": url}
    answer = await node.api("POST", "/repositories", {**body, "is_public": True, **fields})
    assert answer.status == 201, answer.body


async def settle(node: World, **values) -> None:
    answer = await node.api("PUT", "/repositories/up/cache-ttl", values)
    assert answer.status == 200, answer.body


async def test_a_file_is_fetched_once_and_becomes_a_fact(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        data = b"bytes " * 40_000
        server.put("/a/b%20c.bin", data)
        first = await node.ask("GET", "/general/up/a/b%20c.bin")
        assert (first.status, first.body) == (200, data)
        assert first.headers["x-cache"] == "MISS"
        await node.core.engine.settled()
        second = await node.ask("GET", "/general/up/a/b%20c.bin")
        assert (second.status, second.body) == (200, data)
        assert second.headers["x-cache"] == "HIT"
        assert "age" in second.headers
        assert server.counts() == {"/a/b%20c.bin": 1}
        kept = await node.core.catalog.find("up", "a/b c.bin")
        assert kept is not None
        assert kept.digest.hex == hashlib.sha256(data).hexdigest()
        assert kept.checksums["md5"] == hashlib.md5(data).hexdigest()


async def test_two_hundred_clients_cause_one_fetch(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        data = bytes(range(256)) * 4096 * 4
        page = server.put("/big", data)
        page.gate = trio.Event()
        answers = []

        async def ask() -> None:
            answers.append(await node.ask("GET", "/general/up/big"))

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked(0.05)
            page.gate.set()
        assert server.counts() == {"/big": 1}
        assert len(answers) == 200
        assert all(each.body == data for each in answers)
