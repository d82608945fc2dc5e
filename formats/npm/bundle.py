"""Sigstore bundles that come with a publish.  Spec: npm provenance; in-toto Statement.

What needs no root of trust is checked: the bundle's shape, and that its statement is about this
tarball.  Its certificate and log entries are for clients to judge (``npm audit signatures``).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from formats.contract import Repository
from formats.npm.body import TEXTUAL
from formats.npm.catalog import ATTESTATION, beside
from formats.npm.documents import MALFORMED, Attachment
from store.blobs import Ingested
from store.errors import ManifestInvalidError
from store.facts import File

PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUNDLE = "sigstore.json"


class Envelope(msgspec.Struct, rename="camel"):
    payload: str
    payload_type: str
    signatures: list[dict[str, Any]]


class Bundle(msgspec.Struct, rename="camel"):
    media_type: str
    verification_material: dict[str, Any]
    dsse_envelope: Envelope


class Subject(msgspec.Struct):
    name: str
    digest: dict[str, str]


class Statement(msgspec.Struct, rename="camel"):
    predicate_type: str
    subject: list[Subject]


async def files(
    attachments: Mapping[str, Attachment],
    name: str,
    version: str,
    tarball: Ingested,
    repository: Repository,
) -> Sequence[File]:
    """The bundle of a publish as a file of its version; none is the usual case.

    Raises ManifestInvalidError.
    """
    texts = [each.data for key, each in attachments.items() if key.endswith(TEXTUAL)]
    if not texts:
        return ()
    if len(texts) > 1:
        raise ManifestInvalidError("one sigstore bundle at most, please")
    kind = check(texts[0], name, version, tarball.checksums["sha512"])
    async with repository.ingest() as sink:
        await sink.write(texts[0].encode())
    blob = sink.result
    path = beside(name, version, BUNDLE)
    metadata = msgspec.json.encode(kind)
    return (File(path, ATTESTATION, str(blob.digest), blob.size, metadata=metadata),)


def check(text: str, name: str, version: str, sha512: str) -> str:
    """Judge a bundle; give its predicate type.  Raises ManifestInvalidError."""
    try:
        found = msgspec.json.decode(text, type=Bundle)
        payload = base64.b64decode(found.dsse_envelope.payload, validate=True)
        statement = msgspec.json.decode(payload, type=Statement)
    except (*MALFORMED, ValueError) as error:
        raise ManifestInvalidError(f"the sigstore bundle is malformed: {error}") from error
    if found.dsse_envelope.payload_type != PAYLOAD_TYPE or not found.dsse_envelope.signatures:
        raise ManifestInvalidError("the sigstore bundle holds no signed statement")
    purl = f"pkg:npm/{quote(name, safe='/')}@{version}"
    about = [each for each in statement.subject if each.name == purl]
    if len(about) != 1 or about[0].digest.get("sha512") != sha512:
        raise ManifestInvalidError("the sigstore bundle is about another tarball")
    return statement.predicate_type
