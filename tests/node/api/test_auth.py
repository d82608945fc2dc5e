"""How far tokens reach over the management API: never further than what made them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from node.directory import TokenEntry
from tests.node.world import PASSWORD, Answer, World, world

PULL = "/v2/token?scope=repository:docker/x:pull"


async def ask(node: World, token: str, method: str, path: str, body: object = None) -> Answer:
    data = b"" if body is None else json.dumps(body).encode()
    return await node.ask(method, path, data, {"authorization": f"Bearer {token}"})


async def make_token(node: World, user: str, scopes: list[str], **more: Any) -> tuple[str, str]:
    secret, entry = await node.core.accounts.create_token(user, "t", scopes, actor="admin", **more)
    return secret, entry.id


async def test_an_administrators_narrow_token_sees_and_revokes_nobody_elses(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        made = await node.api("POST", "/users", {"username": "bob", "password": "bob's password"})
        assert made.status == 201
        narrow, _ = await make_token(node, "admin", ["write"])
        _, bobs = await make_token(node, "bob", ["read"])
        place = f"/api/v1/auth/tokens/{bobs}"
        listed = (await ask(node, narrow, "GET", "/api/v1/auth/tokens")).json["items"]
        assert {each["username"] for each in listed} == {"admin"}
        assert (await ask(node, narrow, "DELETE", place)).status == 404
        everything = (await ask(node, node.token, "GET", "/api/v1/auth/tokens")).json["items"]
        assert {each["username"] for each in everything} == {"admin", "bob"}
        assert (await ask(node, node.token, "DELETE", place)).status == 204


async def test_a_narrow_token_revokes_no_wider_one(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        narrow, own = await make_token(node, "admin", ["write"])
        _, wide = await make_token(node, "admin", ["write", "delete"])
        refused = await ask(node, narrow, "DELETE", f"/api/v1/auth/tokens/{wide}")
        assert refused.status == 403
        assert node.core.directory.get(TokenEntry, wide) is not None
        allowed = await ask(node, narrow, "DELETE", f"/api/v1/auth/tokens/{own}")
        assert allowed.status == 204


@pytest.mark.parametrize(("days", "ends"), [(None, 5), (1, 1), (3000, 5)])
async def test_a_token_makes_none_that_outlives_it(
    tmp_path: Path, days: int | None, ends: int
) -> None:
    async with world(tmp_path) as node:
        now = time.time()
        secret, _ = await make_token(node, "admin", ["write"], expires_at=now + 5 * 86400)
        body = {"name": "n", "scopes": ["read"], "expires_in_days": days}
        made = (await ask(node, secret, "POST", "/api/v1/auth/tokens", body)).json
        assert made["expires_at"] == pytest.approx(now + ends * 86400, abs=60)


async def test_a_registry_token_of_a_repository_called_refresh_is_no_refresh_token(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as node:
        made = await node.api("POST", "/repositories", {"key": "refresh", "format": "docker"})
        assert made.status == 201
        narrow = await ask(node, node.token, "GET", "/v2/token?scope=repository:refresh/x:pull")
        body = json.dumps({"refresh_token": narrow.json["token"]}).encode()
        answer = await node.ask("POST", "/api/v1/auth/refresh", body)
        assert answer.status == 401


async def test_refreshing_goes_on_beyond_the_first_refresh_tokens_life(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        body = json.dumps({"username": "admin", "password": PASSWORD}).encode()
        token = (await node.ask("POST", "/api/v1/auth/login", body)).json["refresh_token"]
        body = json.dumps({"refresh_token": token}).encode()
        answer = await node.ask("POST", "/api/v1/auth/refresh", body)
        assert (answer.status, answer.json["expires_in"]) == (200, 1800)


@pytest.mark.parametrize(
    "body",
    [b'{"username":"\xed\xa0\x80","password":"x"}', b'{"username":"\\ud800","password":"x"}'],
)
async def test_a_body_that_is_not_unicode_is_refused(tmp_path: Path, body: bytes) -> None:
    async with world(tmp_path) as node:
        answer = await node.ask("POST", "/api/v1/auth/login", body)
        assert (answer.status, answer.json["code"]) == (400, "REJECTED")


@pytest.mark.parametrize("number", ["9" * 5000, "%D9%A1", "-1", ""])
async def test_numbers_of_a_query_are_short_and_plain(tmp_path: Path, number: str) -> None:
    async with world(tmp_path) as node:
        answer = await ask(node, node.token, "GET", f"/api/v1/repositories?page={number}")
        assert answer.status == 400


async def test_a_content_range_beyond_all_bounds_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        body = {"repository_key": "generic", "artifact_path": "a/b"}
        made = (await ask(node, node.token, "POST", "/api/v1/uploads", body)).json
        headers = {
            "authorization": f"Bearer {node.token}",
            "content-range": f"bytes 0-{'9' * 5000}/1",
        }
        path = f"/api/v1/uploads/{made['session_id']}"
        assert (await node.ask("PATCH", path, b"abcd", headers)).status == 416


async def test_strangers_send_small_bodies_only(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        pieces = [b" " * (32 << 10)] * 4
        answer = await node.ask("POST", "/api/v1/auth/login", pieces)
        assert answer.status == 413
