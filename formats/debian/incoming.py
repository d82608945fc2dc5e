"""The upload queue: files wait on this node until the ``.changes`` that lists them arrives.

Spec: Debian Policy §5.5; the layout of dput's http method.
"""

from __future__ import annotations

from collections.abc import Mapping

from formats.contract import Answer, Publish, Repository, Request, Response, Staged
from formats.debian import control, pool
from formats.debian.control import Listed
from formats.debian.deb import read_deb
from formats.debian.pool import Place
from formats.debian.versions import is_version
from formats.debian.writing import BINARY_SUFFIXES, Blob, Upload, check_filename, source_name
from formats.digests import declared_digests, verify
from store.errors import DigestMismatchError, ManifestInvalidError, PathInvalidError, RejectedError

QUEUE = "incoming/"  # owner of staged files: no package is called so
FILES_MAX = 500


async def put_incoming(request: Request, repository: Repository) -> Answer:
    """Keep a file for its ``.changes``, or publish what a ``.changes`` lists."""
    name, blob = request.params["file"], request.body
    if blob is None:
        raise RejectedError("an upload has a body")
    if not control.FILENAME.match(name):
        raise PathInvalidError(f"not a filename: {name[:200]!r}")
    await verify(declared_digests(request.headers), blob, repository)
    if not name.endswith(".changes"):
        await repository.stage(QUEUE, name, blob)
        return Response(201)
    data = await repository.load(blob.digest, limit=control.CONTROL_MAX)
    return await process(repository, name, blob, data)


async def process(repository: Repository, name: str, blob: Blob, data: bytes) -> Publish:
    """Publish everything that a ``.changes`` lists, at once or not at all.

    Raises ManifestInvalidError, DigestMismatchError, RejectedError when a file is missing.
    """
    changes = control.read_paragraph(data)
    source = control.field(changes, "Source").partition("(")[0].strip()
    if not control.NAME.match(source):
        raise ManifestInvalidError(f"not a source package name: {source[:200]!r}")
    version = control.field(changes, "Version")
    if not is_version(version):
        raise ManifestInvalidError(f"not a Debian version: {version[:200]!r}")
    distributions = pool.distribution_names(control.field(changes, "Distribution"))
    files = control.listed_files(changes)
    if len(files) > FILES_MAX:
        raise ManifestInvalidError(f"more than {FILES_MAX} files in one upload")
    staged = {each.name: each for each in await repository.staged(QUEUE)}
    upload = Upload(repository)
    for each in files:
        folder = pool.default_folder(component_of(each), source)
        path = f"{folder}/{each.name}"
        found = await _find(repository, staged, each, path)
        owner, architecture = await _add(upload, path, found, (source, version))
        for distribution in distributions if architecture else ():
            place = Place(distribution, component_of(each), architecture, each.name)
            await upload.list_in(owner, place, path)
    folder = pool.default_folder(component_of(files[0]), source)
    await upload.add_source(f"{folder}/{name}", blob, source, version)
    consumed = tuple((QUEUE, each.name) for each in files if each.name in staged)
    return Publish(tuple(upload.facts), Response(201), unchanged=Response(201), unstage=consumed)


async def _find(
    repository: Repository, staged: Mapping[str, Staged], listed: Listed, path: str
) -> Staged:
    """The file that a line names, verified; waiting, or in the pool already (an .orig tarball)."""
    found = staged.get(listed.name)
    if found is None:
        held = await repository.find(path)
        if held is None:
            raise RejectedError(f"{listed.name} has not been uploaded")
        found = Staged(listed.name, held.digest, held.size, held.checksums, b"", held.published)
    if found.digest.hex != listed.sha256 or found.size != listed.size:
        raise DigestMismatchError(f"sha256:{listed.sha256}", found.digest)
    return found


async def _add(upload: Upload, path: str, blob: Staged, of: tuple[str, str]) -> tuple[str, str]:
    """Add one file; tell its package, and under which architecture a suite lists it, if any."""
    name = path.rpartition("/")[2]
    if name.endswith(BINARY_SUFFIXES):
        package = await upload.repository.inspect(blob.digest, read_deb)
        check_filename(name, package)
        await upload.add_binary(path, blob, package)
        return package.name, package.architecture
    if name.endswith(".dsc"):
        source, _ = await upload.add_dsc(path, blob)
        return source, pool.SOURCE
    source_name(name)
    await upload.add_source(path, blob, *of)
    return of[0], ""


def component_of(listed: Listed) -> str:
    """The component that a section names: ``contrib/net`` is in contrib."""
    component, slash, _ = listed.section.rpartition("/")
    return pool.component_name(component) if slash else pool.DEFAULT_COMPONENT
