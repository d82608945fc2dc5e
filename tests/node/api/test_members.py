"""Changes of the mesh over the API: by owners, on record, refused in words."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from store import root
from store.drafts import Desk
from tests.node.world import World, world
from tests.store.ledgers import identity

TWO, THREE = identity(2), identity(3)


async def grow(node: World) -> None:
    """Sign two more members in."""
    for who, name in ((TWO, "two"), (THREE, "three")):
        entry = root.member_of(who, roles=("writer",), name=name, joined=time.time())
        await node.core.ledger.council.propose(partial(Desk.add, member=entry))


async def roots(node: World) -> Any:
    return (await node.api("GET", "/mesh/roots")).json


async def test_an_owner_changes_members_and_all_is_on_record(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await grow(node)
        changed = await node.api(
            "PATCH", "/mesh/members/two", {"roles": ["mirror"], "repositories": ["npm-*"]}
        )
        assert (changed.status, changed.json["missing"]) == (200, 0)
        assert "roles writer -> mirror" in changed.json["changes"][0]
        rule = {"repositories": "npm", "prefix": "acme-", "site": "reef"}
        assert (await node.api("PUT", "/mesh/reservations", {"items": [rule]})).status == 200
        terms = {"roles": ["mirror"], "repositories": ["npm-*"], "sites": ["*"], "limit": 3}
        path = f"/mesh/delegations/{TWO.node[:8]}"
        assert (await node.api("PUT", path, terms)).status == 200
        assert [each["limit"] for each in (await roots(node))["delegations"]] == [3]
        assert (await node.api("DELETE", path)).status == 200
        eviction = {"node": THREE.node[:12], "reason": "stolen"}
        assert (await node.api("POST", "/mesh/evictions", eviction)).status == 200
        found = await roots(node)
        assert [(e["node"], e["reason"]) for e in found["evicted"]] == [(THREE.node, "stolen")]
        assert found["reserved"] == [rule]
        actions = {e["action"] for e in (await node.api("GET", "/admin/audit")).json["items"]}
        assert {"mesh.roles", "mesh.reserve", "mesh.delegate", "mesh.withdraw"} <= actions
        assert "mesh.evict" in actions


async def test_a_second_owner_has_to_sign(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await grow(node)
        own = node.core.identity.node
        body = {"owners": [own, TWO.node], "threshold": 2}
        assert (await node.api("PUT", "/mesh/owners", body)).json["missing"] == 0
        proposed = (await node.api("POST", "/mesh/evictions", {"node": "three"})).json
        assert (proposed["missing"], proposed["signed"]) == (1, [own])
        assert proposed["others"] == [TWO.node]
        assert (await roots(node))["evicted"] == []
        place = f"/mesh/proposals/{proposed['id'][:12]}"
        document = (await node.api("GET", place)).json["document"]
        again = await node.api("POST", "/mesh/proposals", {"document": document})
        assert again.json == {"new": False}
        signed = await node.api("POST", f"{place}/signature", {})
        assert signed.json["missing"] == 1  # it had signed before
        other = await node.api("PUT", "/mesh/reservations", {"items": []})
        assert (other.status, "has signed proposal" in other.json["message"]) == (409, True)
        assert (await node.api("DELETE", place)).status == 204
        assert (await node.api("GET", place)).status == 404


async def test_a_new_key_is_in_use_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        old = node.core.identity.key
        token = node.token
        made = await node.api("POST", "/mesh/rotation", {})
        assert made.status == 200
        node.token = token
        assert node.core.identity.key.hex() == made.json["key"] != old.hex()
        assert made.json["proposal"] is None
        assert node.core.ledger.authority.newest.owners == (node.core.identity.key,)


async def test_what_cannot_be_is_refused_in_words(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await grow(node)
        own = node.core.identity.node
        for method, path, body, status, words in (
            ("POST", "/mesh/evictions", {"node": own[:12]}, 409, "only owner"),
            ("POST", "/mesh/evictions", {"node": "f" * 12}, 404, "no member"),
            ("PATCH", "/mesh/members/two", {"roles": ["king"]}, 400, "no such role"),
            ("PATCH", "/mesh/members/two", {"key": "xy"}, 400, "hexadecimal"),
            ("PUT", "/mesh/owners", {"owners": [own, "two"], "threshold": 1}, 400, "majority"),
            ("PUT", "/mesh/owners", {"owners": []}, 400, "missing"),
            ("POST", "/mesh/settlement", {}, 409, "no rival"),
            ("POST", "/mesh/proposals", {"document": "%"}, 400, "base64"),
            ("POST", "/mesh/proposals", {"document": "kA=="}, 400, "malformed"),
            ("POST", "/mesh/proposals/abc/signature", {}, 404, "no proposal"),
            ("DELETE", f"/mesh/delegations/{TWO.node}", {}, 404, "may not admit"),
        ):
            answer = await node.api(method, path, body)
            assert (answer.status, words in answer.json["message"]) == (status, True), answer.body
        assert (await node.ask("POST", "/api/v1/mesh/rotation", b"{}")).status == 401
