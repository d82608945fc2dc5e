"""Versions of a project as releases."""

from __future__ import annotations

from collections.abc import Sequence

from formats import releases
from formats.contract import Repository
from formats.pypi.names import normalize, parse_version
from formats.pypi.projects import CLOSED, project_status
from formats.releases import Release
from store.errors import DeniedError
from store.facts import Fact


async def read(repository: Repository, project: str, version: str) -> Release:
    """Read a version; names and numbers are normalised.  Raises NotFoundError."""
    return await releases.read(repository, normalize(project), str(parse_version(version)))


async def adopt(repository: Repository, release: Release) -> Sequence[Fact]:
    """Publish the version here.  Raises DeniedError for a project that is closed to uploads."""
    status = project_status(await repository.flags(release.package))
    if status.status in CLOSED:
        raise DeniedError(f"project {release.package} is {status.status}: no uploads")
    return await releases.adopt(repository, release)


def prerelease(version: str) -> bool:
    """Tell what installers pass over unless asked (PEP 440)."""
    return parse_version(version).is_prerelease


RELEASES = releases.Releases(read, adopt, prerelease=prerelease)
