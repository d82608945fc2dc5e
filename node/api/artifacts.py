"""Artifacts of any format: listing, metadata, download, deletion."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from urllib.parse import quote

import msgspec
import trio

from node.api.contract import Access, Call, Raw, Table, cut
from node.packages.conditions import http_date
from store.blobs import BlobRange
from store.conflicts import Rival
from store.digest import Digest
from store.errors import NotFoundError
from store.facts import Delete
from store.rows import Artifact

table = Table("artifacts")
ASKED_MAX = 16  # questions at once to a store that may be far away


class ArtifactView(msgspec.Struct):
    id: str
    repository_key: str
    path: str
    name: str
    version: str
    size_bytes: int
    checksum_sha256: str
    checksums: dict[str, str]
    created_at: float
    author: str
    pending: bool
    conflicted: bool
    local: bool
    download_url: str


class ArtifactList(msgspec.Struct):
    items: list[ArtifactView]
    next: str | None


class PackageList(msgspec.Struct):
    items: list[str]
    next: str | None


async def view(call: Call, artifact: Artifact) -> ArtifactView:
    """An artifact, and whether its bytes are on this node."""
    return _view(call, artifact, local=await call.core.holds(artifact.digest))


async def views(call: Call, artifacts: Sequence[Artifact]) -> list[ArtifactView]:
    """Several artifacts; where the bytes are is asked once for each digest, some at a time."""
    digests = dict.fromkeys(each.digest for each in artifacts)
    left, here = iter(digests), set[Digest]()

    async def ask() -> None:
        for digest in left:  # all of them draw from the same
            if await call.core.holds(digest):
                here.add(digest)

    async with trio.open_nursery() as nursery:
        for _ in range(min(ASKED_MAX, len(digests))):
            nursery.start_soon(ask)
    return [_view(call, each, local=each.digest in here) for each in artifacts]


def _view(call: Call, artifact: Artifact, *, local: bool) -> ArtifactView:
    path = quote(artifact.path)
    return ArtifactView(
        artifact.record.hex(),
        artifact.repository,
        artifact.path,
        artifact.package,
        artifact.version,
        artifact.size,
        artifact.digest.hex,
        dict(artifact.checksums),
        artifact.published,
        artifact.author,
        artifact.pending,
        artifact.conflicted,
        local,
        f"{call.root_url}/api/v1/repositories/{artifact.repository}/download/{path}",
    )


@table.route(
    "GET",
    "/repositories/{key}/artifacts",
    Access.READ,
    answer=ArtifactList,
    parameters=("prefix", "after", "limit"),
)
async def list_artifacts(call: Call) -> ArtifactList:
    """List files in path order; ``next`` is the ``after`` of the following page."""
    limit, after = max(1, call.number("limit", 100)), call.query.get("after", "")
    found = await call.core.catalog.files(
        call.repository.key, prefix=call.query.get("prefix", ""), after=after, limit=limit + 1
    )
    page, more = cut(found, limit, lambda each: each.path)
    return ArtifactList(await views(call, page), more)


@table.route(
    "GET",
    "/repositories/{key}/packages",
    Access.READ,
    answer=PackageList,
    parameters=("prefix", "after", "limit"),
)
async def list_packages(call: Call) -> PackageList:
    """List package names in byte order."""
    limit = max(1, call.number("limit", 100))
    found = await call.core.open(call.repository, call.caller).packages(
        prefix=call.query.get("prefix", ""),
        after=call.query.get("after", ""),
        limit=limit + 1,
    )
    page, more = cut(found, limit, str)
    return PackageList(list(page), more)


async def _find(call: Call) -> Artifact:
    """The file at a path; of a virtual repository, what its members keep."""
    return await call.core.open(call.repository, call.caller).artifact(call.params["path"])


async def _find_own(call: Call) -> Artifact:
    """The file at a path of the repository itself."""
    found = await call.core.catalog.find(call.repository.key, call.params["path"])
    if found is None:
        raise NotFoundError(f"{call.repository.key} has no {call.params['path']}")
    return found


@table.route("GET", "/repositories/{key}/artifacts/{path:path}", Access.READ, answer=ArtifactView)
async def get_artifact(call: Call) -> ArtifactView:
    """Show one file's metadata."""
    return await view(call, await _find(call))


@table.route("GET", "/repositories/{key}/download/{path:path}", Access.READ, parameters=("digest",))
async def download(call: Call) -> Raw:
    """Send a file's bytes, from here or from peers as they arrive; with a digest, a rival's."""
    artifact: Artifact | Rival = await _find(call)
    if (rival := call.query.get("digest")) is not None:
        artifact = await _rival(call, rival)

    async def stream() -> AsyncGenerator[bytes]:
        wanted = BlobRange(artifact.digest, artifact.size, artifact.manifest_id)
        async with call.core.blobs.read(wanted) as chunks:
            async for chunk in chunks:
                yield chunk
        if isinstance(artifact, Artifact):
            call.core.usage.sent(artifact, begun=True)

    return Raw(
        stream=stream(),
        headers={
            "content-length": str(artifact.size),
            "etag": f'"{artifact.digest}"',
            "last-modified": http_date(artifact.published),
            "x-checksum-sha256": artifact.digest.hex,
        },
    )


async def _rival(call: Call, wanted: str) -> Rival:
    """What was published at this coordinate with this digest, whoever holds the coordinate now."""
    digest = Digest.parse(wanted)
    for each in await call.core.conflicts.rivals(call.repository.key, call.params["path"]):
        if each.digest == digest and not each.deleted:
            return each
    raise NotFoundError(f"{call.params['path']} never had the digest {digest}")


@table.route("DELETE", "/repositories/{key}/artifacts/{path:path}", Access.DELETE, status=204)
async def delete_artifact(call: Call) -> None:
    """Delete a file; its coordinate then only takes the same bytes again."""
    artifact = await _find_own(call)
    await call.append(
        Delete(artifact.repository, artifact.path, (artifact.record,), "deleted by request")
    )
    await call.note("artifact.delete", artifact.path)
