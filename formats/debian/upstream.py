"""Debian upstreams: signed sets, passed through as they are.

Release lists every index of its suite, and Packages every file of the pool: what they say is
enforced, and what still is as they say needs no question.  Upstream's signatures stay valid, since
not a byte is changed.  Spec: Debian repository format.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO, cast
from urllib.parse import quote

import zstandard

from formats.contract import Request, Response
from formats.debian.reading import media_type
from formats.digests import digest_headers
from formats.remote import Aim, Freshness, Kept, Promise, Remote
from store.errors import ManifestInvalidError

RELEASES = ("InRelease", "Release", "Release.gpg")
BY_HASH = re.compile(r"(?:^|/)by-hash/(SHA256|SHA512|MD5Sum|SHA1)/([0-9a-f]{32,128})\Z")
ALGORITHMS = {"SHA256": "sha256", "SHA512": "sha512", "MD5Sum": "md5", "SHA1": "sha1"}
FILES = (".deb", ".udeb", ".ddeb", ".dsc", ".changes", ".buildinfo")
SOURCES = re.compile(  # of source packages
    r"\.(?:orig|debian|diff)[^/]*\.(?:tar\.[a-z0-9]+|gz|asc)\Z|_[^/]*\.tar\.[a-z0-9]+\Z"
)
PINNED = re.compile(r" ([0-9a-f]{64}) +(\d{1,18}) +(\S{1,500})\s*\Z")
UNREADABLE = (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, zstandard.ZstdError)
LINE_MAX = 1 << 20  # bytes of one line of an index
UNPACKED_MAX = 4 << 30  # bytes of an unpacked index that are read


def aim(request: Request, base: str, options: Mapping[str, object]) -> Aim | None:
    """The file that a path names."""
    path = re.sub(r"^(?:\./)+", "", request.path.strip("/"))
    path = "/".join(part for part in _decoded(request, path).split("/") if part != ".")
    if not path or path.endswith("/"):
        return None
    folder, _, name = path.rpartition("/")
    url = quote(path, safe="/!$&'()*+,;=:@~")
    suite = _suite(path)
    family = tuple(f"{suite}/{each}".lstrip("/") for each in RELEASES)
    if name in RELEASES:
        others = tuple(each for each in family if each != path)
        return Aim(path, url, f"{folder}/{'Release'}", role="index", siblings=others)
    found = BY_HASH.search(path)
    if found is not None:
        promise = Promise(digests={ALGORITHMS[found[1]]: found[2]})
        folder = path[: found.start()]
        return Aim(path, url, folder or ".", role="index", promise=promise)
    if is_file(path):
        return Aim(path, url, name.partition("_")[0], _version(name), "deb")
    return Aim(path, url, folder or ".", role="index", siblings=family)


def _decoded(request: Request, raw: str) -> str:
    """The path below the mount, out of the decoded parameters: the router has judged those."""
    params = request.params
    if "dist" in params:
        return f"dists/{params['dist']}/{params.get('path', 'gpg-key.asc')}"
    if "component" in params:
        return f"pool/{params['component']}/{params['path']}"
    if "algorithm" in params:
        return f"by-hash/{params['algorithm']}/{params['digest']}"
    return params.get("path") or params.get("file") or raw


def _suite(path: str) -> str:
    """The folder of the Release that vouches for an index."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "dists" and len(parts) > 2 else ""


def _version(name: str) -> str:
    parts = name.split("_")
    return parts[1] if len(parts) > 2 else ""


def is_file(path: str) -> bool:
    """Tell a package's file from an index."""
    return path.endswith(FILES) or path.startswith("pool/") or SOURCES.search(path) is not None


def classify(path: str) -> Freshness:
    """By-hash documents and packages stay; what lists them changes."""
    return Freshness.IMMUTABLE if BY_HASH.search(path) or is_file(path) else Freshness.INDEX


def respond(request: Request, aim: Aim, kept: Kept) -> Response:
    """The headers of a file; its bytes are upstream's."""
    headers = digest_headers(kept.artifact) if kept.artifact else ()
    return Response(media_type=media_type(aim.path), headers=headers)


# --- what indices promise -----------------------------------------------------------------------
def scan(aim: Aim, file: BinaryIO) -> Iterator[tuple[str, Promise]]:
    """What a Release says of indices, and an index of packages of files.

    Raises ManifestInvalidError for what cannot be unpacked.
    """
    if aim.role != "index":
        return
    name = aim.path.rpartition("/")[2]
    try:
        if name in {"InRelease", "Release"}:
            yield from read_release(file, aim.path.rpartition("/")[0])
        elif name.startswith(("Packages", "Sources")) or BY_HASH.search(aim.path):
            yield from read_index(unpacked(file))
    except UNREADABLE as error:
        raise ManifestInvalidError(f"an index is unreadable: {error}"[:300]) from error


def read_release(file: BinaryIO, folder: str) -> Iterator[tuple[str, Promise]]:
    """The SHA-256 section of a Release, signed inline or not."""
    inside = False
    for raw in _lines(file):
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if line.startswith("SHA256:"):
            inside = True
        elif not line.startswith(" "):
            inside = False
        elif inside and (found := PINNED.match(line)) is not None:
            path = f"{folder}/{found[3]}".lstrip("/")
            yield path, Promise(digests={"sha256": found[1]}, size=int(found[2]))


def read_index(file: BinaryIO) -> Iterator[tuple[str, Promise]]:
    """The files that Packages or Sources list."""
    fields: dict[str, str] = {}
    key = ""
    for raw in _lines(file):
        if raw in {b"\n", b"\r\n"}:
            yield from _promised(fields)
            fields, key = {}, ""
        elif raw[:1] in {b" ", b"\t"}:
            if key == "checksums-sha256":
                fields[key] += "\n" + raw.decode("utf-8", "replace").strip()
        else:
            name, _, value = raw.decode("utf-8", "replace").partition(":")
            key = name.lower()
            if key in {"filename", "sha256", "size", "directory", "checksums-sha256"}:
                fields[key] = value.strip()
    yield from _promised(fields)


def _promised(fields: Mapping[str, str]) -> Iterator[tuple[str, Promise]]:
    digest, size = fields.get("sha256", ""), fields.get("size", "")
    if "filename" in fields and re.fullmatch("[0-9a-f]{64}", digest):
        length = int(size) if size.isascii() and size.isdecimal() and len(size) < 19 else None
        yield _clean(fields["filename"]), Promise(digests={"sha256": digest}, size=length)
    for line in fields.get("checksums-sha256", "").split("\n"):
        found = PINNED.match(f" {line}")
        if found is not None:
            path = _clean(f"{fields.get('directory', '')}/{found[3]}")
            yield path, Promise(digests={"sha256": found[1]}, size=int(found[2]))


def _clean(path: str) -> str:
    return "/".join(part for part in path.split("/") if part not in {"", "."})


def _lines(file: BinaryIO) -> Iterator[bytes]:
    read = 0
    while line := file.readline(LINE_MAX):
        read += len(line)
        if read > UNPACKED_MAX:
            raise ValueError("the index is too large")
        yield line


def unpacked(file: BinaryIO) -> BinaryIO:
    """The text of an index, whatever packed it."""
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return cast("BinaryIO", gzip.GzipFile(fileobj=file))
    if start.startswith(b"\xfd7zXZ"):
        return cast("BinaryIO", lzma.LZMAFile(file))
    if start.startswith(b"BZh"):
        return cast("BinaryIO", bz2.BZ2File(file))
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return cast("BinaryIO", io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file)))
    return file


REMOTE = Remote(aim, classify, respond, scan=scan)
