"""Remote repositories through the API: made, changed, and shown without their secrets."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from node.api import upstreams
from node.config import Upstreams
from store.errors import UnavailableError
from tests.node.world import World, world
from tests.upstreams import upstream

ALLOWED = Upstreams(allow=("127.0.0.0/8",))
REMOTE = {"key": "up", "format": "generic", "repo_type": "remote"}
PASSWORD = "swordfish-4711"


async def make(node: World, url: str, **fields) -> None:
    answer = await node.api("POST", "/repositories", {**REMOTE, "upstream_url": url, **fields})
    assert answer.status == 201, answer.body


async def test_a_remote_repository_needs_an_upstream_that_makes_sense(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        for bad in ("", "ftp://x/", "https://u:p@x/", "https://x/?token=1", "x"):
            answer = await node.api("POST", "/repositories", {**REMOTE, "upstream_url": bad})
            assert answer.status == 400, bad
        local = {"key": "l", "format": "generic", "upstream_url": "https://x.test/"}
        assert (await node.api("POST", "/repositories", local)).status == 400
        await make(node, "https://x.test/")
        shown = (await node.api("GET", "/repositories/up")).json
        assert (shown["repo_type"], shown["upstream_url"]) == ("remote", "https://x.test/")
        headers = {"authorization": f"Bearer {node.token}"}
        assert (await node.ask("PUT", "/general/up/x", b"1", headers)).status == 405
        assert (await node.api("GET", "/repositories/generic/cache")).status == 400


async def test_secrets_are_sealed_and_never_shown(tmp_path: Path) -> None:
    async with upstream() as server, world(tmp_path, upstream=ALLOWED) as node:
        server.put("/x", b"data")
        auth = {"upstream_auth_type": "basic", "upstream_username": "u"}
        await make(node, server.url, **auth, upstream_password=PASSWORD)
        headers = {"headers": {"X-Api-Key": PASSWORD}}
        answers = [
            await node.api("PUT", "/repositories/up/upstream-headers", headers),
            await node.api("GET", "/repositories/up"),
            await node.api("GET", "/repositories"),
            await node.api("GET", "/repositories/up/upstream-auth"),
            await node.api("GET", "/repositories/up/cache"),
        ]
        assert all(each.status == 200 for each in answers)
        assert not any(PASSWORD.encode() in each.body for each in answers)
        assert answers[3].json == {"auth_type": "basic", "username": "u", "has_password": True}
        await node.core.ledger.heads()
        for row in await node.core.catalog.settings("upstream-secret"):
            assert PASSWORD.encode() not in row.value
        given = {"authorization": f"Bearer {node.token}"}
        assert (await node.ask("GET", "/general/up/x", headers=given)).body == b"data"
        expected = "Basic " + base64.b64encode(f"u:{PASSWORD}".encode()).decode()
        assert server.asked[-1].headers["authorization"] == expected
        assert server.asked[-1].headers["x-api-key"] == PASSWORD
        assert (await node.api("DELETE", "/repositories/up/upstream-auth")).status == 204
        await node.ask("GET", "/general/up/other", headers=given)
        assert "authorization" not in server.asked[-1].headers


async def test_another_upstream_does_not_get_the_old_ones_password(tmp_path: Path) -> None:
    async with upstream() as server, world(tmp_path, upstream=ALLOWED) as node:
        auth = {"upstream_auth_type": "basic", "upstream_username": "u"}
        await make(node, "https://old.test/", **auth, upstream_password=PASSWORD, is_public=True)
        moved = await node.api("PATCH", "/repositories/up", {"upstream_url": server.url})
        assert moved.status == 200
        await node.ask("GET", "/general/up/x")
        assert "authorization" not in server.asked[-1].headers


async def test_cache_settings_are_judged(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await make(node, "https://x.test/")
        changed = {"index_ttl_seconds": 5, "immutable_patterns": ["releases/*"], "offline": True}
        answer = await node.api("PUT", "/repositories/up/cache-ttl", changed)
        assert answer.status == 200
        assert answer.json["index_ttl_seconds"] == 5
        shown = (await node.api("GET", "/repositories/up/cache-ttl")).json
        assert (shown["immutable_patterns"], shown["offline"]) == (["releases/*"], True)
        for bad in ({"index_ttl_seconds": -1}, {"timeout_seconds": 0}, {"connections_max": 0}):
            assert (await node.api("PUT", "/repositories/up/cache-ttl", bad)).status == 400
        many = {"mutable_patterns": ["x"] * (upstreams.PATTERNS_MAX + 1)}
        assert (await node.api("PUT", "/repositories/up/cache-ttl", many)).status == 400


async def test_an_upstream_can_be_tried(tmp_path: Path) -> None:
    async with upstream() as server, world(tmp_path, upstream=ALLOWED) as node:
        await make(node, server.url)
        found = (await node.api("POST", "/repositories/up/test-upstream")).json
        assert (found["reachable"], found["status"]) == (True, 404)
        server.refuse = True
        found = (await node.api("POST", "/repositories/up/test-upstream")).json
        assert found["reachable"] is False
        view = (await node.api("GET", "/repositories/up/cache")).json
        assert view["circuit"] == "closed"


async def test_a_deleted_repository_leaves_no_secret(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        auth = {"upstream_auth_type": "bearer", "upstream_password": PASSWORD}
        await make(node, "https://x.test/", **auth)
        vault = node.core.engine.parts.vault
        assert (await vault.open("up")).password == PASSWORD
        assert (await node.api("DELETE", "/repositories/up")).status == 204
        assert (await vault.open("up")).password == ""


async def test_credentials_sealed_to_others_are_not_replaced_by_none(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await make(node, "https://x.test/", upstream_auth_type="bearer", upstream_password="x")
        safe = node.core.engine.parts.vault._safe
        keys, safe._sealer = safe._sealer, type("", (), {"node": "ff" * 32})()
        with pytest.raises(UnavailableError):
            await node.core.engine.parts.vault.open("up")
        safe._sealer = keys
        assert await node.core.engine.parts.vault.share() == 0
