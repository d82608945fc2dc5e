"""How much an archive may expand to, and what its members may be called (formats.md rule 10)."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from store.errors import ManifestInvalidError


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one archive; sizes in bytes."""

    expanded_max: int = 10 << 30
    ratio_max: int = 100  # expanded over compressed size; see ratio_floor
    ratio_floor: int = 1 << 20  # expanded sizes below this are never judged by ratio
    members_max: int = 200_000
    member_max: int = 16 << 20  # a member that is read into memory
    name_max: int = 4096
    header_max: int = 1 << 20  # a tar extension header
    directory_max: int = 64 << 20  # a zip central directory
    portable: bool = True  # off for file systems of packages: absolute links, backslashes in names

    def allowed(self, compressed: int) -> int:
        """The most that ``compressed`` bytes may expand to."""
        return min(self.expanded_max, max(compressed * self.ratio_max, self.ratio_floor))


LIMITS = Limits()


class Kind(enum.Enum):
    """What a member is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"


@dataclass(frozen=True, slots=True)
class Member:
    """One member.  ``name`` has no leading ``./`` and no trailing slash."""

    name: str
    kind: Kind
    size: int
    mode: int
    target: str  # of a link
    _read: Callable[[], bytes]

    def read(self) -> bytes:
        """The content of a regular file.  Raises TooLargeError above ``Limits.member_max``."""
        return self._read()


def safe_path(name: str, limits: Limits = LIMITS) -> str:
    """Clean a member name, or raise ManifestInvalidError when it would leave the archive's root."""
    if len(name) > limits.name_max:
        raise ManifestInvalidError("a member name is too long")
    if "\0" in name or (limits.portable and "\\" in name):
        raise ManifestInvalidError(f"member name {name[:200]!r} holds a forbidden character")
    if name.startswith("/") or (len(name) > 1 and name[1] == ":" and name[0].isalpha()):
        raise ManifestInvalidError(f"member name {name[:200]!r} is absolute")
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise ManifestInvalidError(f"member name {name[:200]!r} climbs out of the archive")
    return "/".join(parts)


def safe_link(name: str, target: str, *, symbolic: bool, limits: Limits = LIMITS) -> None:
    """Raise ManifestInvalidError when a link leads out of the archive's root.

    A hard link's target is a member name; a symbolic one is relative to its own directory.
    """
    if len(target) > limits.name_max or "\0" in target:
        raise ManifestInvalidError(f"link {name!r} has a malformed target")
    if target.startswith("/"):
        raise ManifestInvalidError(f"link {name!r} leads to an absolute path")
    depth = name.count("/") if symbolic else 0
    for part in target.split("/"):
        if part == "..":
            depth -= 1
        elif part not in {"", "."}:
            depth += 1
        if depth < 0:
            raise ManifestInvalidError(f"link {name!r} leads out of the archive")
