"""Releases: what makes up one version of a package, and how it enters and leaves a repository.

Promotion and retention act on whole versions, and only a format knows what those are: an image is a
manifest with its layers, a Debian source package lists its files.  A format that has nothing to add
takes ``Releases()`` as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from formats.repository import Repository
from store.errors import NotFoundError
from store.facts import Delete, Fact, File, Flag, Point, Publish
from store.rows import Artifact, FlagRow, Pointer


@dataclass(frozen=True, slots=True)
class Release:
    """One version: its own files, those it shares, what points at it, and its marks.

    ``shared`` files are needed too, but other versions may need them as well, so they do not go
    with it.
    """

    package: str
    version: str
    files: tuple[Artifact, ...]
    shared: tuple[Artifact, ...] = ()
    pointers: tuple[Pointer, ...] = ()
    flags: tuple[FlagRow, ...] = ()

    @property
    def content(self) -> str:
        """What was judged: a SHA-256, in hexadecimal, over the paths and digests of every file."""
        rows = sorted(f"{each.path}\0{each.digest}\0" for each in (*self.files, *self.shared))
        return hashlib.sha256("".join(rows).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Edition:
    """One version as policies see it: its other names (tags), when its newest file came, its files.

    ``size`` is in bytes, ``published`` ledger time in seconds since 1970.
    """

    version: str
    published: float
    files: tuple[Artifact, ...]
    names: tuple[str, ...] = ()
    prerelease: bool = False

    @property
    def size(self) -> int:
        """Bytes of its own files."""
        return sum(each.size for each in self.files)


Read = Callable[[Repository, str, str], Awaitable[Release]]
Adopt = Callable[[Repository, Release], Awaitable[Sequence[Fact]]]
Withdraw = Callable[[Repository, Release, str], Awaitable[Sequence[Fact]]]
Place = Callable[[Artifact], tuple[str, str]]
Editions = Callable[[Repository, str], Awaitable[Sequence[Edition]]]


def released(version: str) -> bool:
    """Tell a pre-release from a release, for formats that know none."""
    del version
    return False


def place(artifact: Artifact) -> tuple[str, str]:
    """The package and version that a file belongs to."""
    return artifact.package, artifact.version


async def read(repository: Repository, package: str, version: str) -> Release:
    """Read the version with the pointers that name it or its files.  Raises NotFoundError."""
    files = tuple(await repository.artifacts(package, version))
    if not files:
        raise NotFoundError(f"{repository.key} has no {package} {version}")
    named = {version.encode(), *(each.path.encode() for each in files)}
    pointers = tuple(p for p in await repository.pointers(package) if p.value in named)
    flags = tuple(f for f in await repository.flags(package) if f.version == version)
    return Release(package, version, files, pointers=pointers, flags=flags)


async def adopt(repository: Repository, release: Release) -> Sequence[Fact]:
    """The facts that bring a release of another repository into this one.

    A format that refuses some publishes refuses these alike, by raising.
    """
    key = repository.key
    facts: list[Fact] = list(publishes(key, (*release.files, *release.shared)))
    facts += [Point(key, each.package, each.name, each.value) for each in release.pointers]
    facts += [
        Flag(key, each.package, each.version, each.path, each.name, each.value)
        for each in release.flags
    ]
    return facts


async def withdraw(repository: Repository, release: Release, reason: str) -> Sequence[Fact]:
    """The facts that take a release out of this repository; what it shares stays."""
    key = repository.key
    facts: list[Fact] = [Delete(key, e.path, (e.record,), reason) for e in release.files]
    facts += [Point(key, e.package, e.name, None, e.records) for e in release.pointers]
    facts += [
        Flag(key, each.package, each.version, each.path, each.name, None, each.records)
        for each in release.flags
    ]
    return facts


def publishes(key: str, artifacts: Iterable[Artifact]) -> list[Publish]:
    """Publish the same blobs under the same coordinates of another repository."""
    groups: dict[tuple[str, str, bool], list[File]] = {}
    for each in sorted(artifacts, key=lambda artifact: artifact.path):
        place = each.package, each.version, each.mutable
        groups.setdefault(place, []).append(file_of(each))
    return [Publish(key, p, v, tuple(files), mutable) for (p, v, mutable), files in groups.items()]


def file_of(artifact: Artifact) -> File:
    """An artifact as a publish states it."""
    return File(
        artifact.path,
        artifact.role,
        str(artifact.digest),
        artifact.size,
        manifest_id=artifact.manifest_id,
        checksums=tuple(sorted(artifact.checksums.items())),
        metadata=artifact.metadata,
        metadata_digest=str(artifact.metadata_digest) if artifact.metadata_digest else "",
    )


@dataclass(frozen=True, slots=True)
class Releases:
    """A format's versions.

    ``read`` finds one, ``adopt`` and ``withdraw`` say what writing it into a repository, or taking
    it out, comes to.  ``place`` names the version that a file belongs to, ``prerelease`` tells
    which are none yet.  ``editions`` lists a package's, where they are not files by version.
    ``alone``: what leaves with a version depends on the package's others, so they leave in turn.
    """

    read: Read = read
    adopt: Adopt = adopt
    withdraw: Withdraw = withdraw
    place: Place = place
    prerelease: Callable[[str], bool] = released
    editions: Editions | None = None
    alone: bool = False

    async def list(self, repository: Repository, package: str) -> Sequence[Edition]:
        """Every version of a package, in no order that matters."""
        if self.editions is not None:
            return await self.editions(repository, package)
        return self.group(await repository.artifacts(package))

    def group(self, artifacts: Iterable[Artifact]) -> Sequence[Edition]:
        """The versions that the files of a package make up, where they are files by version."""
        found: dict[str, list[Artifact]] = {}
        for each in artifacts:
            found.setdefault(self.place(each)[1], []).append(each)
        return [
            Edition(
                version,
                max(each.published for each in files),
                tuple(files),
                prerelease=self.prerelease(version),
            )
            for version, files in found.items()
        ]
