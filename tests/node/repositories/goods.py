"""Packages of every format: how they get into a repository or onto an upstream, and are found."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING

from formats.npm.packument import ABBREVIATED_TYPE
from formats.oci.documents import OCI_MANIFEST
from tests.formats import test_debian, test_maven, test_npm, test_oci
from tests.formats.fake import multipart
from tests.formats.test_pypi import wheel
from tests.upstreams import Upstream

if TYPE_CHECKING:
    from tests.node.repositories.virtuals import Party

VERSIONS = ("1.0.0", "1.1.0", "2.0.0", "9.0.0")
PYPI_JSON = "application/vnd.pypi.simple.v1+json"
Names = dict[str, str]  # what is downloaded, and the SHA-256 that the index tells of it


@dataclass(frozen=True)
class Goods:
    """One format: packages whose versions are of one file each, its bytes made of ``content``."""

    publish: Callable[[Party, str, str, str, bytes], Awaitable[None]]
    offer: Callable[[Upstream, str, Mapping[str, bytes]], None]
    listed: Callable[[Party, str, str], Awaitable[Names]]
    routes: Callable[[str, str], Sequence[str]]  # everything that may tell of a version
    beta: str = "beta*"  # a pattern that the package beta matches
    by_path: bool = False


def sha256(data: bytes) -> str:
    """Its digest, in hex."""
    return hashlib.sha256(data).hexdigest()


async def sent(p: Party, method: str, path: str, body: bytes, key: str, **headers: str) -> None:
    """Publish something that is taken."""
    answer = await p.ask(method, path, body, key=key, token=p.node.token, **headers)
    assert answer.status in {200, 201, 202}, answer.body


# --- pypi ---------------------------------------------------------------------------------------
def pypi_wheel(name: str, version: str, content: bytes) -> bytes:
    return wheel(name, version, extra={f"{name}/data.bin": content})


async def pypi_publish(p: Party, key: str, name: str, version: str, content: bytes) -> None:
    fields = {":action": "file_upload", "protocol_version": "1", "name": name, "version": version}
    data = pypi_wheel(name, version, content)
    files = {"content": (f"{name}-{version}-py3-none-any.whl", data)}
    body, headers = multipart(fields, files)
    await sent(p, "POST", "/legacy/", body, key, **headers)


def pypi_offer(server: Upstream, name: str, versions: Mapping[str, bytes]) -> None:
    rows = []
    for version, content in versions.items():
        data, filename = pypi_wheel(name, version, content), f"{name}-{version}-py3-none-any.whl"
        server.put(f"/files/{filename}", data)
        row = {"filename": filename, "url": f"{server.url}/files/{filename}", "yanked": False}
        rows.append({**row, "hashes": {"sha256": sha256(data)}, "size": len(data)})
    kind, meta = {"content-type": PYPI_JSON}, {"api-version": "1.1"}
    page = {"meta": meta, "name": name, "files": rows, "versions": list(versions)}
    server.put(f"/simple/{name}/", json.dumps(page).encode(), headers=kind)
    index = {"meta": meta, "projects": [{"name": name}]}
    server.put("/simple/", json.dumps(index).encode(), headers=kind)


async def pypi_listed(p: Party, name: str, token: str) -> Names:
    answer = await p.get(f"/simple/{name}/", token=token, accept=PYPI_JSON)
    if answer.status == 404:
        return {}
    files = answer.json["files"]
    return {f"/simple/{name}/{each['url']}": each["hashes"]["sha256"] for each in files}


def pypi_routes(name: str, version: str) -> Sequence[str]:
    file = f"/simple/{name}/{name}-{version}-py3-none-any.whl"
    return [
        *("/simple/", f"/simple/{name}/", file, f"{file}.metadata", f"{file}.asc"),
        *(f"/pypi/{name}/json", f"/pypi/{name}/{version}/json"),
        f"/integrity/{name}/{version}/{name}-{version}-py3-none-any.whl/provenance",
    ]


# --- generic ------------------------------------------------------------------------------------
async def generic_publish(p: Party, key: str, name: str, version: str, content: bytes) -> None:
    await sent(p, "PUT", f"/{name}/{version}.bin", content, key)


def generic_offer(server: Upstream, name: str, versions: Mapping[str, bytes]) -> None:
    for version, content in versions.items():
        server.put(f"/{name}/{version}.bin", content)


async def generic_listed(p: Party, name: str, token: str) -> Names:
    """Listings show what is kept: so everything is asked for first."""
    for version in VERSIONS:
        await p.get(f"/{name}/{version}.bin", token=token)
    answer = await p.get(f"/{name}/?list", token=token)
    if answer.status == 404:
        return {}
    return {f"/{name}/{e['name']}": e["sha256"] for e in answer.json["entries"]}


def generic_routes(name: str, version: str) -> Sequence[str]:
    file = f"/{name}/{version}.bin"
    return ["/", "/?list", f"/{name}", f"/{name}/", f"/{name}/?list", file, f"{file}?versions"]


# --- npm ----------------------------------------------------------------------------------------
async def npm_publish(p: Party, key: str, name: str, version: str, content: bytes) -> None:
    body = test_npm.document(name, version, description=content.decode())
    await sent(p, "PUT", f"/{name}", json.dumps(body).encode(), key)


def npm_offer(server: Upstream, name: str, versions: Mapping[str, bytes]) -> None:
    found: dict[str, object] = {}
    for version, content in versions.items():
        body = test_npm.document(name, version, description=content.decode())
        file = f"{name}-{version}.tgz"
        data = base64.b64decode(body["_attachments"][file]["data"])
        server.put(f"/{name}/-/{file}", data)
        found[version] = body["versions"][version]
        found[version]["dist"]["tarball"] = f"{server.url}/{name}/-/{file}"  # type: ignore[index]  # what JSON holds is known here
    packument = {"name": name, "dist-tags": {"latest": max(versions)}, "versions": found}
    kind = {"content-type": "application/json"}
    server.put(f"/{name}", json.dumps(packument).encode(), headers=kind)


async def npm_listed(p: Party, name: str, token: str) -> Names:
    answer = await p.get(f"/{name}", token=token, accept=ABBREVIATED_TYPE)
    if answer.status == 404:
        return {}
    found = {}
    tags = answer.json["dist-tags"]
    assert set(tags.values()) <= set(answer.json["versions"])
    for version, manifest in answer.json["versions"].items():
        path = f"/{name}/-/{name}-{version}.tgz"
        assert manifest["dist"]["tarball"] == f"http://node.test/npm/all{path}"
        data = (await p.get(path, token=token)).body
        assert test_npm.integrity(data) == manifest["dist"]["integrity"], (path, token)
        found[path] = sha256(data)
    return found


def npm_routes(name: str, version: str) -> Sequence[str]:
    return [
        *(f"/{name}", f"/{name}?write=true", f"/{name}/{version}", f"/{name}/latest"),
        *(f"/{name}/-/{name}-{version}.tgz", f"/-/package/{name}/dist-tags"),
        *(f"/-/v1/search?text={name}", "/-/v1/search?text=", "/-/npm/v1/keys"),
        f"/-/npm/v1/attestations/{name}@{version}",
    ]


# --- oci ----------------------------------------------------------------------------------------
async def oci_publish(p: Party, key: str, name: str, version: str, content: bytes) -> None:
    for data in (content, test_oci.CONFIG):
        path = f"/{name}/blobs/uploads/?digest={test_oci.sha256(data)}"
        await sent(p, "POST", path, data, key)
    kind = {"content-type": OCI_MANIFEST}
    await sent(p, "PUT", f"/{name}/manifests/{version}", test_oci.image(content), key, **kind)


def oci_offer(server: Upstream, name: str, versions: Mapping[str, bytes]) -> None:
    place, kind = f"/v2/{name}", {"content-type": OCI_MANIFEST}
    for version, content in versions.items():
        manifest = test_oci.image(content)
        for reference in (version, test_oci.sha256(manifest)):
            server.put(f"{place}/manifests/{reference}", manifest, headers=kind)
        for data in (content, test_oci.CONFIG):
            server.put(f"{place}/blobs/{test_oci.sha256(data)}", data)
    tags = {"name": name, "tags": sorted(versions)}
    page = server.put(f"{place}/tags/list?n=10000", json.dumps(tags).encode())
    page.headers["content-type"] = "application/json"


async def oci_listed(p: Party, name: str, token: str) -> Names:
    answer = await p.get(f"/{name}/tags/list", token=token)
    if answer.status == 404:
        return {}
    assert answer.json["name"] == f"all/{name}"
    found = {}
    for tag in answer.json["tags"]:
        head = await p.ask("HEAD", f"/{name}/manifests/{tag}", token=token)
        digest = head.headers["docker-content-digest"]
        found[f"/{name}/manifests/{tag}"] = digest.removeprefix("sha256:")
        manifest = await p.get(f"/{name}/manifests/{digest}", token=token)
        for each in manifest.json["layers"]:
            data = (await p.get(f"/{name}/blobs/{each['digest']}", token=token)).body
            assert test_oci.sha256(data) == each["digest"]
    return found


def oci_routes(name: str, version: str) -> Sequence[str]:
    secret = test_oci.sha256(b"hush")
    manifest = test_oci.sha256(test_oci.image(b"hush"))
    return [
        *(f"/{name}/tags/list", f"/{name}/tags/list?n=1", f"/{name}/manifests/{version}"),
        *(f"/{name}/manifests/{manifest}", f"/{name}/blobs/{secret}"),
        f"/{name}/referrers/{manifest}",
    ]


# --- maven --------------------------------------------------------------------------------------
def maven_files(name: str, version: str, content: bytes) -> dict[str, bytes]:
    place = f"/corp/{name}/{version}/{name}-{version}"
    pom = test_maven.make_pom(name, version, group="corp")
    return {f"{place}.jar": content, f"{place}.pom": pom}


async def maven_publish(p: Party, key: str, name: str, version: str, content: bytes) -> None:
    for path, data in maven_files(name, version, content).items():
        await sent(p, "PUT", path, data, key)


def maven_offer(server: Upstream, name: str, versions: Mapping[str, bytes]) -> None:
    for version, content in versions.items():
        for path, data in maven_files(name, version, content).items():
            server.put(path, data)
    listed = "".join(f"<version>{each}</version>" for each in versions)
    server.put(
        f"/corp/{name}/maven-metadata.xml",
        f"<metadata><groupId>corp</groupId><artifactId>{name}</artifactId><versioning>"
        f"<versions>{listed}</versions></versioning></metadata>".encode(),
        headers={"content-type": "text/xml"},
    )


async def maven_listed(p: Party, name: str, token: str) -> Names:
    path = f"/corp/{name}/maven-metadata.xml"
    answer = await p.get(path, token=token)
    if answer.status == 404:
        return {}
    sums = await p.get(f"{path}.sha1", token=token)
    assert sums.body.decode() == hashlib.sha1(answer.body).hexdigest()
    found = {}
    for version in test_maven.values(answer.body, "versioning/versions/version"):
        jar = f"/corp/{name}/{version}/{name}-{version}.jar"
        found[jar] = (await p.get(f"{jar}.sha256", token=token)).body.decode()
    return found


def maven_routes(name: str, version: str) -> Sequence[str]:
    folder = f"/corp/{name}"
    jar = f"{folder}/{version}/{name}-{version}.jar"
    return [
        *("/", "/corp/", "/corp", f"{folder}/", f"{folder}/{version}/", "/archetype-catalog.xml"),
        *(f"{folder}/maven-metadata.xml", f"{folder}/maven-metadata.xml.sha1", jar, f"{jar}.sha1"),
        *("/corp/maven-metadata.xml", f"{jar[:-3]}pom"),
    ]


# --- debian -------------------------------------------------------------------------------------
SUITE = "/dists/stable"
PACKAGES = "main/binary-amd64/Packages"
OFFERED: dict[int, dict[str, bytes]] = {}  # packages of each upstream, by their path


def deb(name: str, version: str, content: bytes) -> bytes:
    return test_debian.make_deb(name, version, files={f"usr/share/{name}": content})


async def debian_publish(p: Party, key: str, name: str, version: str, content: bytes) -> None:
    path = f"/pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb"
    await sent(p, "PUT", path, deb(name, version, content), key)


def debian_offer(server: Upstream, name: str, versions: Mapping[str, bytes]) -> None:
    offered = OFFERED.setdefault(server.port, {})
    for version, content in versions.items():
        path = f"pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb"
        offered[path] = deb(name, version, content)
        server.put(f"/{path}", offered[path])
    stanzas = []
    for path, data in offered.items():
        package, version, _ = path.rpartition("/")[2].split("_")
        stanzas.append(
            f"Package: {package}\nVersion: {version}\nArchitecture: amd64\nFilename: {path}\n"
            f"Size: {len(data)}\nSHA256: {sha256(data)}\nDescription: short\n"
        )
    packages = "\n".join(stanzas).encode()
    server.put(f"{SUITE}/{PACKAGES}", packages)
    release = (
        f"Origin: far\nSuite: stable\nDate: {formatdate(1_700_000_000, usegmt=True)}\n"
        "Architectures: amd64\nComponents: main\n"
        f"SHA256:\n {sha256(packages)} {len(packages)} {PACKAGES}\n"
    )
    server.put(f"{SUITE}/Release", release.encode(), headers={"content-type": "text/plain"})


async def debian_listed(p: Party, name: str, token: str) -> Names:
    release = await p.get(f"{SUITE}/InRelease", token=token)
    assert release.status == 200, release.body
    line = re.search(rf"([0-9a-f]{{64}}) +\d+ {PACKAGES}\n", release.body.decode())
    assert line is not None
    folder = f"{SUITE}/main/binary-amd64"
    packages = await p.get(f"{folder}/by-hash/SHA256/{line[1]}", token=token)
    assert sha256(packages.body) == line[1]
    found = {}
    for stanza in packages.body.decode().split("\n\n"):
        fields = dict(row.split(": ", 1) for row in stanza.splitlines() if re.match(r"\w+: ", row))
        if fields.get("Package") == name:
            found[f"/{fields['Filename']}"] = fields["SHA256"]
    return found


def debian_routes(name: str, version: str) -> Sequence[str]:
    file = f"pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb"
    members = [f"/members/{key}/{file}" for key in ("ours", "secret", "up")]
    suite = [f"{SUITE}/{each}" for each in ("InRelease", "Release", PACKAGES, f"{PACKAGES}.gz")]
    return [*suite, f"/{file}", *members, "/Packages", "/InRelease"]


GOODS = {
    "debian": Goods(debian_publish, debian_offer, debian_listed, debian_routes),
    "docker": Goods(oci_publish, oci_offer, oci_listed, oci_routes),
    "generic": Goods(generic_publish, generic_offer, generic_listed, generic_routes, by_path=True),
    "maven": Goods(maven_publish, maven_offer, maven_listed, maven_routes, "corp:beta"),
    "npm": Goods(npm_publish, npm_offer, npm_listed, npm_routes),
    "pypi": Goods(pypi_publish, pypi_offer, pypi_listed, pypi_routes, "B?t[a]"),
}
