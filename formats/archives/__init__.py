"""Bounded readers for archives that strangers made.  Synchronous: see ``Repository.inspect``.

``members(file)`` walks a zip or a (compressed) tar and yields each member, its content unread;
``collect(file, wanted)`` walks the whole archive and returns the few metadata files that a format
needs.  Whatever breaks the limits of formats.md rule 10 raises ManifestInvalidError or
TooLargeError; no other exception leaves here, and only metadata members are ever in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from formats.archives.compression import decompress
from formats.archives.limits import LIMITS, Kind, Limits, Member, safe_path
from formats.archives.tarball import tar_members
from formats.archives.zipped import zip_members
from store.errors import ManifestInvalidError

__all__ = [
    "LIMITS",
    "Kind",
    "Limits",
    "Member",
    "collect",
    "decompress",
    "members",
    "safe_path",
    "tar_members",
    "zip_members",
]

ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")


def members(file: BinaryIO, limits: Limits = LIMITS) -> Iterator[Member]:
    """Walk an archive, told apart by its first bytes: zip, or tar under any known compression.

    A member can be read only until the next one is asked for.
    """
    magic = file.read(4)
    file.seek(0)
    if magic in ZIP_MAGIC:
        return zip_members(file, limits)
    return tar_members(decompress(file, limits), limits)


def collect(
    file: BinaryIO, wanted: Callable[[str], bool], limits: Limits = LIMITS
) -> tuple[dict[str, bytes], list[str]]:
    """Read the wanted regular files; also return the names of all regular files, in order.

    A wanted name that occurs twice is refused: tools disagree about which one counts.
    """
    found: dict[str, bytes] = {}
    names: list[str] = []
    for member in members(file, limits):
        if member.kind is not Kind.FILE:
            if wanted(member.name):
                raise ManifestInvalidError(f"{member.name!r} is not a regular file")
            continue
        names.append(member.name)
        if wanted(member.name):
            if member.name in found:
                raise ManifestInvalidError(f"{member.name!r} occurs twice in the archive")
            found[member.name] = member.read()
    return found, names
