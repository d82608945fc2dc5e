"""Debian: packages, suites, signed sets, the upload queue, hostile archives."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest
import zstandard
from debian.deb822 import Deb822, Packages, Release, Sources
from debian.debian_support import NativeVersion
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.debian import FORMAT, contents, control, deb, versions
from formats.debian.twins import Text
from store.errors import ManifestInvalidError, RegistryError
from tests.formats.fake import FakeRepository, Result, perform

INDEXES = (
    "/dists/stable/InRelease",
    "/dists/stable/Release",
    "/dists/stable/Release.gpg",
    "/dists/stable/main/binary-amd64/Packages",
    "/dists/stable/main/binary-arm64/Packages.gz",
    "/dists/stable/main/binary-amd64/Packages.xz",
    "/dists/stable/main/binary-amd64/Packages.zst",
    "/dists/stable/main/Contents-amd64.gz",
    "/dists/stable/main/i18n/Translation-en",
    "/dists/testing/main/source/Sources",
    "/Packages",
    "/InRelease",
)
STABLE = "/dists/stable"
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def ar(members: list[tuple[str, bytes]]) -> bytes:
    out = bytearray(b"!<arch>\n")
    for name, data in members:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        out += data + b"\n" * (len(data) % 2)
    return bytes(out)


def tar(files: dict[str, bytes | str]) -> bytes:
    """A tar of files; a string is a symbolic link's target."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"./{name}")
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
                archive.addfile(info)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def make_deb(
    name: str = "demo",
    version: str = "1.0",
    architecture: str = "amd64",
    more: str = "Section: utils\n",
    suffix: str = ".xz",
    files: dict[str, bytes | str] | None = None,
) -> bytes:
    compress = COMPRESS[suffix]
    text = (
        f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n"
        f"Maintainer: A <a@example.org>\n{more}Description: short\n long\n .\n text\n"
    )
    data: dict[str, bytes | str] = {
        f"usr/bin/{name}": b"x",
        "usr/share/common": b"y",
        "etc/link": "/absolute",
        "usr/a\\x2d.unit": b"",
    }
    return ar(
        [
            ("debian-binary", b"2.0\n"),
            (f"control.tar{suffix}", compress(tar({"control": text.encode(), "md5sums": b""}))),
            (f"data.tar{suffix}", compress(tar(files or data))),
        ]
    )


async def put(repository: FakeRepository, path: str, body: bytes) -> Result:
    return await perform(FORMAT, "PUT", path, repository, body=body)


async def get(repository: FakeRepository, path: str) -> Result:
    return await perform(FORMAT, "GET", path, repository)


async def upload(repository: FakeRepository, body: bytes, query: str = "") -> Result:
    return await perform(FORMAT, "POST", f"/upload{query}", repository, body=body)


async def sample(repository: FakeRepository) -> None:
    for version in ("1.0", "1.0~rc1", "1:0.5", "1.10", "1.9"):
        path = f"/pool/main/d/demo/demo_{versions.without_epoch(version)}_amd64.deb"
        assert (await put(repository, path, make_deb(version=version))).status == 201
    assert (await upload(repository, make_deb("tool", architecture="all"))).status == 201
    assert (await upload(repository, make_deb("libz", architecture="arm64"))).status == 201
    assert (await upload(repository, make_deb("new"), "?dist=testing&comp=contrib")).status == 201
    await send_source(repository)


def listed(data: bytes) -> list[tuple[str, str]]:
    return [
        (each["Package"], each["Version"])
        for each in Packages.iter_paragraphs(data, use_apt_pkg=False)
    ]


