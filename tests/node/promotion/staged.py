"""A node with a staging and a release repository of one format, and what clients send to it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.directory import UserEntry
from tests.formats import test_debian, test_maven, test_npm, test_oci, test_pypi
from tests.formats.fake import multipart
from tests.node.world import Answer, World, world

MOUNTS = {"generic": "/general", "pypi": "/pypi", "npm": "/npm", "docker": "/v2"} | {
    "maven": "/maven",
    "debian": "/debian",
}


@dataclass
class Kind:
    """One format: how a version is published, and where a reader finds it."""

    form: str
    publish: Callable[[World, str, str, str], Awaitable[Answer]]  # node, token, key, version
    version: tuple[str, str]  # package and version as people say them, for 1.0
    index: str  # path that lists the version
    listed: bytes  # what the index then holds
    file: str  # path of bytes that it serves


async def put(node: World, token: str, path: str, body: bytes, **headers: str) -> Answer:
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    return await node.ask("PUT", path, body, found, password=token)


async def pypi(node: World, token: str, key: str, version: str) -> Answer:
    data, name = test_pypi.wheel(version=version), f"demo-{version}-py3-none-any.whl"
    fields = {":action": "file_upload", "protocol_version": "1", "name": "demo"}
    body, headers = multipart({**fields, "version": version}, {"content": (name, data)})
    return await node.ask("POST", f"/pypi/{key}/legacy/", body, headers, password=token)


async def npm(node: World, token: str, key: str, version: str) -> Answer:
    body = json.dumps(test_npm.document("demo", f"{version}.0")).encode()
    return await put(node, token, f"/npm/{key}/demo", body, content_type="application/json")


async def maven(node: World, token: str, key: str, version: str) -> Answer:
    folder = f"/maven/{key}/org/example/demo/{version}/demo-{version}"
    await put(node, token, f"{folder}.jar", b"jar " + version.encode())
    return await put(node, token, f"{folder}.pom", test_maven.make_pom("demo", version))


async def debian(node: World, token: str, key: str, version: str) -> Answer:
    data = test_debian.make_deb(version=version)
    return await node.ask("POST", f"/debian/{key}/upload?dist=stable", data, password=token)


async def generic(node: World, token: str, key: str, version: str) -> Answer:
    return await put(
        node, token, f"/general/{key}/demo/{version}.bin", b"bytes " + version.encode()
    )


async def docker(node: World, token: str, key: str, version: str) -> Answer:
    layer = b"layer " + version.encode()
    for blob in (b"base layer", layer, test_oci.CONFIG):
        digest = hashlib.sha256(blob).hexdigest()
        path = f"/v2/{key}/app/blobs/uploads/?digest=sha256:{digest}"
        answer = await node.ask("POST", path, blob, password=token)
        if answer.status != 201:
            return answer
    manifest = test_oci.image(b"base layer", layer)
    kind = "application/vnd.oci.image.manifest.v1+json"
    path = f"/v2/{key}/app/manifests/{version}"
    return await put(node, token, path, manifest, content_type=kind)


KINDS = {
    each.form: each
    for each in (
        Kind(
            "pypi",
            pypi,
            ("Demo", "1.0"),
            "/simple/demo/",
            b"demo-1.0-py3-none-any.whl",
            "/simple/demo/demo-1.0-py3-none-any.whl",
        ),
        Kind("npm", npm, ("demo", "1.0.0"), "/demo", b'"1.0.0"', "/demo/-/demo-1.0.0.tgz"),
        Kind(
            "maven",
            maven,
            ("org.example:demo", "1.0"),
            "/org/example/demo/maven-metadata.xml",
            b"<version>1.0</version>",
            "/org/example/demo/1.0/demo-1.0.jar",
        ),
        Kind(
            "debian",
            debian,
            ("demo", "1.0"),
            "/dists/stable/main/binary-amd64/Packages",
            b"Version: 1.0\n",
            "/pool/main/d/demo/demo_1.0_amd64.deb",
        ),
        Kind("generic", generic, ("demo", "1.0.bin"), "/demo/", b"1.0.bin", "/demo/1.0.bin"),
        Kind(
            "docker",
            docker,
            ("app", "1.0"),
            "/app/tags/list",
            b'"1.0"',
            f"/app/blobs/sha256:{hashlib.sha256(b'layer 1.0').hexdigest()}",
        ),
    )
}


@dataclass
class Staged:
    """The node, its two repositories ``stage`` and ``rel``, and a token for each user."""

    node: World
    kind: Kind
    tokens: dict[str, str]

    async def publish(self, version: str = "1.0", user: str = "dev", key: str = "stage") -> Answer:
        return await self.kind.publish(self.node, self.tokens[user], key, version)

    async def call(self, user: str, method: str, path: str, body: object = None) -> Answer:
        data = b"" if body is None else json.dumps(body).encode()
        bearer = {"authorization": f"Bearer {self.tokens[user]}"}
        return await self.node.ask(method, f"/api/v1{path}", data, bearer)

    async def ask(self, user: str, *versions: tuple[str, str], **more: Any) -> Answer:
        packages = [{"package": p, "version": v} for p, v in versions or (self.kind.version,)]
        body = {"target_repository": "rel", "packages": packages, **more}
        return await self.call(user, "POST", "/promotion/repositories/stage/promote", body)

    async def rules(self, **rules: Any) -> None:
        answer = await self.call("admin", "PUT", "/promotion/repositories/rel/rules", rules)
        assert answer.status == 200, answer.body

    async def get(self, path: str, key: str = "rel") -> Answer:
        mount = MOUNTS[self.kind.form]
        secret = self.tokens["admin"]
        header = base64.b64encode(f"u:{secret}".encode()).decode()
        return await self.node.ask(
            "GET", f"{mount}/{key}{path}", headers={"authorization": f"Basic {header}"}
        )

    async def listed(self, key: str = "rel") -> bool:
        return self.kind.listed in (await self.get(self.kind.index, key)).body


@asynccontextmanager
async def staged(folder: Path, form: str = "pypi", **options: Any) -> AsyncGenerator[Staged]:
    """``dev`` may publish to staging; ``lead`` and ``chief`` also to the release repository."""
    async with world(folder) as node:
        for key, kind in (("stage", "staging"), ("rel", "local")):
            body = {"key": key, "format": form, "repo_type": kind, **options}
            made = await node.api("POST", "/repositories", body)
            assert made.status == 201, made.body
        core, tokens = node.core, {"admin": node.token}
        for name, keys in (("dev", ["stage"]), ("lead", ["stage", "rel"]), ("chief", ["rel"])):
            fact = await core.accounts.user_fact(UserEntry(username=name), "a long enough secret")
            await core.ledger.append([fact], actor="t")
            for key in (*keys, *([] if "stage" in keys else ["stage"])):
                actions = ["read", "write", "delete"] if key in keys else ["read"]
                grant = {"principal": name, "repository": key, "actions": actions}
                made = await node.api("POST", "/permissions", {"principal_type": "user", **grant})
                assert made.status == 201, made.body
            if name == "dev":
                grant = {"principal": name, "repository": "rel", "actions": ["read"]}
                await node.api("POST", "/permissions", {"principal_type": "user", **grant})
            tokens[name], _ = await core.accounts.create_token(name, "t", ["*"], actor="t")
        yield Staged(node, KINDS[form], tokens)
