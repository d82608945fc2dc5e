"""From a cell's state to its row.  Pure; rows are tuples in the order of their table's columns."""

from __future__ import annotations

from typing import Any

import msgspec

from store import canonical, fold
from store.fold import FILE, FLAG, POINTER, SETTING, USE, Claim, FileState, RegisterState
from store.schema import files, flags, pointers, settings, uses

Key = tuple[str, ...]
Row = tuple[Any, ...]

TABLES = {FILE: files, POINTER: pointers, FLAG: flags, SETTING: settings, USE: uses}
KEYS = {kind: tuple(column.name for column in t.primary_key) for kind, t in TABLES.items()}
HLC = {kind: list(table.columns.keys()).index("hlc") for kind, table in TABLES.items()}
PACKAGE, VERSION, SIZE, DIGEST, MUTABLE = (
    list(files.columns.keys()).index(name)
    for name in ("package", "version", "size", "digest", "mutable")
)
POINTED = list(pointers.columns.keys()).index("value")
VALUE = list(settings.columns.keys()).index("value")
NO_CHECKSUMS = "{}"


def key_of(kind: str, fact: Any) -> Key:
    """The primary key of the row of the cell that a fact is about."""
    if kind == FILE and hasattr(fact, "files"):
        return (fact.repository, fact.files[0].path)
    if kind == USE:
        return (fact.repository, fact.uses[0].package, fact.uses[0].version, fact.node)
    return tuple([getattr(fact, name) for name in KEYS[kind]])


def file_row(state: FileState) -> Row | None:
    """A row of ``files``; None while nothing is visible."""
    claim = state.winner
    if claim is None:
        return None
    fact, file = claim.fact, fold.file_of(claim)
    text, sha512 = NO_CHECKSUMS, ""
    if file.checksums:
        checksums = dict(file.checksums)
        text = msgspec.json.encode(checksums, order="sorted").decode()
        sha512 = checksums.get("sha512", "")
    if file.digest.startswith("sha512:"):
        sha512 = file.digest[7:]
    return (
        fact.repository,
        file.path,
        fact.package,
        fact.version,
        file.role,
        file.digest,
        file.size,
        text,
        file.metadata,
        file.metadata_digest,
        file.manifest_id,
        claim.hlc,
        claim.record,
        claim.author,
        state.mutable,
        state.pending,
        state.conflicted,
        sha512,
    )


def burnt_row(state: FileState, key: Key) -> Row | None:
    """A row of ``burnt``; None unless the coordinate was deleted."""
    if not state.burnt:
        return None
    return (*key, state.burnt, state.hlc, b"".join(state.tombstones))


def use_row(claim: Claim, key: Key) -> Row:
    """A row of ``uses``."""
    return (*key, *fold.use_of(claim)[2:], claim.hlc)


def register_row(kind: str, state: RegisterState | Claim, key: Key) -> Row | None:
    """A row of any other table; None while it reads as absent."""
    if isinstance(state, Claim):
        return use_row(state, key)
    if state.value is None:
        return None
    ids = b"".join(state.records)
    if kind == POINTER:
        return (*key, state.value, canonical.encode(state.siblings), ids, state.hlc)
    return (*key, state.value, ids, state.hlc)
