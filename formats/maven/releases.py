"""Versions of an artifact as releases, with the group's entry for a plugin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from formats import releases
from formats.contract import Repository
from formats.maven.layout import is_snapshot
from formats.maven.reading import ARCHETYPE, PLUGIN
from formats.releases import Release
from store.facts import Fact


async def read(repository: Repository, package: str, version: str) -> Release:
    """Read a version and the pointers that let clients find it by prefix or catalog.

    Raises NotFoundError.
    """
    found = await releases.read(repository, package, version)
    group, _, artifact = package.partition(":")
    entries = (
        await repository.pointer(group, f"{PLUGIN}{artifact}"),
        await repository.pointer(package, ARCHETYPE),
    )
    return replace(found, pointers=tuple(each for each in entries if each is not None))


async def withdraw(repository: Repository, release: Release, reason: str) -> Sequence[Fact]:
    """Remove the version; the package's entries go with its last one."""
    leaving = {each.path for each in release.files}
    if any(each.path not in leaving for each in await repository.artifacts(release.package)):
        release = replace(release, pointers=())
    return await releases.withdraw(repository, release, reason)


RELEASES = releases.Releases(read, withdraw=withdraw, prerelease=is_snapshot, alone=True)
