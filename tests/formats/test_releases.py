"""Releases: what each format says a version is, brought into another repository and out again."""

from __future__ import annotations

import importlib

import pytest

import formats
from formats.contract import Format, Publish, Response
from formats.debian import FORMAT as DEBIAN
from formats.maven import FORMAT as MAVEN
from formats.oci import FORMAT as OCI
from formats.oci import documents
from formats.pypi import FORMAT as PYPI
from formats.releases import Release
from store.errors import ConflictError, DeniedError, NotFoundError, VersionExistsError
from tests.formats import test_debian, test_maven, test_oci, test_pypi
from tests.formats.fake import FakeRepository, perform

each_format = pytest.mark.parametrize("fmt", formats.discover(), ids=lambda each: each.name)


def beside(source: FakeRepository, **options: object) -> FakeRepository:
    """Another repository of the same node: what one stores, the other can read."""
    return FakeRepository("target", options=options, blobs=source.blobs)


async def bring(fmt: Format, release: Release, target: FakeRepository) -> None:
    target.apply(Publish(tuple(await fmt.releases.adopt(target, release)), Response()))


async def take_out(fmt: Format, package: str, version: str, target: FakeRepository) -> None:
    release = await fmt.releases.read(target, package, version)
    facts = await fmt.releases.withdraw(target, release, "test")
    target.apply(Publish(tuple(facts), Response()))


@each_format
async def test_every_version_can_be_brought_and_taken_out_again(fmt: Format) -> None:
    source = FakeRepository()
    await importlib.import_module(f"tests.formats.test_{fmt.name}").sample(source)
    target = beside(source)
    releases = []
    for package, version in sorted({fmt.releases.place(e) async for e in source.all_artifacts()}):
        try:
            releases.append(await fmt.releases.read(source, package, version))
        except NotFoundError:
            assert fmt.name in {"oci", "generic"}, "a referrer or revision is no version"
    for release in releases:
        await bring(fmt, release, target)
    there = {(each.path, each.digest) async for each in target.all_artifacts()}
    assert there == {(e.path, e.digest) for r in releases for e in (*r.files, *r.shared)}
    for release in releases:
        own = await fmt.releases.read(target, release.package, release.version)
        assert own.content == release.content
    for release in releases:
        try:
            await take_out(fmt, release.package, release.version, target)
        except NotFoundError:
            continue  # it went with an index that named it
    shared = {each.path for release in releases for each in release.shared}
    assert {each.path async for each in target.all_artifacts()} <= shared


async def test_an_unknown_version_is_not_found() -> None:
    for fmt in formats.discover():
        with pytest.raises(NotFoundError):
            await fmt.releases.read(FakeRepository(), "none", "1")


