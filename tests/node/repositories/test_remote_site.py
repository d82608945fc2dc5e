"""Three real nodes of one site before one counting upstream: one of them asks, all can serve."""

from __future__ import annotations

import hashlib
import json
import random
import time
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.conformance.nodes import NodeProcess
from tests.upstreams import Upstream, upstream

pytestmark = [pytest.mark.slow, pytest.mark.serial]
BODY = random.Random(7).randbytes(16 << 20)
CLIENTS = 60


def fetch(url: str) -> str:
    """The SHA-256 of what a client gets."""
    with urllib.request.urlopen(url, timeout=120) as answer:
        digest = hashlib.sha256()
        while data := answer.read(1 << 20):
            digest.update(data)
        return digest.hexdigest()


def make_remote(node: NodeProcess, url: str, token: str) -> None:
    options = ["up", "--format", "generic", "--public", "--type", "remote", "--upstream", url]
    node.command("repo", "create", "--data", str(node.data), *options)
    body = json.dumps({"cache_ttl_seconds": 3600}).encode()
    request = urllib.request.Request(
        f"{node.url}/api/v1/repositories/up/cache-ttl",
        data=body,
        method="PUT",
        headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=30).close()


@asynccontextmanager
async def site(folder: Path) -> AsyncGenerator[tuple[list[NodeProcess], Upstream]]:
    """Three linked nodes that know one remote repository."""
    allow = {"ATOLL_UPSTREAM_ALLOW": "127.0.0.0/8"}
    nodes: list[NodeProcess] = []

    async def start(name: str, arguments: list[str]) -> NodeProcess:
        node = NodeProcess(folder / name, arguments=arguments, environment=allow)
        nodes.append(node)
        return await trio.to_thread.run_sync(node.start)

    try:
        async with upstream() as server:
            a = await start("a", [])
            for name in ("b", "c"):
                invitation = await trio.to_thread.run_sync(a.invitation)
                await start(name, ["--join", invitation])
            token = await trio.to_thread.run_sync(a.token, "admin")
            await trio.to_thread.run_sync(make_remote, a, server.url, token)
            await trio.to_thread.run_sync(partial(linked, nodes))
            yield nodes, server
    finally:
        for node in reversed(nodes):
            node.kill()


def linked(nodes: list[NodeProcess]) -> None:
    """Wait until every node knows the repository, and is linked with the others."""

    deadline = time.monotonic() + 60
    for node in nodes:
        while time.monotonic() < deadline:
            said = node.command("mesh", "peers", "--data", str(node.data), "--json")
            known = node.command("repo", "list", "--data", str(node.data), "--json")
            ready = [each for each in json.loads(said)["items"] if each["state"] == "up"]
            if len(ready) == 2 and '"up"' in known:
                break
            time.sleep(0.2)
        else:
            raise AssertionError(said)


async def test_one_node_of_a_site_asks_for_all(tmp_path: Path) -> None:
    async with site(tmp_path) as (nodes, server):
        server.put("/big", BODY)
        expected, found = hashlib.sha256(BODY).hexdigest(), []

        async def client(number: int) -> None:
            url = f"{nodes[number % 3].url}/general/up/big"
            found.append(await trio.to_thread.run_sync(fetch, url, limiter=limiter))

        limiter = trio.CapacityLimiter(CLIENTS)
        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(client, number)
        assert found == [expected] * CLIENTS
        assert server.counts() == {"/big": 1}


async def test_a_neighbour_that_dies_amid_its_errand_is_replaced(tmp_path: Path) -> None:
    async with site(tmp_path) as (nodes, server):
        gate = trio.Event()
        for number in range(9):  # some of which fall to each
            server.put(f"/f{number}", b"%d" % number * 1000, gate=gate)
        results: list[str] = []

        async def client(number: int) -> None:
            url = f"{nodes[0].url}/general/up/f{number}"
            results.append(await trio.to_thread.run_sync(fetch, url))

        async with trio.open_nursery() as nursery:
            for number in range(9):
                nursery.start_soon(client, number)
            with trio.fail_after(30):
                while len(server.asked) < 9:  # noqa: ASYNC110  nothing tells
                    await trio.sleep(0.1)
            nodes[1].kill()
            nodes[2].kill()
            await trio.sleep(1)
            gate.set()
        wanted = {hashlib.sha256(b"%d" % number * 1000).hexdigest() for number in range(9)}
        assert set(results) == wanted
