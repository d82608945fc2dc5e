"""Images as releases: manifests with what they name, what refers to them, and their tags."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace

from formats import releases
from formats.contract import Repository
from formats.oci import names
from formats.oci.documents import Document
from formats.oci.holdings import find_manifest, load_document, read_tag, tagged_digest
from formats.oci.manifests import check_frozen
from formats.oci.removal import UNUSED, blobs_of, sweep, unmark
from formats.releases import Edition, Release
from store.digest import Digest
from store.errors import TooLargeError
from store.facts import Delete, Fact, Flag, Point
from store.rows import Artifact, Pointer

MANIFESTS_MAX = 1000  # of one release: an index, its platforms, and all that is signed or attested
COMPANION = re.compile(r"(sha256|sha512)-([0-9a-f]+)(?:\.(?:sig|att|sbom))?\Z")
COMPANIONS = ("", ".sig", ".att", ".sbom")  # of tags like sha256-HEX.sig, beside the referrers API


@dataclass(slots=True)
class Closure:
    """Everything that a manifest needs, and what was said about it."""

    files: dict[str, Artifact] = field(default_factory=dict[str, Artifact])
    blobs: dict[str, Artifact] = field(default_factory=dict[str, Artifact])
    companions: dict[str, Pointer] = field(default_factory=dict[str, Pointer])


async def read(repository: Repository, image: str, reference: str) -> Release:
    """Read the image under a tag or digest; by digest, with every tag that names it.

    Raises ManifestUnknownError, DigestInvalidError.
    """
    digest, artifact = await find_manifest(repository, image, reference)
    closure = Closure()
    await _gather(repository, image, [artifact], closure)
    by_tag = not names.is_digest(reference)
    tags = [
        each
        for each in await repository.pointers(image)
        if (each.name == reference if by_tag else read_tag(each.value) == digest)
    ]
    pointers = {each.name: each for each in (*tags, *closure.companions.values())}
    files = tuple(closure.files[path] for path in sorted(closure.files))
    shared = tuple(closure.blobs[path] for path in sorted(closure.blobs))
    return Release(image, str(digest), files, shared, tuple(pointers.values()))


async def _gather(
    repository: Repository, image: str, roots: Iterable[Artifact], closure: Closure
) -> None:
    """Follow children and referrers.  Raises TooLargeError."""
    waiting = list(roots)
    while waiting:
        artifact = waiting.pop()
        if artifact.path in closure.files:
            continue
        closure.files[artifact.path] = artifact
        if len(closure.files) > MANIFESTS_MAX:
            raise TooLargeError(f"{image} has more than {MANIFESTS_MAX} manifests in one release")
        document = await load_document(repository, artifact)
        for blob in sorted(blobs_of(document)):
            found = await repository.find(names.blob_path(image, blob))
            if found is not None:
                closure.blobs[found.path] = found
        digest = Digest.parse(artifact.path.rpartition("/")[2])
        waiting += [each async for each in _around(repository, image, digest, document, closure)]


async def _around(
    repository: Repository, image: str, digest: Digest, document: Document, closure: Closure
) -> AsyncIterator[Artifact]:
    """The manifests that a manifest names, and those that name it as their subject."""
    related = [child.digest for child in document.children]
    prefix = names.referrer_path(image, digest, "")
    async for referrer in repository.all_artifacts(prefix):
        closure.files[referrer.path] = referrer
        related.append(Digest.parse(referrer.path.removeprefix(prefix)))
    for suffix in COMPANIONS:
        tag = f"{digest.algorithm}-{digest.hex}{suffix}"
        named = await tagged_digest(repository, image, tag)
        pointer = await repository.pointer(image, tag)
        if named is not None and pointer is not None:
            closure.companions[tag] = pointer
            related.append(named)
    for each in related:
        for path in (names.manifest_path(image, each), names.blob_path(image, each)):
            found = await repository.find(path)
            if found is not None and found.role == "manifest":
                yield found
            elif found is not None:
                closure.blobs[found.path] = found


async def adopt(repository: Repository, release: Release) -> Sequence[Fact]:
    """Publish the image here.  Raises ConflictError when a frozen tag would move."""
    for each in release.pointers:
        held = await repository.pointer(release.package, each.name)
        if held is not None and held.value != each.value:
            check_frozen(repository, each.name)
    facts = list(await releases.adopt(repository, replace(release, flags=())))
    paths = {each.path for each in release.shared}
    marks = [each for each in await repository.flags(release.package) if each.name == UNUSED]
    return [*facts, *[unmark(mark) for mark in marks if mark.path in paths]]


async def withdraw(repository: Repository, release: Release, reason: str) -> Sequence[Fact]:
    """Remove the manifests that nothing else names, with every tag on them.

    Blobs that are left without a manifest are marked, as after any removal.
    """
    image = release.package
    used, kept = await _needed(repository, image, {each.path for each in release.files})
    gone = [each for each in release.files if _manifest_of(image, each) not in kept]
    facts: list[Fact] = [Delete(repository.key, e.path, (e.record,), reason) for e in gone]
    paths = {each.path for each in gone}
    for pointer in await repository.pointers(image):
        digest = read_tag(pointer.value)
        if digest is not None and names.manifest_path(image, digest) in paths:
            facts.append(Point(repository.key, image, pointer.name, None, pointer.records))
    marks = {each.path: each for each in await repository.flags(image) if each.name == UNUSED}
    facts += [
        Flag(repository.key, image, blob.version, blob.path, UNUSED, b"1")
        for blob in release.shared
        if blob.path not in used and blob.path not in marks
    ]
    return [*facts, *[each async for each in sweep(repository, marks, used)]]


def _manifest_of(image: str, artifact: Artifact) -> str:
    """The path of the manifest that an artifact is: a referrer is one as its subject sees it."""
    return f"{image}/manifests/{artifact.path.rpartition('/')[2]}"


async def _needed(
    repository: Repository, image: str, leaving: set[str]
) -> tuple[set[str], set[str]]:
    """Paths of blobs and of manifests that stay in use when some manifests leave."""
    documents: dict[str, Document] = {}
    for each in await repository.artifacts(image):
        if each.role == "manifest":
            documents[each.path] = await load_document(repository, each)
    staying = [path for path in documents if path not in leaving]
    kept: set[str] = set()
    used: set[str] = set()
    while staying:
        path = staying.pop()
        if path in kept:
            continue
        kept.add(path)
        document = documents[path]
        used |= {names.blob_path(image, digest) for digest in blobs_of(document)}
        used |= {names.blob_path(image, child.digest) for child in document.children}
        children = [names.manifest_path(image, child.digest) for child in document.children]
        staying += [child for child in children if child in documents]
    return used, kept


async def editions(repository: Repository, image: str) -> Sequence[Edition]:
    """The manifests that nothing else here needs or describes, each with the tags on it.

    Platforms go with their index, signatures with what they sign.
    """
    artifacts = await repository.artifacts(image)
    manifests = {each.path: each for each in artifacts if each.role == "manifest"}
    inner = {_manifest_of(image, each) for each in artifacts if each.role == "referrer"}
    tags: dict[str, list[str]] = {}
    for pointer in await repository.pointers(image):
        digest = read_tag(pointer.value)
        if digest is None:
            continue
        path = names.manifest_path(image, digest)
        companion = COMPANION.match(pointer.name)
        subject = names.manifest_path(image, f"{companion[1]}:{companion[2]}") if companion else ""
        if subject in manifests:
            inner.add(path)
        else:
            tags.setdefault(path, []).append(pointer.name)
    for artifact in manifests.values():
        children = (await load_document(repository, artifact)).children
        inner |= {names.manifest_path(image, child.digest) for child in children}
    return [
        Edition(
            path.rpartition("/")[2],
            each.published,
            (each,),
            tuple(sorted(tags.get(path, ()))),
            prerelease=any("-" in tag for tag in tags.get(path, ())),
        )
        for path, each in manifests.items()
        if path not in inner or path in tags
    ]


RELEASES = releases.Releases(read, adopt, withdraw, editions=editions, alone=True)
