"""A suite's signed set: its indices and the Release that vouches for them.

Release, InRelease, Release.gpg and every index come from one set, so that a client never meets
documents of two generations; by-hash paths reach the sets before.

Spec: Debian repository format §Release files, §indices acquisition via hashsums (by-hash).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from email.utils import formatdate

from formats.contract import Repository
from formats.debian import index, pool
from formats.debian.twins import TWINS, store
from store.blobs import Ingested
from store.errors import NotFoundError

RELEASE, SIGNED, DETACHED = "Release", "InRelease", "Release.gpg"
FLAT_NAMES = frozenset({RELEASE, SIGNED, DETACHED, *(f"Packages{s}" for s in ("", *TWINS))})
HASHES = {"SHA256": "sha256", "SHA512": "sha512"}


async def suite(repository: Repository, distribution: str) -> Mapping[str, Ingested]:
    """The documents of a suite, by their path below it.  Raises NotFoundError."""

    async def build() -> Mapping[str, Ingested]:
        return await build_suite(repository, distribution)

    return await repository.cached_set(set_key(distribution), build)


def set_key(distribution: str) -> str:
    """The name of a suite's set; the flat repository's differs from every suite's."""
    return f"dists/{distribution}" if distribution else "flat"


async def build_suite(repository: Repository, distribution: str) -> Mapping[str, Ingested]:
    """Build and sign a suite.  Raises NotFoundError for one that lists nothing."""
    time = repository.modified
    shelves = dict(await index.find_shelves(repository, distribution))
    if not shelves:
        if distribution not in {index.FLAT, pool.default_distribution(repository.options)}:
            raise NotFoundError(f"no distribution {distribution}")
        shelves = {pool.DEFAULT_COMPONENT: ()}  # an empty repository is a valid one
    documents = await index.Builder(repository, distribution).build(shelves)
    return await signed(repository, distribution, shelves, documents, time)


async def signed(
    repository: Repository,
    distribution: str,
    shelves: Mapping[str, Sequence[str]],
    indices: Mapping[str, Ingested],
    time: float,
    served: Sequence[str] = index.ARCHITECTURES,
) -> Mapping[str, Ingested]:
    """The indices of a suite with the Release family that vouches for them.

    ``served`` are architectures that have an index even while nothing is published for them.
    """
    documents = dict(indices)
    lines = release_lines(repository, distribution, shelves, documents, time, served)
    text = "".join(lines).encode()
    inline = await repository.signer.clear_sign(text, time=time)
    detached = await repository.signer.detach_sign(text, time=time)
    for name, data in ((RELEASE, text), (SIGNED, inline), (DETACHED, detached)):
        documents[name] = await store(repository, data)
    return documents


def release_lines(
    repository: Repository,
    distribution: str,
    shelves: Mapping[str, Sequence[str]],
    documents: Mapping[str, Ingested],
    time: float,
    served: Sequence[str],
) -> Iterator[str]:
    """The Release file.  It never expires: a site that is cut off could not renew it."""
    options = repository.options
    found = {each for architectures in shelves.values() for each in architectures}
    architectures = sorted({*found, *served} - {"all", pool.SOURCE})
    yield f"Origin: {_one_line(options.get('origin', 'Atoll'))}\n"
    yield f"Label: {_one_line(options.get('label', repository.key))}\n"
    if distribution:
        yield f"Suite: {distribution}\n"
        yield f"Codename: {distribution}\n"
    yield f"Date: {formatdate(time, usegmt=True).removesuffix('GMT')}UTC\n"
    yield "Acquire-By-Hash: yes\n"
    yield f"Architectures: {' '.join(architectures)}\n"
    if distribution:
        yield f"Components: {' '.join(shelves)}\n"
    width = max((len(str(each.size)) for each in documents.values()), default=1)
    for title, algorithm in HASHES.items():
        yield f"{title}:\n"
        for path in sorted(documents):
            blob = documents[path]
            value = blob.digest.hex if algorithm == "sha256" else blob.checksums[algorithm]
            yield f" {value} {blob.size:>{width}} {path}\n"


def _one_line(value: object) -> str:
    return " ".join(str(value).split())[:200]


async def by_hash(
    repository: Repository, distribution: str, folder: str, algorithm: str, value: str
) -> Ingested:
    """A document of this or an earlier generation, by its digest.  Raises NotFoundError."""
    current = await suite(repository, distribution)
    for documents in (current, *await repository.generations(set_key(distribution))):
        found = with_hash(documents, folder, algorithm, value)
        if found is not None:
            return found
    raise NotFoundError(f"no document {algorithm}:{value[:200]} in {folder}")


def with_hash(
    documents: Mapping[str, Ingested], folder: str, algorithm: str, value: str
) -> Ingested | None:
    """The document of a set that lies in a folder and has a digest."""
    name = HASHES.get(algorithm)
    for path, blob in documents.items():
        if path.rpartition("/")[0] != folder:
            continue
        if (blob.digest.hex if name == "sha256" else blob.checksums.get(name or "")) == value:
            return blob
    return None
