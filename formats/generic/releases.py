"""Files of a folder as releases: a package is a folder, a version the name of a file in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from formats import releases
from formats.contract import Repository
from formats.generic.paths import REVISIONS, clean_path, refuse_clash
from formats.releases import Release
from store.errors import NotFoundError
from store.facts import Delete, Fact
from store.rows import Artifact


async def read(repository: Repository, folder: str, name: str) -> Release:
    """Read one file, or with an empty name every file of a folder.  Raises NotFoundError."""
    found = await repository.artifacts(folder)
    files = tuple(each for each in found if name in {"", each.filename})
    if not files or folder.partition("/")[0] == REVISIONS:
        raise NotFoundError(f"{repository.key} has no {folder}/{name}")
    return Release(folder, name, files)


async def adopt(repository: Repository, release: Release) -> Sequence[Fact]:
    """Publish the files here, as revisions where this repository keeps them.

    Raises ConflictError where a file would be a folder, or a folder a file.
    """
    versioned = bool(repository.options.get("versioned"))
    files: list[Artifact] = []
    for each in release.files:
        await refuse_clash(repository, clean_path(each.path))
        files.append(replace(each, mutable=versioned))
        if versioned:
            place, digest = f"{REVISIONS}/{each.path}", each.digest.hex
            revision = f"{place}/{digest}"
            files.append(replace(each, package=place, version=digest, path=revision, mutable=False))
    return releases.publishes(repository.key, files)


async def withdraw(repository: Repository, release: Release, reason: str) -> Sequence[Fact]:
    """Remove the files; revisions of them stay."""
    return [Delete(repository.key, e.path, (e.record,), reason) for e in release.files]


def place(artifact: Artifact) -> tuple[str, str]:
    """The folder and the name of a file."""
    return artifact.package, artifact.filename


RELEASES = releases.Releases(read, adopt, withdraw, place)
