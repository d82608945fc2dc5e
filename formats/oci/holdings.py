"""What an image holds: blobs, manifests, tags; staged or published."""

from __future__ import annotations

from formats.contract import Repository, Staged
from formats.oci import names
from formats.oci.documents import MANIFEST_MAX, Document, read_manifest
from store.digest import Digest
from store.errors import DigestInvalidError, ManifestUnknownError
from store.rows import Artifact


async def find_blob(repository: Repository, image: str, digest: Digest) -> Artifact | Staged | None:
    """A blob of this image: published, else staged on this node."""
    found = await repository.find(names.blob_path(image, digest))
    if found is not None:
        return found
    wanted = str(digest)
    return next((each for each in await repository.staged(image) if each.name == wanted), None)


async def find_manifest(
    repository: Repository, image: str, reference: str
) -> tuple[Digest, Artifact]:
    """The manifest under a tag or digest.  Raises ManifestUnknownError, DigestInvalidError."""
    if names.is_digest(reference):
        digest = Digest.parse(reference)
    elif (tagged := await tagged_digest(repository, image, reference)) is not None:
        digest = tagged
    else:
        raise ManifestUnknownError(f"{image} has no tag {reference[:200]!r}")
    found = await repository.find(names.manifest_path(image, digest))
    if found is None:
        raise ManifestUnknownError(f"{image} has no manifest {reference[:200]}")
    return digest, found


async def tagged_digest(repository: Repository, image: str, tag: str) -> Digest | None:
    """What a tag points at, if there is such a tag."""
    pointer = await repository.pointer(image, tag) if names.TAG.match(tag) else None
    return read_tag(pointer.value) if pointer is not None else None


def read_tag(value: bytes) -> Digest | None:
    """The digest in a tag's value; None for what no version of this format wrote."""
    try:
        return Digest.parse(value.decode("ascii", "replace"))
    except DigestInvalidError:
        return None


async def load_document(repository: Repository, artifact: Artifact) -> Document:
    """Read a stored manifest again."""
    return read_manifest(await repository.load(artifact.digest, limit=MANIFEST_MAX))


async def in_use(repository: Repository, image: str, *, without: str = "") -> set[Digest]:
    """Digests that the image's manifests name, but for the manifest at the path ``without``."""
    used: set[Digest] = set()
    for artifact in await repository.artifacts(image):
        if artifact.role == "manifest" and artifact.path != without:
            document = await load_document(repository, artifact)
            used.update(each.digest for each in document.blobs)
            if document.config is not None:
                used.add(document.config.digest)
    return used
