"""npm upstreams: packuments rewritten so that tarballs come from here, all else as it came.

Installers and people ask for two forms of a packument; each is fetched and kept as the upstream
gives it.  A tarball is what its packument promises (``dist.integrity``), or it is refused.
Spec: npm registry "Package metadata".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import msgspec

from formats.contract import BINARY, Request, Response
from formats.digests import digest_headers
from formats.npm.catalog import TARBALL, tarball_path
from formats.npm.documents import MALFORMED
from formats.npm.names import base_name, package_of, tarball_name
from formats.npm.packument import ABBREVIATED, ABBREVIATED_TYPE, FULL_TYPE, Stored, tarball_url
from formats.remote import Aim, Freshness, Kept, Promise, Remote
from store.errors import ManifestInvalidError, NotFoundError

INTEGRITY = re.compile(r"(sha1|sha256|sha512)-([A-Za-z0-9+/]+=*)(?:\?\S*)?\Z")
SHASUM = re.compile(r"[0-9a-f]{40}\Z")
SHORT_ACCEPT = f"{ABBREVIATED_TYPE}; q=1.0, application/json; q=0.8"
TREES = (".short", ".full", ".other")  # folders of documents; no package's name has such a start
PASSED = ("/-/npm/v1/keys", "/-/npm/v1/attestations/")  # documents that are sent as they are
Members = dict[str, msgspec.Raw]


class Packument(msgspec.Struct):
    """As much of a packument as is looked into."""

    name: str = ""
    versions: dict[str, msgspec.Raw] = {}


class Dist(msgspec.Struct):
    """Where a version's tarball is, and what it hashes to."""

    tarball: str = ""
    integrity: str = ""
    shasum: str = ""


class Manifest(msgspec.Struct):
    """As much of a version's manifest as is looked into."""

    dist: Dist = msgspec.field(default_factory=Dist)


def aim(request: Request, base: str, options: Mapping[str, object]) -> Aim | None:
    """A packument, a tarball, or what can be read off a packument."""
    params = request.params
    if request.path.startswith(PASSED):
        path = request.path.strip("/")
        return Aim(
            f".other/{path}",
            path,
            ".other",
            role="index",
            document=True,
            optional=True,
            accept=FULL_TYPE,
        )
    if request.path.startswith("/-/") and not request.path.startswith("/-/package/"):
        return None
    if "file" in params:
        return _tarball(package_of(request), params["file"], params.get("repeated", ""))
    first, second = params.get("package", ""), params.get("version", "")
    if first.startswith("@") and "/" not in first and second:
        return _packument(f"{first}/{second}", short=wants_short(request))
    short = wants_short(request) and not second and not request.path.startswith("/-/package/")
    return _packument(package_of(request), short=short)


def wants_short(request: Request) -> bool:
    """Whether a client asks for the form that installers read."""
    return ABBREVIATED_TYPE in request.headers.get("accept", "") and not request.argument("write")


def _packument(name: str, *, short: bool) -> Aim:
    tree, accept = (".short", SHORT_ACCEPT) if short else (".full", FULL_TYPE)
    url = quote(name, safe="@~!*'()")
    return Aim(f"{tree}/{name}", url, name, role="index", accept=accept, document=True)


def _tarball(name: str, filename: str, repeated: str) -> Aim:
    if repeated and f"{repeated}/{base_name(name)}" != name:
        raise NotFoundError("no such tarball")
    index = _packument(name, short=True)
    return Aim(tarball_path(name, filename), "", name, role=TARBALL, index=index)


def classify(path: str) -> Freshness:
    """Tarballs stay."""
    return Freshness.INDEX if path.startswith(TREES) else Freshness.IMMUTABLE


def _decode(data: bytes) -> Packument:
    try:
        return msgspec.json.decode(data, type=Packument)
    except MALFORMED as error:
        raise ManifestInvalidError(f"not a packument: {error}"[:300]) from error


def check(aim: Aim, kept: Kept) -> None:
    """Refuse what is no packument, or another package's.  Raises ManifestInvalidError."""
    if aim.path.startswith(".other/"):
        try:
            msgspec.json.decode(kept.data, type=dict[str, object])
        except MALFORMED as error:
            raise ManifestInvalidError(f"not a JSON object: {error}"[:300]) from error
        return
    found = _decode(kept.data)
    if found.name != aim.package:
        raise ManifestInvalidError(f"a packument of {found.name[:200]!r}")


# --- tarballs -----------------------------------------------------------------------------------
def find(aim: Aim, kept: Kept, path: str) -> Promise | None:
    """What a packument promises of a tarball."""
    wanted = path.rpartition("/-/")[2]
    for version, raw in _decode(kept.data).versions.items():
        if wanted == tarball_name(aim.package, version):
            return _promise(version, raw)
    for version, raw in _decode(kept.data).versions.items():  # as upstream calls it, perhaps
        if wanted == urlsplit(_dist(raw).tarball).path.rpartition("/")[2]:
            return _promise(version, raw)
    return None


