"""Removing tags and manifests, and in time the blobs that nothing names any more.

A manifest pushed at another site may name a blob that looks unused here.  So a blob is only marked
when its last known manifest goes; it is deleted by a later removal, if after a grace period still
nothing names it.  A push that names it lifts the mark.

Spec: distribution-spec 1.1 §Content management.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from formats.contract import Answer, Publish, Repository, Request, Response
from formats.oci import names
from formats.oci.documents import Document
from formats.oci.holdings import find_manifest, in_use, load_document, read_tag, tagged_digest
from store.digest import Digest
from store.errors import ManifestUnknownError
from store.facts import Delete, Fact, Flag, Point
from store.rows import Artifact, FlagRow

UNUSED = "unused"  # the mark on a blob
GRACE = 7 * 86400.0  # seconds of ledger time between mark and deletion


async def delete_manifest(request: Request, repository: Repository) -> Answer:
    """Remove a tag; or a manifest with its tags, marking what nothing else here names."""
    image, reference = names.image_name(request), request.params["reference"]
    if names.is_digest(reference):
        digest, artifact = await find_manifest(repository, image, reference)
        facts = [each async for each in _removal(repository, image, digest, artifact)]
        return Publish(tuple(facts), Response(202))
    pointer = await repository.pointer(image, reference) if names.TAG.match(reference) else None
    if pointer is None or await tagged_digest(repository, image, reference) is None:
        raise ManifestUnknownError(f"{image} has no tag {reference[:200]!r}")
    fact = Point(repository.key, image, reference, None, pointer.records)
    return Publish((fact,), Response(202))


async def _removal(
    repository: Repository, image: str, digest: Digest, artifact: Artifact
) -> AsyncIterator[Fact]:
    document = await load_document(repository, artifact)
    yield Delete(repository.key, artifact.path, (artifact.record,))
    if document.subject is not None:
        referrer = await repository.find(names.referrer_path(image, document.subject, digest))
        if referrer is not None:
            yield Delete(repository.key, referrer.path, (referrer.record,))
    for pointer in await repository.pointers(image):
        if read_tag(pointer.value) == digest:
            yield Point(repository.key, image, pointer.name, None, pointer.records)
    used = await in_use(repository, image, without=artifact.path)
    marks = {each.path: each for each in await repository.flags(image) if each.name == UNUSED}
    for each in sorted(blobs_of(document) - used):
        blob = await repository.find(names.blob_path(image, each))
        if blob is not None and blob.path not in marks:
            yield Flag(repository.key, image, blob.version, blob.path, UNUSED, b"1")
    async for fact in sweep(repository, marks, {names.blob_path(image, each) for each in used}):
        yield fact


async def sweep(
    repository: Repository, marks: dict[str, FlagRow], used: set[str]
) -> AsyncIterator[Fact]:
    """Delete what was marked long ago, but for what something names again."""
    for path, mark in sorted(marks.items()):
        if path in used:
            yield unmark(mark)
        elif repository.modified - mark.updated >= GRACE:
            found = await repository.find(path)
            if found is not None:
                yield Delete(repository.key, path, (found.record,))
            yield unmark(mark)


async def reprieve(repository: Repository, image: str, document: Document) -> AsyncIterator[Fact]:
    """Lift the marks on blobs that a manifest about to be published names."""
    named = {names.blob_path(image, each) for each in blobs_of(document)}
    for mark in await repository.flags(image):
        if mark.name == UNUSED and mark.path in named:
            yield unmark(mark)


def unmark(mark: FlagRow) -> Flag:
    """The fact that lifts a mark."""
    return Flag(
        mark.repository, mark.package, mark.version, mark.path, mark.name, None, mark.records
    )


def blobs_of(document: Document) -> set[Digest]:
    """The config and layers of a manifest."""
    config = {document.config.digest} if document.config is not None else set[Digest]()
    return config | {each.digest for each in document.blobs}