# --- packages -----------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
async def test_a_package_is_published_and_listed(suffix: str) -> None:
    repository = FakeRepository()
    body = make_deb(more="Section: utils\nDepends: libc6 (>= 2.36)\n", suffix=suffix)
    path = "/pool/main/d/demo/demo_1.0_amd64.deb"
    assert (await put(repository, path, body)).status == 201
    assert (await put(repository, path, body)).status == 201
    found = await get(repository, path)
    assert found.body == body
    assert found.headers["content-type"] == "application/vnd.debian.binary-package"
    document = (await get(repository, f"{STABLE}/main/binary-amd64/Packages")).body
    (entry,) = Packages.iter_paragraphs(document, use_apt_pkg=False)
    assert entry["Filename"] == path[1:]
    assert entry["Size"] == str(len(body))
    assert entry["SHA256"] == hashlib.sha256(body).hexdigest()
    assert entry["MD5sum"] == hashlib.md5(body).hexdigest()
    assert entry["Depends"] == "libc6 (>= 2.36)"
    assert entry["Description"] == "short\n long\n .\n text"
    key = hashlib.md5(b"short\n long\n .\n text\n").hexdigest()
    assert entry["Description-md5"] == key
    translation = (await get(repository, f"{STABLE}/main/i18n/Translation-en")).body
    (described,) = Deb822.iter_paragraphs(translation, use_apt_pkg=False)
    assert (described["Description-md5"], described["Description-en"]) == (
        key,
        "short\n long\n .\n text",
    )


async def test_a_build_has_one_content() -> None:
    repository = FakeRepository()
    assert (await upload(repository, make_deb())).status == 201
    other = make_deb(files={"a": b"b"})
    assert (await upload(repository, other)).status == 409
    assert (await put(repository, "/pool/main/demo_1.0_amd64.deb", other)).status == 409
    assert (await upload(repository, make_deb(architecture="arm64"))).status == 201


async def test_where_uploads_go() -> None:
    repository = FakeRepository()
    answer = await upload(repository, make_deb("libfoo1", "2:1-1", more="Source: libfoo (2:1-1)\n"))
    assert answer.body == b"pool/main/libf/libfoo/libfoo1_1-1_amd64.deb\n"
    answer = await upload(repository, make_deb("b"), "?comp=contrib&dist=a,b&dist=c")
    assert answer.status == 400, "names have two characters"
    answer = await upload(repository, make_deb("bb"), "?comp=contrib&dist=a,b&dist=c")
    assert answer.body == b"pool/contrib/b/bb/bb_1.0_amd64.deb\n"
    for suite in "abc":
        document = (await get(repository, f"/dists/{suite}/contrib/binary-amd64/Packages")).body
        assert listed(document) == [("bb", "1.0")]
    assert (await upload(repository, make_deb(), "?arch=arm64")).status == 400
    assert (await upload(repository, make_deb(), "?dist=../x")).status == 400
    assert (await upload(repository, make_deb(), "?comp=A")).status == 400
    wrong = await put(repository, "/pool/main/other_1.0_amd64.deb", make_deb())
    assert wrong.status == 400
    assert (await put(repository, "/pool/main/x.txt", b"x")).status == 400


async def test_the_order_of_versions_and_the_reach_of_all() -> None:
    repository = FakeRepository()
    await sample(repository)
    amd64 = listed((await get(repository, f"{STABLE}/main/binary-amd64/Packages")).body)
    assert amd64 == [
        ("demo", "1.0~rc1"),
        ("demo", "1.0"),
        ("demo", "1.9"),
        ("demo", "1.10"),
        ("demo", "1:0.5"),
        ("tool", "1.0"),
    ]
    arm64 = gzip.decompress((await get(repository, f"{STABLE}/main/binary-arm64/Packages.gz")).body)
    assert listed(arm64) == [("libz", "1.0"), ("tool", "1.0")]
    flat = listed((await get(repository, "/./Packages")).body)
    assert set(flat) == {*amd64, ("libz", "1.0"), ("new", "1.0"), ("demo", "2.0-1")}
    assert len(flat) == len(set(flat))


async def test_deleting_a_package() -> None:
    repository = FakeRepository()
    await sample(repository)
    path = "/pool/main/d/demo/demo_1.9_amd64.deb"
    for status in (204, 404):
        assert (await perform(FORMAT, "DELETE", path, repository)).status == status
    document = (await get(repository, f"{STABLE}/main/binary-amd64/Packages")).body
    assert ("demo", "1.9") not in listed(document)
    assert not [each for each in repository.files if "1.9" in each]


async def test_contents() -> None:
    repository = FakeRepository()
    await sample(repository)
    data = gzip.decompress((await get(repository, f"{STABLE}/main/Contents-amd64.gz")).body)
    lines = [line.split() for line in data.decode().splitlines()]
    assert ["usr/bin/demo", "utils/demo"] in lines
    assert ["usr/share/common", "utils/demo,utils/tool"] in lines
    assert ["etc/link", "utils/demo,utils/tool"] in lines
    assert lines == sorted(lines)


