"""The endpoints of virtual repositories: members, their order, their rules, where publishes go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.node.world import World, world


async def make(node: World, key: str, kind: str = "local", **more: Any) -> int:
    body = {"key": key, "format": "pypi", "repo_type": kind, **more}
    return (await node.api("POST", "/repositories", body)).status


async def members(node: World) -> list[str]:
    found = (await node.api("GET", "/repositories/all/members")).json["items"]
    assert [each["priority"] for each in found] == list(range(len(found)))
    return [each["member_repo_key"] for each in found]


async def test_members_are_added_ordered_routed_and_removed(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        for key in "abc":
            assert await make(node, key) == 201
        listed = [{"repo_key": "b", "priority": 2}, {"repo_key": "a", "priority": 1}]
        assert await make(node, "all", "virtual", member_repos=listed, deploy_repo="a") == 201
        assert await members(node) == ["a", "b"]
        path = "/repositories/all/members"
        added = await node.api("POST", path, {"member_key": "c", "priority": 0})
        assert added.status == 200
        assert await members(node) == ["c", "a", "b"]
        assert (await node.api("POST", path, {"member_key": "c"})).status == 409
        order = [{"member_key": key, "priority": n} for n, key in enumerate("bca")]
        assert (await node.api("PUT", path, {"members": order})).status == 200
        assert await members(node) == ["b", "c", "a"]
        assert (await node.api("PUT", path, {"members": order[:2]})).status == 400
        routed = await node.api("PUT", f"{path}/c", {"allow": ["x*"], "deny": ["xy"]})
        assert routed.json["items"][1]["allow"] == ["x*"]
        assert routed.json["items"][1]["deny"] == ["xy"]
        assert (await node.api("PUT", f"{path}/c", {"allow": ["no good"]})).status == 400
        assert (await node.api("PUT", f"{path}/z", {})).status == 404
        assert (await node.api("DELETE", f"{path}/a")).status == 204
        assert (await node.api("DELETE", f"{path}/a")).status == 404
        assert (await node.api("GET", "/repositories/all/virtual")).json["deploy_repo"] == ""
        assert (await node.api("DELETE", f"{path}/b")).status == 204
        assert (await node.api("DELETE", f"{path}/c")).status == 400


async def test_what_a_virtual_repository_is_told(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        assert await make(node, "a") == 201
        assert await make(node, "all", "virtual", member_repos=[{"repo_key": "a"}]) == 201
        path = "/repositories/all/virtual"
        changes = {"deploy_repo": "a", "reserved": ["corp-*"], "unguarded": ["corp-open"]}
        changed = await node.api("PUT", path, changes)
        assert changed.json == {**changes, "guard": True, "guard_for": "everybody"}
        only = await node.api("PUT", path, {"guard_for": "readers"})
        assert only.json == {**changes, "guard": True, "guard_for": "readers"}
        assert (await node.api("PUT", path, {"guard_for": "some"})).status == 400
        assert (await node.api("PUT", path, {"guard": False})).json["guard"] is False
        assert (await node.api("GET", path)).json == {
            **changes,
            "guard": False,
            "guard_for": "readers",
        }
        assert (await node.api("PUT", path, {"deploy_repo": "b"})).status == 400
        assert (await node.api("GET", "/repositories/a/virtual")).status == 404


async def test_what_is_refused_at_creation(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        assert await make(node, "a") == 201
        assert await make(node, "all", "virtual") == 400
        assert await make(node, "all", "virtual", member_repos=[{"repo_key": "all"}]) == 409
        assert await make(node, "all", "virtual", member_repos=[{"repo_key": "npm"}]) == 400
        assert await make(node, "b", member_repos=[{"repo_key": "a"}]) == 400
        assert await make(node, "in", "virtual", member_repos=[{"repo_key": "a"}]) == 201
        assert await make(node, "all", "virtual", member_repos=[{"repo_key": "in"}]) == 201
        circle = await node.api("POST", "/repositories/in/members", {"member_key": "all"})
        assert circle.status == 409


async def test_members_are_shown_to_those_who_may_read_them(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        assert await make(node, "a", is_public=True) == 201
        assert await make(node, "hidden") == 201
        listed = [{"repo_key": "hidden"}, {"repo_key": "a"}]
        made = await make(node, "all", "virtual", member_repos=listed, is_public=True)
        assert made == 201
        seen = await node.ask("GET", "/api/v1/repositories/all/members")
        assert [each["member_repo_key"] for each in seen.json["items"]] == ["a"]
        assert b"hidden" not in seen.body
        refused = await node.ask("GET", "/api/v1/repositories/all/virtual")
        assert refused.status == 401
