"""Reading: packuments, single manifests, tarballs, attestations, dist-tags."""

from __future__ import annotations

import msgspec

from formats.contract import (
    BINARY,
    Rendered,
    Repository,
    Request,
    Response,
    blob_response,
    json_response,
)
from formats.digests import digest_headers
from formats.npm import packument
from formats.npm.catalog import (
    ATTESTATION,
    TARBALL,
    beside,
    load_package,
    tags_of,
    tarball_path,
)
from formats.npm.names import base_name, package_of
from formats.npm.packument import ABBREVIATED_TYPE, FULL_TYPE
from store.errors import NotFoundError, PackageUnknownError

BUNDLE = "sigstore.json"


async def package_page(request: Request, repository: Repository) -> Response:
    """A packument: abbreviated for installers, full otherwise.  Raises PackageUnknownError."""
    return await _packument(request, repository, package_of(request))


async def package_or_version(request: Request, repository: Repository) -> Response:
    """``/@scope/name`` is a packument, ``/name/1.0.0`` one manifest: they have the same shape."""
    first, second = request.params["package"], request.params["version"]
    if first.startswith("@") and "/" not in first:
        return await _packument(request, repository, f"{first}/{second}")
    return await _manifest(request, repository, package_of(request), second)


async def version_page(request: Request, repository: Repository) -> Response:
    """One manifest of a scoped package."""
    return await _manifest(request, repository, package_of(request), request.params["version"])


async def _packument(request: Request, repository: Repository, name: str) -> Response:
    writing = bool(request.argument("write"))
    short = ABBREVIATED_TYPE in request.headers.get("accept", "") and not writing

    async def render() -> bytes:
        package = await load_package(repository, name, full=not short)
        build = packument.abbreviated if short else packument.full
        return build(package, request.base_url)

    if writing:  # a client that is about to change it must not see an old one
        return Response(content=await render(), media_type=FULL_TYPE)
    kind = "short" if short else "full"
    rendered = await repository.cached(f"{kind}:{request.base_url}:{name}", render)
    return _document(rendered, ABBREVIATED_TYPE if short else FULL_TYPE)


def _document(rendered: Rendered, media_type: str) -> Response:
    return Response(
        content=rendered.data,
        media_type=media_type,
        headers=(("vary", "Accept"),),
        etag=rendered.etag,
        modified=rendered.modified,
    )


async def _manifest(request: Request, repository: Repository, name: str, wanted: str) -> Response:
    async def render() -> bytes:
        package = await load_package(repository, name, full=True)
        version = package.tags.get(wanted, wanted)
        for each in package.releases:
            if each.version == version:
                return packument.version_json(name, each, request.base_url, full=True)
        raise NotFoundError(f"version not found: {name}@{wanted}")

    rendered = await repository.cached(f"version:{request.base_url}:{name}:{wanted}", render)
    return _document(rendered, FULL_TYPE)


async def tarball(request: Request, repository: Repository) -> Response:
    """Name a tarball; the node streams it.

    Some clients repeat the scope before the filename, as publishers write it.
    """
    name = package_of(request)
    repeated = request.params.get("repeated", "")
    if repeated and f"{repeated}/{base_name(name)}" != name:
        raise NotFoundError("no such tarball")
    artifact = await repository.artifact(tarball_path(name, request.params["file"]))
    if artifact.role != TARBALL:
        raise NotFoundError("no such tarball")
    return blob_response(artifact, BINARY, headers=digest_headers(artifact))


async def attestations(request: Request, repository: Repository) -> Response:
    """Sigstore bundles of ``package@version``."""
    params = request.params
    text = params.get("scope", "") + ("/" if "scope" in params else "") + params["spec"]
    name, at, version = text.rpartition("@")
    if not at or not name:
        raise PackageUnknownError(f"no package {text[:200]!r} here")
    artifact = await repository.artifact(beside(name, version, BUNDLE))
    if artifact.role != ATTESTATION:
        raise NotFoundError("no attestations")
    bundle = msgspec.Raw(await repository.load(artifact.digest))
    kind = msgspec.json.decode(artifact.metadata, type=str)
    return json_response({"attestations": [{"predicateType": kind, "bundle": bundle}]})


async def dist_tags(request: Request, repository: Repository) -> Response:
    """All dist-tags, ``latest`` included."""
    name = package_of(request)
    artifacts = await repository.artifacts(name)
    found = tags_of(artifacts, await repository.pointers(name)).visible()
    if not found:
        raise PackageUnknownError(f"no package {name} here")
    return json_response(found)
