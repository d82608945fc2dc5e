"""A node with a virtual repository over a public, a private and a remote member, for each format.

``ours`` is public, ``secret`` is ann's alone, ``up`` passes on a counting upstream; ``all`` asks them
in this order and publishes to ``ours``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.node.repositories.remotes import LOOPBACK, MOUNTS, distrust, make_remote
from tests.node.world import Answer, World, world
from tests.upstreams import Upstream, upstream

MEMBERS = ("ours", "secret", "up")


@dataclass
class Party:
    """The node, its upstream, and who asks."""

    node: World
    server: Upstream
    form: str
    ann: str  # may read the private member, and publish to both
    bob: str  # has an account, and no rights of his own

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        key: str = "all",
        token: str = "",
        **headers: str,
    ) -> Answer:
        """One request below a repository."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{MOUNTS[self.form]}/{key}{path}"
        answer = await self.node.ask(method, url, body, given, password=token or None)
        await self.node.core.engine.settled()
        return answer

    async def get(self, path: str, *, key: str = "all", token: str = "", **headers: str) -> Answer:
        """GET a path below a repository."""
        return await self.ask("GET", path, key=key, token=token, **headers)

    async def change(self, method: str, path: str, **body: object) -> Answer:
        """Change the virtual repository."""
        answer = await self.node.api(method, f"/repositories/all/{path}", body)
        assert answer.status in {200, 204}, answer.body
        return answer


@asynccontextmanager
async def party(
    folder: Path, form: str, members: Sequence[str] = MEMBERS, **fields: object
) -> AsyncGenerator[Party]:
    """Make all of it."""
    async with upstream() as server, world(folder, upstream=LOOPBACK) as node:
        await make_remote(node, server.url, form=form)
        await distrust(node)
        for key, public in (("ours", True), ("secret", False)):
            body = {"key": key, "format": form, "is_public": public}
            assert (await node.api("POST", "/repositories", body)).status == 201
        body = {"key": "all", "format": form, "repo_type": "virtual", "is_public": True}
        body["member_repos"] = [{"repo_key": each} for each in members]
        body["deploy_repo"] = "ours" if "ours" in members else ""
        made = await node.api("POST", "/repositories", {**body, **fields})
        assert made.status == 201, made.body
        tokens = []
        for name in ("ann", "bob"):
            user = {"username": name, "email": ""}
            assert (await node.api("POST", "/users", user)).status == 201
            tokens.append((await node.core.accounts.create_token(name, "t", ["*"], actor=name))[0])
        await grant(node, "ann", "secret", "read", "write", "delete")
        await grant(node, "ann", "ours", "read", "write", "delete")
        yield Party(node, server, form, *tokens)


async def grant(node: World, user: str, repository: str, *actions: str) -> None:
    """Let a user do something."""
    body = {"principal_type": "user", "principal": user, "repository": repository}
    answer = await node.api("POST", "/permissions", {**body, "actions": list(actions)})
    assert answer.status == 201, answer.body
