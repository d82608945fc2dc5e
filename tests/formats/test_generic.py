"""Generic files, end to end over the in-memory repository."""

from __future__ import annotations

import base64
import hashlib
import json
import xml.etree.ElementTree as ET

import pytest

from formats.generic import FORMAT
from formats.generic.listing import PAGE
from store.digest import Digest
from store.rows import Artifact
from tests.formats.fake import FakeRepository, Result, perform

INDEXES = ("/", "/?list", "/a/", "/a/?list", "/a/b/")
DATA = b"some bytes"
SHA256 = hashlib.sha256(DATA).hexdigest()


async def put(
    repository: FakeRepository,
    path: str,
    data: bytes = DATA,
    headers: dict[str, str] | None = None,
    **named: str,
) -> Result:
    named = {name.replace("_", "-"): value for name, value in named.items()} | (headers or {})
    return await perform(FORMAT, "PUT", path, repository, body=data, headers=named)


async def get(repository: FakeRepository, target: str, **headers: str) -> Result:
    return await perform(FORMAT, "GET", target, repository, headers=headers)


async def sample(repository: FakeRepository) -> None:
    """For the contract tests."""
    for path in ("/top.txt", "/a/one", "/a/two", "/a/b/three", "/a-b/four", "/z/y/x/w"):
        assert (await put(repository, path, path.encode())).status == 201


def b64(algorithm: str, data: bytes = DATA) -> str:
    return base64.b64encode(hashlib.new(algorithm, data).digest()).decode()


async def test_what_is_put_is_got() -> None:
    repository = FakeRepository()
    answer = await put(repository, "/a/b%20c/%C3%BC+%25.bin")
    assert answer.status == 201
    assert json.loads(answer.body) == {"path": "a/b c/ü+%.bin", "sha256": SHA256, "size": 10}
    assert answer.headers["location"].endswith("/a/b%20c/%C3%BC%2B%25.bin")
    got = await get(repository, "/a/b%20c/%C3%BC+%25.bin")
    assert got.body == DATA
    assert got.headers["x-checksum-sha256"] == SHA256
    assert got.headers["x-checksum-md5"] == hashlib.md5(DATA).hexdigest()
    assert got.headers["x-checksum-sha1"] == hashlib.sha1(DATA).hexdigest()
    assert got.response.immutable


async def test_composed_and_decomposed_letters_are_one_path() -> None:
    repository = FakeRepository()
    await put(repository, "/u%CC%88")
    assert (await get(repository, "/%C3%BC")).body == DATA


async def test_same_bytes_are_fine_other_bytes_are_not() -> None:
    repository = FakeRepository()
    assert (await put(repository, "/x")).status == 201
    revision = repository.revision
    assert (await put(repository, "/x")).status == 200
    assert repository.revision == revision
    answer = await put(repository, "/x", b"other")
    assert answer.status == 409
    assert json.loads(answer.body)["error"] == "version_exists"
    assert (await get(repository, "/x")).body == DATA


