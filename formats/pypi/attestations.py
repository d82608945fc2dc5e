"""Attestations that come with an upload.  Spec: PEP 740; in-toto Statement v1; DSSE 1.0.

What can be judged without a root of trust is judged: the structure, that the statement is about
this file and these bytes, and that the certificate's key made the signature.  Whether certificate
and transparency log entries are genuine is left to whoever reads the provenance.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from store.errors import ManifestInvalidError

PAYLOAD_TYPE = b"application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATES = {
    "https://docs.pypi.org/attestations/publish/v1",
    "https://slsa.dev/provenance/v1",
}
ATTESTATIONS_MAX = 8
WORKFLOW = re.compile(
    r"https://github\.com/(?P<repository>[^/]+/[^/]+)/\.github/workflows/(?P<workflow>[^@/]+)@.+\Z"
)


class Material(msgspec.Struct):
    certificate: str
    transparency_entries: list[dict[str, Any]]


class Envelope(msgspec.Struct):
    statement: str
    signature: str


class Attestation(msgspec.Struct):
    version: int
    verification_material: Material
    envelope: Envelope


class Subject(msgspec.Struct):
    digest: dict[str, str]
    name: str = ""


class Statement(msgspec.Struct, rename={"type": "_type", "predicate_type": "predicateType"}):
    type: str
    predicate_type: str
    subject: list[Subject]


def provenance(text: str, filename: str, sha256: str) -> bytes:
    """Check uploaded attestations and wrap them as a provenance object, each as it was sent.

    Raises ManifestInvalidError.
    """
    try:
        raw = msgspec.json.decode(text, type=list[msgspec.Raw])
        parsed = [msgspec.json.decode(each, type=Attestation) for each in raw]
    except (msgspec.DecodeError, RecursionError) as error:
        raise ManifestInvalidError(f"the attestations are malformed: {error}") from error
    if not 0 < len(parsed) <= ATTESTATIONS_MAX:
        raise ManifestInvalidError(f"between 1 and {ATTESTATIONS_MAX} attestations, please")
    publishers = [_check(each, filename, sha256) for each in parsed]
    if any(each != publishers[0] for each in publishers):
        raise ManifestInvalidError("the attestations are of different publishers")
    bundle = {"publisher": publishers[0], "attestations": raw}
    return msgspec.json.encode({"version": 1, "attestation_bundles": [bundle]})


def _check(attestation: Attestation, filename: str, sha256: str) -> dict[str, str | None]:
    """Judge one attestation; give the publisher that its certificate names."""
    if attestation.version != 1 or not attestation.verification_material.transparency_entries:
        raise ManifestInvalidError("an attestation of version 1 with a log entry is expected")
    payload = _base64(attestation.envelope.statement)
    try:
        statement = msgspec.json.decode(payload, type=Statement)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestInvalidError(f"the statement is malformed: {error}") from error
    if statement.type != STATEMENT or statement.predicate_type not in PREDICATES:
        raise ManifestInvalidError("the statement is of an unknown type")
    if len(statement.subject) != 1 or statement.subject[0].name != filename:
        raise ManifestInvalidError("the attestation is about another file")
    if statement.subject[0].digest.get("sha256") != sha256:
        raise ManifestInvalidError("the attestation is about other bytes")
    certificate = _base64(attestation.verification_material.certificate)
    return _verify(certificate, payload, _base64(attestation.envelope.signature))


def _verify(certificate: bytes, payload: bytes, signature: bytes) -> dict[str, str | None]:
    """Check the DSSE signature with the certificate's key; read the publisher from its subject."""
    signed = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE, len(payload), payload)
    try:
        leaf = x509.load_der_x509_certificate(certificate)
        key = leaf.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ManifestInvalidError("the certificate's key is not an elliptic curve key")
        key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except InvalidSignature as error:
        raise ManifestInvalidError("the attestation's signature is wrong") from error
    except (ValueError, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
        raise ManifestInvalidError(f"the certificate is malformed: {error}") from error
    found = next(filter(None, map(WORKFLOW.match, uris)), None)
    if found is None:
        return {"kind": "Unknown", "identity": uris[0] if uris else None}
    return {"kind": "GitHub", **found.groupdict(), "environment": None}


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ManifestInvalidError("the attestation holds malformed base64") from error
