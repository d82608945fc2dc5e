"""Uploads to the pool, and removals from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from formats.contract import Answer, Publish, Repository, Request, Response, Staged
from formats.debian import control, pool
from formats.debian.deb import Package, read_deb
from formats.debian.pool import Place
from formats.debian.versions import is_version, without_epoch
from formats.digests import declared_digests, verify
from store.blobs import Ingested
from store.errors import (
    ManifestInvalidError,
    NotFoundError,
    PathInvalidError,
    RejectedError,
    VersionExistsError,
)
from store.facts import Delete, Fact, File, Point
from store.facts import Publish as PublishFact
from store.rows import Artifact

BINARY_SUFFIXES = (".deb", ".ddeb")
SOURCE_SUFFIXES = (".tar.gz", ".tar.xz", ".tar.bz2", ".tar.zst", ".diff.gz", ".asc", ".buildinfo")
Blob = Ingested | Staged


@dataclass(slots=True)
class Upload:
    """The facts that one request comes to; a publish per package."""

    repository: Repository
    facts: list[Fact] = field(default_factory=list[Fact])

    async def add_binary(self, path: str, blob: Blob, package: Package) -> None:
        """Add a ``.deb``.  Raises VersionExistsError if this build exists with other bytes."""
        await refuse_rivals(self.repository, blob, package.fields)
        listing = await self._store(package.files)
        metadata = msgspec.json.encode({"control": package.fields})
        files = (
            make_file(path, "deb", blob, metadata),
            make_file(pool.listing_path(path), "contents", listing),
        )
        self._publish(package.name, package.version, files)

    async def add_source(self, path: str, blob: Blob, source: str, version: str) -> None:
        """Add a tarball, a signature or another file of a source package."""
        self._publish(source, version, (make_file(path, "source", blob),))

    async def add_dsc(self, path: str, blob: Blob) -> tuple[str, str]:
        """Add a ``.dsc``; return its source package and version."""
        data = await self.repository.load(blob.digest, limit=control.CONTROL_MAX)
        fields = control.read_paragraph(data)
        source = control.required(fields, "Source", control.NAME)
        version = control.field(fields, "Version")
        if not is_version(version):
            raise ManifestInvalidError(f"not a Debian version: {version[:200]!r}")
        control.listed_files(fields)
        if path.rpartition("/")[2] != f"{source}_{without_epoch(version)}.dsc":
            raise ManifestInvalidError(f"the .dsc is of {source} {version}")
        metadata = msgspec.json.encode({"control": fields})
        self._publish(source, version, (make_file(path, "dsc", blob, metadata),))
        return source, version

    async def list_in(self, package: str, place: Place, path: str) -> None:
        """Let a suite list the file."""
        held = await self.repository.pointer(package, place.name)
        if held is None or held.value != path.encode() or held.siblings:
            seen = held.records if held is not None else ()
            self.facts.append(Point(self.repository.key, package, place.name, path.encode(), seen))

    def _publish(self, package: str, version: str, files: Sequence[File]) -> None:
        self.facts.append(PublishFact(self.repository.key, package, version, tuple(files)))

    async def _store(self, data: bytes) -> Ingested:
        async with self.repository.ingest() as ingest:
            await ingest.write(data)
        return ingest.result


async def refuse_rivals(
    repository: Repository, blob: Blob | Artifact, fields: Mapping[str, str]
) -> None:
    """(package, version, architecture) names one content, wherever in the pool it lies.

    Raises VersionExistsError.
    """
    name, version = control.field(fields, "Package"), control.field(fields, "Version")
    architecture = control.field(fields, "Architecture")
    rows = await repository.artifacts(name, version)
    rows = [row for row in rows if row.role == "deb" and row.digest != blob.digest]
    for row, metadata in zip(rows, await repository.metadata(rows), strict=True):
        held = msgspec.json.decode(metadata)["control"]
        if control.field(held, "Architecture") == architecture:
            what = f"{name}_{without_epoch(version)}_{architecture}.deb"
            raise VersionExistsError(f"{what} exists with other bytes: {row.path}")


def make_file(path: str, role: str, blob: Blob, metadata: bytes = b"") -> File:
    """A blob as a file of a publish."""
    checksums = tuple(sorted(blob.checksums.items()))
    return File(path, role, str(blob.digest), blob.size, checksums=checksums, metadata=metadata)


# --- routes -------------------------------------------------------------------------------------
async def put_pool(request: Request, repository: Repository) -> Answer:
    """Take a file at the path the client chose; ``?dist=`` names the suites that list it."""
    component = pool.component_name(request.params["component"])
    path = f"pool/{component}/{request.params['path']}"
    blob = await _body(request, repository)
    name = path.rpartition("/")[2]
    if not control.FILENAME.match(name):
        raise PathInvalidError(f"not a filename: {name[:200]!r}")
    distributions = pool.asked_distributions(request, repository.options)
    upload = Upload(repository)
    if name.endswith(BINARY_SUFFIXES):
        package = await repository.inspect(blob.digest, read_deb)
        check_filename(name, package)
        await upload.add_binary(path, blob, package)
        owner, architecture = package.name, package.architecture
    elif name.endswith(".dsc"):
        owner, _ = await upload.add_dsc(path, blob)
        architecture = pool.SOURCE
    else:
        owner, version = source_name(name)
        await upload.add_source(path, blob, owner, version)
        distributions = []  # a tarball is listed by its .dsc
        architecture = pool.SOURCE
    for each in distributions:
        await upload.list_in(owner, Place(each, component, architecture, name), path)
    return _done(upload, path)


async def post_upload(request: Request, repository: Repository) -> Answer:
    """Take a ``.deb`` as it is; it says itself where it belongs."""
    blob = await _body(request, repository)
    component = pool.component_name(request.argument("comp") or pool.DEFAULT_COMPONENT)
    package = await repository.inspect(blob.digest, read_deb)
    architecture = request.argument("arch", package.architecture)
    if architecture != package.architecture:
        raise ManifestInvalidError(f"the package is for {package.architecture}")
    path = f"{pool.default_folder(component, package.source)}/{package.filename}"
    upload = Upload(repository)
    await upload.add_binary(path, blob, package)
    for each in pool.asked_distributions(request, repository.options):
        place = Place(each, component, architecture, package.filename)
        await upload.list_in(package.name, place, path)
    return _done(upload, path)


def _done(upload: Upload, path: str) -> Publish:
    created = Response(201, f"{path}\n".encode(), "text/plain; charset=utf-8")
    return Publish(tuple(upload.facts), created, unchanged=created)


async def delete_pool(request: Request, repository: Repository) -> Answer:
    """Remove a file from the pool and from every suite.  Raises NotFoundError."""
    path = f"pool/{request.params['component']}/{request.params['path']}"
    found = await repository.find(path)
    if found is None:
        raise NotFoundError(f"no such file: {path}")
    facts: list[Fact] = [Delete(repository.key, path, (found.record,))]
    listing = await repository.find(pool.listing_path(path))
    if listing is not None:
        facts.append(Delete(repository.key, listing.path, (listing.record,)))
    for pointer in await repository.pointers(found.package):
        if pointer.value == path.encode():
            name, seen = pointer.name, pointer.records
            facts.append(Point(repository.key, found.package, name, None, seen))
    return Publish(tuple(facts), Response(204))


async def _body(request: Request, repository: Repository) -> Ingested:
    if request.body is None:
        raise RejectedError("an upload has a body")
    await verify(declared_digests(request.headers), request.body, repository)
    return request.body


def check_filename(name: str, package: Package) -> None:
    """A name of dpkg's shape must be the package's own.  Raises ManifestInvalidError."""
    stem = name.rpartition(".")[0]
    full = f"{package.name}_{package.version.replace(':', '%3a')}_{package.architecture}"
    own = package.filename.removesuffix(".deb")
    if stem.count("_") == 2 and stem not in {own, full, full.replace("%3a", ":")}:
        raise ManifestInvalidError(f"the file is {own}, not {stem[:200]}")


def source_name(filename: str) -> tuple[str, str]:
    """The source package and version that a tarball's name tells.  Raises PathInvalidError."""
    name, _, rest = filename.partition("_")
    if not filename.endswith(SOURCE_SUFFIXES) or not control.NAME.match(name) or not rest:
        raise PathInvalidError(f"neither a .deb nor part of a source package: {filename[:200]!r}")
    for mark in (".orig", ".debian.tar", ".tar", ".diff", ".dsc"):
        rest = rest.partition(mark)[0]
    return name, rest