@pytest.mark.parametrize("end", ["\n", "\r"])
async def test_a_file_name_adds_no_line_to_contents(end: str) -> None:
    repository = FakeRepository()
    body = make_deb(files={f"usr/a{end}bin/sh utils/other": b"x"})
    assert (await upload(repository, body)).status == 400
    assert not repository.files


async def test_contents_are_sorted_outside_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "RUN_MAX", 200)
    monkeypatch.setattr(contents, "PIECE", 37)
    monkeypatch.setattr(contents, "FAN_IN", 3)
    repository = FakeRepository()
    sorter = contents.Sorter(repository)
    expected: dict[str, set[str]] = {}
    for number in range(40):
        paths = {f"usr/{number * 7 % 13}/{each}" for each in range(number % 5 + 1)}
        for each in paths:
            expected.setdefault(each, set()).add(f"s/p{number}")
        listing = "".join(f"{each}\n" for each in sorted(paths)).encode()
        await sorter.add(repository.add_blob(listing).digest, f"s/p{number}")
    async with repository.ingest() as ingest:
        text = Text(ingest)
        await sorter.write(text)
        await text.flush()
    lines = repository.blob(ingest.result.digest).decode().splitlines()
    found = {path: set(owners.split(",")) for path, owners in (line.split() for line in lines)}
    assert found == expected
    assert list(found) == sorted(found)


# --- suites -------------------------------------------------------------------------------------
async def test_one_set_vouches_for_every_index() -> None:
    repository = FakeRepository()
    await sample(repository)
    text = (await get(repository, f"{STABLE}/Release")).body
    signed = (await get(repository, f"{STABLE}/InRelease")).body
    assert text in signed
    assert (await get(repository, f"{STABLE}/Release.gpg")).body.startswith(b"-----BEGIN PGP SIG")
    release = Release(text)
    assert release["Date"] == formatdate(repository.modified, usegmt=True).replace("GMT", "UTC")
    assert release["Acquire-By-Hash"] == "yes"
    assert release["Architectures"] == "amd64 arm64"
    assert release["Components"] == "main"
    assert "Valid-Until" not in release
    names = {each["name"] for each in release["SHA256"]}
    assert {"main/binary-amd64/Packages.xz", "main/i18n/Translation-en.zst"} <= names
    for each in release["SHA256"]:
        data = (await get(repository, f"{STABLE}/{each['name']}")).body
        assert (len(data), hashlib.sha256(data).hexdigest()) == (int(each["size"]), each["sha256"])
        folder = each["name"].rpartition("/")[0]
        hashed = f"{STABLE}/{folder}/by-hash/SHA256/{each['sha256']}"
        assert (await get(repository, hashed)).body == data
    plain = (await get(repository, f"{STABLE}/main/binary-amd64/Packages")).body
    for suffix, expand in ((".gz", gzip.decompress), (".xz", lzma.decompress)):
        twin = await get(repository, f"{STABLE}/main/binary-amd64/Packages{suffix}")
        assert expand(twin.body) == plain
    assert twin.headers["content-type"] == "application/x-xz"


async def test_by_hash_keeps_three_generations() -> None:
    repository = FakeRepository()
    hashes = []
    for number in range(4):
        await upload(repository, make_deb(version=f"{number}"))
        data = (await get(repository, f"{STABLE}/main/binary-amd64/Packages")).body
        hashes.append(hashlib.sha256(data).hexdigest())
    answers = [
        await get(repository, f"{STABLE}/main/binary-amd64/by-hash/SHA256/{each}")
        for each in hashes
    ]
    assert [each.status for each in answers] == [404, 200, 200, 200]
    assert answers[-1].response.immutable
    for wrong in ("by-hash/MD5Sum/x", "by-hash/SHA256/x"):
        assert (await get(repository, f"{STABLE}/main/binary-amd64/{wrong}")).status == 404


