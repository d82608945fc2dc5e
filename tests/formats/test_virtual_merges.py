"""What formats make of several members' documents.  Pure: bytes in, bytes out."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.debian.stanzas import UNPACKERS, Reader, fields_of, moved
from formats.debian.virtual import package_name
from formats.maven.virtual import Merged
from formats.npm import virtual as npm
from formats.oci.virtual import merge_tags
from formats.pypi import virtual as pypi
from formats.virtual import Document
from store.errors import ManifestInvalidError
from tests.formats.test_maven import values

PYPI_JSON = "application/vnd.pypi.simple.v1+json"


def document(member: int, data: object, kind: str = "application/json", **headers: str) -> Document:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return Document(member, f"m{member}", raw, kind, headers, lambda name: True)


# --- pypi ---------------------------------------------------------------------------------------
def page(member: int, files: Mapping[str, str], **more: object) -> Document:
    rows = [{"filename": f, "url": f, "hashes": {"sha256": d}} for f, d in files.items()]
    return document(member, {"files": rows, "name": "x", **more}, PYPI_JSON)


def test_files_are_united_and_the_first_member_tells_of_each() -> None:
    one = page(0, {"x-1.0.tar.gz": "aa"}, versions=["1.0"])
    two = page(1, {"x-1.0.tar.gz": "bb", "x-0.9.tar.gz": "cc", "x.exe": "dd"}, versions=["0.9"])
    found = pypi.merge([one, two])
    assert {e.filename: e.hashes["sha256"] for e in found.files} == {
        "x-1.0.tar.gz": "aa",
        "x-0.9.tar.gz": "cc",
        "x.exe": "dd",
    }
    assert found.versions == ["0.9", "1.0"]


def test_a_page_without_versions_leaves_none() -> None:
    assert pypi.merge([page(0, {}, versions=["1.0"]), page(1, {})]).versions == []


def test_html_and_json_pages_merge() -> None:
    text = b'<!DOCTYPE html><a href="x-2.0.tar.gz#sha256=' + b"e" * 64 + b'">x</a>'
    found = pypi.merge([page(0, {"x-1.0.tar.gz": "aa"}), document(1, text, "text/html")])
    assert [each.filename for each in found.files] == ["x-1.0.tar.gz", "x-2.0.tar.gz"]


# --- npm ----------------------------------------------------------------------------------------
def test_versions_and_tags_are_united() -> None:
    one = document(
        0,
        {
            "name": "x",
            "dist-tags": {"latest": "1.0.0", "gone": "7.0.0"},
            "versions": {"1.0.0": {"from": 0}},
            "time": {"created": "2002", "modified": "2003", "1.0.0": "2003"},
            "readme": "first",
        },
    )
    two = document(
        1,
        {
            "name": "x",
            "dist-tags": {"latest": "2.0.0", "next": "2.0.0"},
            "versions": {"1.0.0": {"from": 1}, "2.0.0": {"from": 1}},
            "time": {"created": "2001", "modified": "2009", "1.0.0": "2001", "2.0.0": "2009"},
            "readme": "second",
        },
    )
    found = json.loads(npm.encode(npm.merge([one, two])))
    assert found["versions"] == {"1.0.0": {"from": 0}, "2.0.0": {"from": 1}}
    assert found["dist-tags"] == {"latest": "1.0.0", "next": "2.0.0"}
    assert found["time"] == {
        "created": "2001",
        "modified": "2009",
        "1.0.0": "2003",
        "2.0.0": "2009",
    }
    assert found["readme"] == "first"


# --- oci ----------------------------------------------------------------------------------------
TAGS = st.sets(st.sampled_from("abcdefgh"), max_size=8)


@given(TAGS, TAGS, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_paging_through_a_union_misses_and_repeats_nothing(
    ours: set[str], theirs: set[str], page: int, small: int, large: int
) -> None:
    """Members that give shorter pages than asked for do not hide tags of the others."""
    seen: list[str] = []
    last = ""
    for _ in range(40):
        documents = []
        for number, (tags, size) in enumerate(((ours, small), (theirs, large))):
            left = sorted(each for each in tags if each > last)
            more = {"link": "<x>; rel=next"} if len(left) > size else {}
            documents.append(document(number, {"tags": left[:size]}, **more))
        shown, more_follow = merge_tags(documents, page)
        seen += shown
        if not more_follow:
            break
        last = shown[-1]
    assert seen == sorted(ours | theirs)


# --- maven --------------------------------------------------------------------------------------
def metadata(*documents: bytes, allowed: set[tuple[int, str]] | None = None) -> bytes:
    merged = Merged()
    for number, data in enumerate(documents):
        merged.add(document(number, data), allowed or set())
    return merged.render()


def versions(*listed: str, updated: str = "20240101000000", extra: str = "") -> bytes:
    rows = "".join(f"<version>{each}</version>" for each in listed)
    return (
        f"<metadata><groupId>g</groupId><artifactId>a</artifactId><versioning>{extra}<versions>"
        f"{rows}</versions><lastUpdated>{updated}</lastUpdated></versioning></metadata>"
    ).encode()


def test_versions_are_united_in_mavens_order() -> None:
    one = versions("1.10", "1.9", updated="20240101000000")
    two = versions("1.9", "2.0-SNAPSHOT", updated="20250101000000")
    found = metadata(one, two, b"not xml", b"<!DOCTYPE x><metadata/>")
    assert values(found, "versioning/versions/version") == ["1.9", "1.10", "2.0-SNAPSHOT"]
    assert values(found, "versioning/latest") == ["2.0-SNAPSHOT"]
    assert values(found, "versioning/release") == ["1.10"]
    assert values(found, "versioning/lastUpdated") == ["20250101000000"]


def snapshot(stamp: str, build: int, *files: tuple[str, str, str]) -> bytes:
    rows = "".join(
        f"<snapshotVersion><extension>{e}</extension><value>{v}</value><updated>{u}</updated>"
        "</snapshotVersion>"
        for e, v, u in files
    )
    return (
        "<metadata><groupId>g</groupId><artifactId>a</artifactId><version>1-SNAPSHOT</version>"
        f"<versioning><snapshot><timestamp>{stamp}</timestamp><buildNumber>{build}</buildNumber>"
        f"</snapshot><snapshotVersions>{rows}</snapshotVersions></versioning></metadata>"
    ).encode()


def test_the_newest_snapshot_of_each_file_counts() -> None:
    old = snapshot("20240101.000000", 9, ("jar", "1-20240101.000000-9", "20240101000000"))
    new = snapshot(
        "20250101.000000",
        1,
        ("jar", "1-20250101.000000-1", "20250101000000"),
        ("pom", "1-SNAPSHOT", "20260101000000"),
    )
    found = metadata(old, new)
    rows = "versioning/snapshotVersions/snapshotVersion"
    assert values(found, f"{rows}/value") == ["1-20250101.000000-1", "1-SNAPSHOT"]
    assert values(found, "versioning/snapshot/buildNumber") == ["1"]
    assert values(metadata(new, old), f"{rows}/value")[0] == "1-20250101.000000-1"


def test_plugins_are_those_that_a_member_may_be_asked_for() -> None:
    def plugin(prefix: str, artifact: str) -> bytes:
        return (
            f"<metadata><plugins><plugin><prefix>{prefix}</prefix><artifactId>{artifact}"
            "</artifactId></plugin></plugins></metadata>"
        ).encode()

    found = metadata(plugin("a", "a-plugin"), plugin("b", "b-plugin"), allowed={(0, "a-plugin")})
    assert values(found, "plugins/plugin/prefix") == ["a"]


# --- debian -------------------------------------------------------------------------------------
PACK: Mapping[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
STANZA = st.lists(st.sampled_from(["Package: a", "Version: 1", " more", "Size: 3"]), min_size=1)


def read_all(suffix: str, data: bytes) -> list[bytes]:
    reader, read = Reader(suffix), list[bytes]()
    file = io.BytesIO(data)
    while not reader.ended:
        read += reader(file)
    return read


@pytest.mark.parametrize("suffix", sorted(UNPACKERS))
@given(found=st.lists(STANZA, max_size=5), gaps=st.integers(1, 3))
def test_every_stanza_is_read_once(suffix: str, found: list[list[str]], gaps: int) -> None:
    texts = ["\n".join(each) + "\n" for each in found]
    data = PACK[suffix](("\n" * gaps).join(texts).encode())
    assert [each.decode() for each in read_all(suffix, data)] == texts


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_what_cannot_be_unpacked_is_refused(suffix: str) -> None:
    with pytest.raises(ManifestInvalidError):
        read_all(suffix, b"no such packing" * 10)


def test_a_bomb_is_unpacked_a_piece_at_a_time() -> None:
    bomb = lzma.compress(b"x" * (64 << 20))
    with pytest.raises(ManifestInvalidError, match="too large"):
        read_all(".xz", bomb)


def test_where_a_file_lies_is_told_anew() -> None:
    stanza = b"Package: a\nFilename: ./pool/a_1_all.deb\nDescription: x\n Filename: no\n"
    found = moved(stanza, "Filename", "members/m/")
    assert found == stanza.replace(b"./pool", b"members/m/pool")
    assert fields_of(found)["filename"] == "members/m/pool/a_1_all.deb"
    assert package_name("pool/main/a/a_1_all.deb") == "a"
    assert package_name("a.deb") == "a"
    assert package_name("pool/Corp-Tool_1_all.deb") == "corp-tool"


@pytest.mark.parametrize(
    "hidden",
    [
        b"Package: corp-tool\n",  # apt takes the last
        b"package: corp-tool\n",
        b"Package : corp-tool\n",  # apt takes the blank away
        b"\r\r\nPackage: corp-tool\n",  # the end of a stanza to apt
        b"X: y\rPackage: corp-tool\n",
        b"\x0bPackage: corp-tool\n",
        b"Filename: pool/corp-tool_9_all.deb\n",
        b"neither a field nor the rest of one\n",
    ],
)
def test_a_stanza_that_readers_may_differ_on_says_nothing(hidden: bytes) -> None:
    stanza = b"Package: a\nVersion: 1\nFilename: pool/a_1_all.deb\nSize: 1\n"
    assert fields_of(stanza + b"Description: x\n more: of it\n")["package"] == "a"
    assert fields_of(stanza + hidden) == {}
