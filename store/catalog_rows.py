"""From database rows to the values of ``store.rows``.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from store import hlc
from store.digest import Digest
from store.rows import Artifact, FlagRow, PackageRow, Pointer, SettingRow

RECORD_SIZE = 32  # bytes of a record id

checksums_of = msgspec.json.Decoder(dict[str, str]).decode
siblings_of = msgspec.msgpack.Decoder(tuple[bytes, ...]).decode

Row = sa.Row[Any]


def artifact(row: Row) -> Artifact:
    """A row of ``files``."""
    digest = Digest.parse(row.digest)
    return Artifact(
        repository=row.repository,
        package=row.package,
        version=row.version,
        path=row.path,
        role=row.role,
        digest=digest,
        size=row.size,
        checksums=checksums(row.checksums, digest),
        metadata=row.metadata,
        metadata_digest=Digest.parse(row.metadata_digest) if row.metadata_digest else None,
        manifest_id=row.manifest_id,
        published=hlc.seconds(row.hlc),
        record=row.record,
        author=row.author,
        mutable=row.mutable,
        pending=row.pending,
        conflicted=row.conflicted,
    )


def checksums(text: str, digest: Digest) -> Mapping[str, str]:
    """The checksums column, with the digest's own algorithm in any case."""
    found = checksums_of(text) if text else {}
    found.setdefault(digest.algorithm, digest.hex)
    return found


def pointer(row: Row) -> Pointer:
    """A row of ``pointers``."""
    return Pointer(
        repository=row.repository,
        package=row.package,
        name=row.name,
        value=row.value,
        updated=hlc.seconds(row.hlc),
        records=ids(row.records),
        siblings=siblings_of(row.siblings) if row.siblings else (),
    )


def flag(row: Row) -> FlagRow:
    """A row of ``flags``."""
    return FlagRow(
        repository=row.repository,
        package=row.package,
        version=row.version,
        path=row.path,
        name=row.name,
        value=row.value,
        updated=hlc.seconds(row.hlc),
        records=ids(row.records),
    )


def setting(row: Row) -> SettingRow:
    """A row of ``settings``."""
    return SettingRow(row.kind, row.key, row.value, hlc.seconds(row.hlc), ids(row.records))


def package(row: Row) -> PackageRow:
    """A row of ``packages``."""
    return PackageRow(row.repository, row.package, row.files, row.size, hlc.seconds(row.hlc))


def ids(joined: bytes) -> tuple[bytes, ...]:
    """Split concatenated record ids."""
    return tuple(joined[at : at + RECORD_SIZE] for at in range(0, len(joined), RECORD_SIZE))