def _dist(raw: msgspec.Raw) -> Dist:
    try:
        return msgspec.json.decode(raw, type=Manifest).dist
    except MALFORMED:
        return Dist()


def _promise(version: str, raw: msgspec.Raw) -> Promise | None:
    dist = _dist(raw)
    if not dist.tarball:
        return None
    digests = {}
    for each in dist.integrity.split():
        found = INTEGRITY.match(each)
        if found is not None:
            digests[found[1]] = _hex(found[2])
    if SHASUM.match(dist.shasum) and not digests:
        digests["sha1"] = dist.shasum
    return Promise(dist.tarball, digests, version=version, metadata=_stored(raw))


def _hex(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).hex()
    except (binascii.Error, ValueError):
        return "0"  # a digest that nothing has


def _stored(raw: msgspec.Raw) -> bytes:
    """A version's metadata as a publish would have left it."""
    manifest = msgspec.json.decode(raw, type=Members)
    short = {name: manifest[name] for name in ABBREVIATED if name in manifest}
    dist = msgspec.json.decode(manifest.get("dist", b"{}"), type=Members)
    kept = {k: v for k, v in dist.items() if k not in {"tarball", "attestations"}}
    encode = msgspec.json.encode
    return encode(Stored(msgspec.Raw(encode(short)), msgspec.Raw(encode(kept))))


# --- answers ------------------------------------------------------------------------------------
def respond(request: Request, aim: Aim, kept: Kept) -> Response:
    """A packument with our tarball URLs, something read off it, or a tarball's headers."""
    if aim.role == TARBALL:
        headers = digest_headers(kept.artifact) if kept.artifact else ()
        return Response(media_type=BINARY, headers=headers)
    if aim.path.startswith(".other/"):
        return Response(content=kept.data, media_type=FULL_TYPE)
    document = msgspec.json.decode(kept.data, type=Members)
    if request.path.startswith("/-/package/"):
        return Response(content=bytes(document.get("dist-tags", b"{}")), media_type=FULL_TYPE)
    wanted = version_asked(request)
    base = request.base_url
    if wanted:
        return Response(
            content=one_version(document, aim.package, wanted, base), media_type=FULL_TYPE
        )
    versions = msgspec.json.decode(document.get("versions", b"{}"), type=Members)
    ours = {v: _rewritten(aim.package, v, raw, base) for v, raw in versions.items()}
    document["versions"] = msgspec.Raw(msgspec.json.encode(ours))
    return Response(
        content=msgspec.json.encode(document),
        media_type=ABBREVIATED_TYPE if aim.path.startswith(".short/") else FULL_TYPE,
        headers=(("vary", "Accept"),),
    )


def version_asked(request: Request) -> str:
    """The version or tag that a path names; "" if it names a package."""
    first, second = request.params.get("package", ""), request.params.get("version", "")
    return "" if first.startswith("@") and "/" not in first else second


def one_version(document: Members, package: str, wanted: str, base_url: str) -> bytes:
    """One manifest of a packument, by version or tag.  Raises NotFoundError."""
    tags = msgspec.json.decode(document.get("dist-tags", b"{}"), type=dict[str, str])
    versions = msgspec.json.decode(document.get("versions", b"{}"), type=Members)
    version = tags.get(wanted, wanted)
    if version not in versions:
        raise NotFoundError(f"version not found: {package}@{wanted[:200]}")
    return bytes(_rewritten(package, version, versions[version], base_url))


def _rewritten(package: str, version: str, raw: msgspec.Raw, base_url: str) -> msgspec.Raw:
    """A manifest whose tarball is ours; every other byte of it stays."""
    manifest = msgspec.json.decode(raw, type=Members)
    dist = msgspec.json.decode(manifest.get("dist", b"{}"), type=Members)
    url = tarball_url(base_url, package, tarball_name(package, version))
    dist["tarball"] = msgspec.Raw(msgspec.json.encode(url))
    if "attestations" in dist:
        dist["attestations"] = _attested(dist["attestations"], package, version, base_url)
    manifest["dist"] = msgspec.Raw(msgspec.json.encode(dist))
    return msgspec.Raw(msgspec.json.encode(manifest))


def _attested(raw: msgspec.Raw, package: str, version: str, base_url: str) -> msgspec.Raw:
    told = msgspec.json.decode(raw, type=Members)
    url = f"{base_url}/-/npm/v1/attestations/{package}@{version}"
    told["url"] = msgspec.Raw(msgspec.json.encode(url))
    return msgspec.Raw(msgspec.json.encode(told))


REMOTE = Remote(aim, classify, respond, find=find, check=check)
