"""Who may see a conflict, page through many, and decide one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.node.api.test_app import disputed
from tests.node.world import World, world


async def member(node: World) -> dict[str, str]:
    """A user without rights of its own, as a header."""
    body = {"username": "ann", "password": "long enough"}
    assert (await node.api("POST", "/users", body)).status == 201
    login = {"username": "ann", "password": "long enough"}
    token = (await node.api("POST", "/auth/login", login)).json["access_token"]
    return {"authorization": f"Bearer {token}"}


async def test_a_private_repository_s_conflicts_are_its_readers_alone(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await node.api("POST", "/repositories", {"key": "secret", "format": "generic"})
        ann = await member(node)

        async def get(path: str) -> Any:
            return await node.ask("GET", f"/api/v1{path}", b"", ann)

        for key in ("secret", "generic"):
            _, digest = await disputed(node, key, "a/b")
        counts = (await get("/conflicts")).json["items"]
        assert [each["repository_key"] for each in counts] == ["generic"]
        for page in ("conflicts", "conflicts/tags", "pending"):
            assert (await get(f"/repositories/generic/{page}")).status == 200
            assert (await get(f"/repositories/secret/{page}")).status in {403, 404}
        assert (await get(f"/repositories/secret/download/a/b?digest={digest}")).status != 200
        decision = f'{{"path": "a/b", "digest": "{digest}"}}'.encode()
        place = "/api/v1/repositories/generic/conflicts/resolve"
        assert (await node.ask("POST", place, decision, ann)).status == 403
        assert (await node.ask("GET", "/api/v1/conflicts")).status == 401
        still = (await node.api("GET", "/conflicts")).json["items"]
        assert [each["files"] for each in still] == [1, 1]


async def test_pages_follow_each_other(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        paths = [f"c/{name}" for name in "dabc"]
        for path in paths:
            await disputed(node, "generic", path)
        seen: list[str] = []
        after: str | None = ""
        while after is not None:
            place = f"/repositories/generic/conflicts?limit=3&after={after}"
            found = (await node.api("GET", place)).json
            seen += [each["path"] for each in found["items"]]
            after = found["next"]
        assert seen == sorted(paths)
        tags = (await node.api("GET", "/repositories/generic/conflicts/tags?limit=1")).json
        assert (len(tags["items"]), tags["next"]) == (1, None)
