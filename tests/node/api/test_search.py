"""Searching over the API: what it answers, and that it tells nobody of what one may not read."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from tests.node.search.support import npm
from tests.node.world import World, world

PLACES = (
    "/search/advanced?q=pads",
    "/search/advanced?q=pads&versions=all",
    "/search/advanced?q=repository:secrets",
    "/search/advanced?repository=secrets",
    "/search/advanced?q=file:hidden",
    "/search/quick?q=hidden",
    "/search/suggest?prefix=hid",
    "/search/recent",
    f"/search/checksum?sha1={'1' * 39}7",
    f"/search/advanced?q={'1' * 39}7",
)


def login(name: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:correct horse".encode()).decode()}


async def get(node: World, path: str, headers: dict[str, str] | None = None) -> Any:
    answer = await node.ask("GET", f"/api/v1{path}", headers=headers)
    assert answer.status == 200, answer.body
    return answer.json


async def secretive(node: World) -> None:
    """A private repository beside a public one, and two users of whom one may read it."""
    await node.api("POST", "/repositories", {"key": "secrets", "format": "npm", "is_public": False})
    for name in ("insider", "outsider"):
        user = {"username": name, "password": "correct horse"}
        assert (await node.api("POST", "/users", user)).status == 201
    grant = {
        "principal_type": "user",
        "principal": "insider",
        "repository": "secrets",
        "actions": ["read"],
    }
    assert (await node.api("POST", "/permissions", grant)).status in {200, 201}
    await npm(node, "hidden", "7.0.0", "secrets", description="Pads secrets", license="Proprietary")
    await npm(node, "left-pad", "1.0.0", description="Pads strings", license="MIT")


async def test_private_repositories_leak_neither_hits_nor_counts(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await secretive(node)
        for place in PLACES:
            for headers in (None, login("outsider")):
                found = await get(node, place, headers)
                assert "hidden" not in str(found).replace("hidden_", ""), place
                assert "secrets" not in str(found), place
                assert "Proprietary" not in str(found), place
            insider = str(await get(node, place, login("insider")))
            assert "hidden" in insider, place
        outside = await get(node, PLACES[0], login("outsider"))
        assert (outside["total"], outside["exact"]) == (1, True)
        assert outside["facets"]["repository"] == {"npm": 1}
        inside = await get(node, PLACES[0], login("insider"))
        assert inside["facets"]["license"] == {"MIT": 1, "Proprietary": 1}


async def test_it_finds_by_words_and_digests_in_pages(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        for number in range(5):
            await npm(node, f"package-{number}", "1.0.0", keywords=["many"])
        first = await get(node, "/search/advanced?q=many&limit=2")
        rest = await get(node, "/search/advanced?q=many&limit=100&offset=2")
        names = [each["package"] for each in [*first["items"], *rest["items"]]]
        assert sorted(names) == [f"package-{n}" for n in range(5)]
        assert (first["total"], first["engine"]) == (5, "local")
        assert first["items"][0]["keywords"] == ["many"]
        url = first["items"][0]["url"].partition("/api/v1")[2]
        assert (await get(node, url))["name"] == names[0]
        for algorithm, value in (("sha1", "1" * 39 + "1"), ("sha512", "5" * 127 + "1")):
            found = await get(node, f"/search/checksum?{algorithm}={value.upper()}")
            assert len(found["items"]) == 5
        asked = await get(node, f"/search/advanced?q=sha1:{'1' * 40}&limit=2")
        assert (len(asked["items"]), asked["total"], len(asked["files"])) == (2, 5, 2)
        assert (await get(node, "/search/suggest?prefix=pack&limit=3"))["suggestions"] == sorted(
            names
        )[:3] or len(names) == 5
        assert (await get(node, "/search/suggest"))["suggestions"] == []
        assert len((await get(node, "/search/recent?limit=3"))["items"]) == 3
        for bad in (
            "/search/advanced?q=" + "x" * 1001,
            "/search/checksum?md5=0",
            "/search/recent?limit=x",
        ):
            assert (await node.ask("GET", f"/api/v1{bad}")).status == 400
        for odd in (
            '"',
            "%22NEAR(%22",
            "*",
            "a%00b",
            "'; DROP TABLE x --",
            "%F0%9F%92%A9",
            "^a AND b",
        ):
            assert (await node.ask("GET", f"/api/v1/search/advanced?q={odd}")).status == 200


async def test_only_administrators_rebuild(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        assert (await node.ask("POST", "/api/v1/admin/reindex")).status == 401
        assert (await node.ask("GET", "/api/v1/admin/search")).status == 401
        answer = await node.api("POST", "/admin/reindex")
        assert (answer.status, answer.json["rebuilding"]) == (202, True)
        await get(node, "/search/recent")
        assert (await node.api("GET", "/admin/search")).json["rebuilding"] is False