async def test_a_deleted_path_only_takes_the_same_bytes() -> None:
    repository = FakeRepository()
    await put(repository, "/x")
    assert (await perform(FORMAT, "DELETE", "/x", repository)).status == 204
    assert (await get(repository, "/x")).status == 404
    assert (await perform(FORMAT, "DELETE", "/x", repository)).status == 404
    assert (await put(repository, "/x", b"other")).status == 409
    assert (await put(repository, "/x")).status == 201


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-checksum-sha256", SHA256.upper()),
        ("x-checksum-sha1", hashlib.sha1(DATA).hexdigest()),
        ("x-checksum-md5", hashlib.md5(DATA).hexdigest()),
        ("x-checksum-sha512", hashlib.sha512(DATA).hexdigest()),
        ("content-md5", b64("md5")),
        ("content-digest", f"unknown=:eA==:, sha-256=:{b64('sha256')}:"),
        ("content-digest", f"sha-512=:{b64('sha512')}:"),
        ("digest", f"SHA-256={b64('sha256')},MD5={b64('md5')}"),
    ],
)
async def test_declared_digests_are_verified(name: str, value: str) -> None:
    good, bad = FakeRepository(), FakeRepository()
    assert (await put(good, "/x", headers={name: value})).status == 201
    answer = await put(bad, "/x", b"corrupted", {name: value})
    assert answer.status == 400
    assert json.loads(answer.body)["error"] == "digest_mismatch"
    assert not bad.files


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-checksum-sha256", "abc"),
        ("content-md5", "!!"),
        ("content-md5", b64("sha1")),
        ("content-digest", "sha-256=abc"),
        ("digest", "sha-256=??"),
    ],
)
async def test_malformed_digests_are_refused(name: str, value: str) -> None:
    answer = await put(FakeRepository(), "/x", headers={name: value})
    assert answer.status == 400
    assert json.loads(answer.body)["error"] == "digest_invalid"


async def test_a_path_is_a_file_or_a_folder() -> None:
    repository = FakeRepository()
    await put(repository, "/a/b/c")
    for path in ("/a", "/a/b", "/a/b/c/d", "/a/b/c/d/e"):
        answer = await put(repository, path)
        assert answer.status == 409, path
    assert (await put(repository, "/a/bc")).status == 201


@pytest.mark.parametrize("path", ["/%2e%2e/x", "/a/%5c", "/a/%00", "/a%2fb", "/.revisions/x"])
async def test_hostile_paths_are_refused(path: str) -> None:
    answer = await put(FakeRepository(), path)
    assert answer.status == 400
    assert json.loads(answer.body)["error"] == "path_invalid"


async def test_conditions_on_writes() -> None:
    repository = FakeRepository(options={"versioned": True})
    assert (await put(repository, "/x", if_match='"abc"')).status == 412
    assert (await put(repository, "/x", if_none_match="*")).status == 201
    assert (await put(repository, "/x", if_none_match="*")).status == 412
    assert (await put(repository, "/x", b"2", if_match=f'"sha256:{SHA256}"')).status == 200
    assert (await put(repository, "/x", b"3", if_match=f'"sha256:{SHA256}"')).status == 412
    assert (await get(repository, "/x")).body == b"2"
    immutable = FakeRepository()
    await put(immutable, "/x")
    assert (await put(immutable, "/x", b"2", if_match="*")).status == 409


async def test_revisions_are_kept_and_reachable() -> None:
    repository = FakeRepository(options={"versioned": True})
    for data in (b"one", b"two", b"three"):
        await put(repository, "/d/x", data)
    got = await get(repository, "/d/x")
    assert got.body == b"three"
    assert not got.response.immutable
    assert (await get(repository, "/d/x?version=1")).body == b"one"
    prefix = hashlib.sha256(b"two").hexdigest()[:8]
    second = await get(repository, f"/d/x?version={prefix}")
    assert second.body == b"two"
    assert second.response.immutable
    for wrong in ("4", "0", "ffffffff", "x"):
        assert (await get(repository, f"/d/x?version={wrong}")).status == 404
    listed = json.loads((await get(repository, "/d/x?versions")).body)
    assert [each["size"] for each in listed["versions"]] == [3, 3, 5]
    entries = json.loads((await get(repository, "/?list")).body)["entries"]
    assert [each["name"] for each in entries] == ["d"]
    assert (await perform(FORMAT, "DELETE", "/d/x", repository)).status == 204
    assert (await get(repository, "/d/x")).status == 404
    assert (await get(repository, "/d/y?versions")).status == 404


@pytest.mark.parametrize("name", ["page.html", "image.svg", "data.xml", "code.js"])
async def test_what_a_browser_could_run_is_an_attachment(name: str) -> None:
    repository = FakeRepository()
    await put(repository, f"/{name}")
    got = await get(repository, f"/{name}")
    assert got.headers["content-disposition"].startswith("attachment")
    assert got.headers["x-content-type-options"] == "nosniff"


