"""Lists and lock files, fetched before anybody asks; what follows from them, too."""

from __future__ import annotations

import hashlib
import json
import lzma
from pathlib import Path

import pytest
import trio

from formats.debian import mirroring as debian
from formats.maven import mirroring as maven
from formats.npm import mirroring as npm
from formats.oci import mirroring as oci
from formats.pypi import mirroring as pypi
from formats.remote import Kept, Origin, Wish
from node.repositories.remote.mirroring import MirrorList, Mirrors
from store.errors import RejectedError
from tests.node.repositories.remotes import get, proxy
from tests.node.world import World


async def mirrored(node: World, name: str, text: str) -> dict:
    """Mirror a list, and wait until it is done."""
    answer = await node.api("PUT", f"/repositories/up/mirrors/{name}", {"text": text})
    assert answer.status == 200, answer.body
    while True:
        (item,) = (await node.api("GET", "/repositories/up/mirrors")).json["items"]
        if not item["running"] and item["done"] + item["failed"]:
            await node.core.engine.settled()
            return item


async def test_a_list_of_paths(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        server.put("/a", b"one")
        server.put("/b%20c", b"two")
        found = await mirrored(node, "list.txt", "a\nb c\n# remark\nnone\n")
        assert (found["done"], found["failed"]) == (2, 1)
        assert "none" in found["troubles"][0]
        server.refuse = True
        assert (await get(node, "/b%20c")).body == b"two"
        assert (await node.api("DELETE", "/repositories/up/mirrors/list.txt")).status == 204
        assert (await node.api("GET", "/repositories/up/mirrors")).json["items"] == []


async def test_requirements_bring_files_and_their_metadata(tmp_path: Path) -> None:
    async with proxy(tmp_path, "pypi") as (node, server):
        rows = []
        for version in ("1.0", "2.0"):
            name = f"demo-{version}-py3-none-any.whl"
            data, metadata = version.encode() * 100, b"Name: demo"
            server.put(f"/files/{name}", data)
            server.put(f"/files/{name}.metadata", metadata)
            hashes = {"sha256": hashlib.sha256(data).hexdigest()}
            told = {"sha256": hashlib.sha256(metadata).hexdigest()}
            url = f"{server.url}/files/{name}"
            rows.append({"filename": name, "url": url, "hashes": hashes, "core-metadata": told})
        page = {"meta": {"api-version": "1.1"}, "name": "demo", "files": rows}
        kind = {"content-type": "application/vnd.pypi.simple.v1+json"}
        server.put("/simple/demo/", json.dumps(page).encode(), headers=kind)
        found = await mirrored(node, "requirements.txt", "demo<2 ; python_version > '3'\n")
        assert (found["done"], found["failed"]) == (3, 0)
        server.refuse = True
        wheel = await get(node, "/simple/demo/demo-1.0-py3-none-any.whl", "pypi")
        assert wheel.body == b"1.0" * 100
        assert "/files/demo-2.0-py3-none-any.whl" not in server.counts()


def test_lock_files_are_read() -> None:
    lock = {
        "lockfileVersion": 3,
        "packages": {
            "": {"name": "app", "version": "1.0.0"},
            "node_modules/a": {"version": "1.0.0"},
            "node_modules/@s/b/node_modules/a": {"version": "2.0.0"},
            "node_modules/alias": {"name": "real", "version": "3.0.0"},
            "packages/local": {"link": True},
        },
    }
    paths = [each.path for each in npm.wishes("package-lock.json", json.dumps(lock))]
    assert "/a/-/a-1.0.0.tgz" in paths
    assert "/a/-/a-2.0.0.tgz" in paths
    assert "/real/-/real-3.0.0.tgz" in paths
    assert len([each for each in paths if "/-/" in each]) == 3
    old = {"dependencies": {"a": {"version": "1.0.0", "dependencies": {"b": {"version": "2.0.0"}}}}}
    assert len(npm.wishes("package-lock.json", json.dumps(old))) == 4
    for reader, text in ((npm, "{"), (maven, "<a>"), (pypi, "==="), (debian, "x"), (maven, "a:b")):
        with pytest.raises(RejectedError):
            reader.wishes("file", text)


def test_images_lead_to_their_layers() -> None:
    digest = f"sha256:{'a' * 64}"
    wishes = oci.wishes("images", f"demo\nteam/demo:1 # remark\nx@{digest}\n")
    assert [each.path for each in wishes] == [
        "/demo/manifests/latest",
        "/team/demo/manifests/1",
        f"/x/manifests/{digest}",
    ]
    layer = {"mediaType": "application/x", "digest": digest, "size": 1}
    manifest = {"schemaVersion": 2, "config": layer, "layers": [layer]}
    found = oci.follow(wishes[1], Kept(Origin(), json.dumps(manifest).encode()))
    assert {each.path for each in found} == {f"/team/demo/blobs/{digest}"}


def test_poms_lead_to_their_dependencies() -> None:
    pom = (
        "<project xmlns='http://maven.apache.org/POM/4.0.0'><groupId>g</groupId>"
        "<artifactId>a</artifactId><version>1</version><properties><v>2.0</v></properties>"
        "<parent><groupId>p</groupId><artifactId>p</artifactId><version>3</version></parent>"
        "<dependencies><dependency><groupId>d.e</groupId><artifactId>f</artifactId>"
        "<version>${v}</version></dependency><dependency><groupId>t</groupId>"
        "<artifactId>t</artifactId><version>1</version><scope>test</scope></dependency>"
        "<dependency><groupId>m</groupId><artifactId>m</artifactId></dependency></dependencies>"
        "</project>"
    )
    expected = ["/p/p/3/p-3.pom", "/d/e/f/2.0/f-2.0.pom"]
    assert [each.path for each in maven.wishes("pom.xml", pom)] == expected
    own = Wish("/g/a/1/a-1.pom", reads=True)
    found = maven.follow(own, Kept(Origin(), pom.encode()))
    assert [each.path for each in found] == ["/g/a/1/a-1.jar", *expected]
    assert maven.follow(Wish("/g/a/1/a-1.jar"), Kept(Origin())) == ()


def test_packages_lead_to_what_they_depend_on() -> None:
    stanzas = (
        "Package: a\nDepends: b (>= 1) | c, virtual\nFilename: pool/a.deb\n\n"
        "Package: c\nFilename: pool/c.deb\n\n"
        "Package: d\nProvides: virtual (= 1)\nFilename: pool/d.deb\n\n"
        "Package: e\nFilename: pool/e.deb\n"
    )
    wishes = debian.wishes("list", "stable main amd64\na\n")
    assert wishes[0].path == "/dists/stable/InRelease"
    found = debian.follow(wishes[1], Kept(Origin(), lzma.compress(stanzas.encode())))
    assert [each.path for each in found] == ["/pool/a.deb", "/pool/c.deb", "/pool/d.deb"]


async def test_what_crashes_over_one_file_of_a_list_stays_that_files() -> None:
    """Some upstream has found a fault of ours: the rest of the list comes, and the node goes on."""

    class Answers:
        def wishes(self, _name: str, text: str) -> list[Wish]:
            return [Wish(path) for path in text.split()]

        async def wish(self, wish: Wish) -> list[Wish]:
            await trio.lowlevel.checkpoint()
            if wish.path == "b":
                raise LookupError("not thought of")
            return []

    run = await Mirrors(lambda _key: Answers()).run(
        MirrorList(repository="up", name="l.txt", text="a b c")
    )
    assert (run.done, run.failed, run.ended) == (2, 1, True)
    assert run.troubles == ["b: LookupError: not thought of"]
