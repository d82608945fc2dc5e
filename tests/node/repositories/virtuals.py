"""A node with a virtual repository over a public, a private and a remote member, for each format.

``ours`` is public, ``secret`` is ann's alone, ``up`` passes on a counting upstream; ``all`` asks them
in this order and publishes to ``ours``.  ``GOODS`` says for each format how a package gets into a
repository or onto the upstream, and how a client finds and gets it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.formats.fake import multipart
from tests.formats.test_pypi import wheel
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


# --- what each format's packages are ------------------------------------------------------------
Names = dict[str, str]  # what is downloaded, and the SHA-256 that the index tells of it


@dataclass(frozen=True)
class Goods:
    """One format: packages of one file, whose bytes depend on ``content``."""

    publish: Callable[[Party, str, str, str, bytes], Awaitable[None]]
    offer: Callable[[Upstream, str, Mapping[str, bytes]], None]
    listed: Callable[[Party, str, str], Awaitable[Names]]
    routes: Callable[[str, str], Sequence[str]]  # everything that may tell of a version
    downloads: Mapping[str, str] = field(default_factory=dict)


def sha256(data: bytes) -> str:
    """Its digest, in hex."""
    return hashlib.sha256(data).hexdigest()


# --- pypi ---------------------------------------------------------------------------------------
def pypi_wheel(name: str, version: str, content: bytes) -> bytes:
    return wheel(name, version, extra={f"{name}/data.bin": content})


async def pypi_publish(p: Party, key: str, name: str, version: str, content: bytes) -> None:
    fields = {":action": "file_upload", "protocol_version": "1", "name": name, "version": version}
    data = pypi_wheel(name, version, content)
    files = {"content": (f"{name}-{version}-py3-none-any.whl", data)}
    body, headers = multipart(fields, files)
    answer = await p.ask("POST", "/legacy/", body, key=key, token=p.node.token, **headers)
    assert answer.status == 200, answer.body


def pypi_offer(server: Upstream, name: str, versions: Mapping[str, bytes]) -> None:
    rows = []
    for version, content in versions.items():
        data, filename = pypi_wheel(name, version, content), f"{name}-{version}-py3-none-any.whl"
        server.put(f"/files/{filename}", data)
        row = {"filename": filename, "url": f"{server.url}/files/{filename}", "yanked": False}
        rows.append({**row, "hashes": {"sha256": sha256(data)}, "size": len(data)})
    kind = {"content-type": "application/vnd.pypi.simple.v1+json"}
    meta = {"api-version": "1.1"}
    page = {"meta": meta, "name": name, "files": rows, "versions": list(versions)}
    server.put(f"/simple/{name}/", json.dumps(page).encode(), headers=kind)
    index = {"meta": meta, "projects": [{"name": name}]}
    server.put("/simple/", json.dumps(index).encode(), headers=kind)


async def pypi_listed(p: Party, name: str, token: str) -> Names:
    accept = "application/vnd.pypi.simple.v1+json"
    answer = await p.get(f"/simple/{name}/", token=token, accept=accept)
    if answer.status == 404:
        return {}
    assert answer.status == 200, answer.body
    files = answer.json["files"]
    return {f"/simple/{name}/{each['url']}": each["hashes"]["sha256"] for each in files}


def pypi_routes(name: str, version: str) -> Sequence[str]:
    file = f"/simple/{name}/{name}-{version}-py3-none-any.whl"
    return [
        *("/simple/", f"/simple/{name}/", file, f"{file}.metadata", f"{file}.asc"),
        *(f"/pypi/{name}/json", f"/pypi/{name}/{version}/json"),
        f"/integrity/{name}/{version}/{name}-{version}-py3-none-any.whl/provenance",
    ]


GOODS = {"pypi": Goods(pypi_publish, pypi_offer, pypi_listed, pypi_routes)}
