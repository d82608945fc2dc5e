"""Maven: deploys, checksums, generated metadata, the version order, hostile input."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.maven import FORMAT, layout, pom, reading, versions
from store.errors import ManifestInvalidError, PathInvalidError
from store.rows import Pointer
from tests.formats.fake import FakeRepository, Result, perform

INDEXES = (
    "/org/example/demo/maven-metadata.xml",
    "/org/example/demo/1.1-SNAPSHOT/maven-metadata.xml",
    "/org/example/maven-metadata.xml",
    "/archetype-catalog.xml",
    "/",
    "/org/example/",
    "/org/example/demo/",
    "/org/example/demo/1.0/",
)
DEMO = "/org/example/demo"
POM = (
    '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    "<groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
    "{more}</project>"
)
PLUGIN = (
    "<plugin><name>Demo {artifact}</name><groupId>org.example</groupId>"
    "<artifactId>{artifact}</artifactId><goalPrefix>demo</goalPrefix></plugin>"
)


def make_pom(artifact: str, version: str, more: str = "", group: str = "org.example") -> bytes:
    return POM.format(group=group, artifact=artifact, version=version, more=more).encode()


def jar(members: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return out.getvalue()


async def put(
    repository: FakeRepository, path: str, body: bytes, headers: dict[str, str] | None = None
) -> Result:
    return await perform(FORMAT, "PUT", path, repository, body=body, headers=headers)


async def get(repository: FakeRepository, path: str, accept: str = "") -> Result:
    return await perform(FORMAT, "GET", path, repository, headers={"accept": accept})


async def deploy(
    repository: FakeRepository, artifact: str, version: str, more: str = "", data: bytes = b"jar"
) -> None:
    place = f"/org/example/{artifact}/{version}/{artifact}-{version}"
    assert (await put(repository, f"{place}.jar", data)).status == 201
    assert (await put(repository, f"{place}.pom", make_pom(artifact, version, more))).status == 201


async def sample(repository: FakeRepository) -> None:
    for version in ("1.0", "1.10", "1.9", "2.0-rc1", "1.0-alpha-1"):
        await deploy(repository, "demo", version)
    for build in (1, 2):
        name = f"demo-1.1-20240101.12000{build}-{build}"
        pom_bytes = make_pom("demo", "1.1-SNAPSHOT")
        for suffix, data in ((".pom", pom_bytes), (".jar", b"%d" % build), ("-sources.jar", b"s")):
            await put(repository, f"{DEMO}/1.1-SNAPSHOT/{name}{suffix}", data)
    descriptor = PLUGIN.format(artifact="tool-plugin")
    await deploy(
        repository,
        "tool-plugin",
        "1",
        "<packaging>maven-plugin</packaging>",
        jar({pom.DESCRIPTOR: descriptor}),
    )
    archetype = "<packaging>maven-archetype</packaging><description>A &amp; B</description>"
    for version in ("1", "2"):
        await deploy(repository, "start", version, archetype)


def values(document: bytes, path: str) -> list[str | None]:
    return [each.text for each in ET.fromstring(document).findall(path)]


# --- files and checksums ------------------------------------------------------------------------
async def test_releases_are_immutable_and_repeatable() -> None:
    repository = FakeRepository()
    path = f"{DEMO}/1.0/demo-1.0.jar"
    assert (await put(repository, path, b"one")).status == 201
    assert (await put(repository, path, b"one")).status == 200
    refused = await put(repository, path, b"two")
    assert (refused.status, refused.headers["content-type"]) == (409, "text/plain; charset=utf-8")
    found = await get(repository, path)
    assert found.body == b"one"
    assert found.headers["content-type"] == "application/java-archive"
    assert found.headers["x-checksum-sha1"] == hashlib.sha1(b"one").hexdigest()
    assert found.headers["x-checksum-md5"] == hashlib.md5(b"one").hexdigest()
    assert found.response.immutable


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
async def test_checksums_are_computed_and_verified(algorithm: str) -> None:
    repository = FakeRepository()
    path = f"{DEMO}/1.0/demo-1.0.module"
    await put(repository, path, b"{}")
    value = hashlib.new(algorithm, b"{}").hexdigest()
    served = await get(repository, f"{path}.{algorithm}")
    assert (served.status, served.body.decode()) == (200, value)
    assert served.headers["content-type"].startswith("text/plain")
    for text in (value, f"{value}  demo-1.0.module\n", f"X (y) = {value.upper()}"):
        assert (await put(repository, f"{path}.{algorithm}", text.encode())).status == 201
    wrong = hashlib.new(algorithm, b"?").hexdigest()
    for text in (wrong, "", "<html>"):
        assert (await put(repository, f"{path}.{algorithm}", text.encode())).status == 400
    missing = await get(repository, f"{DEMO}/1.0/none.jar.{algorithm}")
    assert missing.status == 404
    assert missing.headers["content-type"].startswith("text/plain")
    assert len(repository.files) == 1, "checksums are not stored"


async def test_a_checksum_may_come_before_its_file() -> None:
    repository = FakeRepository()
    path = f"{DEMO}/1.0/demo-1.0.jar"
    digest = hashlib.sha1(b"good").hexdigest().encode()
    assert (await put(repository, f"{path}.sha1", digest)).status == 201
    assert (await put(repository, path, b"bad")).status == 400
    assert (await put(repository, path, b"good")).status == 201
    assert not await repository.staged("org.example:demo")


async def test_declared_digests_are_verified() -> None:
    repository = FakeRepository()
    path = f"{DEMO}/1.0/demo-1.0.jar"
    headers = {"X-Checksum-Sha1": hashlib.sha1(b"good").hexdigest()}
    assert (await put(repository, path, b"bad", headers)).status == 400
    assert (await put(repository, path, b"good", headers)).status == 201


async def test_deleting_files_and_versions() -> None:
    repository = FakeRepository()
    await sample(repository)
    for path, status in (
        (f"{DEMO}/1.0/demo-1.0.jar", 204),
        (f"{DEMO}/1.0/demo-1.0.jar", 404),
        (f"{DEMO}/1.10/", 204),
        ("/nothing", 404),
    ):
        assert (await perform(FORMAT, "DELETE", path, repository)).status == status
    listed = values((await get(repository, f"{DEMO}/maven-metadata.xml")).body, ".//version")
    assert "1.10" not in listed
    assert "1.0" in listed
    assert (await put(repository, f"{DEMO}/1.10/demo-1.10.jar", b"other")).status == 409


# --- metadata -----------------------------------------------------------------------------------
async def test_version_metadata() -> None:
    repository = FakeRepository()
    await sample(repository)
    found = await get(repository, f"{DEMO}/maven-metadata.xml")
    assert found.headers["content-type"] == "text/xml"
    assert values(found.body, ".//versions/version") == [
        "1.0-alpha-1",
        "1.0",
        "1.1-SNAPSHOT",
        "1.9",
        "1.10",
        "2.0-rc1",
    ]
    assert values(found.body, ".//release") == ["2.0-rc1"]
    assert values(found.body, ".//latest") == ["2.0-rc1"]
    (updated,) = values(found.body, ".//lastUpdated")
    assert updated is not None
    assert len(updated) == 14
    sidecar = await get(repository, f"{DEMO}/maven-metadata.xml.sha1")
    assert sidecar.body.decode() == hashlib.sha1(found.body).hexdigest()
    assert found.headers["x-checksum-sha1"] == sidecar.body.decode()


async def test_a_version_is_listed_once_its_pom_is_here() -> None:
    repository = FakeRepository()
    await put(repository, f"{DEMO}/3.0/demo-3.0.jar", b"x")
    assert (await get(repository, f"{DEMO}/maven-metadata.xml")).status == 404
    await put(repository, f"{DEMO}/3.0/demo-3.0.pom", make_pom("demo", "3.0"))
    found = await get(repository, f"{DEMO}/maven-metadata.xml")
    assert values(found.body, ".//version") == ["3.0"]


async def test_snapshot_metadata_names_the_newest_build() -> None:
    repository = FakeRepository()
    await sample(repository)
    document = (await get(repository, f"{DEMO}/1.1-SNAPSHOT/maven-metadata.xml")).body
    assert values(document, ".//snapshot/timestamp") == ["20240101.120002"]
    assert values(document, ".//snapshot/buildNumber") == ["2"]
    assert values(document, ".//snapshotVersion/value") == ["1.1-20240101.120002-2"] * 3
    assert values(document, ".//snapshotVersion/extension") == ["jar", "pom", "jar"]
    assert values(document, ".//snapshotVersion/classifier") == ["sources"]
    assert values(document, ".//snapshotVersion/updated") == ["20240101120002"] * 3


async def test_snapshots_without_timestamps_are_replaced() -> None:
    repository = FakeRepository()
    path = f"{DEMO}/1.1-SNAPSHOT/demo-1.1-SNAPSHOT.jar"
    assert [(await put(repository, path, data)).status for data in (b"1", b"2", b"2")] == [
        201,
        200,
        200,
    ]
    found = await get(repository, path)
    assert (found.body, found.response.immutable) == (b"2", False)
    unique = f"{DEMO}/1.1-SNAPSHOT/demo-1.1-20240101.120000-1.jar"
    assert (await put(repository, unique, b"1")).status == 201
    assert (await put(repository, unique, b"2")).status == 409


async def test_group_metadata_is_the_union_of_plugins() -> None:
    repository = FakeRepository()
    await sample(repository)
    await deploy(repository, "other-maven-plugin", "1")
    sent = (
        b"<metadata><plugins><plugin><name>Other</name><prefix>other</prefix>"
        b"<artifactId>other-maven-plugin</artifactId></plugin></plugins></metadata>"
    )
    assert (await put(repository, "/org/example/maven-metadata.xml", sent)).status == 201
    found = await get(repository, "/org/example/maven-metadata.xml")
    assert values(found.body, ".//prefix") == ["other", "demo"]
    assert values(found.body, ".//artifactId") == ["other-maven-plugin", "tool-plugin"]


async def test_metadata_that_clients_send_changes_nothing() -> None:
    repository = FakeRepository()
    await deploy(repository, "demo", "1.0")
    before = (await get(repository, f"{DEMO}/maven-metadata.xml")).body
    stale = (
        b"<metadata><versioning><versions><version>9</version></versions></versioning></metadata>"
    )
    assert (await put(repository, f"{DEMO}/maven-metadata.xml", stale)).status == 201
    digest = hashlib.sha1(stale).hexdigest().encode()
    assert (await put(repository, f"{DEMO}/maven-metadata.xml.sha1", digest)).status == 201
    assert (await get(repository, f"{DEMO}/maven-metadata.xml")).body == before


async def test_archetypes() -> None:
    repository = FakeRepository()
    await sample(repository)
    document = (await get(repository, "/archetype-catalog.xml")).body
    assert values(document, ".//archetype/version") == ["1", "2"]
    assert values(document, ".//archetype/description") == ["A & B", "A & B"]
    sidecar = await get(repository, "/archetype-catalog.xml.md5")
    assert sidecar.body.decode() == hashlib.md5(document).hexdigest()


async def test_folders() -> None:
    repository = FakeRepository()
    assert (await get(repository, "/")).status == 200
    await sample(repository)

    async def children(path: str) -> list[str]:
        found = await get(repository, path, "application/json")
        return list(json.loads(found.body)["children"])

    assert await children("/") == ["org/"]
    assert await children("/org") == ["example/"]
    assert await children("/org/example/") == ["demo/", "start/", "tool-plugin/"]
    assert "1.10/" in await children(f"{DEMO}/")
    assert await children(f"{DEMO}/1.0") == ["demo-1.0.jar", "demo-1.0.pom"]
    page = await get(repository, f"{DEMO}/1.0/")
    assert b'<a href="./demo-1.0.pom">' in page.body
    assert (await get(repository, "/org/exam")).status == 404


async def test_checksums_that_were_not_computed() -> None:
    repository = FakeRepository()
    path = f"{DEMO}/1.0/demo-1.0.jar"
    await put(repository, path, b"x")
    held = repository.files[path[1:]]
    repository.files[path[1:]] = replace(held, checksums={"sha256": held.digest.hex})
    found = await get(repository, f"{path}.sha1")
    assert found.body.decode() == hashlib.sha1(b"x").hexdigest()


async def test_signatures_are_kept() -> None:
    repository = FakeRepository()
    path = f"{DEMO}/1.0/demo-1.0.jar.asc"
    assert (await put(repository, path, b"-----BEGIN")).status == 201
    assert (await get(repository, path)).body == b"-----BEGIN"
    assert repository.files[path[1:]].role == "signature"


# --- POMs ---------------------------------------------------------------------------------------
async def test_a_pom_must_be_of_its_path() -> None:
    repository = FakeRepository()
    path = f"{DEMO}/1.0/demo-1.0.pom"
    inherited = (
        b"<project><parent><groupId>org.example</groupId><artifactId>up</artifactId>"
        b"<version>1.0</version></parent><artifactId>demo</artifactId></project>"
    )
    for wrong in (
        make_pom("demo", "2.0"),
        make_pom("other", "1.0"),
        make_pom("demo", "1.0", group="org"),
        b"<project/>",
        b"<html/>",
        b"not xml",
        b'<!DOCTYPE project [<!ENTITY x "y">]>' + make_pom("demo", "1.0"),
        b'<?xml version="1.0" encoding="no-such"?>' + make_pom("demo", "1.0"),
        b"<a>" * 100_000,
    ):
        refused = await put(repository, path, wrong)
        assert refused.status == 400, wrong[:80]
    assert (await put(repository, path, inherited)).status == 201
    sbt = "/org/example/tool_2.12_1.0/1/tool-1.pom"
    assert (await put(repository, sbt, make_pom("tool", "1"))).status == 201
    friendly = "/org/example/ci/1/ci-1.pom"
    assert (await put(repository, friendly, make_pom("ci", "${revision}"))).status == 201


def test_what_is_kept_of_a_pom() -> None:
    more = (
        "<packaging>war</packaging><name>N</name><licenses><license><name>MIT</name><url>u</url>"
        "</license></licenses><dependencies><dependency><groupId>g</groupId>"
        "<artifactId>a</artifactId><version>1</version><scope>test</scope></dependency>"
        "</dependencies>"
    )
    found = pom.read_pom(make_pom("demo", "1.0", more))
    assert found["packaging"] == "war"
    assert found["licenses"] == [{"name": "MIT", "url": "u"}]
    assert found["dependencies"] == [
        {"groupId": "g", "artifactId": "a", "version": "1", "scope": "test"}
    ]


async def test_hostile_jars() -> None:
    repository = FakeRepository()
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as archive:
        archive.writestr(pom.DESCRIPTOR, "<plugin/>")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(pom.DESCRIPTOR, "<plugin/>")
    for name, data in (
        ("twice", twice.getvalue()),
        ("climb", jar({"../x": ""})),
        ("cut", jar({"x": "y"})[:-4]),
        ("xml", jar({pom.DESCRIPTOR: "<plugin"})),
    ):
        assert (await put(repository, f"/g/{name}/1/{name}-1.jar", data)).status == 400
    assert (await put(repository, "/g/a/1/a-1.jar", b"not a zip")).status == 201


# --- layout and order ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("version", "filename", "expected"),
    [
        ("1.0", "a-1.0.jar", ("1.0", "", "jar", "")),
        ("1.0", "a-1.0-sources.jar", ("1.0", "sources", "jar", "")),
        ("1.0", "a-1.0-jdk1.5.jar", ("1.0", "jdk1.5", "jar", "")),
        ("1.0", "a-1.0-bin.tar.gz", ("1.0", "bin", "tar.gz", "")),
        ("1.0", "a-1.0.tar.gz.asc", ("1.0", "", "tar.gz.asc", "")),
        ("1.0", "a-1.0.pom.asc", ("1.0", "", "pom.asc", "")),
        ("1.0", "b-1.0.jar", None),
        ("1.0", "a-1.0", None),
        ("1-SNAPSHOT", "a-1-SNAPSHOT-x.jar", ("1-SNAPSHOT", "x", "jar", "")),
        (
            "1.0-SNAPSHOT",
            "a-1.0-20240101.120000-1.jar",
            ("1.0-20240101.120000-1", "", "jar", "20240101.120000"),
        ),
        (
            "1.0-SNAPSHOT",
            "a-1.0-20240101.120000-12-all.jar",
            ("1.0-20240101.120000-12", "all", "jar", "20240101.120000"),
        ),
        ("1.0-SNAPSHOT", "a-1.0-x.jar", None),
    ],
)
def test_filenames(version: str, filename: str, expected: tuple[str, ...] | None) -> None:
    found = layout.split_filename("a", version, filename)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert (found.value, found.classifier, found.extension, found.stamp) == expected


@pytest.mark.parametrize(
    "path",
    ["/a", "/a/b", "/a/b/c", "/a b/c/1/c-1.jar", "/g/a/1%22/a-1.jar", "/g/a/1/a-1-%EF%BF%BE.jar"],
)
async def test_other_paths_are_refused(path: str) -> None:
    assert (await put(FakeRepository(), path, b"x")).status == 400


# Orders that Maven's own documentation and tests state.
QUALIFIERS = (
    "1-alpha2snapshot 1-alpha2 1-alpha-123 1-beta-2 1-beta123 1-m2 1-m11 1-rc 1-cr2 1-rc123"
    " 1-SNAPSHOT 1 1-sp 1-sp2 1-sp123 1-abc 1-def 1-pom-1 1-1-snapshot 1-1 1-2 1-123"
)
NUMBERS = (
    "2.0 2.0.a 2-1 2.0.2 2.0.123 2.1.0 2.1-a 2.1b 2.1-c 2.1-1 2.1.0.1 2.2 2.123 11.a2 11.a11"
    " 11.b2 11.b11 11.m2 11.m11 11 11.a 11b 11c 11m"
)
EQUAL = "1=1.0 1=1-0.0 1a=1-a 1.x=1-x 1ga=1 1.final=1 1cr=1rc 1a1=1-alpha-1 1m3=1-milestone-3 1X=1x"


@pytest.mark.parametrize("order", [QUALIFIERS, NUMBERS])
def test_the_known_orders(order: str) -> None:
    known = order.split()
    for at, older in enumerate(known):
        for newer in known[at + 1 :]:
            assert versions.compare(older, newer) < 0, (older, newer)
            assert versions.compare(newer, older) > 0, (newer, older)
    assert versions.ordered(reversed(known)) == known


@pytest.mark.parametrize("pair", EQUAL.split())
def test_the_known_equals(pair: str) -> None:
    left, _, right = pair.partition("=")
    assert versions.compare(left, right) == 0


VERSION_TEXT = st.text("012.-aαlphrcsSNx_+", max_size=20)


@settings(max_examples=300, deadline=None)
@given(VERSION_TEXT, VERSION_TEXT)
def test_any_two_versions_compare(left: str, right: str) -> None:
    assert versions.compare(left, right) == -versions.compare(right, left)
    assert versions.compare(left, left) == 0


def test_a_long_version_is_no_danger() -> None:
    assert versions.compare("1-" * 120, "1." * 120) != 2


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120) | st.text(max_size=80).map(str.encode))
def test_any_bytes_are_a_pom_or_refused(data: bytes) -> None:
    for content in (data, b"<project>" + data + b"</project>"):
        try:
            pom.read_pom(content)
        except ManifestInvalidError:
            continue


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40) | st.lists(st.text("a1.-S", max_size=5), max_size=6).map("/".join))
def test_any_path_is_read_or_refused(path: str) -> None:
    try:
        place = layout.read_path(path)
    except PathInvalidError:
        return
    assert place.group
    assert place.is_mutable in {True, False}


async def test_a_folder_costs_no_more_looks_than_it_has_entries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Below one entry lie many packages: they are passed over, and nothing is overlooked."""
    monkeypatch.setattr(reading, "PAGE", 2)
    repository, looks = FakeRepository(), 0
    names = [f"org.big.g{n}:a{n}" for n in range(50)]
    names += ["org:top", "org.big:own", "org.big-x:y", "org.bigger:z", "org.a.b:c", "com:x"]
    for name in names:
        repository.tags[name, "t"] = Pointer("maven", name, "t", b"", 0.0, ())
    packages = repository.packages

    async def counted(**asked: Any) -> Sequence[str]:
        nonlocal looks
        looks += 1
        return await packages(**asked)

    monkeypatch.setattr(repository, "packages", counted)

    async def children(path: str) -> list[str]:
        found = await get(repository, path, "application/json")
        return list(json.loads(found.body)["children"])

    assert await children("/") == ["com/", "org/"]
    assert await children("/org") == ["a/", "big-x/", "big/", "bigger/", "top/"]
    assert looks < 20
    assert len(await children("/org/big")) == 51
