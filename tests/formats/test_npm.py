"""npm, end to end over the in-memory repository, as its clients speak."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from typing import Any
from urllib.parse import quote

import pytest
import semantic_version
from hypothesis import given
from hypothesis import strategies as st

from formats.contract import Principal
from formats.npm import FORMAT
from formats.npm.names import check_name, check_tag, check_version, precedence
from formats.npm.packument import ABBREVIATED_TYPE, highest
from store.errors import NameInvalidError
from tests.formats.fake import FakeRepository, Result, perform

INDEXES = (
    "/demo",
    "/@acme%2fthing",
    "/demo/1.10.0",
    "/-/package/demo/dist-tags",
    "/-/v1/search?text=&size=10",
)


def tarball(package: dict[str, object] | bytes, extra: dict[str, bytes] | None = None) -> bytes:
    """A tarball as npm packs it."""
    out = io.BytesIO()
    inside = package if isinstance(package, bytes) else json.dumps(package).encode()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, data in {"package/package.json": inside, **(extra or {})}.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue(), mtime=0)


def integrity(data: bytes) -> str:
    return f"sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}"


def document(
    name: str = "demo",
    version: str = "1.0.0",
    *,
    tag: str = "latest",
    data: bytes | None = None,
    **more: Any,
) -> dict[str, Any]:
    """What ``npm publish`` sends."""
    package = {"name": name, "version": version, **more}
    data = tarball(package) if data is None else data
    manifest = {
        **package,
        "_id": f"{name}@{version}",
        "readme": f"The readme of {version}",
        "dist": {
            "integrity": integrity(data),
            "shasum": hashlib.sha1(data).hexdigest(),
            "tarball": f"http://elsewhere.test/{name}/-/{name}-{version}.tgz",
            "unknown": [1, {"kept": None}],
        },
    }
    return {
        "_id": name,
        "name": name,
        "dist-tags": {tag: version},
        "versions": {version: manifest},
        "access": None,
        "_attachments": {
            f"{name}-{version}.tgz": {
                "content_type": "application/octet-stream",
                "data": base64.b64encode(data).decode(),
                "length": len(data),
            }
        },
    }


async def put(repository: FakeRepository, target: str, body: Any, **headers: str) -> Result:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await perform(FORMAT, "PUT", target, repository, body=data, headers=headers)


async def publish(repository: FakeRepository, *args: str, **more: Any) -> Result:
    body = document(*args, **more)
    return await put(repository, f"/{quote(body['name'], safe='@')}", body)


async def get(repository: FakeRepository, target: str, *, short: bool = False) -> Result:
    headers = {"accept": f"{ABBREVIATED_TYPE}; q=1.0, */*"} if short else {}
    return await perform(FORMAT, "GET", target, repository, headers=headers)


async def packument(repository: FakeRepository, name: str = "demo", *, short: bool = False) -> Any:
    answer = await get(repository, f"/{name}", short=short)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


async def sample(repository: FakeRepository) -> None:
    """For the contract tests."""
    for version in ("1.0.0", "1.10.0", "1.9.0", "2.0.0-rc.1"):
        tag = "next" if "-" in version else "latest"
        more = {"dependencies": {"left": "^1"}, "description": "A demo", "keywords": ["x"]}
        assert (await publish(repository, "demo", version, tag=tag, **more)).status == 201
    assert (await publish(repository, "@acme/thing", "0.1.0")).status == 201
    full = await packument(repository)
    full["versions"]["1.9.0"]["deprecated"] = "do not"
    assert (await put(repository, "/demo", full)).status == 201


# --- publish and read ---------------------------------------------------------------------------
async def test_what_is_published_can_be_installed() -> None:
    repository = FakeRepository()
    data = tarball({"name": "demo", "version": "1.0.0", "bin": "x.js"}, {"package/x.js": b"1;"})
    answer = await publish(
        repository, data=data, bin="x.js", scripts={"install": "x"}, os=["linux"], private_field=[1]
    )
    assert answer.status == 201, answer.body
    assert json.loads(answer.body)["ok"] is True
    short = await packument(repository, short=True)
    assert set(short) == {"name", "modified", "dist-tags", "versions"}
    assert short["dist-tags"] == {"latest": "1.0.0"}
    manifest = short["versions"]["1.0.0"]
    assert manifest["hasInstallScript"] is True
    assert manifest["os"] == ["linux"]
    assert "private_field" not in manifest
    dist = manifest["dist"]
    assert dist["tarball"] == "http://registry.test/npm/repo/demo/-/demo-1.0.0.tgz"
    assert dist["integrity"] == integrity(data)
    assert dist["shasum"] == hashlib.sha1(data).hexdigest()
    assert dist["unknown"] == [1, {"kept": None}]
    assert (dist["fileCount"], dist["unpackedSize"]) == (2, 53)
    got = await get(repository, "/demo/-/demo-1.0.0.tgz")
    assert got.body == data
    assert got.response.immutable


async def test_the_full_packument_keeps_what_was_sent() -> None:
    repository = FakeRepository()
    await publish(repository, private_field=[1], description="words", license="MIT")
    await publish(repository, "demo", "1.1.0", description="more words")
    full = await packument(repository)
    assert full["versions"]["1.0.0"]["private_field"] == [1]
    assert full["versions"]["1.0.0"]["_id"] == "demo@1.0.0"
    assert full["description"] == "more words"
    assert full["readme"] == "The readme of 1.1.0"
    assert "readme" not in full["versions"]["1.0.0"]
    assert full["time"]["created"] == full["time"]["1.0.0"] == "2023-11-14T22:13:21.000Z"
    assert full["time"]["modified"] == full["time"]["1.1.0"] == "2023-11-14T22:13:22.000Z"
    assert full["_rev"]
    one = json.loads((await get(repository, "/demo/1.0.0")).body)
    assert one == full["versions"]["1.0.0"]
    assert json.loads((await get(repository, "/demo/latest")).body)["version"] == "1.1.0"
    for missing in ("/demo/7.0.0", "/demo/none", "/none", "/none/latest", "/demo/-/x.tgz"):
        answer = await get(repository, missing)
        assert answer.status == 404
        assert json.loads(answer.body)["error"]


async def test_large_manifests_and_readmes_are_kept() -> None:
    repository = FakeRepository()
    body = document(dependencies={f"package-{n}": "^1.0.0" for n in range(1000)})
    body["versions"]["1.0.0"]["readme"] = "ü€😀" * 200_000
    assert (await put(repository, "/demo", body)).status == 201
    assert len((await packument(repository))["versions"]["1.0.0"]["dependencies"]) == 1000
    short = await packument(repository, short=True)
    assert len(short["versions"]["1.0.0"]["dependencies"]) == 1000


@pytest.mark.parametrize("target", ["/@acme%2fthing", "/@acme%2Fthing", "/@acme/thing"])
async def test_scoped_names_in_every_spelling(target: str) -> None:
    repository = FakeRepository()
    body = document("@acme/thing")
    assert (await put(repository, target, body)).status == 201
    found = json.loads((await get(repository, target, short=True)).body)
    url = found["versions"]["1.0.0"]["dist"]["tarball"]
    assert url.endswith("/@acme/thing/-/thing-1.0.0.tgz")
    data = base64.b64decode(next(iter(body["_attachments"].values()))["data"])
    for place in ("thing-1.0.0.tgz", "@acme/thing-1.0.0.tgz"):
        assert (await get(repository, f"{target}/-/{place}")).body == data
    assert (await get(repository, f"{target}/-/@other/thing-1.0.0.tgz")).status == 404
    assert json.loads((await get(repository, f"{target}/1.0.0")).body)["name"] == "@acme/thing"


async def test_the_same_tarball_again_is_fine_another_is_not() -> None:
    repository = FakeRepository()
    await publish(repository)
    revision = repository.revision
    assert (await publish(repository)).status == 201
    assert repository.revision == revision
    other = tarball({"name": "demo", "version": "1.0.0"}, {"package/new": b""})
    answer = await publish(repository, data=other)
    assert answer.status == 409
    assert "1.0.0" in json.loads(answer.body)["error"]


async def test_a_repeated_publish_does_not_move_a_tag_back() -> None:
    repository = FakeRepository()
    await publish(repository)
    await publish(repository, "demo", "1.1.0")
    assert (await publish(repository)).status == 201
    assert (await packument(repository))["dist-tags"] == {"latest": "1.1.0"}
    assert (await publish(repository, tag="beta")).status == 201
    assert (await packument(repository))["dist-tags"] == {"beta": "1.0.0", "latest": "1.1.0"}


async def test_latest_is_by_precedence_when_nobody_set_it() -> None:
    repository = FakeRepository()
    for version in ("1.10.0", "1.9.0", "2.0.0-rc.1"):
        await publish(repository, "demo", version, tag="other")
    assert (await packument(repository))["dist-tags"]["latest"] == "1.10.0"
    assert list((await packument(repository))["versions"]) == ["1.9.0", "1.10.0", "2.0.0-rc.1"]


def broken(change: str) -> dict[str, Any]:
    body = document()
    manifest = body["versions"]["1.0.0"]
    [attachment] = body["_attachments"].values()
    match change:
        case "name":
            body["name"] = "other"
        case "id":
            body["_id"] = "other"
        case "manifest name":
            manifest["name"] = "other"
        case "manifest version":
            manifest["version"] = "1.0.1"
        case "version":
            body = document(version="1.0")
        case "zeros":
            body = document(version="1.0.0-01")
        case "integrity":
            manifest["dist"]["integrity"] = integrity(b"other")
        case "shasum":
            manifest["dist"]["shasum"] = "0" * 40
        case "malformed integrity":
            manifest["dist"]["integrity"] = "sha512-x y"
        case "malformed shasum":
            manifest["dist"]["shasum"] = 1
        case "impossible integrity":
            manifest["dist"]["integrity"] = "sha512-A==="
        case "manifest":
            body["versions"]["1.0.0"] = {"name": 1}
        case "length":
            attachment["length"] += 1
        case "base64":
            attachment["data"] = "!" + attachment["data"][1:]
        case "padding":
            attachment["data"] = attachment["data"][:5]
        case "tag elsewhere":
            body["dist-tags"] = {"latest": "2.0.0"}
        case "tag a range":
            body["dist-tags"] = {"1.x": "1.0.0"}
        case "tag a path":
            body["dist-tags"] = {"a/b": "1.0.0"}
        case "two versions":
            body["versions"]["1.0.1"] = manifest
        case "two tarballs":
            body["_attachments"]["b.tgz"] = attachment
        case "types":
            body["versions"] = [manifest]
        case "inner name":
            body = document(data=tarball({"name": "other", "version": "1.0.0"}))
        case "inner version":
            body = document(data=tarball({"name": "demo", "version": "1.0.1"}))
        case "inner json":
            body = document(data=tarball(b"{"))
        case "no package.json":
            body = document(data=gzip.compress(b"\0" * 1024))
        case "two package.json":
            extra = {"other/package.json": b"{}"}
            body = document(data=tarball({"name": "demo", "version": "1.0.0"}, extra))
        case "not a tarball":
            body = document(data=b"nothing like it")
        case "traversal":
            extra = {"package/../../evil": b""}
            body = document(data=tarball({"name": "demo", "version": "1.0.0"}, extra))
    return body


BREAKS = [
    "name",
    "id",
    "manifest name",
    "manifest version",
    "version",
    "zeros",
    "integrity",
    "shasum",
    "malformed integrity",
    "malformed shasum",
    "length",
    "base64",
    "padding",
    "tag elsewhere",
    "tag a range",
    "tag a path",
    "two versions",
    "two tarballs",
    "types",
    "inner name",
    "inner version",
    "inner json",
    "no package.json",
    "two package.json",
    "not a tarball",
    "traversal",
]


@pytest.mark.parametrize("change", BREAKS)
async def test_a_publish_that_does_not_hold_together_is_refused(change: str) -> None:
    repository = FakeRepository()
    answer = await put(repository, "/demo", broken(change))
    assert answer.status == 400, answer.body
    assert json.loads(answer.body)["error"]
    assert not repository.files
    assert not repository.tags


@pytest.mark.parametrize("name", ["Demo", ".demo", "_demo", "de mo", "a" * 215, "node_modules"])
async def test_bad_names_are_refused(name: str) -> None:
    body = document(name)
    answer = await put(FakeRepository(), f"/{quote(name)}", body)
    assert answer.status in {400, 404}
    with pytest.raises(NameInvalidError):
        check_name(name)


async def test_differences_from_the_tarball_become_findings() -> None:
    repository = FakeRepository()
    data = tarball({"name": "demo", "version": "1.0.0", "scripts": {"install": "evil"}})
    await publish(repository, data=data, scripts={"install": "nice"}, dependencies={"a": "1"})
    [stored] = await repository.metadata([await repository.artifact("demo/-/demo-1.0.0.tgz")])
    assert json.loads(stored)["findings"] == ["dependencies", "scripts"]


async def test_a_shrinkwrap_is_told() -> None:
    repository = FakeRepository()
    extra = {"package/npm-shrinkwrap.json": b"{}"}
    await publish(repository, data=tarball({"name": "demo", "version": "v1.0.0"}, extra))
    short = await packument(repository, short=True)
    assert short["versions"]["1.0.0"]["_hasShrinkwrap"] is True


# --- changing -----------------------------------------------------------------------------------
async def test_deprecating_and_taking_it_back() -> None:
    repository = FakeRepository()
    await sample(repository)
    short = (await packument(repository, short=True))["versions"]
    assert short["1.9.0"]["deprecated"] == "do not"
    assert "deprecated" not in short["1.10.0"]
    full = json.loads((await get(repository, "/demo?write=true")).body)
    full["versions"]["1.9.0"]["deprecated"] = ""
    full["versions"]["1.0.0"]["deprecated"] = "old"
    assert (await put(repository, "/demo", full)).status == 201
    versions = (await packument(repository))["versions"]
    assert "deprecated" not in versions["1.9.0"]
    assert versions["1.0.0"]["deprecated"] == "old"
    revision = repository.revision
    assert (await put(repository, "/demo", await packument(repository))).status == 201
    assert repository.revision == revision
    assert (await put(repository, "/demo", full)).status == 409  # its _rev is stale
    assert (await put(repository, "/none", full | {"name": "none", "_id": "none"})).status == 404


async def test_a_version_may_be_published_deprecated() -> None:
    repository = FakeRepository()
    body = document()
    body["versions"]["1.0.0"]["deprecated"] = "from the start"
    await put(repository, "/demo", body)
    assert (await packument(repository))["versions"]["1.0.0"]["deprecated"] == "from the start"


async def test_stars_and_owners() -> None:
    repository = FakeRepository()
    await publish(repository, maintainers=[{"name": "first"}])
    full = await packument(repository)
    assert full["maintainers"] == [{"name": "first"}]
    star = {"_id": "demo", "_rev": full["_rev"], "users": {"alice": True, "bob": False}}
    assert (await put(repository, "/demo", star)).status == 201
    full = await packument(repository)
    assert full["users"] == {"alice": True}
    owners = {"_id": "demo", "_rev": full["_rev"], "maintainers": [{"name": "bob", "email": "b@x"}]}
    assert (await put(repository, f"/demo/-rev/{full['_rev']}", owners)).status == 201
    full = await packument(repository)
    assert full["maintainers"] == [{"email": "b@x", "name": "bob"}]
    assert list(full["versions"]) == ["1.0.0"]
    bad = {"_id": "demo", "maintainers": "nobody"}
    assert (await put(repository, "/demo", bad)).status == 400


async def test_unpublishing_one_version_as_npm_does() -> None:
    repository = FakeRepository()
    await sample(repository)
    full = json.loads((await get(repository, "/demo?write=true")).body)
    del full["versions"]["1.10.0"]
    full["dist-tags"]["latest"] = "1.9.0"
    path = f"/demo/-rev/{full['_rev']}"
    assert (await put(repository, path, full)).status == 201
    assert (await put(repository, path, full)).status == 409
    after = json.loads((await get(repository, "/demo?write=true")).body)
    assert list(after["versions"]) == ["1.0.0", "1.9.0", "2.0.0-rc.1"]
    assert after["dist-tags"]["latest"] == "1.9.0"
    gone = f"/demo/-/demo-1.10.0.tgz/-rev/{after['_rev']}"
    assert (await perform(FORMAT, "DELETE", gone, repository)).status == 200
    assert (await get(repository, "/demo/-/demo-1.10.0.tgz")).status == 404
    again = await publish(
        repository, "demo", "1.10.0", data=tarball({"name": "demo", "version": "1.10.0", "x": 1})
    )
    assert again.status == 409, "an unpublished version stays taken"


async def test_unpublishing_by_tarball_and_everything() -> None:
    repository = FakeRepository()
    await sample(repository)
    rev = (await packument(repository))["_rev"]
    stale = await perform(FORMAT, "DELETE", "/demo/-/demo-1.0.0.tgz/-rev/1-x", repository)
    assert stale.status == 409
    one = await perform(FORMAT, "DELETE", f"/demo/-/demo-1.0.0.tgz/-rev/{rev}", repository)
    assert one.status == 200
    assert "1.0.0" not in (await packument(repository))["versions"]
    assert (await perform(FORMAT, "DELETE", "/demo/-rev/1-x", repository)).status == 409
    rev = (await packument(repository))["_rev"]
    assert (await perform(FORMAT, "DELETE", f"/demo/-rev/{rev}", repository)).status == 200
    assert (await get(repository, "/demo")).status == 404
    assert [path for path in repository.files if path.startswith("demo/")] == []
    assert json.loads((await get(repository, "/-/v1/search?text=demo")).body)["objects"] == []


async def test_dist_tags() -> None:
    repository = FakeRepository()
    await sample(repository)
    base = "/-/package/demo/dist-tags"
    assert json.loads((await get(repository, base)).body) == {
        "latest": "1.9.0",
        "next": "2.0.0-rc.1",
    }
    assert (await put(repository, f"{base}/old", b'"1.0.0"')).status == 201
    answer = await perform(FORMAT, "POST", f"{base}/latest", repository, body=b'"1.10.0"')
    assert answer.status == 201
    assert json.loads((await get(repository, base)).body)["latest"] == "1.10.0"
    assert (await packument(repository, short=True))["dist-tags"]["old"] == "1.0.0"
    assert (await perform(FORMAT, "DELETE", f"{base}/old", repository)).status == 200
    assert (await perform(FORMAT, "DELETE", f"{base}/old", repository)).status == 404
    assert (await perform(FORMAT, "DELETE", f"{base}/latest", repository)).status == 400
    assert (await put(repository, f"{base}/old", b'"7.0.0"')).status == 404
    assert (await put(repository, f"{base}/old", b"1.0.0")).status == 400
    assert (await put(repository, f"{base}/%5E1", b'"1.0.0"')).status == 400
    assert (await get(repository, "/-/package/none/dist-tags")).status == 404
    scoped = "/-/package/@acme%2fthing/dist-tags"
    assert (await put(repository, f"{scoped}/tested", b'"0.1.0"')).status == 201
    found = await get(repository, "/-/package/@acme/thing/dist-tags")
    assert json.loads(found.body) == {"latest": "0.1.0", "tested": "0.1.0"}


# --- search, accounts, audits -------------------------------------------------------------------
async def test_search() -> None:
    repository = FakeRepository()
    await sample(repository)

    async def search(query: str) -> list[str]:
        found = json.loads((await get(repository, f"/-/v1/search?{query}")).body)
        assert found["total"] >= len(found["objects"])
        return [each["package"]["name"] for each in found["objects"]]

    assert await search("text=") == ["@acme/thing", "demo"]
    assert await search("text=DEM") == ["demo"]
    assert await search("text=scope:acme") == ["@acme/thing"]
    assert await search("text=scope:acme%20HIN") == ["@acme/thing"]
    assert await search("text=scope:acme%20demo") == []
    assert await search("text=&size=1&from=1") == ["demo"]
    assert (await get(repository, "/-/v1/search?size=x")).status == 400
    body = json.loads((await get(repository, "/-/v1/search?text=demo")).body)
    shown = body["objects"][0]["package"]
    assert (shown["version"], shown["description"]) == ("1.9.0", "A demo")
    assert shown["keywords"] == ["x"]


async def test_logging_in_and_out() -> None:
    repository = FakeRepository()
    user = "/-/user/org.couchdb.user:alice"
    good = {"name": "alice", "password": "secret", "type": "user"}
    answer = await put(repository, user, good)
    assert answer.status == 201
    token = json.loads(answer.body)["token"]
    assert (await put(repository, user, good | {"password": "no"})).status == 401
    assert (await put(repository, user, good | {"name": "bob"})).status == 400
    assert (await put(repository, user, b"[]")).status == 400
    assert json.loads((await get(repository, user)).body)["name"] == "alice"
    assert json.loads((await get(repository, "/-/user/org.couchdb.user:bob")).body)["name"] == "bob"
    assert (await get(repository, "/-/user/bob")).status == 404
    out = await perform(FORMAT, "DELETE", f"/-/user/token/{token}", repository)
    assert out.status == 200
    assert (await perform(FORMAT, "POST", "/-/v1/login", repository)).status == 404


async def test_tokens_and_identity() -> None:
    repository, nobody = FakeRepository(), Principal()
    assert json.loads((await get(repository, "/-/whoami")).body) == {"username": "alice"}
    assert json.loads((await get(repository, "/-/npm/v1/user")).body)["name"] == "alice"
    for target in ("/-/whoami", "/-/npm/v1/user"):
        assert (await perform(FORMAT, "GET", target, repository, principal=nobody)).status == 401
    path = "/-/npm/v1/tokens"
    made = await perform(FORMAT, "POST", path, repository, body=b'{"password": "secret"}')
    token = json.loads(made.body)["token"]
    narrow = b'{"password": "secret", "readonly": true}'
    assert (await perform(FORMAT, "POST", path, repository, body=narrow)).status == 400
    assert (await perform(FORMAT, "POST", path, repository, body=b"{}")).status == 400
    assert (await perform(FORMAT, "DELETE", f"{path}/token/{token}", repository)).status == 204


async def test_pings_keys_and_audits_are_answered() -> None:
    repository = FakeRepository()
    assert json.loads((await get(repository, "/-/ping")).body) == {}
    assert json.loads((await get(repository, "/-/npm/v1/keys")).body) == {"keys": []}
    bulk = "/-/npm/v1/security/advisories/bulk"
    answer = await perform(FORMAT, "POST", bulk, repository, body=gzip.compress(b"{}"))
    assert json.loads(answer.body) == {}
    quick = await perform(FORMAT, "POST", "/-/npm/v1/security/audits/quick", repository, body=b"{}")
    assert json.loads(quick.body)["advisories"] == {}


# --- attestations -------------------------------------------------------------------------------
def bundle(data: bytes, name: str = "demo", **change: Any) -> dict[str, Any]:
    subject = {
        "name": f"pkg:npm/{quote(name, safe='/')}@1.0.0",
        "digest": {"sha512": hashlib.sha512(data).hexdigest()},
    }
    statement = {"predicateType": "https://slsa.dev/provenance/v1", "subject": [subject]}
    payload = base64.b64encode(json.dumps(statement | change).encode()).decode()
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {},
        "dsseEnvelope": {
            "payload": payload,
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": "x"}],
        },
    }


@pytest.mark.parametrize("name", ["demo", "@acme/thing"])
async def test_sigstore_bundles_are_kept_and_served(name: str) -> None:
    repository = FakeRepository()
    data = tarball({"name": name, "version": "1.0.0"})
    body = document(name, data=data)
    sent = bundle(data, name)
    body["_attachments"][f"{name}-1.0.0.sigstore"] = {"data": json.dumps(sent), "length": 1}
    assert (await put(repository, f"/{name}", body)).status == 201
    dist = (await packument(repository, name))["versions"]["1.0.0"]["dist"]
    assert dist["attestations"]["provenance"]["predicateType"] == "https://slsa.dev/provenance/v1"
    place = dist["attestations"]["url"].removeprefix("http://registry.test/npm/repo")
    [found] = json.loads((await get(repository, place)).body)["attestations"]
    assert found["bundle"] == sent
    assert (await get(repository, f"/-/npm/v1/attestations/{name}@2.0.0")).status == 404
    assert (await get(repository, "/-/npm/v1/attestations/demo")).status == 404


@pytest.mark.parametrize(
    "sent", [{}, {"mediaType": 1}, bundle(b"other"), bundle(b"", subject=[]), "text"]
)
async def test_sigstore_bundles_that_do_not_hold_are_refused(sent: object) -> None:
    repository, body = FakeRepository(), document()
    body["_attachments"]["demo-1.0.0.sigstore"] = {"data": json.dumps(sent)}
    assert (await put(repository, "/demo", body)).status == 400
    assert not repository.files


async def test_two_bundles_or_unsigned_ones_are_refused() -> None:
    data = tarball({"name": "demo", "version": "1.0.0"})
    unsigned, foreign = bundle(data), bundle(data)
    unsigned["dsseEnvelope"]["signatures"] = []
    foreign["dsseEnvelope"]["payload"] = "é"
    for texts in ([bundle(data)] * 2, [unsigned], [foreign]):
        body = document(data=data)
        for number, sent in enumerate(texts):
            body["_attachments"][f"{number}.sigstore"] = {"data": json.dumps(sent)}
        assert (await put(FakeRepository(), "/demo", body)).status == 400


async def test_the_least_a_publish_can_hold() -> None:
    repository, body = FakeRepository(), document()
    manifest = body["versions"]["1.0.0"]
    for field in ("dist", "readme"):
        del manifest[field]
    manifest["deprecated"] = True
    assert (await put(repository, "/demo", body)).status == 201
    found = (await packument(repository))["versions"]["1.0.0"]
    assert found["deprecated"] == "this version is deprecated"
    assert found["dist"]["integrity"]
    assert (await packument(repository))["readme"] == ""


async def test_links_and_folders_in_tarballs_do_not_count() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind in (("package", tarfile.DIRTYPE), ("package/l", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "package.json"
            archive.addfile(info)
        data = b'{"name":"demo","version":"1.0.0"}'
        info = tarfile.TarInfo("package/package.json")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    repository = FakeRepository()
    assert (await publish(repository, data=gzip.compress(out.getvalue()))).status == 201
    assert (await packument(repository))["versions"]["1.0.0"]["dist"]["fileCount"] == 1


async def test_names_that_cannot_be_packages_are_unknown() -> None:
    repository = FakeRepository()
    for target in ("/-", "/a%2fb", "/@%2fb", "/@a%2f", "/@a%2fb%2fc", f"/{'a' * 215}", "/a/b/c"):
        assert (await get(repository, target)).status == 404, target
    assert (await get(repository, "/demo/-/package.json")).status == 404


async def test_a_document_cannot_retag_what_goes_or_bring_versions_in() -> None:
    repository = FakeRepository()
    await sample(repository)
    full = await packument(repository)
    full["versions"]["9.9.9"] = full["versions"]["1.0.0"]
    del full["versions"]["2.0.0-rc.1"]
    full["dist-tags"] = {"latest": "1.0.0", "next": "2.0.0-rc.1", "new": "9.9.9"}
    assert (await put(repository, f"/demo/-rev/{full['_rev']}", full)).status == 201
    after = await packument(repository)
    assert after["dist-tags"] == {"latest": "1.0.0"}
    assert list(after["versions"]) == ["1.0.0", "1.9.0", "1.10.0"]


async def test_owners_are_bounded() -> None:
    repository = FakeRepository()
    await publish(repository)
    crowd = {"_id": "demo", "maintainers": [{"name": "x" * 70_000}]}
    assert (await put(repository, "/demo", crowd)).status == 400


async def test_a_package_with_only_tags_left_is_not_found() -> None:
    repository = FakeRepository()
    await sample(repository)
    for path in [path for path in repository.files if path.startswith("demo/")]:
        del repository.files[path]
    assert json.loads((await get(repository, "/-/v1/search?text=demo")).body)["objects"] == []
    assert (await get(repository, "/demo")).status == 404
    answer = await perform(FORMAT, "DELETE", "/demo/-rev/1-x", repository)
    assert answer.status == 404


async def test_search_shows_who_maintains() -> None:
    repository = FakeRepository()
    await publish(repository, maintainers=[{"name": "ann", "email": "a@x"}, "odd"])
    [found] = json.loads((await get(repository, "/-/v1/search?text=demo")).body)["objects"]
    assert found["package"]["publisher"] == {"username": "ann", "email": "a@x"}


# --- names and order ----------------------------------------------------------------------------
IDENTIFIER = st.one_of(st.integers(0, 30).map(str), st.sampled_from(["a", "b", "rc", "x-y", "0a"]))
VERSIONS = st.builds(
    lambda core, pre: ".".join(map(str, core)) + (f"-{'.'.join(pre)}" if pre else ""),
    st.tuples(*[st.integers(0, 12)] * 3),
    st.lists(IDENTIFIER, max_size=3),
)


@given(st.lists(VERSIONS, min_size=1, max_size=12))
def test_versions_sort_by_precedence(versions: list[str]) -> None:
    for each in versions:
        assert check_version(each) == each
    found = sorted(versions, key=precedence)
    parsed = [semantic_version.Version(each) for each in found]
    assert parsed == sorted(parsed)
    assert semantic_version.Version(highest(versions)) == max(
        (semantic_version.Version(each) for each in versions), key=lambda v: (not v.prerelease, v)
    )


@given(st.text("0123456789.-+ab", max_size=12))
def test_what_is_a_version_is_what_the_library_says(text: str) -> None:
    try:
        semantic_version.Version(text)
    except ValueError:
        with pytest.raises(NameInvalidError):
            check_version(text)
    else:
        assert check_version(text) == text


@pytest.mark.parametrize("tag", ["latest", "next", "beta-1", "vnext", "release_2"])
def test_good_tags(tag: str) -> None:
    assert check_tag(tag) == tag


@pytest.mark.parametrize(
    "tag", ["1", "1.x", "v1.0.0", "^1", ">=1", "*", "x", "", "a b", "a/b", ":u"]
)
def test_bad_tags(tag: str) -> None:
    with pytest.raises(NameInvalidError):
        check_tag(tag)
