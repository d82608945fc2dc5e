"""Maven upstreams: the same layout as ours.  Spec: Maven repository layout.

Released files never change and are held against upstream's checksum files; metadata and snapshots
without a timestamp do change.  Checksums are told of the bytes that are here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from urllib.parse import quote

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from formats.contract import Request, Response
from formats.digests import digest_headers
from formats.maven.layout import CATALOG, METADATA, media_type, read_path, sidecar_of
from formats.remote import Aim, Freshness, Kept, Remote
from store.errors import ManifestInvalidError, NotFoundError, PathInvalidError

XML_TYPE = "text/xml"
TEXT = "text/plain; charset=utf-8"
ROOTS = {METADATA: "metadata", CATALOG: "archetype-catalog"}


def aim(request: Request, base: str, options: Mapping[str, object]) -> Aim | None:
    """The file that a path names, or the one whose checksum it asks for; None for a folder."""
    if "path" not in request.params or request.path.endswith("/"):
        return None
    path = request.params["path"]
    sidecar = sidecar_of(path)
    return _file(sidecar[0] if sidecar else path, whole=sidecar is not None)


def _file(path: str, *, whole: bool) -> Aim:
    url, name = quote(path, safe="/!$&'()*+,;=:@~"), path.rpartition("/")[2]
    if name in ROOTS:
        package = path.rpartition("/")[0].replace("/", ".") or name
        return Aim(path, url, package, role="index", document=True)
    try:
        found = read_path(path)
        package, version = found.package, found.version
    except PathInvalidError:
        package, version = path.rpartition("/")[0], ""
    role = "signature" if name.endswith(".asc") else "pom" if name.endswith(".pom") else "file"
    sidecars = (("sha1", f"{url}.sha1"), ("md5", f"{url}.md5"))
    return Aim(path, url, package, version, role, whole=whole, sidecars=sidecars)


def classify(path: str) -> Freshness:
    """Metadata and what a snapshot is called without its time change; all else stays."""
    if path.rpartition("/")[2] in ROOTS:
        return Freshness.INDEX
    try:
        return Freshness.INDEX if read_path(path).is_mutable else Freshness.IMMUTABLE
    except PathInvalidError:
        return Freshness.MUTABLE


def check(aim: Aim, kept: Kept) -> None:
    """Refuse what is not the XML it should be.  Raises ManifestInvalidError."""
    try:
        root = fromstring(kept.data).tag
    except (ParseError, DefusedXmlException, ValueError, RecursionError) as error:
        raise ManifestInvalidError(f"not XML: {error}"[:300]) from error
    if root.rpartition("}")[2] != ROOTS[aim.path.rpartition("/")[2]]:
        raise ManifestInvalidError(f"not the XML it should be: {root[:100]}")


def respond(request: Request, aim: Aim, kept: Kept) -> Response:
    """A file's headers, a document as it is, or a checksum of either."""
    sidecar = sidecar_of(request.params["path"])
    if sidecar is not None:
        return Response(content=_checksum(aim, kept, sidecar[1]).encode(), media_type=TEXT)
    if aim.document:
        sums = ("sha256", "sha1", "md5")
        headers = tuple((f"x-checksum-{name}", _hash(name, kept.data)) for name in sums)
        return Response(content=kept.data, media_type=XML_TYPE, headers=headers)
    headers = digest_headers(kept.artifact) if kept.artifact else ()
    return Response(media_type=media_type(aim.path), headers=headers)


def _checksum(aim: Aim, kept: Kept, algorithm: str) -> str:
    if aim.document:
        return _hash(algorithm, kept.data)
    sums = kept.artifact.checksums if kept.artifact else {}
    if algorithm not in sums:
        raise NotFoundError(f"no {algorithm} of {aim.path}")
    return sums[algorithm]


def _hash(algorithm: str, data: bytes) -> str:
    return hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()


REMOTE = Remote(aim, classify, respond, check=check)
