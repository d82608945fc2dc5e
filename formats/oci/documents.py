"""Manifests: what a pushed document says, and whether it may be stored.

Bytes are kept exactly; only what pulls depend on is read.  Unknown types are welcome as long as
what they point at is there.

Spec: image-spec 1.1 (manifest, index, descriptor); Docker image manifest v2, schema 2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import msgspec

from store.digest import Digest
from store.errors import DigestInvalidError, ManifestInvalidError

MANIFEST_MAX = 4 << 20  # bytes
DESCRIPTORS_MAX = 10_000
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
IMAGE_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
UNTYPED = frozenset({"", "application/json", "application/octet-stream", "text/plain"})
RESTRICTED = r"[A-Za-z0-9][\w.+!#$&^-]{0,126}"  # RFC 6838 §4.2
MEDIA_TYPE = re.compile(rf"{RESTRICTED}/{RESTRICTED}\Z", re.ASCII)
MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # hostile bodies raise all 3
SIZE_MAX = 1 << 63


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest says of one blob or child.  ``external`` bytes are fetched from elsewhere."""

    digest: Digest
    size: int
    media_type: str
    external: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest as far as a registry reads it."""

    media_type: str
    artifact_type: str = ""
    config: Descriptor | None = None
    blobs: tuple[Descriptor, ...] = ()
    children: tuple[Descriptor, ...] = ()
    subject: Digest | None = None
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def referrer_type(self) -> str:
        """The artifactType a referrers listing shows: an image falls back to its config's type."""
        if self.artifact_type or self.config is None or self.media_type in INDEX_TYPES:
            return self.artifact_type
        return self.config.media_type


def read_manifest(data: bytes, content_type: str = "") -> Document:
    """Read and judge a manifest.  Raises ManifestInvalidError."""
    document = _object(data)
    media_type = _media_type(document, content_type.partition(";")[0].strip())
    if media_type.startswith(SCHEMA_1) or document.get("schemaVersion") == 1:
        raise ManifestInvalidError("image manifest v2 schema 1 is not supported; push schema 2")
    if media_type in IMAGE_TYPES | INDEX_TYPES:
        _check_shape(document, media_type)
    config = document.get("config")
    subject = document.get("subject")
    found = Document(
        media_type=media_type,
        artifact_type=_typed(document, "artifactType"),
        config=_descriptor(config) if _is_descriptor(config) else None,
        blobs=(*_descriptors(document, "layers"), *_descriptors(document, "blobs")),
        children=_descriptors(document, "manifests"),
        subject=_descriptor(subject).digest if subject is not None else None,
        annotations=_annotations(document.get("annotations")),
    )
    if len(found.blobs) + len(found.children) > DESCRIPTORS_MAX:
        raise ManifestInvalidError(f"more than {DESCRIPTORS_MAX} descriptors")
    return found


def _object(data: bytes) -> dict[str, object]:
    try:
        document = msgspec.json.decode(data)
    except MALFORMED as error:
        raise ManifestInvalidError("the manifest is not valid JSON") from error
    if not isinstance(document, dict):
        raise ManifestInvalidError("the manifest is not a JSON object")
    return cast("dict[str, object]", document)


def _media_type(document: Mapping[str, object], header: str) -> str:
    """Which type this is.  Header and field must agree, or readers would disagree about it."""
    inner = document.get("mediaType", "")
    if not isinstance(inner, str):
        raise ManifestInvalidError("mediaType is not a string")
    if inner and header not in UNTYPED and inner != header:
        raise ManifestInvalidError(f"Content-Type {header[:99]} contradicts mediaType {inner[:99]}")
    found = inner or ("" if header in UNTYPED else header)
    if not found:
        found = OCI_INDEX if "manifests" in document else OCI_MANIFEST
    if not MEDIA_TYPE.match(found):
        raise ManifestInvalidError(f"not a media type: {found[:99]!r}")
    return found


def _check_shape(document: Mapping[str, object], media_type: str) -> None:
    if document.get("schemaVersion") != 2:
        raise ManifestInvalidError("schemaVersion is not 2")
    index = media_type in INDEX_TYPES
    wanted = {"manifests": list} if index else {"config": dict, "layers": list}
    for name, kind in wanted.items():
        if not isinstance(document.get(name), kind):
            raise ManifestInvalidError(f"{name} is missing")
    foreign = {"config", "layers"} if index else {"manifests"}
    if foreign & document.keys():  # one document, two meanings: CVE-2021-41190
        raise ManifestInvalidError("the document is both an image manifest and an index")


def _typed(document: Mapping[str, object], name: str) -> str:
    value = document.get(name) or ""
    if not isinstance(value, str) or (value and not MEDIA_TYPE.match(value)):
        raise ManifestInvalidError(f"{name} is not a media type")
    return value


def _is_descriptor(value: object) -> bool:
    return isinstance(value, dict) and "digest" in value


def _descriptors(document: Mapping[str, object], name: str) -> tuple[Descriptor, ...]:
    values = document.get(name)
    if values is None:
        return ()
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ManifestInvalidError(f"{name} is not a list")
    return tuple(_descriptor(each) for each in values)


def _descriptor(value: object) -> Descriptor:
    if not isinstance(value, dict):
        raise ManifestInvalidError("a descriptor is not an object")
    media_type, size = value.get("mediaType", ""), value.get("size")
    if not isinstance(media_type, str) or type(size) is not int or not 0 <= size < SIZE_MAX:
        raise ManifestInvalidError("a descriptor lacks its mediaType or size")
    try:
        digest = Digest.parse(str(value.get("digest")))
    except DigestInvalidError as error:
        raise ManifestInvalidError(f"a descriptor's digest is {error}") from error
    return Descriptor(digest, size, media_type, external=bool(value.get("urls")))


def _annotations(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise ManifestInvalidError("annotations are not a map of strings")
    return cast("dict[str, str]", value)
