"""Binary and source packages as releases; a source package brings the files that it lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from formats import releases
from formats.contract import Repository
from formats.debian.control import listed_files
from formats.debian.writing import refuse_rivals
from formats.releases import Release
from store.facts import Fact
from store.rows import Artifact


async def read(repository: Repository, package: str, version: str) -> Release:
    """Read a version.  An upstream tarball that other revisions list too is shared.

    Raises NotFoundError.
    """
    found = await releases.read(repository, package, version)
    everything = await repository.artifacts(package)
    listings: dict[str, set[str]] = {}
    descriptions = [each for each in everything if each.role == "dsc"]
    for each, text in zip(descriptions, await repository.metadata(descriptions), strict=True):
        fields = msgspec.json.decode(text)["control"]
        folder = each.path.rpartition("/")[0]
        listings[each.path] = {f"{folder}/{listed.name}" for listed in listed_files(fields)}
    own = {each.path for each in found.files}
    wanted = own.union(*(listings.get(path, set[str]()) for path in own))
    others = set[str]().union(*(paths for dsc, paths in listings.items() if dsc not in own))
    needed = [each for each in everything if each.path in wanted]
    files = tuple(each for each in needed if each.path not in others)
    shared = tuple(each for each in needed if each.path in others)
    return replace(found, files=files, shared=shared)


async def adopt(repository: Repository, release: Release) -> Sequence[Fact]:
    """Publish the version here, listed in the same suites.

    Raises VersionExistsError if a build of it exists with other bytes, wherever in the pool.
    """
    debs: Sequence[Artifact] = [each for each in release.files if each.role == "deb"]
    for each, text in zip(debs, await repository.metadata(debs), strict=True):
        await refuse_rivals(repository, each, msgspec.json.decode(text)["control"])
    return await releases.adopt(repository, release)


def prerelease(version: str) -> bool:
    """Tell what sorts before its release (deb-version: a tilde)."""
    return "~" in version


RELEASES = releases.Releases(read, adopt, prerelease=prerelease, alone=True)
