"""What an upstream's bytes must be before they are kept: whole, not empty, and what was promised.

Pure.  A wrong answer costs one request; a wrong answer in a cache costs everybody, for ever.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping

from formats.digests import declared_digests
from formats.remote import Aim, Promise
from store.blobs import Ingested
from store.errors import DigestInvalidError, UpstreamError

LENGTHS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
PAGES = (".html", ".htm", ".xhtml", ".shtml")


def declared(headers: Mapping[str, str]) -> dict[str, str]:
    """The digests that response headers claim; malformed ones claim nothing."""
    try:
        found = dict(declared_digests(headers))
    except DigestInvalidError:
        found = {}
    algorithm, _, value = headers.get("docker-content-digest", "").partition(":")
    if LENGTHS.get(algorithm) == len(value):
        found[algorithm] = value.lower()
    return {name: value for name, value in found.items() if name in LENGTHS}


def sidecar_digest(data: bytes, algorithm: str) -> str:
    """The digest in a checksum file (bare, ``digest  name`` or ``name: digest``), or ""."""
    text = data[:4096].decode("ascii", "replace").lower()
    size = LENGTHS[algorithm]
    found = re.search(rf"(?<![0-9a-f])[0-9a-f]{{{size}}}(?![0-9a-f])", text)
    return found[0] if found else ""


def judge_head(aim: Aim, promise: Promise, media_type: str, length: int | None) -> None:
    """Refuse an answer by its head.  Raises UpstreamError."""
    kind = media_type.partition(";")[0].strip().lower()
    page = kind in {"text/html", "application/xhtml+xml"}
    if page and not aim.document and not aim.path.lower().endswith(PAGES):
        raise UpstreamError(f"upstream answers with a web page instead of {aim.path[:200]}")
    if length == 0 and not promises_nothing(promise):
        raise UpstreamError(f"upstream answers with nothing for {aim.path[:200]}")
    if promise.size is not None and length is not None and promise.size != length:
        raise UpstreamError(
            f"upstream sends {length} bytes of {aim.path[:200]}, and promised {promise.size}"
        )


def promises_nothing(promise: Promise) -> bool:
    """Whether an empty file was promised: some indices are empty."""
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    return promise.size == 0 or promise.digests.get("sha256") == empty


def judge_body(aim: Aim, promise: Promise, claims: Mapping[str, str], got: Ingested) -> None:
    """Refuse a whole body.  ``claims`` are the answer's own digests.  Raises UpstreamError."""
    where = aim.path[:200]
    if got.size == 0 and not promises_nothing(promise):
        raise UpstreamError(f"upstream answers with nothing for {where}")
    if promise.size is not None and promise.size != got.size:
        raise UpstreamError(f"upstream sends {got.size} bytes of {where}, not {promise.size}")
    for told, by in ((promise.digests, "its index promises"), (claims, "its answer claims")):
        for algorithm, value in told.items():
            actual = got.digest.hex if algorithm == "sha256" else got.checksums.get(algorithm, "")
            if not hmac.compare_digest(actual.encode(), value.lower().encode()):
                raise UpstreamError(
                    f"upstream sends {algorithm}:{actual} for {where}, {by} {algorithm}:{value}"
                )
