"""GET: files, checksums, generated metadata, listings."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from functools import partial

import msgspec

from formats.contract import (
    Rendered,
    Repository,
    Request,
    Response,
    blob_response,
    json_response,
)
from formats.digests import digest_headers, hash_file
from formats.maven import documents
from formats.maven.layout import (
    CATALOG,
    METADATA,
    is_snapshot,
    media_type,
    sidecar_of,
)
from formats.maven.pom import Plugin
from store.errors import NotFoundError

PLUGIN = "plugin/"  # prefix of the pointers of a group that name its plugins
ARCHETYPE = "archetype"  # the pointer of a package that holds archetypes
XML_TYPE = "text/xml"
PAGE = 200  # packages read at once
LAST = "\U0010ffff" * 8  # sorts after every name that people give
DEEPER = re.compile(r"[^.:]*[.:]")


async def get(request: Request, repository: Repository) -> Response:
    """Answer with a file, a checksum, a generated document, or a folder.  Raises NotFoundError."""
    path = request.params["path"]
    found = await repository.find(path)
    if found is not None:
        headers = digest_headers(found)
        return blob_response(found, media_type(found.filename), headers=headers)
    sidecar = sidecar_of(path)
    if sidecar is not None:
        value = await checksum(repository, *sidecar)
        return Response(content=value.encode(), media_type="text/plain; charset=utf-8")
    document = await generated(repository, path)
    if document is None:
        return await folder(request, repository, path)
    return Response(
        content=document.data,
        media_type=XML_TYPE,
        headers=tuple(
            (f"x-checksum-{name}", hash_bytes(name, document.data))
            for name in ("sha256", "sha1", "md5")
        ),
        etag=document.etag,
        modified=document.modified,
    )


async def root(request: Request, repository: Repository) -> Response:
    """List the top folder."""
    return await folder(request, repository, "")


# --- checksums ----------------------------------------------------------------------------------
async def checksum(repository: Repository, path: str, algorithm: str) -> str:
    """The checksum of a stored or generated file.  Raises NotFoundError if it is not here."""
    found = await repository.find(path)
    if found is None:
        document = await generated(repository, path)
        if document is None:
            raise NotFoundError(f"no such file: {path}")
        return hash_bytes(algorithm, document.data)
    if algorithm in found.checksums:
        return found.checksums[algorithm]
    return await repository.inspect(found.digest, partial(hash_file, algorithm))


def hash_bytes(algorithm: str, data: bytes) -> str:
    """Hash a document that is in memory anyway."""
    return hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()


# --- generated documents ------------------------------------------------------------------------
async def generated(repository: Repository, path: str) -> Rendered | None:
    """A document that this server makes; None if the path names no such.  Raises NotFoundError."""
    folder_path, _, name = path.rpartition("/")
    if path == CATALOG:
        return await repository.cached(CATALOG, partial(_render_catalog, repository))
    if name != METADATA:
        return None
    render = partial(_render_metadata, repository, folder_path)
    return await repository.cached(f"metadata/{folder_path}", render)


async def _render_metadata(repository: Repository, path: str) -> bytes:
    """Metadata of a folder.  Raises NotFoundError."""
    above, _, name = path.rpartition("/")
    if is_snapshot(name):
        parent, _, artifact = above.rpartition("/")
        group = parent.replace("/", ".")
        files = await repository.artifacts(f"{group}:{artifact}", name)
        if files:
            return documents.snapshot_metadata(group, artifact, name, files)
    group = above.replace("/", ".")
    files = await repository.artifacts(f"{group}:{name}")
    plugins = [each async for each in _plugins(repository, path.replace("/", "."))]
    if not plugins and not documents.listed_versions(files):
        raise NotFoundError(f"no metadata for {path}")
    return documents.metadata(group, name, files, plugins)


async def _plugins(repository: Repository, group: str) -> AsyncIterator[Plugin]:
    """Plugins of a group, of which at least one version is still here."""
    for pointer in await repository.pointers(group):
        if not pointer.name.startswith(PLUGIN):
            continue
        plugin = msgspec.json.decode(pointer.value, type=Plugin)
        if documents.listed_versions(await repository.artifacts(f"{group}:{plugin.artifact}")):
            yield plugin


async def _render_catalog(repository: Repository) -> bytes:
    found = []
    async for pointer in repository.all_pointers():
        if pointer.name != ARCHETYPE:
            continue
        group, _, artifact = pointer.package.partition(":")
        poms = [e for e in await repository.artifacts(pointer.package) if e.role == "pom"]
        newest = {each.version: each for each in sorted(poms, key=lambda each: each.path)}
        rows = [newest[version] for version in sorted(newest)]
        for row, raw in zip(rows, await repository.metadata(rows), strict=True):
            pom = msgspec.json.decode(raw)
            if pom.get("packaging") == "maven-archetype":
                found.append((group, artifact, row.version, str(pom.get("description", ""))))
    return documents.archetype_catalog(found)


# --- folders ------------------------------------------------------------------------------------
async def folder(request: Request, repository: Repository, path: str) -> Response:
    """List a folder, as JSON if the client prefers it.  Raises NotFoundError."""

    async def render() -> bytes:
        return msgspec.json.encode(sorted(await _children(repository, path)))

    rendered = await repository.cached(f"folder/{path}", render)
    names = msgspec.json.decode(rendered.data, type=list[str])
    if not names and path:
        raise NotFoundError(f"no such file: {path}")
    vary = (("vary", "Accept"),)
    if "application/json" in request.headers.get("accept", ""):
        return json_response({"path": f"/{path}", "children": names}, headers=vary)
    page = documents.listing_html(path, names)
    return Response(content=page, media_type="text/html; charset=utf-8", headers=vary)


async def _children(repository: Repository, path: str) -> set[str]:
    """Names below a folder, those of folders with a slash: from package names, not from files."""
    found: set[str] = set()
    above, _, last = path.rpartition("/")
    upper, _, artifact = above.rpartition("/")
    files = await repository.artifacts(f"{upper.replace('/', '.')}:{artifact}", last)
    found.update(each.path.removeprefix(f"{path}/") for each in files)
    files = await repository.artifacts(f"{above.replace('/', '.')}:{last}")
    found.update(f"{each.version}/" for each in files)
    group = path.replace("/", ".")
    for prefix in (f"{group}.", f"{group}:") if path else ("",):
        async for package in _first_of_each(repository, prefix):
            above, colon, name = package.partition(":")
            place = f"{above.replace('.', '/')}/{name}" if colon else ""
            if place and place.startswith(f"{path}/" if path else ""):
                below = place.removeprefix(f"{path}/") if path else place
                found.add(f"{below.partition('/')[0]}/")
    return found


async def _first_of_each(repository: Repository, prefix: str) -> AsyncIterator[str]:
    """A package at least for each group, or artifact, that follows a prefix.

    What lies deeper is passed over, so that a folder above a million packages costs no more looks
    than it has entries.
    """
    after = ""
    while page := await repository.packages(prefix=prefix, after=after, limit=PAGE):
        for package in page:
            yield package
        after = page[-1]
        deeper = None if prefix.endswith(":") else DEEPER.match(after, len(prefix))
        if deeper is not None:
            after = f"{deeper.string[: deeper.end()]}{LAST}"
