"""GET: suites, the flat twin, the pool, keys."""

from __future__ import annotations

from formats.contract import BINARY, BlobContent, Repository, Request, Response, blob_response
from formats.debian import index, release
from formats.debian.pool import DISTRIBUTION
from formats.digests import digest_headers
from store.blobs import Ingested
from store.errors import NotFoundError

MEDIA_TYPES = {
    "deb": "application/vnd.debian.binary-package",
    "gz": "application/gzip",
    "xz": "application/x-xz",
    "zst": "application/zstd",
    "asc": "application/pgp-keys",
    "gpg": "application/pgp-signature",
}
TEXT = "text/plain; charset=utf-8"


async def suite_document(request: Request, repository: Repository) -> Response:
    """A document of a suite, by name or by hash.  Raises NotFoundError."""
    distribution, path = request.params["dist"], request.params["path"]
    if not DISTRIBUTION.match(distribution):
        raise NotFoundError(f"no distribution {distribution[:200]}")
    return await _document(repository, distribution, path)


async def flat_document(request: Request, repository: Repository) -> Response:
    """A document of the flat twin, which lists the whole pool.  Raises NotFoundError."""
    name = request.params["file"]
    if name not in release.FLAT_NAMES:  # else a stray request would have the whole pool rendered
        raise NotFoundError(f"no such file: {name[:200]}")
    return await _document(repository, index.FLAT, name)


async def flat_by_hash(request: Request, repository: Repository) -> Response:
    """A document of the flat twin, by hash.  Raises NotFoundError."""
    path = f"by-hash/{request.params['algorithm']}/{request.params['digest']}"
    return await _document(repository, index.FLAT, path)


async def _document(repository: Repository, distribution: str, path: str) -> Response:
    parts = path.split("/")
    if len(parts) >= 3 and parts[-3] == "by-hash":
        folder = "/".join(parts[:-3])
        found = await release.by_hash(repository, distribution, folder, parts[-2], parts[-1])
        return _blob(repository, found, BINARY, immutable=True)
    documents = await release.suite(repository, distribution)
    if path not in documents:
        raise NotFoundError(f"no such index: {path[:300]}")
    return _blob(repository, documents[path], media_type(path))


def _blob(
    repository: Repository, blob: Ingested, media_type: str, *, immutable: bool = False
) -> Response:
    return Response(
        content=BlobContent(blob.digest, blob.size),
        media_type=media_type,
        etag=str(blob.digest),
        modified=repository.modified,
        immutable=immutable,
    )


def media_type(path: str) -> str:
    """The media type of a file, by its extension; indices are text."""
    name = path.rpartition("/")[2]
    return MEDIA_TYPES.get(name.rpartition(".")[2], TEXT) if "." in name else TEXT


async def pool_file(request: Request, repository: Repository) -> Response:
    """A file of the pool.  Raises NotFoundError."""
    path = f"pool/{request.params['component']}/{request.params['path']}"
    found = await repository.artifact(path)
    kind = MEDIA_TYPES.get(path.rpartition(".")[2], BINARY)
    return blob_response(found, kind, headers=digest_headers(found))


async def other_file(request: Request, repository: Repository) -> Response:
    """A file outside of suites and pool: only upstreams have such.  Raises NotFoundError."""
    path = request.params["path"]
    found = await repository.artifact(path)
    return blob_response(found, media_type(path), headers=digest_headers(found))


async def public_key(request: Request, repository: Repository) -> Response:
    """The key that signs the suites, armoured."""
    data = await repository.signer.public_key()
    return Response(content=data, media_type="application/pgp-keys")
