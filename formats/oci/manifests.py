"""Reading and publishing manifests: the commit point of a push.

Spec: distribution-spec 1.1 §Pulling manifests, §Pushing manifests.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import msgspec

from formats.contract import Answer, Publish, Repository, Request, Response, Staged, blob_response
from formats.oci import names, removal
from formats.oci.documents import Descriptor, Document, read_manifest
from formats.oci.errors import API_VERSION, ManifestBlobUnknownError
from formats.oci.holdings import find_manifest
from store.blobs import Ingested
from store.digest import Digest
from store.errors import (
    ConflictError,
    DigestMismatchError,
    ManifestInvalidError,
    ManifestUnknownError,
)
from store.facts import Fact, File, Point
from store.facts import Publish as PublishFact
from store.rows import Artifact

TAGS_MAX = 32  # tags set by one push


async def get_manifest(request: Request, repository: Repository) -> Response:
    """Name a manifest, by tag or digest, as it was pushed."""
    image, reference = names.image_name(request), request.params["reference"]
    digest, artifact = await find_manifest(repository, image, reference)
    media_type = await _media_type(repository, artifact)
    headers = (("docker-content-digest", str(digest)), API_VERSION)
    found = blob_response(artifact, media_type, headers=headers)
    return found if names.is_digest(reference) else replace(found, immutable=False)


async def _media_type(repository: Repository, artifact: Artifact) -> str:
    metadata = await repository.metadata([artifact])
    found = msgspec.json.decode(metadata[0]).get("mediaType")
    if not isinstance(found, str):
        raise ManifestUnknownError(f"{artifact.path} has no media type")
    return found


# --- pushing ------------------------------------------------------------------------------------
async def put_manifest(request: Request, repository: Repository) -> Answer:
    """Publish a manifest whose blobs and children this image has.

    Raises ManifestInvalidError, DigestMismatchError, ManifestBlobUnknownError; ConflictError when a
    frozen tag would move.
    """
    image, data = names.image_name(request), request.document
    digest, tags = _coordinates(request, data)
    document = read_manifest(data, request.headers.get("content-type", ""))
    blobs, consumed = await _holdings(repository, image, document)
    async with repository.ingest(checksums=(digest.algorithm,)) as ingest:
        await ingest.write(data)
    files = (_manifest_file(image, digest, document, ingest.result), *blobs)
    if document.subject is not None:
        files += (_referrer_file(image, digest, document, ingest.result),)
    facts: list[Fact] = [PublishFact(repository.key, image, str(digest), files)]
    facts += [each async for each in _points(repository, image, tags, digest)]
    facts += [each async for each in removal.reprieve(repository, image, document)]
    response = _created(request, image, digest, document)
    return Publish(tuple(facts), response, unstage=tuple((image, name) for name in consumed))


def _coordinates(request: Request, data: bytes) -> tuple[Digest, Sequence[str]]:
    """The digest to store under, and the tags to set."""
    reference = request.params["reference"]
    if not names.is_digest(reference):
        return Digest.of(data), [names.tag_name(reference)]
    digest = Digest.parse(reference)
    actual = Digest(digest.algorithm, hashlib.new(digest.algorithm, data).hexdigest())
    if actual != digest:
        raise DigestMismatchError(digest, actual)
    tags = list(dict.fromkeys(names.tag_name(each) for each in request.query.get("tag", ())))
    if len(tags) > TAGS_MAX:
        raise ManifestInvalidError(f"more than {TAGS_MAX} tags in one push")
    return digest, tags


async def _holdings(
    repository: Repository, image: str, document: Document
) -> tuple[Sequence[File], Sequence[str]]:
    """The blobs a manifest brings, as files, and the names of those that need not wait any more.

    What the image has already is not published again: a base layer that every push names would
    gather a claim from each.  Raises ManifestBlobUnknownError.
    """
    staged = {each.name: each for each in await repository.staged(image)}
    files: dict[Digest, File] = {}
    named: set[Digest] = set()
    missing: list[Digest] = []
    config = () if document.config is None else ((document.config, "config"),)
    for descriptor, role in (*config, *((each, "layer") for each in document.blobs)):
        if descriptor.digest in named:
            continue
        path = names.blob_path(image, descriptor.digest)
        found = await repository.find(path) or staged.get(str(descriptor.digest))
        if found is not None:
            check_size(descriptor, found.size)
            named.add(descriptor.digest)
        if isinstance(found, Staged):
            files[descriptor.digest] = _blob_file(path, role, found)
        elif found is None and not descriptor.external:
            missing.append(descriptor.digest)
    missing += [d async for d in _missing_children(repository, image, document, staged)]
    if missing:
        listed = ", ".join(str(each) for each in missing[:10])
        raise ManifestBlobUnknownError(f"{image} lacks {listed}")
    return list(files.values()), sorted(str(each) for each in named if str(each) in staged)


async def _missing_children(
    repository: Repository, image: str, document: Document, staged: dict[str, Staged]
) -> AsyncIterator[Digest]:
    for digest in dict.fromkeys(child.digest for child in document.children):
        if await repository.find(names.manifest_path(image, digest)) is not None:
            continue
        blob = await repository.find(names.blob_path(image, digest))
        if blob is None and str(digest) not in staged:
            yield digest


def check_size(descriptor: Descriptor, size: int) -> None:
    """A wrong size would fail every pull.  Raises ManifestInvalidError."""
    if size != descriptor.size:
        raise ManifestInvalidError(
            f"{descriptor.digest} has {size} bytes, the manifest says {descriptor.size}"
        )


def _blob_file(path: str, role: str, found: Staged) -> File:
    checksums = tuple(sorted(found.checksums.items()))
    return File(path, role, str(found.digest), found.size, checksums=checksums)


def _manifest_file(image: str, digest: Digest, document: Document, blob: Ingested) -> File:
    metadata = {"mediaType": document.media_type}
    if document.artifact_type:
        metadata["artifactType"] = document.artifact_type
    if document.subject is not None:
        metadata["subject"] = str(document.subject)
    return File(
        names.manifest_path(image, digest),
        "manifest",
        str(blob.digest),
        blob.size,
        checksums=tuple(sorted(blob.checksums.items())),
        metadata=msgspec.json.encode(metadata),
    )


def _referrer_file(image: str, digest: Digest, document: Document, blob: Ingested) -> File:
    """The manifest again, where it is found from its subject; its metadata is the descriptor."""
    metadata: dict[str, object] = {
        "mediaType": document.media_type,
        "digest": str(digest),
        "size": blob.size,
    }
    if document.referrer_type:
        metadata["artifactType"] = document.referrer_type
    if document.annotations:
        metadata["annotations"] = document.annotations
    return File(
        names.referrer_path(image, document.subject, digest),
        "referrer",
        str(blob.digest),
        blob.size,
        checksums=tuple(sorted(blob.checksums.items())),
        metadata=msgspec.json.encode(metadata),
    )


async def _points(
    repository: Repository, image: str, tags: Sequence[str], digest: Digest
) -> AsyncIterator[Point]:
    """Move the tags that do not point here yet, or do so beside others."""
    for tag in tags:
        held = await repository.pointer(image, tag)
        value = str(digest).encode()
        if held is not None and held.value == value and not held.siblings:
            continue
        if held is not None and held.value != value:
            check_frozen(repository, tag)
        yield Point(repository.key, image, tag, value, held.records if held else ())


def check_frozen(repository: Repository, tag: str) -> None:
    """Refuse to move a tag that the repository freezes.  Raises ConflictError."""
    patterns = repository.options.get("immutable_tags", ())
    if isinstance(patterns, list | tuple) and any(
        fnmatch.fnmatchcase(tag, str(pattern)) for pattern in patterns
    ):
        raise ConflictError(f"tag {tag} is immutable in this repository")


def _created(request: Request, image: str, digest: Digest, document: Document) -> Response:
    headers = [
        ("location", f"{names.mount_path(request)}/{image}/manifests/{digest}"),
        ("docker-content-digest", str(digest)),
        API_VERSION,
    ]
    if document.subject is not None:
        headers.append(("oci-subject", str(document.subject)))
    headers += [("oci-tag", tag) for tag in request.query.get("tag", ())]
    return Response(201, headers=tuple(headers))