async def test_empty_and_unknown_suites() -> None:
    repository = FakeRepository()
    assert (await get(repository, f"{STABLE}/InRelease")).status == 200
    assert (await get(repository, f"{STABLE}/main/binary-amd64/Packages")).body == b""
    assert (await get(repository, "/Packages")).status == 200
    for path in ("/dists/none/InRelease", "/dists/-/Release", f"{STABLE}/nothing", "/nothing"):
        assert (await get(repository, path)).status == 404
    assert repository.renders == 4, "stray names render nothing"
    for path in ("/gpg-key.asc", f"{STABLE}/gpg-key.asc"):
        assert b"PUBLIC KEY" in (await get(repository, path)).body


# --- sources and the queue ----------------------------------------------------------------------
def sums(files: dict[str, bytes]) -> str:
    lines = [f"\n {hashlib.sha256(d).hexdigest()} {len(d)} {n}" for n, d in files.items()]
    return "".join(lines)


def make_source() -> dict[str, bytes]:
    files = {"demo_2.0.orig.tar.gz": b"orig", "demo_2.0-1.debian.tar.xz": b"debian"}
    dsc = (
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"
        "Format: 3.0 (quilt)\nSource: demo\nBinary: demo\nVersion: 2.0-1\n"
        f"Architecture: any\nChecksums-Sha256:{sums(files)}\n"
        "-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n"
    )
    return {**files, "demo_2.0-1.dsc": dsc.encode()}


def make_changes(files: dict[str, bytes], section: str = "utils") -> bytes:
    entries = "".join(
        f"\n {hashlib.md5(d).hexdigest()} {len(d)} {section} optional {n}" for n, d in files.items()
    )
    return (
        "Format: 1.8\nSource: demo\nBinary: demo\nArchitecture: source amd64\nVersion: 2.0-1\n"
        f"Distribution: testing\nChecksums-Sha256:{sums(files)}\nFiles:{entries}\n"
    ).encode()


async def send_source(repository: FakeRepository, section: str = "utils") -> Result:
    files = {**make_source(), "demo_2.0-1_amd64.deb": make_deb(version="2.0-1")}
    for name, data in files.items():
        assert (await put(repository, f"/incoming/{name}", data)).status == 201
    changes = make_changes(files, section)
    return await put(repository, "/incoming/demo_2.0-1_amd64.changes", changes)


@pytest.mark.parametrize(("section", "component"), [("utils", "main"), ("contrib/net", "contrib")])
async def test_the_upload_queue(section: str, component: str) -> None:
    repository = FakeRepository()
    assert (await send_source(repository, section)).status == 201
    assert repository.revision == 1, "one publish"
    assert not await repository.staged("incoming/")
    folder = f"pool/{component}/d/demo"
    document = (await get(repository, f"/dists/testing/{component}/binary-amd64/Packages")).body
    assert listed(document) == [("demo", "2.0-1")]
    document = (await get(repository, f"/dists/testing/{component}/source/Sources")).body
    (entry,) = Sources.iter_paragraphs(document, use_apt_pkg=False)
    assert (entry["Package"], entry["Directory"]) == ("demo", folder)
    assert [each["name"] for each in entry["Checksums-Sha256"]] == [
        "demo_2.0-1.dsc",
        "demo_2.0.orig.tar.gz",
        "demo_2.0-1.debian.tar.xz",
    ]
    for each in entry["Checksums-Sha256"]:
        data = (await get(repository, f"/{folder}/{each['name']}")).body
        assert hashlib.sha256(data).hexdigest() == each["sha256"]


async def test_a_queue_that_does_not_fit() -> None:
    repository = FakeRepository()
    files = {"demo_2.0-1_amd64.deb": make_deb(version="2.0-1")}
    missing = await put(repository, "/incoming/a.changes", make_changes(files))
    assert (missing.status, b"has not been uploaded" in missing.body) == (400, True)
    await put(repository, "/incoming/demo_2.0-1_amd64.deb", make_deb(version="2.0-2"))
    assert (await put(repository, "/incoming/a.changes", make_changes(files))).status == 400
    for text in (b"", b"Source: demo\n", b"Source: ../x\nVersion: 1\n", b"\xff", b" x"):
        assert (await put(repository, "/incoming/a.changes", text)).status == 400
    assert (await put(repository, "/incoming/..%2Fx", b"")).status == 400
    assert repository.revision == 0


