"""What a virtual repository is made of: shared by every node of the mesh, like all settings."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from store.errors import RejectedError

MEMBERS_MAX = 32  # of one virtual repository
PATTERNS_MAX = 100  # of one list
EVERYBODY, READERS = "everybody", "readers"  # of the member that owns a name
PATTERN = re.compile(r"[^\x00-\x20\x7f]{1,255}\Z")


class Member(msgspec.Struct, kw_only=True, frozen=True):
    """A repository by its key, and the names that it is asked for: shell patterns.

    With ``allow``, only names that match one of them; never those that match one of ``deny``.
    """

    key: str
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


class Composition(msgspec.Struct, kw_only=True, frozen=True):
    """The members in order, and what may be looked up outside.

    While ``guard`` is on, a name that a local member has is not looked up in remote ones; nor are
    those that match ``reserved``, ever; but for those that match ``unguarded``.  The guard holds
    for everybody, also for who may not read that member, unless ``guard_for`` is READERS: then it
    holds for those who may.  What a newer node means by another word is taken for everybody.
    """

    members: tuple[Member, ...] = ()
    deploy: str = ""  # the member that takes what is published; "": nothing is
    guard: bool = True
    reserved: tuple[str, ...] = ()
    unguarded: tuple[str, ...] = ()
    guard_for: str = EVERYBODY


def judge_patterns(name: str, patterns: Iterable[str]) -> tuple[str, ...]:
    """Accept a list of patterns.  Raises RejectedError."""
    found = tuple(dict.fromkeys(patterns))
    if len(found) > PATTERNS_MAX:
        raise RejectedError(f"{name}: more than {PATTERNS_MAX} patterns")
    for each in found:
        if not PATTERN.match(each):
            raise RejectedError(f"{name}: not a pattern: {each[:255]!r}")
    return found
