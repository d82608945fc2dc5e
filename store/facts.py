"""Facts: what records say.  The one vocabulary in which anything changes.

A record's body is ``[actor, [fact, …]]``.  Every fact belongs to exactly one *cell* of the catalog
(a file coordinate, a pointer, a flag, a setting); a cell's state is a pure function of the set of
facts about it (``store.fold``), so the order in which records arrive never matters.

On the wire a fact is a MessagePack array that begins with its integer tag; elements after the
known ones are kept and ignored (design.md rulings 4 and 5).  Fields are only ever appended.
"""

from __future__ import annotations

import msgspec

METADATA_INLINE_MAX = 4096  # bytes; what is larger travels as a blob named by digest


class File(msgspec.Struct, array_like=True, frozen=True):
    """One artifact of a version: the stored filename and the bytes it names.

    ``path`` is the coordinate: unique within a repository and, unless ``Publish.mutable``, bound to
    one content for ever.  ``metadata`` is the format's own JSON, as client or archive had it;
    above METADATA_INLINE_MAX bytes it is empty and ``metadata_digest`` names the blob.
    """

    path: str
    role: str
    digest: str
    size: int
    manifest_id: bytes = b""
    checksums: tuple[tuple[str, str], ...] = ()
    metadata: bytes = b""
    metadata_digest: str = ""


class Publish(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """These files belong to this version of this package."""

    repository: str
    package: str
    version: str
    files: tuple[File, ...]
    mutable: bool = False  # the newest wins (Maven snapshots, generic revisions)


class Point(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """A named pointer of a package (tag, dist-tag, suite, document).  None removes it.

    ``seen`` holds the ids of the records this one supersedes; what it did not see stays a sibling.
    """

    repository: str
    package: str
    name: str
    value: bytes | None
    seen: tuple[bytes, ...] = ()


class Flag(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """A mark on a version or file (yanked, deprecated, status).  None clears what was seen.

    Set and clear at the same time stays set: the safe side.
    """

    repository: str
    package: str
    version: str
    path: str  # "" marks the whole version
    name: str
    value: bytes | None
    seen: tuple[bytes, ...] = ()


class Delete(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """A tombstone: hides the records it saw here; the coordinate then only takes equal bytes."""

    repository: str
    path: str
    seen: tuple[bytes, ...]
    reason: str = ""


class Restore(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """Undoes the tombstones it saw."""

    repository: str
    path: str
    seen: tuple[bytes, ...]


class Confirm(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """The home site's word on which record holds a coordinate (ruling 9)."""

    repository: str
    path: str
    record: bytes


class Resolve(msgspec.Struct, array_like=True, frozen=True, tag=7):
    """An operator's word on which digest wins a conflicted coordinate."""

    repository: str
    path: str
    digest: str
    seen: tuple[bytes, ...] = ()


class Setting(msgspec.Struct, array_like=True, frozen=True, tag=8):
    """A configuration value that the whole mesh shares: repository, user, group, token, grant, key.

    ``value`` is JSON; None removes it.  Among concurrent values the narrower wins: a removed or
    disabled sibling beats a live one, then the highest (hlc, author).
    """

    kind: str
    key: str
    value: bytes | None
    seen: tuple[bytes, ...] = ()


class Cached(msgspec.Struct, array_like=True, frozen=True, tag=9):
    """What a remote repository fetched from its upstream.  Newest wins; never a conflict."""

    repository: str
    package: str
    version: str
    files: tuple[File, ...]


class Use(msgspec.Struct, array_like=True, frozen=True):
    """How often one node has sent a version so far, and when last (milliseconds since 1970)."""

    package: str
    version: str
    downloads: int
    last: int


class Used(msgspec.Struct, array_like=True, frozen=True, tag=10):
    """What a node has counted of a repository's versions: totals, so that saying it twice is once.

    ``node`` is the author: nobody counts for another.  All nodes' totals add up (a G-counter).
    """

    repository: str
    node: str
    uses: tuple[Use, ...]


Fact = Publish | Point | Flag | Delete | Restore | Confirm | Resolve | Setting | Cached | Used


class Body(msgspec.Struct, array_like=True, frozen=True):
    """A record's body: who asked for it on the author's node, and what holds since."""

    actor: str
    facts: tuple[Fact, ...]


# Whether a fact shapes authority rather than content: its author needs the ``admin`` role.
AUTHORITY = (Setting,)
