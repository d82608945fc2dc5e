"""PUT and DELETE: one file a request; checksums are verified, metadata is ours to make."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from formats.contract import Answer, Publish, Repository, Request, Response, Staged
from formats.digests import compare, declared_digests, verify
from formats.maven.layout import (
    METADATA,
    SIDECARS,
    Coordinates,
    read_path,
    sidecar_of,
)
from formats.maven.pom import (
    POM_MAX,
    Plugin,
    check_pom,
    find_descriptor,
    read_descriptor,
    read_plugins,
    read_pom,
)
from formats.maven.reading import ARCHETYPE, PLUGIN, checksum
from store.blobs import Ingested
from store.errors import DigestInvalidError, NotFoundError, RejectedError
from store.facts import Delete, Fact, File, Point
from store.facts import Publish as PublishFact

SIDECAR_MAX = 4096  # bytes
HEX = re.compile(r"[0-9a-fA-F]+")


async def put(request: Request, repository: Repository) -> Answer:
    """Take one file.  Raises PathInvalidError, ManifestInvalidError, DigestMismatchError."""
    path, blob = request.params["path"], request.body
    if blob is None:
        raise RejectedError("a file has a body")
    await verify(declared_digests(request.headers), blob, repository)
    folder, _, name = path.rpartition("/")
    if name == METADATA:
        return await put_metadata(repository, folder, blob)
    sidecar = sidecar_of(path)
    if sidecar is not None:
        return await put_sidecar(repository, *sidecar, blob)
    return await put_file(repository, path, blob)


# --- files --------------------------------------------------------------------------------------
async def put_file(repository: Repository, path: str, blob: Ingested) -> Answer:
    """Publish a file, with what its content says of plugins and archetypes."""
    place = read_path(path)
    parts = place.parts
    role, metadata = "file", b""
    facts: list[Fact] = []
    if parts is not None and parts.extension.endswith("asc"):
        role = "signature"
    elif place.filename.endswith(".pom"):
        role = "pom"
        pom = read_pom(await repository.load(blob.digest, limit=POM_MAX))
        versions = {place.version, parts.value if parts else place.version}
        check_pom(pom, place.group, place.artifact, versions)
        metadata = msgspec.json.encode(pom)
        if pom["packaging"] == "maven-archetype":
            facts += await _point(repository, place.package, ARCHETYPE, b"{}")
    elif place.filename.endswith(".jar"):
        facts += await _plugin(repository, place, blob)
    checksums = tuple(sorted(blob.checksums.items()))
    file = File(path, role, str(blob.digest), blob.size, checksums=checksums, metadata=metadata)
    mutable = place.is_mutable
    publish = PublishFact(repository.key, place.package, place.version, (file,), mutable)
    waiting = await _check_waiting(repository, place.package, path, blob)
    replaced = mutable and await repository.find(path) is not None
    return Publish(
        (publish, *facts),
        Response(200 if replaced else 201),
        unchanged=Response(200),
        unstage=tuple((place.package, name) for name in waiting),
    )


async def _plugin(repository: Repository, place: Coordinates, blob: Ingested) -> Sequence[Fact]:
    """The group's entry for a jar that is a Maven plugin."""
    data = await repository.inspect(blob.digest, find_descriptor)
    plugin = read_descriptor(data) if data is not None else None
    if plugin is None or plugin.artifact != place.artifact:
        return ()
    return await _point_plugin(repository, place.group, plugin)


async def _point_plugin(repository: Repository, group: str, plugin: Plugin) -> Sequence[Fact]:
    name = f"{PLUGIN}{plugin.artifact}"
    return await _point(repository, group, name, msgspec.json.encode(plugin))


async def _point(repository: Repository, package: str, name: str, value: bytes) -> Sequence[Fact]:
    """The fact that sets a pointer, unless it is set so already."""
    held = await repository.pointer(package, name)
    if held is not None and held.value == value and not held.siblings:
        return ()
    return (Point(repository.key, package, name, value, held.records if held else ()),)


# --- metadata and checksums ---------------------------------------------------------------------
async def put_metadata(repository: Repository, folder: str, blob: Ingested) -> Answer:
    """Read a client's metadata for plugins only: versions are ours to list.

    Clients send what they merged from an older copy, so parallel deploys would lose each other's.
    """
    data = await repository.load(blob.digest, limit=POM_MAX)
    group = folder.replace("/", ".")
    facts: list[Fact] = []
    for plugin in read_plugins(data):
        facts += await _point_plugin(repository, group, plugin)
    return Publish(tuple(facts), Response(201)) if facts else Response(201)


async def put_sidecar(
    repository: Repository, path: str, algorithm: str, blob: Ingested
) -> Response:
    """Compare a checksum with the file; nothing is stored.

    One that comes before its file waits for it.  Raises DigestInvalidError, DigestMismatchError.
    """
    if path.endswith(f"/{METADATA}") or path == METADATA:
        return Response(201)
    package = read_path(path).package
    stated = read_sidecar(await repository.load(blob.digest, limit=SIDECAR_MAX), algorithm)
    try:
        compare(algorithm, stated, await checksum(repository, path, algorithm))
    except NotFoundError:
        await repository.stage(package, f"{path}.{algorithm}", blob, stated.encode())
    return Response(201)


def read_sidecar(data: bytes, algorithm: str) -> str:
    """The digest in a checksum file, which may also name the file.  Raises DigestInvalidError."""
    length = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}[algorithm]
    for word in HEX.findall(data.decode("utf-8", "replace")):
        if len(word) == length:
            return str(word).lower()
    raise DigestInvalidError(f"not a {algorithm} checksum: {data[:80]!r}")


async def _check_waiting(
    repository: Repository, package: str, path: str, blob: Ingested
) -> list[str]:
    """Compare checksums that came before their file; return the names of those.

    Raises DigestMismatchError.
    """
    names = {f"{path}.{algorithm}": algorithm for algorithm in SIDECARS}
    waiting: list[Staged] = [e for e in await repository.staged(package) if e.name in names]
    for each in waiting:
        expected = [(names[each.name], each.metadata.decode("ascii", "replace"))]
        await verify(expected, blob, repository)
    return [each.name for each in waiting]


# --- removing -----------------------------------------------------------------------------------
async def delete(request: Request, repository: Repository) -> Answer:
    """Remove a file, or every file of a version.  Raises NotFoundError."""
    path = request.params["path"]
    found = await repository.find(path)
    files = [found] if found is not None else []
    if not files and path.count("/") >= 2:
        above, _, version = path.rpartition("/")
        group, _, artifact = above.rpartition("/")
        package = f"{group.replace('/', '.')}:{artifact}"
        files = list(await repository.artifacts(package, version))
    if not files:
        raise NotFoundError(f"no such file or version: {path}")
    facts = tuple(Delete(repository.key, each.path, (each.record,)) for each in files)
    return Publish(facts, Response(204))
