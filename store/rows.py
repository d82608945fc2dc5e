"""Rows of the catalog, as formats and the management API see them.  Values, never live objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from store.digest import Digest


@dataclass(frozen=True, slots=True)
class Artifact:
    """One visible file of a repository.  ``published`` is ledger time, seconds since 1970."""

    repository: str
    package: str
    version: str
    path: str
    role: str
    digest: Digest
    size: int
    checksums: Mapping[str, str]  # algorithm → lower-case hex; always has sha256
    metadata: bytes  # inline JSON, or b"" when metadata_digest names it
    metadata_digest: Digest | None
    manifest_id: bytes
    published: float
    record: bytes  # id of the record that won the coordinate
    author: str  # node id
    mutable: bool = False
    pending: bool = False  # accepted away from the repository's home, not yet confirmed
    conflicted: bool = False  # rival bytes exist for this coordinate

    @property
    def filename(self) -> str:
        """The last component of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Pointer:
    """The value a reader sees of a multi-value register, and its siblings."""

    repository: str
    package: str
    name: str
    value: bytes
    updated: float
    records: tuple[bytes, ...]  # ids of every current value: what the next write supersedes
    siblings: tuple[bytes, ...] = ()  # the other current values


@dataclass(frozen=True, slots=True)
class FlagRow:
    """A mark that is set."""

    repository: str
    package: str
    version: str
    path: str
    name: str
    value: bytes
    updated: float
    records: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A shared configuration value."""

    kind: str
    key: str
    value: bytes
    updated: float
    records: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class PackageRow:
    """A package that has a visible file or pointer, and how much it holds."""

    repository: str
    package: str
    files: int
    size: int
    updated: float


@dataclass(frozen=True, slots=True)
class RepositoryStatistics:
    """What a repository holds.  ``size`` counts a blob as often as files name it."""

    files: int
    size: int
    updated: float


@dataclass(frozen=True, slots=True)
class StagedRow:
    """Ingested bytes that wait for their commit point, on this node only."""

    repository: str
    package: str
    name: str
    digest: Digest
    size: int
    checksums: Mapping[str, str]
    metadata: bytes
    created: float


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Who tried what, and what came of it.  ``id`` grows with time on one node."""

    id: int
    at: float
    actor: str
    action: str
    target: str
    outcome: str
    address: str
    detail: str
