"""OCI: pushes, pulls, sessions, referrers, tokens, over an in-memory repository."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.contract import Principal, Publish, Request, Response
from formats.oci import FORMAT, documents, removal
from formats.oci.errors import challenge
from formats.oci.roots import read_scopes
from store import facts
from store.errors import ManifestInvalidError, UnauthorizedError
from tests.formats.fake import FakeRegistry, FakeRepository, Result, perform, perform_root

INDEXES = ("/team/app/tags/list", f"/team/app/referrers/sha256:{'0' * 64}", "/base/tags/list")
LAYER, CONFIG = b"layer bytes", b'{"architecture":"amd64","os":"linux"}'


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def sha512(data: bytes) -> str:
    return f"sha512:{hashlib.sha512(data).hexdigest()}"


def descriptor(
    data: bytes, media_type: str = "application/octet-stream", **extra: object
) -> dict[str, object]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **extra}


def image(*layers: bytes, config: bytes = CONFIG, **extra: object) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": documents.OCI_MANIFEST,
        "config": descriptor(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(each) for each in layers],
        **extra,
    }
    return json.dumps(document).encode()


async def push_blob(repository: FakeRepository, name: str, data: bytes) -> Result:
    return await perform(
        FORMAT, "POST", f"/{name}/blobs/uploads/?digest={sha256(data)}", repository, body=data
    )


async def push(
    repository: FakeRepository, name: str, reference: str, data: bytes, media_type: str = ""
) -> Result:
    headers = {"content-type": media_type or documents.OCI_MANIFEST}
    target = f"/{name}/manifests/{reference}"
    return await perform(FORMAT, "PUT", target, repository, body=data, headers=headers)


async def push_image(repository: FakeRepository, name: str, tag: str, *layers: bytes) -> bytes:
    for data in (*layers, CONFIG):
        await push_blob(repository, name, data)
    manifest = image(*layers)
    assert (await push(repository, name, tag, manifest)).status == 201
    return manifest


async def get(repository: FakeRepository, target: str) -> Result:
    return await perform(FORMAT, "GET", target, repository)


def code(result: Result) -> str:
    return str(json.loads(result.body)["errors"][0]["code"])


async def sample(repository: FakeRepository) -> None:
    for tag in ("v2", "v10", "latest"):
        await push_image(repository, "team/app", tag, LAYER, tag.encode())
    await push_image(repository, "base", "1", LAYER)
    for number in range(3):
        subject = {"mediaType": documents.OCI_MANIFEST, "digest": f"sha256:{'0' * 64}", "size": 3}
        note = image(artifactType="text/x-note", subject=subject, annotations={"n": str(number)})
        assert (await push(repository, "team/app", sha256(note), note)).status == 201


# --- blobs and sessions -------------------------------------------------------------------------
async def test_a_blob_can_be_read_before_any_manifest_names_it() -> None:
    repository = FakeRepository()
    stored = await push_blob(repository, "app", LAYER)
    assert stored.status == 201
    assert stored.headers["location"] == f"/oci/repo/app/blobs/{sha256(LAYER)}"
    found = await get(repository, f"/app/blobs/{sha256(LAYER)}")
    assert (found.status, found.body) == (200, LAYER)
    assert found.headers["docker-content-digest"] == sha256(LAYER)
    other = await get(repository, f"/other/blobs/{sha256(LAYER)}")
    assert (other.status, code(other)) == (404, "BLOB_UNKNOWN")
    assert repository.revision == 0, "staged blobs are not facts"


async def test_a_chunked_upload_must_be_in_order() -> None:
    repository = FakeRepository()
    started = await perform(FORMAT, "POST", "/app/blobs/uploads/", repository)
    assert (started.status, started.headers["range"]) == (202, "0-0")
    session = started.headers["location"].removeprefix("/oci/repo")

    async def patch(data: bytes, at: str) -> Result:
        headers = {"content-range": at, "content-length": str(len(data))}
        return await perform(FORMAT, "PATCH", session, repository, body=data, headers=headers)

    assert (await patch(LAYER[:5], "3-7")).status == 416
    first = await patch(LAYER[:5], "0-4")
    assert (first.status, first.headers["range"]) == (202, "0-4")
    repeated = await patch(LAYER[:5], "0-4")
    assert (repeated.status, code(repeated)) == (416, "BLOB_UPLOAD_INVALID")
    assert (await patch(LAYER[5:8], "5-8")).status == 416, "the length must be what the range says"
    assert (await patch(LAYER[5:8], "five")).status == 416
    status = await get(repository, session)
    assert (status.status, status.headers["range"]) == (204, "0-4")
    assert (await patch(LAYER[5:8], "bytes 5-7/*")).status == 202
    done = await perform(
        FORMAT, "PUT", f"{session}?digest={sha256(LAYER)}", repository, body=LAYER[8:]
    )
    assert done.status == 201
    assert (await get(repository, f"/app/blobs/{sha256(LAYER)}")).body == LAYER
    assert code(await get(repository, session)) == "BLOB_UPLOAD_UNKNOWN"


async def test_a_finish_that_does_not_match_leaves_the_session() -> None:
    repository = FakeRepository()
    started = await perform(FORMAT, "POST", "/app/blobs/uploads/", repository)
    session = started.headers["location"].removeprefix("/oci/repo")
    await perform(FORMAT, "PATCH", session, repository, body=LAYER)
    for query in (f"?digest={sha256(b'x')}", "", "?digest=sha256:12", "?digest=md5:ab"):
        refused = await perform(FORMAT, "PUT", session + query, repository)
        assert (refused.status, code(refused)) == (400, "DIGEST_INVALID")
    elsewhere = session.replace("/app/", "/other/")
    assert (await perform(FORMAT, "PATCH", elsewhere, repository, body=b"x")).status == 404
    assert (await get(repository, session)).headers["range"] == f"0-{len(LAYER) - 1}"
    assert (await perform(FORMAT, "DELETE", session, repository)).status == 204
    assert (await perform(FORMAT, "DELETE", session, repository)).status == 404


async def test_a_wrong_digest_of_any_kind_leaves_the_session_as_it_was() -> None:
    repository = FakeRepository()
    started = await perform(FORMAT, "POST", "/app/blobs/uploads/", repository)
    session = started.headers["location"].removeprefix("/oci/repo")
    await perform(FORMAT, "PATCH", session, repository, body=LAYER)
    for wrong in (sha256(b"?"), sha512(b"?")):
        refused = await perform(FORMAT, "PUT", f"{session}?digest={wrong}", repository)
        assert (refused.status, code(refused)) == (400, "DIGEST_INVALID")
        assert (await get(repository, session)).status == 204
    stored = await perform(FORMAT, "PUT", f"{session}?digest={sha512(LAYER)}", repository)
    assert stored.status == 201


async def test_sha512_blobs_and_manifests() -> None:
    repository = FakeRepository()
    target = "/app/blobs/uploads/?digest-algorithm=sha512&digest="
    stored = await perform(FORMAT, "POST", target + sha512(LAYER), repository, body=LAYER)
    assert stored.headers["docker-content-digest"] == sha512(LAYER)
    wrong = await perform(FORMAT, "POST", target + sha512(b"?"), repository, body=LAYER)
    assert (wrong.status, code(wrong)) == (400, "DIGEST_INVALID")
    manifest = image().replace(
        b'"layers": []',
        b'"layers": [' + json.dumps({**descriptor(LAYER), "digest": sha512(LAYER)}).encode() + b"]",
    )
    await push_blob(repository, "app", CONFIG)
    pushed = await push(repository, "app", f"{sha512(manifest)}?tag=a&tag=b", manifest)
    assert pushed.status == 201
    assert [value for name, value in pushed.response.headers if name == "oci-tag"] == ["a", "b"]
    for reference in (sha512(manifest), "a", "b"):
        found = await get(repository, f"/app/manifests/{reference}")
        assert found.body == manifest
        assert found.headers["docker-content-digest"] == sha512(manifest)
    assert (await get(repository, f"/app/blobs/{sha512(LAYER)}")).body == LAYER
    bad = await perform(FORMAT, "POST", "/app/blobs/uploads/?digest-algorithm=md5", repository)
    assert (bad.status, code(bad)) == (400, "UNSUPPORTED")


async def test_mounting() -> None:
    repository = FakeRepository()
    await push_image(repository, "base", "1", LAYER)
    start = f"/app/blobs/uploads/?mount={sha256(LAYER)}"
    for query in ("&from=repo/base", ""):
        mounted = await perform(FORMAT, "POST", start + query, repository)
        assert mounted.status == 201
        assert (await get(repository, f"/app/blobs/{sha256(LAYER)}")).body == LAYER
        await repository.unstage("app", sha256(LAYER))
    for query in ("&from=repo/none", "&from=secret/base", "&from=x"):
        opened = await perform(FORMAT, "POST", start + query, repository)
        assert opened.status == 202
        assert "/blobs/uploads/" in opened.headers["location"]


async def test_the_empty_blob() -> None:
    repository = FakeRepository()
    assert (await push_blob(repository, "app", b"")).status == 201
    found = await get(repository, f"/app/blobs/{sha256(b'')}")
    assert (found.status, found.body) == (200, b"")


# --- manifests ----------------------------------------------------------------------------------
async def test_a_push_is_one_publish_with_everything_the_manifest_names() -> None:
    repository = FakeRepository()
    manifest = await push_image(repository, "team/app", "v1", LAYER)
    assert repository.revision == 1
    assert {(each.path, each.role) for each in repository.files.values()} == {
        (f"team/app/manifests/{sha256(manifest)}", "manifest"),
        (f"team/app/blobs/{sha256(CONFIG)}", "config"),
        (f"team/app/blobs/{sha256(LAYER)}", "layer"),
    }
    assert not await repository.staged("team/app"), "what was published no longer waits"
    for reference in ("v1", sha256(manifest)):
        found = await get(repository, f"/team/app/manifests/{reference}")
        assert found.body == manifest
        assert found.headers["content-type"] == documents.OCI_MANIFEST
        assert found.headers["docker-content-digest"] == sha256(manifest)
        assert found.response.immutable is (reference != "v1")
    again = await push(repository, "team/app", "v1", manifest)
    assert (again.status, repository.revision) == (201, 1)


async def test_what_is_missing_or_wrong_is_refused() -> None:
    repository = FakeRepository()
    await push_blob(repository, "app", CONFIG)
    absent = await push(repository, "app", "v1", image(LAYER))
    assert (absent.status, code(absent)) == (404, "MANIFEST_BLOB_UNKNOWN")
    index = {"schemaVersion": 2, "manifests": [descriptor(b"child")]}
    child = await push(repository, "app", "v1", json.dumps(index).encode(), documents.OCI_INDEX)
    assert (child.status, code(child)) == (404, "MANIFEST_BLOB_UNKNOWN")
    size = image().replace(f'"size": {len(CONFIG)}'.encode(), b'"size": 1')
    assert code(await push(repository, "app", "v1", size)) == "MANIFEST_INVALID"
    other = await push(repository, "app", sha256(b"else"), image())
    assert (other.status, code(other)) == (400, "DIGEST_INVALID")
    for reference in ("-x", "a" * 129):
        assert code(await push(repository, "app", reference, image())) == "NAME_INVALID"
    assert code(await push(repository, "App", "v1", image())) == "NAME_INVALID"
    large = await push(repository, "app", "v1", b" " * (documents.MANIFEST_MAX + 1))
    assert (large.status, code(large)) == (413, "SIZE_INVALID")
    assert repository.revision == 0


async def test_foreign_layers_need_not_be_here() -> None:
    repository = FakeRepository()
    await push_blob(repository, "app", CONFIG)
    layer = descriptor(b"far away", urls=["https://example.org/x"])
    assert (await push(repository, "app", "v1", image(layers=[layer]))).status == 201


async def test_multi_arch_index() -> None:
    repository = FakeRepository()
    children = [
        await push_image(repository, "app", sha256(image(each)), each) for each in (b"1", b"2")
    ]
    index = {
        "schemaVersion": 2,
        "mediaType": documents.DOCKER_LIST,
        "manifests": [descriptor(each, documents.OCI_MANIFEST) for each in children],
    }
    data = json.dumps(index).encode()
    assert (await push(repository, "app", "multi", data, documents.DOCKER_LIST)).status == 201
    found = await get(repository, "/app/manifests/multi")
    assert (found.body, found.headers["content-type"]) == (data, documents.DOCKER_LIST)


async def test_tags_move_and_can_be_frozen() -> None:
    repository = FakeRepository(options={"immutable_tags": ["v*"]})
    first = await push_image(repository, "app", "latest", b"1")
    second = await push_image(repository, "app", "latest", b"2")
    assert (await get(repository, "/app/manifests/latest")).body == second
    assert (await push(repository, "app", "v1", first)).status == 201
    assert (await push(repository, "app", "v1", first)).status == 201
    moved = await push(repository, "app", "v1", second)
    assert (moved.status, code(moved)) == (409, "DENIED")
    assert (await get(repository, "/app/manifests/v1")).body == first


async def test_deleting_tags_manifests_and_blobs() -> None:
    repository = FakeRepository()
    first = await push_image(repository, "app", "one", LAYER, b"1")
    second = await push_image(repository, "app", "two", LAYER, b"2")
    await push(repository, "app", "uno", first)

    async def delete(target: str) -> int:
        return (await perform(FORMAT, "DELETE", target, repository)).status

    assert await delete("/app/manifests/uno") == 202
    assert await delete("/app/manifests/uno") == 404
    assert (await get(repository, "/app/manifests/one")).body == first
    assert await delete(f"/app/blobs/{sha256(LAYER)}") == 405
    assert await delete(f"/app/manifests/{sha256(first)}") == 202
    for target in ("one", sha256(first)):
        assert code(await get(repository, f"/app/manifests/{target}")) == "MANIFEST_UNKNOWN"
    assert (await get(repository, "/app/manifests/two")).body == second
    assert await push_image(repository, "app", "one", LAYER, b"1") == first, "equal bytes return"
    await push_blob(repository, "app", b"loose")
    assert await delete(f"/app/blobs/{sha256(b'loose')}") == 202
    assert await delete(f"/app/blobs/{sha256(b'loose')}") == 404


async def test_unused_blobs_go_after_a_grace_period() -> None:
    repository = FakeRepository()
    images = [await push_image(repository, "app", f"v{n}", LAYER, b"%d" % n) for n in range(4)]
    own = [f"/app/blobs/{sha256(b'%d' % n)}" for n in range(4)]

    async def delete(manifest: bytes) -> None:
        target = f"/app/manifests/{sha256(manifest)}"
        assert (await perform(FORMAT, "DELETE", target, repository)).status == 202

    async def there() -> list[bool]:
        return [(await get(repository, each)).status == 200 for each in own]

    await delete(images[0])
    await delete(images[1])
    assert await there() == [True] * 4, "a push elsewhere may name them"
    assert (await push(repository, "app", "v1", images[1])).status == 201
    repository.revision += int(removal.GRACE)
    await delete(images[2])
    assert await there() == [False, True, True, True]
    assert (await get(repository, f"/app/blobs/{sha256(LAYER)}")).status == 200
    assert {each.path for each in await repository.flags("app")} == {own[2].removeprefix("/")}


async def test_what_an_image_has_is_not_published_again() -> None:
    repository = FakeRepository()
    await push_image(repository, "app", "1", LAYER)
    record = repository.files[f"app/blobs/{sha256(LAYER)}"].record
    await push_image(repository, "app", "2", LAYER, b"more")
    assert repository.files[f"app/blobs/{sha256(LAYER)}"].record == record
    assert not await repository.staged("app")


# --- listings -----------------------------------------------------------------------------------
async def test_tag_pages() -> None:
    repository = FakeRepository()
    await sample(repository)
    whole = await get(repository, "/team/app/tags/list")
    assert json.loads(whole.body) == {"name": "repo/team/app", "tags": ["latest", "v10", "v2"]}
    page = await get(repository, "/team/app/tags/list?n=2")
    assert json.loads(page.body)["tags"] == ["latest", "v10"]
    assert page.headers["link"] == '</oci/repo/team/app/tags/list?n=2&last=v10>; rel="next"'
    rest = await get(repository, "/team/app/tags/list?n=2&last=v10")
    assert json.loads(rest.body)["tags"] == ["v2"]
    assert "link" not in rest.headers
    none = await get(repository, "/team/app/tags/list?n=0")
    assert (json.loads(none.body)["tags"], "link" in none.headers) == ([], False)
    assert (await get(repository, "/team/app/tags/list?n=x")).status == 400
    assert code(await get(repository, "/team/tags/list")) == "NAME_UNKNOWN"


async def test_referrers() -> None:
    repository = FakeRepository()
    subject = await push_image(repository, "app", "v1", LAYER)
    pointer = descriptor(subject, documents.OCI_MANIFEST)
    signature = image(artifactType="text/x-sig", subject=pointer, annotations={"by": "me"})
    attached = await push(repository, "app", sha256(signature), signature)
    assert attached.headers["oci-subject"] == sha256(subject)
    note = image(subject=pointer)
    await push(repository, "app", sha256(note), note)
    fallback = descriptor(b"old", documents.OCI_MANIFEST, artifactType="text/x-old")
    tag = sha256(subject).replace(":", "-")
    index = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    assert (await push(repository, "app", tag, index, documents.OCI_INDEX)).status == 201
    target = f"/app/referrers/{sha256(subject)}"
    listed = await get(repository, target)
    assert listed.headers["content-type"] == documents.OCI_INDEX
    found = {each["digest"]: each for each in json.loads(listed.body)["manifests"]}
    assert found[sha256(signature)]["artifactType"] == "text/x-sig"
    assert found[sha256(signature)]["annotations"] == {"by": "me"}
    assert found[sha256(signature)]["size"] == len(signature)
    assert found[sha256(note)]["artifactType"] == "application/vnd.oci.image.config.v1+json"
    await push_blob(repository, "app", b"old")
    index = json.dumps({"schemaVersion": 2, "manifests": [fallback]}).encode()
    assert (await push(repository, "app", tag, index, documents.OCI_INDEX)).status == 201
    merged = json.loads((await get(repository, target)).body)["manifests"]
    assert sha256(b"old") in {each["digest"] for each in merged}
    filtered = await get(repository, f"{target}?artifactType=text/x-sig")
    assert filtered.headers["oci-filters-applied"] == "artifactType"
    assert [e["digest"] for e in json.loads(filtered.body)["manifests"]] == [sha256(signature)]
    await perform(FORMAT, "DELETE", f"/app/manifests/{sha256(signature)}", repository)
    left = json.loads((await get(repository, target)).body)["manifests"]
    assert sha256(signature) not in {each["digest"] for each in left}
    nobody = await get(repository, f"/none/referrers/sha256:{'1' * 64}")
    assert (nobody.status, json.loads(nobody.body)["manifests"]) == (200, [])
    assert (await get(repository, "/app/referrers/nonsense")).status == 400


async def test_an_index_of_referrers_that_is_none_is_passed_over() -> None:
    repository = FakeRepository()
    subject = await push_image(repository, "app", "v1", LAYER)
    tag = sha256(subject).replace(":", "-")
    assert (await push(repository, "app", tag, subject)).status == 201
    listed = await get(repository, f"/app/referrers/{sha256(subject)}")
    assert json.loads(listed.body)["manifests"] == []


async def test_a_tag_of_an_unknown_value_is_no_tag() -> None:
    repository = FakeRepository()
    manifest = await push_image(repository, "app", "v1", LAYER)
    fact = facts.Point("repo", "app", "odd", b"not a digest")
    repository.apply(Publish((fact,), Response()))
    assert code(await get(repository, "/app/manifests/odd")) == "MANIFEST_UNKNOWN"
    removed = await perform(FORMAT, "DELETE", "/app/manifests/odd", repository)
    assert code(removed) == "MANIFEST_UNKNOWN"
    assert (await get(repository, f"/app/manifests/{sha256(manifest)}")).status == 200


async def test_removing_a_referrer_and_blobs_that_are_gone() -> None:
    repository = FakeRepository()
    subject = await push_image(repository, "app", "v1", LAYER)
    note = image(subject=descriptor(subject, documents.OCI_MANIFEST))
    await push(repository, "app", sha256(note), note)
    target = f"/app/referrers/{sha256(subject)}"
    for each in (note, subject):
        gone = await perform(FORMAT, "DELETE", f"/app/manifests/{sha256(each)}", repository)
        assert gone.status == 202
    assert json.loads((await get(repository, target)).body)["manifests"] == []
    for data in (LAYER, CONFIG):
        gone = await perform(FORMAT, "DELETE", f"/app/blobs/{sha256(data)}", repository)
        assert gone.status == 202
    for name in ("a", "b"):
        manifest = await push_image(repository, "app", name, name.encode())
        repository.revision += int(removal.GRACE)
        target = f"/app/manifests/{sha256(manifest)}"
        assert (await perform(FORMAT, "DELETE", target, repository)).status == 202
    assert {each.path for each in await repository.flags("app")} == {
        f"app/blobs/{sha256(each)}" for each in (b"b", CONFIG)
    }


async def test_too_many_tags_in_one_push() -> None:
    repository = FakeRepository()
    await push_blob(repository, "app", CONFIG)
    tags = "&".join(f"tag=t{number}" for number in range(40))
    refused = await push(repository, "app", f"{sha256(image())}?{tags}", image())
    assert (refused.status, code(refused)) == (400, "MANIFEST_INVALID")


# --- roots --------------------------------------------------------------------------------------
async def test_anonymous_callers_are_challenged_with_a_scope() -> None:
    registry = FakeRegistry()
    refused = await perform_root(FORMAT, "GET", "/v2/", registry)
    assert (refused.status, code(refused)) == (401, "UNAUTHORIZED")
    alice = Principal("alice", "user")
    assert (await perform_root(FORMAT, "GET", "/v2/", registry, principal=alice)).status == 200
    request = Request("PUT", "/team/app/manifests/v1", "https://r.test/v2/docker", "https://r.test")
    error = UnauthorizedError("no")
    assert challenge(request, error) == (
        'Bearer realm="https://r.test/v2/token",service="r.test",'
        'scope="repository:docker/team/app:pull,push"'
    )
    head = replace(request, method="HEAD", principal=alice)
    assert challenge(head, error).endswith(
        'scope="repository:docker/team/app:pull",error="insufficient_scope"'
    )
    session = replace(request, method="DELETE", path="/team/app/blobs/uploads/x")
    assert 'scope="repository:docker/team/app:pull,push"' in challenge(session, error)
    root = replace(request, path="/v2/", base_url="https://r.test")
    assert "scope" not in challenge(root, error)


async def test_tokens() -> None:
    registry = FakeRegistry()
    target = "/v2/token?service=x&scope=repository:docker/app:pull,push&scope=repository:b/c:*"
    issued = await perform_root(FORMAT, "GET", target, registry)
    document = json.loads(issued.body)
    assert document == {"token": "issued-token", "access_token": "issued-token", "expires_in": 300}
    assert registry.issued == [
        (Principal(), [("b", ["delete", "read", "write"]), ("docker", ["read", "write"])])
    ]

    async def post(body: bytes) -> Result:
        return await perform_root(FORMAT, "POST", "/v2/token", registry, body=body)

    login = b"grant_type=password&username=alice&password=secret&access_type=offline&scope="
    offline = json.loads((await post(login)).body)
    assert registry.issued[-1][0].name == "alice"
    grant = b"grant_type=refresh_token&refresh_token=" + offline["refresh_token"].encode()
    renewed = await post(grant)
    assert json.loads(renewed.body)["refresh_token"] == offline["refresh_token"]
    assert registry.issued[-1][0].name == "alice"
    assert (await post(b"grant_type=password&username=alice&password=no")).status == 401
    token = offline["refresh_token"].encode()
    kept = await post(b"grant_type=password&access_type=offline&username=x&password=" + token)
    assert json.loads(kept.body)["refresh_token"] == offline["refresh_token"]
    assert (await post(b"grant_type=magic")).status == 400
    assert (await post(b"\xff")).status == 400


def test_scopes_that_make_no_sense_give_nothing() -> None:
    odd = ["", "x", "repository:", "repository:a", "registry:catalog:x", "repository::pull"]
    odd += ["repository:*:push", "repository:*/a:pull"]  # a star would be every repository
    assert read_scopes(odd) == []
    assert read_scopes(["registry:catalog:*"]) == [("*", ["read"])]
    assert read_scopes(["repository(plugin):a/b:pull repository:a/c:push,x"]) == [
        ("a", ["read", "write"])
    ]


async def test_catalog_pages() -> None:
    alpha, beta = FakeRepository(key="a"), FakeRepository(key="a-b")
    for name in ("one", "two"):
        for repository in (alpha, beta):
            await push_image(repository, name, "1", LAYER)
    registry = FakeRegistry([alpha, beta])
    every = ["a-b/one", "a-b/two", "a/one", "a/two"]
    whole = await perform_root(FORMAT, "GET", "/v2/_catalog", registry)
    assert json.loads(whole.body) == {"repositories": every}
    for size in (1, 2, 3):
        found: list[str] = []
        target: str | None = f"/v2/_catalog?n={size}"
        while target:
            page = await perform_root(FORMAT, "GET", target, registry)
            found += json.loads(page.body)["repositories"]
            link = page.headers.get("link")
            target = link[1 : link.index(">")] if link else None
        assert found == every


# --- hostile documents --------------------------------------------------------------------------
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"schemaVersion":1,"fsLayers":[]}',
        b'{"schemaVersion":2}',
        b'{"schemaVersion":2,"config":{},"layers":{}}',
        b'{"schemaVersion":2,"config":{},"layers":[1]}',
        b'{"schemaVersion":2,"config":{},"layers":[{"digest":"sha256:0","size":1}]}',
        b'{"schemaVersion":2,"config":{},"layers":[{"mediaType":1,"size":1}]}',
        b'{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}',
        b'{"schemaVersion":2,"config":{},"layers":[],"annotations":{"a":1}}',
        b'{"schemaVersion":2,"config":{},"layers":[],"subject":[]}',
        b'{"schemaVersion":2,"config":{},"layers":[],"artifactType":"x"}',
        b'{"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2,"manifests":[]}',
        b'{"mediaType":7}',
        b'{"schemaVersion":2,"config":{},"layers":[],"blobs":"abc"}',
    ],
)
def test_bad_manifests_are_refused(data: bytes) -> None:
    with pytest.raises(ManifestInvalidError):
        documents.read_manifest(data, documents.OCI_MANIFEST)


def test_schema_1_and_unknown_types() -> None:
    with pytest.raises(ManifestInvalidError):
        documents.read_manifest(b"{}", documents.SCHEMA_1 + "+prettyjws")
    assert documents.read_manifest(b"{}", "application/x-thing").media_type == "application/x-thing"
    assert documents.read_manifest(b'{"mediaType":"a/b"}', "a/b; q=1").media_type == "a/b"
    with pytest.raises(ManifestInvalidError):
        documents.read_manifest(b"{}", "not a type")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["digest", "size", "mediaType", "urls", "platform"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
FIELDS = ["schemaVersion", "mediaType", "artifactType", "config", "layers", "blobs", "manifests"]


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from([*FIELDS, "subject", "annotations"]), JSON) | JSON,
    st.sampled_from(["", "a/b", "x"]),
)
def test_any_json_is_read_or_refused(document: object, content_type: str) -> None:
    try:
        found = documents.read_manifest(json.dumps(document).encode(), content_type)
    except ManifestInvalidError:
        return
    assert found.media_type


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(ManifestInvalidError):
        documents.read_manifest(data, documents.OCI_MANIFEST)