async def test_sources_may_come_one_by_one() -> None:
    repository = FakeRepository()
    files = make_source()
    for name in ("demo_2.0-1.dsc", "demo_2.0.orig.tar.gz", "demo_2.0-1.debian.tar.xz"):
        document = await get(repository, f"{STABLE}/main/source/Sources")
        assert not document.body or document.status == 404
        assert (await put(repository, f"/pool/main/d/demo/{name}", files[name])).status == 201
    document = await get(repository, f"{STABLE}/main/source/Sources")
    assert [
        each["Package"] for each in Sources.iter_paragraphs(document.body, use_apt_pkg=False)
    ] == ["demo"]


async def test_an_orig_tarball_may_be_in_the_pool_already() -> None:
    repository = FakeRepository()
    await send_source(repository)
    files = {**make_source(), "demo_2.0-1_amd64.deb": make_deb(version="2.0-1")}
    again = await put(repository, "/incoming/b.changes", make_changes(files))
    assert (again.status, repository.revision) == (201, 2)


def test_continuations_comments_and_signatures() -> None:
    text = b"# comment\nA: 1\n 2\nB:\n"
    assert control.read_paragraph(text) == {"A": "1\n 2", "B": ""}
    signed = f"{control.SIGNED}\nHash: x\n\n- -A: 1\n".encode()
    for cut in (signed, signed + b"- B: 2\n"):
        with pytest.raises(ManifestInvalidError):
            control.read_paragraph(cut)


@pytest.mark.parametrize(
    "line",
    ["x 1 a_1.tar.gz", f"{'0' * 64} 1 ../a", f"{'0' * 64} -1 a_1.tar.gz", f"{'0' * 64} 1"],
)
def test_malformed_lists_of_files(line: str) -> None:
    for text in (f"\n {line}", ""):
        with pytest.raises(ManifestInvalidError):
            control.listed_files({"Checksums-Sha256": text})


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("demo_2.0-2.dsc", ""),
        ("demo_2.0-1.dsc", "Version: 2.0_1"),
        ("demo_2.0-1.dsc", "Version: 2.0-1\nSource: x"),
    ],
)
async def test_bad_dscs(name: str, change: str) -> None:
    dsc = (
        make_source()["demo_2.0-1.dsc"]
        .decode()
        .replace("Version: 2.0-1", change or "Version: 2.0-1")
    )
    assert (await put(FakeRepository(), f"/pool/main/{name}", dsc.encode())).status == 400


