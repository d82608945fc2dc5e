"""From database rows to the values of ``store.rows``.  Pure.

Rows of ``files`` and ``packages`` come by the thousand, so they are taken apart by position, in the
order of their table's columns: each attribute of a row costs as much as a third of the value made
of it (a packument of 600 versions: 9.4 ms by name, 3.3 by position).
"""

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
    columns: tuple[Any, ...] = tuple(row)
    repository, path, package, version, role, named, size, sums, *rest = columns
    metadata, elsewhere, manifest_id, stamp, record, author, mutable, pending, conflicted, _ = rest
    digest = stored(named)
    return Artifact(
        repository,
        package,
        version,
        path,
        role,
        digest,
        size,
        checksums(sums, digest),
        metadata,
        stored(elsewhere) if elsewhere else None,
        manifest_id,
        hlc.seconds(stamp),
        record,
        author,
        mutable,
        pending,
        conflicted,
    )


def stored(text: str) -> Digest:
    """A digest as the fold wrote it: parsed when its record came, so not judged again."""
    algorithm, _, value = text.partition(":")
    return Digest(algorithm, value)


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
    columns: tuple[Any, ...] = tuple(row)
    repository, package, files, size, stamp = columns
    return PackageRow(repository, package, files, size, hlc.seconds(stamp))


def ids(joined: bytes) -> tuple[bytes, ...]:
    """Split concatenated record ids."""
    return tuple(joined[at : at + RECORD_SIZE] for at in range(0, len(joined), RECORD_SIZE))
