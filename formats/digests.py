"""Digests that clients declare in headers, and those we send along with bytes.

Spec: RFC 9530 (Content-Digest, Repr-Digest), RFC 3230 (Digest), RFC 1864 (Content-MD5), and the
``X-Checksum-*`` headers of artifact repositories.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import BinaryIO

from formats.contract import Repository
from store.blobs import Ingested
from store.errors import DigestInvalidError, DigestMismatchError
from store.rows import Artifact

ALGORITHMS = {"md5": 16, "sha": 20, "sha1": 20, "sha-256": 32, "sha256": 32} | {
    "sha-512": 64,
    "sha512": 64,
}  # how headers spell them, and the bytes of each
NAMES = {"sha": "sha1", "sha-256": "sha256", "sha-512": "sha512"}
STRUCTURED = re.compile(r"\s*([a-z0-9-]+)\s*=\s*:([A-Za-z0-9+/=]*):\s*\Z")
PIECE = 1 << 20  # bytes hashed at a time


def declared_digests(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Every (algorithm, lower-case hex) that the headers claim.  Raises DigestInvalidError.

    Algorithms that we do not know are passed over, as RFC 9530 §2 asks.
    """
    found = []
    for algorithm in ("sha256", "sha1", "md5", "sha512"):
        text = headers.get(f"x-checksum-{algorithm}")
        if text is not None:
            found.append((algorithm, hex_digest(algorithm, text)))
    if "content-md5" in headers:
        found.append(("md5", _from_base64("md5", headers["content-md5"])))
    for name in ("content-digest", "repr-digest"):
        found.extend(_structured(headers.get(name, "")))
    found.extend(_instance(headers.get("digest", "")))
    return found


def hex_digest(algorithm: str, text: str) -> str:
    """Check a hexadecimal digest's shape and lower its case.  Raises DigestInvalidError."""
    text = text.strip().lower()
    if not re.fullmatch(f"[0-9a-f]{{{2 * ALGORITHMS[algorithm]}}}", text):
        raise DigestInvalidError(f"not a {algorithm} digest: {text[:200]!r}")
    return text


def _structured(text: str) -> Iterator[tuple[str, str]]:
    for member in filter(None, text.split(",")):
        found = STRUCTURED.match(member)
        if found is None:
            raise DigestInvalidError(f"not a digest field: {text[:200]!r}")
        if found[1] in ALGORITHMS:
            yield NAMES.get(found[1], found[1]), _from_base64(found[1], found[2])


def _instance(text: str) -> Iterator[tuple[str, str]]:
    for member in filter(None, text.split(",")):
        name, _, value = member.strip().partition("=")
        if name.lower() in ALGORITHMS:
            yield NAMES.get(name.lower(), name.lower()), _from_base64(name.lower(), value)


def _from_base64(algorithm: str, text: str) -> str:
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != ALGORITHMS[algorithm]:
        raise DigestInvalidError(f"not a base64 {algorithm} digest: {text[:200]!r}")
    return raw.hex()


def compare(algorithm: str, expected: str, actual: str) -> None:
    """Raise DigestMismatchError when two hex digests differ."""
    if not hmac.compare_digest(expected, actual):
        raise DigestMismatchError(f"{algorithm}:{expected}", f"{algorithm}:{actual}")


def hash_file(algorithm: str, file: BinaryIO) -> str:
    """Hash a file with one more algorithm (for ``Repository.inspect``)."""
    state = hashlib.new(algorithm, usedforsecurity=False)
    while piece := file.read(PIECE):
        state.update(piece)
    return state.hexdigest()


async def verify(
    expected: Iterable[tuple[str, str]], blob: Ingested, repository: Repository
) -> None:
    """Check what the client declared.  Raises DigestMismatchError.

    What the ingest did not compute is computed by a second reading, in a worker thread.
    """
    for algorithm, value in expected:
        actual = blob.digest.hex if algorithm == "sha256" else blob.checksums.get(algorithm)
        if actual is None:
            actual = await repository.inspect(blob.digest, partial(hash_file, algorithm))
        compare(algorithm, value, actual)


def digest_headers(artifact: Artifact) -> tuple[tuple[str, str], ...]:
    """The ``X-Checksum-*`` headers of a download; the node adds Repr-Digest to every blob."""
    sums = {**artifact.checksums, artifact.digest.algorithm: artifact.digest.hex}
    return tuple(
        (f"x-checksum-{name}", sums[name]) for name in ("sha256", "sha1", "md5") if name in sums
    )
