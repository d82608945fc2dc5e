"""What no fact may hold, whoever says it: bounds that every database and every node shares.

A fact that breaks one is refused with its record, everywhere alike, so it can never reach a table
on one node and fail on another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from store.digest import LENGTHS
from store.facts import METADATA_INLINE_MAX, Fact, File, Setting, Used
from store.fold import CARRIERS
from store.records import kind_of, scope_of

TEXT_MAX = 1024  # characters of one name
KEY_MAX = 2400  # bytes of all names of one cell: PostgreSQL's index rows end at 2704
NAME_MAX = 255  # characters of a repository key; the column's width
KIND_MAX = 64
VALUE_MAX = 48 << 10  # bytes of a pointer, flag or setting
SIZE_MAX = (1 << 63) - 1
SEEN_MAX = 1024  # record ids in one ``seen``
CHECKSUMS_MAX = 16
USES_MAX = 1000  # versions in one fact
COUNT_MAX = (1 << 48) - 1  # of a thousand nodes together still a 63-bit number
HASH_SIZE = 32
DIGEST = re.compile("|".join(f"{name}:[0-9a-f]{{{size}}}" for name, size in LENGTHS.items()))


def malformed(fact: Any) -> str | None:
    """What is wrong with a fact by itself, or None."""
    if type(fact) in CARRIERS:
        reason = _texts(fact.repository, fact.package, fact.version)
        for file in fact.files:
            reason = reason or _file(file)
        return reason
    if type(fact) is Used:
        return _uses(fact)
    values = [getattr(fact, name) for name in fact.__struct_fields__]
    reason = _texts(*[value for value in values if type(value) is str])
    if reason:
        return reason
    if type(fact) is Setting and len(fact.kind) > KIND_MAX:
        return "the kind of setting is too long"
    value = getattr(fact, "value", None)
    if value is not None and len(value) > VALUE_MAX:
        return f"the value is larger than {VALUE_MAX} bytes"
    return _ids((*getattr(fact, "seen", ()), *filter(None, (getattr(fact, "record", None),))))


def refusal(kind: int, scope: str, facts: Iterable[Fact]) -> str | None:
    """Why these facts may not stand in a record of this kind and scope, or None."""
    for fact in facts:
        if kind_of(fact) != kind or scope_of(fact) != scope:
            return "a fact outside its record's kind or scope"
        reason = malformed(fact)
        if reason:
            return reason
    return None


def _texts(*texts: str) -> str | None:
    joined = "".join(texts)
    if "\0" in joined:
        return f"{joined[:40]!r} holds a NUL"
    if len(joined) <= TEXT_MAX and joined.isascii():
        return None
    if max(map(len, texts)) > TEXT_MAX or len(joined.encode()) > KEY_MAX:
        return f"{joined[:40]!r} is too long"
    return None


def _uses(fact: Used) -> str | None:
    if len(fact.node) != 2 * HASH_SIZE or not 1 <= len(fact.uses) <= USES_MAX:
        return "it counts for no node, or nothing, or too much"
    for use in fact.uses:
        reason = _texts(fact.repository, fact.node, use.package, use.version)
        if reason or not (0 <= use.downloads <= COUNT_MAX and 0 <= use.last <= COUNT_MAX):
            return reason or "a count that cannot be"
    return None


def _ids(ids: tuple[bytes, ...]) -> str | None:
    if len(ids) > SEEN_MAX:
        return f"it names more than {SEEN_MAX} records"
    if any(len(id_) != HASH_SIZE for id_ in ids):
        return "it names something that is no record"
    return None


def _file(file: File) -> str | None:
    reason = _texts(file.path, file.role)
    if reason or not file.path:
        return reason or "a file without a path"
    if not DIGEST.fullmatch(file.digest) or not 0 <= file.size <= SIZE_MAX:
        return f"{file.path[:40]!r} has no digest or size"
    if len(file.metadata) > METADATA_INLINE_MAX:
        return f"metadata above {METADATA_INLINE_MAX} bytes belongs in a blob"
    if file.metadata_digest and not DIGEST.fullmatch(file.metadata_digest):
        return "the metadata digest is none"
    if len(file.manifest_id) not in (0, HASH_SIZE) or len(file.checksums) > CHECKSUMS_MAX:
        return "a bad manifest id, or too many checksums"
    for algorithm, value in file.checksums:
        if len(algorithm) > 16 or len(value) > 128 or "\0" in algorithm + value:
            return "a bad checksum"
    return None
