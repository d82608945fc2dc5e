"""A project as its index sees it: files in version order, with their marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from packaging.version import Version

from formats.contract import Repository
from formats.pypi.names import parse_version
from store.errors import PackageUnknownError
from store.rows import Artifact, FlagRow

DISTRIBUTION, METADATA, SIGNATURE, PROVENANCE = "dist", "metadata", "signature", "provenance"
YANKED, STATUS = "yanked", "status"
STATUSES = ("active", "archived", "quarantined", "deprecated")  # PEP 792
CLOSED = ("archived", "quarantined")  # to uploads


class Stored(msgspec.Struct, omit_defaults=True):
    """The metadata of a distribution: what an index needs of it.  The rest lies beside it."""

    filetype: str
    python: str
    requires_python: str = ""


class Status(msgspec.Struct, omit_defaults=True):
    """A project's status marker (PEP 792)."""

    status: str = "active"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """One distribution and what belongs to it.  ``yanked`` is None, or the reason."""

    artifact: Artifact
    version: Version
    stored: Stored
    yanked: str | None
    core_metadata: Artifact | None
    signature: Artifact | None
    provenance: Artifact | None


@dataclass(frozen=True, slots=True)
class Project:
    """Everything that the renderers see; a value, so that they are pure."""

    name: str
    files: Sequence[ProjectFile]
    status: Status = field(default_factory=Status)
    tracks: Sequence[str] = ()
    alternate_locations: Sequence[str] = ()

    @property
    def versions(self) -> list[Version]:
        """Versions that have files, in PEP 440 order."""
        return sorted({each.version for each in self.files})

    @property
    def listed(self) -> Sequence[ProjectFile]:
        """What installers may see: nothing of a quarantined project."""
        return () if self.status.status == "quarantined" else self.files


async def load_project(repository: Repository, name: str) -> Project:
    """Read a project.  Raises PackageUnknownError when it has no files."""
    artifacts = await repository.artifacts(name)
    beside = {each.path: each for each in artifacts}
    found = [each for each in artifacts if each.role == DISTRIBUTION]
    if not found:
        raise PackageUnknownError(f"no project {name} here")
    flags = await repository.flags(name)
    metadata = await repository.metadata(found)
    files = [
        ProjectFile(
            artifact=each,
            version=parse_version(each.version),
            stored=msgspec.json.decode(stored, type=Stored),
            yanked=yanked_reason(flags, each),
            core_metadata=beside.get(f"{each.path}.metadata"),
            signature=beside.get(f"{each.path}.asc"),
            provenance=beside.get(f"{each.path}.provenance"),
        )
        for each, stored in zip(found, metadata, strict=True)
    ]
    files.sort(key=lambda each: (each.version, each.artifact.filename.encode()))
    return Project(
        name=name,
        files=files,
        status=project_status(flags),
        tracks=_option(repository.options, "tracks", name),
        alternate_locations=_option(repository.options, "alternate_locations", name),
    )


def yanked_reason(flags: Sequence[FlagRow], artifact: Artifact) -> str | None:
    """Why a file is yanked, by itself or with its version; None if it is not."""
    reasons = [
        flag.value.decode()
        for flag in flags
        if flag.name == YANKED
        and flag.version == artifact.version
        and flag.path in {"", artifact.path}
    ]
    return max(reasons, default=None)  # one of them, whichever order they come in


def project_status(flags: Sequence[FlagRow]) -> Status:
    """The status marker, "active" unless another is set."""
    values = [f.value for f in flags if f.name == STATUS and not f.version and not f.path]
    return msgspec.json.decode(max(values), type=Status) if values else Status()


def _option(options: Mapping[str, object], name: str, project: str) -> list[str]:
    """URLs that the repository's options give for a project (PEP 708)."""
    table = options.get(name)
    urls = table.get(project) if isinstance(table, dict) else None
    return sorted(url for url in urls if isinstance(url, str)) if isinstance(urls, list) else []