# --- hostile input ------------------------------------------------------------------------------
def tar_twice(name: str, data: bytes) -> bytes:
    """A tar with one name in it two times."""
    one = tar({name: data})[: 512 + -(-len(data) // 512) * 512]
    return one + one + bytes(1024)


GOOD = make_deb()
CONTROL = gzip.compress(tar({"control": b"Package: demo\nVersion: 1\nArchitecture: all\n"}))
DATA = gzip.compress(tar({"a": b"b"}))
START = ("debian-binary", b"2.0\n")
HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "no ar": b"not an archive",
    "cut": GOOD[:-20],
    "long size": GOOD.replace(b"100644  4 ", b"100644  99", 1),
    "signed size": GOOD.replace(b"100644  4 ", b"100644  -4", 1),
    "no data": ar([START, ("control.tar.gz", CONTROL)]),
    "two controls": ar([START, ("control.tar.gz", CONTROL), ("control.tar.gz", CONTROL)]),
    "wrong order": ar([START, ("data.tar.gz", DATA), ("control.tar.gz", CONTROL)]),
    "extra": ar([START, ("control.tar.gz", CONTROL), ("data.tar.gz", DATA), ("more", b"")]),
    "version 3": ar([("debian-binary", b"3.0\n"), ("control.tar.gz", CONTROL), ("data.tar", b"")]),
    "odd name": ar([START, ("control.tar.exe", CONTROL), ("data.tar.gz", DATA)]),
    "path name": ar([START, ("../control.tar", CONTROL), ("data.tar.gz", DATA)]),
    "many": ar([START, *((f"_{each}", b"") for each in range(20))]),
    "no control": ar([START, ("control.tar.gz", DATA), ("data.tar.gz", DATA)]),
    "climbing": ar([START, ("control.tar.gz", CONTROL), ("data.tar", tar({"../x": b""}))]),
    "newline": ar([START, ("control.tar.gz", CONTROL), ("data.tar", tar({"a\nb": b""}))]),
    "control is a link": ar([START, ("control.tar", tar({"control": "x"})), ("data.tar.gz", DATA)]),
    "huge control": ar(
        [START, ("control.tar", tar({"control": bytes(2 << 20)})), ("data.tar.gz", DATA)]
    ),
    "two control files": ar(
        [START, ("control.tar", tar_twice("control", b"Package: a\n")), ("data.tar.gz", DATA)]
    ),
    "bomb": ar(
        [START, ("control.tar.gz", CONTROL), ("data.tar.gz", gzip.compress(bytes(40 << 20)))]
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_packages(name: str) -> None:
    repository = FakeRepository()
    answer = await upload(repository, HOSTILE[name])
    assert answer.status in {400, 413}
    assert isinstance(answer.error, RegistryError)
    assert repository.revision == 0


@pytest.mark.parametrize(
    "text",
    [
        "Package: demo\nVersion: 1\n",
        "Package: demo\nVersion: 1\nArchitecture: a b\n",
        "Package: Demo\nVersion: 1\nArchitecture: all\n",
        "Package: demo\nVersion: 1_2\nArchitecture: all\n",
        "Package: demo\nVersion: 1-\nArchitecture: all\n",
        "Package: ../demo\nVersion: 1\nArchitecture: all\n",
        "Package: demo\nSource: ../../x\nVersion: 1\nArchitecture: all\n",
        "Package: demo\nVersion: 1\nArchitecture: all\n\nPackage: two\n",
        "Package: demo\nversion: 2\nVersion: 1\nArchitecture: all\n",
        "Package: demo\nVersion: 1\nArchitecture: all\nno field\n",
        "Package: demo\nVersion: 1\nArchitecture: all\nX: a\x00b\n",
    ],
)
async def test_control_files_that_cannot_be_indexed(text: str) -> None:
    body = ar(
        [START, ("control.tar", tar({"control": text.encode()})), ("data.tar", tar({"a": b""}))]
    )
    assert (await upload(FakeRepository(), body)).status == 400


async def test_a_package_cannot_forge_what_the_index_says_of_it() -> None:
    repository = FakeRepository()
    more = "SHA256: 00\nFilename: /etc/passwd\nsize: 1\nDescription-md5: 0\nSection: x\n"
    await upload(repository, make_deb(more=more))
    document = (await get(repository, f"{STABLE}/main/binary-amd64/Packages")).body
    (entry,) = Packages.iter_paragraphs(document, use_apt_pkg=False)
    assert entry["SHA256"] != "00"
    assert entry["Filename"].startswith("pool/")
    assert document.lower().count(b"\nsize:") == 1


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_packages_are_read_or_refused(data: Any) -> None:
    body = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    try:
        found = deb.read_deb(io.BytesIO(bytes(body)))
    except RegistryError:
        return
    assert found.name


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80) | st.text("ab: \n\t#-.", max_size=60))
def test_any_paragraph_renders_to_what_it_was(text: str) -> None:
    try:
        found = control.read_paragraph(text.encode("utf-8", "replace"))
    except ManifestInvalidError:
        return
    again = control.read_paragraph(control.render(found.items()).encode())
    assert again == found


# --- versions -----------------------------------------------------------------------------------
UPSTREAM = st.text("0129ab~+.Z", max_size=8).map("1".__add__)
VERSION = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "0:", "1:"]),
    UPSTREAM,
    st.text("019a~+.", min_size=1, max_size=4).map("-".__add__) | st.just(""),
)


@settings(max_examples=400, deadline=None)
@given(VERSION, VERSION)
def test_versions_sort_as_dpkg_compares(left: str, right: str) -> None:
    assert versions.is_version(left)
    one, other = NativeVersion(left), NativeVersion(right)
    expected = (one > other) - (one < other)
    mine, theirs = versions.sort_key(left), versions.sort_key(right)
    assert (mine > theirs) - (mine < theirs) == expected
