"""Virtual repositories asked in every odd way: heads, conditions, ranges, writes, spellings, pages."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest
import trio

from formats.oci.documents import OCI_MANIFEST
from store.digest import Digest
from tests.formats import test_maven, test_npm, test_oci
from tests.node.repositories.goods import GOODS, PACKAGES, SUITE, pypi_wheel, sent, sha256
from tests.node.repositories.virtuals import Party, party
from tests.upstreams import Asked, Page

FORMATS = sorted(GOODS)
ORDER = ["up", "secret", "ours"]
TOLD = ("content-type", "content-length", "etag", "docker-content-digest", "vary")


async def stocked(p: Party) -> list[str]:
    """Overlapping names in three members; everything that ann may ask for about them."""
    goods = GOODS[p.form]
    await goods.publish(p, "ours", "alpha", "1.0.0", b"ours")
    await goods.publish(p, "secret", "alpha", "1.0.0", b"hush")
    await goods.publish(p, "secret", "alpha", "2.0.0", b"hush")
    goods.offer(p.server, "beta", {"1.0.0": b"theirs", "2.0.0": b"newer"})
    routes = [*goods.routes("alpha", "1.0.0"), *goods.routes("beta", "2.0.0")]
    return list(dict.fromkeys(routes))


@pytest.mark.parametrize("form", FORMATS)
async def test_a_head_says_what_a_get_does(form: str, tmp_path: Path) -> None:
    """Also of what nobody has fetched yet: what is not known is left out, and nothing is made up."""
    async with party(tmp_path, form, ORDER) as p:
        for path in await stocked(p):
            head = await p.ask("HEAD", path, token=p.bob)
            got = await p.get(path, token=p.bob)
            assert (head.status, head.body) == (got.status, b""), path
            for name in TOLD:
                if head.status == 200 and name in head.headers:
                    assert head.headers[name] == got.headers.get(name), (path, name)
            part = await p.ask("HEAD", path, token=p.bob, range="bytes=0-0")
            assert part.status in {got.status, 206}, path


@pytest.mark.parametrize("form", FORMATS)
async def test_conditions_and_ranges(form: str, tmp_path: Path) -> None:
    async with party(tmp_path, form, ORDER) as p:
        tested = 0
        for path in await stocked(p):
            await p.get(path, token=p.ann)
            whole = await p.get(path, token=p.ann)
            if whole.status != 200 or not whole.body:
                continue
            tested += 1
            tag, size = whole.headers["etag"], len(whole.body)
            assert "last-modified" not in whole.headers, path
            same = await p.get(path, token=p.ann, if_none_match=f'"x", W/{tag}')
            assert (same.status, same.body) == (304, b""), path
            other = await p.get(path, token=p.ann, if_none_match='"x"')
            assert other.body == whole.body, path
            dated = await p.get(
                path, token=p.ann, if_modified_since="Fri, 01 Jan 2100 00:00:00 GMT"
            )
            assert dated.status == 200, path
            for asked, span in (("0-0", slice(0, 1)), ("-1", slice(-1, None)), ("0-", slice(0))):
                part = await p.get(path, token=p.ann, range=f"bytes={asked}", if_range=tag)
                wanted = whole.body if asked == "0-" else whole.body[span]
                assert (part.status, part.body) == (206, wanted), (path, asked)
            old = await p.get(path, token=p.ann, range="bytes=0-0", if_range='"x"')
            assert old.body == whole.body, path
            past = await p.get(path, token=p.ann, range=f"bytes={size}-")
            assert (past.status, past.headers["content-range"]) == (416, f"bytes */{size}"), path
        assert tested >= 4


@pytest.mark.parametrize("form", FORMATS)
async def test_writes_reach_no_member_but_the_target(form: str, tmp_path: Path) -> None:
    """Whatever the path, method and rights; ann has all of them in both local members."""
    goods = GOODS[form]
    async with party(tmp_path, form, ORDER) as p:
        routes = await stocked(p)
        for path in await goods.listed(p, "beta", ""):
            await p.get(path)
        catalog = p.node.core.catalog
        before = {k: await catalog.files(k, limit=1000) for k in ("secret", "up", "all")}
        held = [e.path for k in ("secret", "up") for e in before[k]]
        paths = [*routes, *(f"/{each}" for each in held)]
        paths += [f"/members/{k}/{each}" for k in ("secret", "up", "ours") for each in held[:4]]
        for path in dict.fromkeys(paths):
            for method in ("DELETE", "PUT", "POST", "PATCH"):
                answer = await p.ask(method, path.partition("?")[0], b"x", token=p.ann)
                assert answer.status < 500, (method, path, answer.body)
        for key, files in before.items():
            assert await catalog.files(key, limit=1000) == files, key
        if form == "debian":  # where these are no paths of a repository's own
            for each in await catalog.files("ours", limit=1000):
                assert not each.path.startswith("members/"), each.path


@pytest.mark.parametrize("form", FORMATS)
async def test_no_spelling_of_a_path_reaches_a_hidden_member(form: str, tmp_path: Path) -> None:
    goods = GOODS[form]
    async with party(tmp_path, form) as p:
        await goods.publish(p, "secret", "hidden", "1.0.0", b"hush")
        await goods.publish(p, "ours", "open", "1.0.0", b"ours")
        known = [*await goods.listed(p, "hidden", p.ann), *goods.routes("hidden", "1.0.0")]
        bytes_of = {(await p.get(path, token=p.ann)).body for path in known} - {b""}
        spelled: list[str] = []
        for path in known:
            bare = path.partition("?")[0].lstrip("/")
            spelled += [f"//{bare}", f"/{bare}/", f"/{bare}//", f"/./{bare}", f"/x/../{bare}"]
            spelled += [f"/%2e%2e/secret/{bare}", f"/..%2fsecret%2f{bare}", f"/{bare}%00"]
            spelled += ["/" + bare.replace("/", "%2f"), "/" + bare.replace("/", "%252f")]
            spelled += [f"/members/secret/{bare}", f"/members%2fsecret%2f{bare}"]
            spelled += ["/" + bare.replace("hidden", "%68idden"), "/" + bare.upper()]
            spelled += [path.replace("hidden", "Hidden"), path.replace("hidden", "hid_den")]
        for path in dict.fromkeys(spelled):
            for token in ("", p.bob):
                answer = await p.get(path, token=token)
                assert answer.status < 500, path
                if answer.status == 200:
                    assert answer.body not in bytes_of - await listings(p, path), path
                assert b"hush" not in answer.body, path


async def listings(p: Party, path: str) -> set[bytes]:
    """What is said to all: a list that happens to be the same for somebody with more rights."""
    return {(await p.get(path, key="ours")).body, (await p.get(path, key="up")).body}


# --- names that are written in several ways ------------------------------------------------------
async def test_a_project_is_guarded_in_every_spelling(tmp_path: Path) -> None:
    async with party(tmp_path, "pypi", ORDER) as p:
        await GOODS["pypi"].publish(p, "ours", "My_Thing", "1.0.0", b"ours")
        GOODS["pypi"].offer(p.server, "my_thing", {"9.0.0": b"an attack"})
        p.server.pages["/simple/my-thing/"] = p.server.pages["/simple/my_thing/"]
        p.server.asked.clear()
        evil = "my_thing-9.0.0-py3-none-any.whl"
        for name in ("my-thing", "My.Thing", "MY__THING", "my.-_thing", "%6dy-thing"):
            for path in (f"/simple/{name}/", f"/simple/{name}", f"/simple/{name}/{evil}"):
                answer = await p.get(path)
                assert answer.status in {200, 301, 404}, path
                assert b"9.0.0" not in answer.body or answer.status == 404, path
            for path in (f"/pypi/{name}/json", f"/pypi/{name}/9.0.0/json"):
                assert b"attack" not in (await p.get(path)).body
            assert (await p.get(f"/simple/{name}/{evil}.metadata")).status in {301, 404}
        assert [e.path for e in p.server.asked if "thing" in e.path.lower()] == []


async def test_a_scoped_package_is_guarded_in_every_spelling(tmp_path: Path) -> None:
    async with party(tmp_path, "npm", ORDER) as p:
        document = test_npm.document("@corp/alpha", "1.0.0")
        body = json.dumps(document).encode()
        await sent(p, "PUT", "/@corp%2falpha", body, "ours")
        evil = test_npm.document("@corp/alpha", "9.0.0")
        data = base64.b64decode(next(iter(evil["_attachments"].values()))["data"])
        evil.pop("_attachments")
        kind = {"content-type": "application/json"}
        for path in ("/@corp%2Falpha", "/@corp%2falpha", "/@corp/alpha"):
            p.server.put(path, json.dumps(evil).encode(), headers=kind)
        for path in ("/@corp/alpha/-/alpha-9.0.0.tgz", "/@corp%2Falpha/-/alpha-9.0.0.tgz"):
            p.server.put(path, data)
        p.server.asked.clear()
        names = (
            "@corp/alpha",
            "@corp%2falpha",
            "@corp%2Falpha",
            "%40corp%2falpha",
            "%40corp/alpha",
        )
        for name in names:
            page = await p.get(f"/{name}")
            assert (page.status, list(page.json["versions"])) == (200, ["1.0.0"]), name
            for path in (f"/{name}/9.0.0", f"/{name}/-/alpha-9.0.0.tgz"):
                assert (await p.get(path)).status == 404, path
            assert (await p.get(f"/{name}/-/@corp/alpha-9.0.0.tgz")).status == 404
            tags = await p.get(f"/-/package/{name}/dist-tags")
            assert tags.json == {"latest": "1.0.0"}, name
        assert p.server.asked == []


# --- documents -----------------------------------------------------------------------------------
async def test_checksums_of_merged_metadata_are_of_the_bytes_that_are_sent(tmp_path: Path) -> None:
    async with party(tmp_path, "maven", ORDER) as p:
        await p.change("PUT", "virtual", guard=False)
        goods = GOODS["maven"]
        goods.offer(p.server, "alpha", {"1.0.0": b"theirs", "3.0.0": b"theirs"})
        for key, version in (("ours", "1.0.0"), ("secret", "2.0.0")):
            await goods.publish(p, key, "alpha", version, key.encode())
            await goods.publish(p, key, "alpha", "4.0-SNAPSHOT", key.encode())
        place = "/corp/alpha/maven-metadata.xml"
        seen = set()
        for token, versions in ((p.ann, 3), (p.bob, 2), ("", 2)):
            for path in (place, "/corp/alpha/4.0-SNAPSHOT/maven-metadata.xml"):
                whole = await p.get(path, token=token)
                assert whole.status == 200
                seen.add(whole.body)
                for name in ("md5", "sha1", "sha256", "sha512"):
                    told = await p.get(f"{path}.{name}", token=token)
                    head = await p.ask("HEAD", f"{path}.{name}", token=token)
                    assert told.body.decode() == hashlib.new(name, whole.body).hexdigest()
                    assert head.headers["content-length"] == str(len(told.body))
                    if name != "sha512":
                        assert whole.headers[f"x-checksum-{name}"] == told.body.decode()
            found = test_maven.values((await p.get(place, token=token)).body, VERSIONS)
            assert len([each for each in found if "SNAPSHOT" not in each]) == versions, token
        assert len(seen) >= 3
        for version in ("1.0.0", "3.0.0"):
            jar = f"/corp/alpha/{version}/alpha-{version}.jar"
            body = (await p.get(jar)).body
            for name in ("md5", "sha1", "sha256"):
                told = await p.get(f"{jar}.{name}")
                assert told.body.decode() == hashlib.new(name, body).hexdigest(), jar


VERSIONS = "versioning/versions/version"


def paged(p: Party, image: str, tags: list[str], page: int) -> None:
    """Have the upstream list tags in pages, as registries do."""

    def listing(asked: Asked) -> Page:
        last = re.search("last=([^&]*)", asked.path)
        left = [each for each in tags if last is None or each > last[1]]
        headers = {"content-type": "application/json"}
        if len(left) > page:
            url = f"/v2/{image}/tags/list?n={page}&last={left[page - 1]}"
            headers["link"] = f'<{url}>; rel="next"'
        return Page(json.dumps({"name": image, "tags": left[:page]}).encode(), 200, headers)

    for n in (page, 10_000):
        for last in ("", *(f"&last={each}" for each in (*tags, "b", "c", "e", "zz"))):
            p.server.pages[f"/v2/{image}/tags/list?n={n}{last}"] = listing


@pytest.mark.parametrize("page", [1, 2, 3, 10])
async def test_pages_of_tags_are_the_union_in_order(page: int, tmp_path: Path) -> None:
    async with party(tmp_path, "docker", ORDER) as p:
        await p.change("PUT", "virtual", guard=False)
        goods = GOODS["docker"]
        for key, tags in (("ours", "be"), ("secret", "cbz")):
            for tag in tags:
                await goods.publish(p, key, "alpha", tag, f"{key} {tag}".encode())
        goods.offer(p.server, "alpha", {tag: f"up {tag}".encode() for tag in "adbf"})
        paged(p, "alpha", list("abdf"), page)
        for token, every in (("", list("abdef")), (p.ann, list("abcdefz"))):
            found: list[str] = []
            path = f"/alpha/tags/list?n={page}"
            while path:
                answer = await p.get(path, token=token)
                assert answer.status == 200, answer.body
                assert len(answer.json["tags"]) <= page
                found += answer.json["tags"]
                link = re.search("<(/v2/all)?([^>]*)>", answer.headers.get("link", ""))
                path = link[2] if link else ""
            assert found == every, (token, page)
        unpaged = await p.get("/alpha/tags/list")
        assert unpaged.status == 200
        for tag in unpaged.json["tags"]:
            head = await p.ask("HEAD", f"/alpha/manifests/{tag}")
            got = await p.get(f"/alpha/manifests/{tag}")
            digest = head.headers["docker-content-digest"]
            assert digest == got.headers["docker-content-digest"] == f"sha256:{sha256(got.body)}"


async def test_referrers_of_all_members_that_one_may_read(tmp_path: Path) -> None:
    async with party(tmp_path, "docker", ORDER) as p:
        goods = GOODS["docker"]
        await goods.publish(p, "ours", "alpha", "1.0.0", b"layer")
        subject = test_oci.image(b"layer")
        told = {"mediaType": OCI_MANIFEST, "digest": test_oci.sha256(subject)}
        about = {**told, "size": len(subject)}
        digests = {}
        for key, kind in (("ours", "a/signature"), ("secret", "a/sbom")):
            manifest = json.loads(test_oci.image())
            manifest |= {"subject": about, "artifactType": kind}
            data = json.dumps(manifest).encode()
            digests[key] = test_oci.sha256(data)
            path = f"/alpha/blobs/uploads/?digest={test_oci.sha256(test_oci.CONFIG)}"
            await sent(p, "POST", path, test_oci.CONFIG, key)
            kind_of = {"content-type": OCI_MANIFEST}
            await sent(p, "PUT", f"/alpha/manifests/{digests[key]}", data, key, **kind_of)
        path = f"/alpha/referrers/{test_oci.sha256(subject)}"
        for token, keys in ((p.ann, ["ours", "secret"]), (p.bob, ["ours"]), ("", ["ours"])):
            listed = await p.get(path, token=token)
            found = [each["digest"] for each in listed.json["manifests"]]
            assert sorted(found) == sorted(digests[each] for each in keys)
            for each in found:
                assert (await p.get(f"/alpha/manifests/{each}", token=token)).status == 200
            one = await p.get(f"{path}?artifactType=a/sbom", token=token)
            assert len(one.json["manifests"]) == len(keys) - 1
            assert one.headers["oci-filters-applied"] == "artifactType"
        assert (await p.get(f"/alpha/manifests/{digests['secret']}", token=p.bob)).status == 404


# --- Debian, while members change ----------------------------------------------------------------
LISTED = re.compile(r"^ ([0-9a-f]{64}) +(\d+) (\S+)$", re.MULTILINE)


async def consistent(p: Party, token: str) -> set[str]:
    """Read a suite as apt does; everything that InRelease lists is there, as it is listed."""
    release = (await p.get(f"{SUITE}/InRelease", token=token)).body.decode()
    names: set[str] = set()
    for digest, size, path in LISTED.findall(release):
        folder = path.rpartition("/")[0]
        found = await p.get(f"{SUITE}/{folder}/by-hash/SHA256/{digest}", token=token)
        assert found.status == 200, path
        assert (sha256(found.body), len(found.body)) == (digest, int(size)), path
        if path == f"{PACKAGES}.gz":
            text = gzip.decompress(found.body).decode()
            names = set(re.findall(r"^Package: (.+)$", text, re.MULTILINE))
    return names


async def test_what_a_release_lists_is_served_while_members_change(tmp_path: Path) -> None:
    goods = GOODS["debian"]
    async with party(tmp_path, "debian") as p:
        await goods.publish(p, "ours", "alpha", "1.0.0", b"ours")
        goods.offer(p.server, "beta", {"1.0.0": b"theirs"})
        assert await consistent(p, "") == {"alpha", "beta"}

        async def change() -> None:
            await goods.publish(p, "ours", "more", "1.0.0", b"ours")
            await goods.publish(p, "secret", "hidden", "1.0.0", b"hush")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(change)
            for _ in range(3):
                for token in ("", p.ann):
                    assert {"alpha", "beta"} <= await consistent(p, token)
        assert await consistent(p, "") == {"alpha", "beta", "more"}
        assert await consistent(p, p.ann) == {"alpha", "beta", "more", "hidden"}


async def test_an_upstream_that_changes_between_release_and_index(tmp_path: Path) -> None:
    """Its index is not what its Release says: left out, or taken whole, and never in part."""
    goods = GOODS["debian"]
    async with party(tmp_path, "debian") as p:
        await goods.publish(p, "ours", "alpha", "1.0.0", b"ours")
        goods.offer(p.server, "beta", {"1.0.0": b"theirs"})
        old = {path: p.server.pages[f"{SUITE}/{path}"] for path in ("Release", PACKAGES)}
        goods.offer(p.server, "gamma", {"1.0.0": b"theirs"})
        p.server.pages[f"{SUITE}/Release"] = old["Release"]  # that of before
        assert await consistent(p, "") == {"alpha"}
        goods.offer(p.server, "gamma", {"1.0.0": b"theirs"})
        assert await consistent(p, "") == {"alpha", "beta", "gamma"}


async def test_files_of_equal_names_stay_apart(tmp_path: Path) -> None:
    """Two members with other bytes of one filename: what a page says of it is what comes."""
    async with party(tmp_path, "pypi", ORDER) as p:
        await p.change("PUT", "virtual", guard=False)
        for key in ("ours", "secret"):
            await GOODS["pypi"].publish(p, key, "alpha", "1.0.0", key.encode())
        GOODS["pypi"].offer(p.server, "alpha", {"1.0.0": b"up"})
        wanted = Digest.of(pypi_wheel("alpha", "1.0.0", b"up")).hex
        listed = await GOODS["pypi"].listed(p, "alpha", p.ann)
        assert list(listed.values()) == [wanted]
        metadata = await p.get(f"{next(iter(listed))}.metadata", token=p.ann)
        assert metadata.status in {200, 404}