# --- images -------------------------------------------------------------------------------------
async def signed_index(repository: FakeRepository) -> tuple[bytes, bytes, bytes]:
    """An index of one image, a signature on it by subject, and another by tag."""
    for blob in (b"layer", b"signature", b"old signature", test_oci.CONFIG):
        await test_oci.push_blob(repository, "app", blob)
    image = test_oci.image(b"layer")
    await test_oci.push(repository, "app", test_oci.sha256(image), image)
    entry = test_oci.descriptor(image, documents.OCI_MANIFEST)
    index = documents.msgspec.json.encode(
        {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": [entry]}
    )
    pushed = await test_oci.push(repository, "app", "1.0", index, documents.OCI_INDEX)
    assert pushed.status == 201, pushed.body
    subject = test_oci.descriptor(index, documents.OCI_INDEX)
    signature = test_oci.image(b"signature", subject=subject)
    await test_oci.push(repository, "app", test_oci.sha256(signature), signature)
    old = test_oci.image(b"old signature")
    tag = test_oci.sha256(index).replace(":", "-") + ".sig"
    await test_oci.push(repository, "app", tag, old)
    return index, signature, old


async def test_an_index_brings_its_platforms_and_signatures() -> None:
    source = FakeRepository()
    index, signature, old = await signed_index(source)
    target = beside(source)
    await bring(OCI, await OCI.releases.read(source, "app", "1.0"), target)
    for reference in ("1.0", test_oci.sha256(signature), test_oci.sha256(old)):
        answer = await perform(OCI, "GET", f"/app/manifests/{reference}", target)
        assert answer.status == 200, reference
    referrers = await perform(OCI, "GET", f"/app/referrers/{test_oci.sha256(index)}", target)
    assert test_oci.sha256(signature).encode() in referrers.body
    tags = await perform(OCI, "GET", "/app/tags/list", target)
    assert b".sig" in tags.body
    await take_out(OCI, "app", test_oci.sha256(index), target)
    assert {each.role for each in target.files.values()} == {"layer", "config"}
    assert {mark.name for mark in await target.flags("app")} == {"unused"}
    await bring(OCI, await OCI.releases.read(source, "app", "1.0"), target)
    assert not await target.flags("app"), "named again, so no longer marked"


async def test_a_platform_stays_that_another_index_names() -> None:
    source = FakeRepository()
    await signed_index(source)
    image = test_oci.image(b"layer")
    target = beside(source)
    await bring(OCI, await OCI.releases.read(source, "app", "1.0"), target)
    own = await OCI.releases.read(target, "app", test_oci.sha256(image))
    facts = await OCI.releases.withdraw(target, own, "test")
    assert facts == [], "the index still needs it"


async def test_frozen_tags_do_not_move() -> None:
    source = FakeRepository()
    await signed_index(source)
    target = beside(source, immutable_tags=["1.*"])
    await bring(OCI, await OCI.releases.read(source, "app", "1.0"), target)
    other = test_oci.image(b"layer", annotations={"a": "b"})
    await test_oci.push(source, "app", "1.0", other)
    with pytest.raises(ConflictError, match="immutable"):
        await OCI.releases.adopt(target, await OCI.releases.read(source, "app", "1.0"))


# --- the others ---------------------------------------------------------------------------------
async def test_a_plugin_brings_its_groups_entry_until_its_last_version_goes() -> None:
    source = FakeRepository()
    await test_maven.sample(source)
    places = {MAVEN.releases.place(each) async for each in source.all_artifacts()}
    plugins = [
        release
        for place in sorted(places)
        if (release := await MAVEN.releases.read(source, *place)).pointers
    ]
    assert plugins
    target = beside(source)
    for release in plugins:
        await bring(MAVEN, release, target)
    for release in plugins:
        assert target.tags, release
        await take_out(MAVEN, release.package, release.version, target)
    assert not target.tags


async def test_an_upstream_tarball_is_shared_between_revisions() -> None:
    source = FakeRepository()
    await test_debian.send_source(source)
    release = await DEBIAN.releases.read(source, "demo", "2.0-1")
    names = {each.filename for each in release.files}
    assert {"demo_2.0-1.dsc", "demo_2.0.orig.tar.gz", "demo_2.0-1_amd64.deb"} <= names
    assert release.shared == ()
    assert release.pointers, "its places in suites"


async def test_a_build_with_other_bytes_is_refused_wherever_it_lies() -> None:
    source, target = FakeRepository(), FakeRepository("target")
    await test_debian.put(source, "/pool/main/d/demo/demo_1.0_amd64.deb", test_debian.make_deb())
    other = test_debian.make_deb(files={"other": b"bytes"})
    await test_debian.put(target, "/pool/contrib/d/demo/demo_1.0_amd64.deb", other)
    with pytest.raises(VersionExistsError, match=r"demo_1.0_amd64.deb exists with other bytes"):
        await DEBIAN.releases.adopt(target, await DEBIAN.releases.read(source, "demo", "1.0"))


async def test_an_archived_project_takes_nothing() -> None:
    source = FakeRepository()
    await test_pypi.sample(source)
    target = beside(source)
    release = await PYPI.releases.read(source, "Demo", "v1.0")
    await bring(PYPI, release, target)
    await perform(PYPI, "PUT", "/status/demo", target, body=b'{"status": "archived"}')
    with pytest.raises(DeniedError, match="archived"):
        await PYPI.releases.adopt(target, release)