async def test_listings_show_folders_then_files() -> None:
    repository = FakeRepository()
    await sample(repository)
    top = json.loads((await get(repository, "/?list")).body)
    names = [(each["type"], each["name"]) for each in top["entries"]]
    assert names == [("folder", "a"), ("folder", "a-b"), ("folder", "z"), ("file", "top.txt")]
    page = (await get(repository, "/a/", accept="text/html")).body.decode()
    assert 'href="./b/"' in page
    assert 'href="./one"' in page
    assert json.loads((await get(repository, "/a/", accept="application/json")).body)["path"] == "a"
    assert (await get(repository, "/a")).headers["location"] == "a/"
    assert (await get(repository, "/z/y/x/w/")).body == b"/z/y/x/w"
    for missing in ("/none", "/none/", "/none/?list"):
        assert (await get(repository, missing)).status == 404


async def test_an_empty_repository_has_an_empty_listing() -> None:
    assert json.loads((await get(FakeRepository(), "/?list")).body) == {"path": "", "entries": []}


async def test_a_deep_tree_is_skipped_when_its_parent_is_listed() -> None:
    repository = FakeRepository()
    asked = 0
    original = repository.packages

    async def counting(*, prefix: str = "", after: str = "", limit: int = 1000) -> object:
        nonlocal asked
        asked += 1
        return await original(prefix=prefix, after=after, limit=limit)

    for number in range(2 * PAGE):
        path = f"big/{number:05}/x"
        blob = repository.add_blob(b"")
        repository.files[path] = _artifact(path, blob.digest.hex)
    await put(repository, "/small/x")
    repository.packages = counting  # type: ignore[method-assign, assignment]  # a fake in its place
    entries = json.loads((await get(repository, "/?list")).body)["entries"]
    assert [each["name"] for each in entries] == ["big", "small"]
    assert asked <= 3


def _artifact(path: str, digest: str) -> Artifact:
    return Artifact(
        repository="repo",
        package=path.rpartition("/")[0],
        version="",
        path=path,
        role="file",
        digest=Digest.sha256(digest),
        size=0,
        checksums={},
        metadata=b"",
        metadata_digest=None,
        manifest_id=b"",
        published=0.0,
        record=b"",
        author="",
    )


async def test_names_in_pages_are_escaped() -> None:
    repository = FakeRepository()
    await put(repository, "/%3Cscript%3E%22&'")
    page = (await get(repository, "/")).body.decode()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


async def test_webdav_lists_and_makes_folders() -> None:
    repository = FakeRepository()
    await sample(repository)

    async def hrefs(target: str, depth: str) -> list[str]:
        answer = await perform(FORMAT, "PROPFIND", target, repository, headers={"depth": depth})
        assert answer.status == 207
        tree = ET.fromstring(answer.body)
        return [each.text or "" for each in tree.iter("{DAV:}href")]

    base = "/generic/repo"
    assert await hrefs("/", "0") == [f"{base}/"]
    assert await hrefs("/a/", "1") == [
        f"{base}/a/",
        f"{base}/a/b/",
        f"{base}/a/one",
        f"{base}/a/two",
    ]
    assert await hrefs("/a/one", "0") == [f"{base}/a/one"]
    assert (await perform(FORMAT, "PROPFIND", "/none", repository)).status == 404
    assert (await perform(FORMAT, "MKCOL", "/new/", repository)).status == 201
    for taken in ("/", "/a", "/a/one"):
        assert (await perform(FORMAT, "MKCOL", taken, repository)).status == 405
    assert (await perform(FORMAT, "DELETE", "/new/", repository)).status == 204
    assert (await perform(FORMAT, "DELETE", "/a/", repository)).status == 409
