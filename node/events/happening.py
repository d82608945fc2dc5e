"""From an entry of the journal to an event, and who may hear of it.  Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

import msgspec

from store import hlc
from store.fold import FILE, FLAG, POINTER, SETTING
from store.journal import CREATED, REMOVED, UPDATED, Positioned

SUBJECTS = {FILE: "artifact", POINTER: "tag", FLAG: "mark"}
VERBS = {CREATED: "created", UPDATED: "updated", REMOVED: "deleted"}
PATTERN_MAX = 100  # characters
ODD = re.compile(r"[^A-Za-z0-9._-]")  # what no type holds: kinds of settings come from any node


class Event(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Something that happened.  ``id`` is the same on every node and for every delivery.

    ``node`` is the member that wrote it, ``seen_by`` the one that tells; ``at`` is ledger time.
    """

    id: str
    type: str
    at: float
    node: str
    seen_by: str
    repository: str = ""
    package: str = ""
    version: str = ""
    name: str = ""  # a path, tag or mark; of a setting its key
    digest: str = ""
    size: int = 0
    value: str = ""  # what a tag points to


def event_of(positioned: Positioned, node: str) -> Event:
    """The event of a journal entry, as ``node`` tells it."""
    entry = positioned.entry
    setting = entry.kind == SETTING
    subject = entry.repository if setting else SUBJECTS.get(entry.kind, entry.kind)
    parts = (entry.kind, entry.change, entry.repository, entry.package, entry.name)
    named = msgspec.msgpack.encode((entry.record, *parts, entry.version, entry.detail))
    kind = ODD.sub("_", f"{subject}.{VERBS.get(entry.change, entry.change)}")
    return Event(
        id=hashlib.sha256(named).hexdigest()[:32],
        type=kind,
        at=hlc.seconds(entry.hlc),
        node=entry.author,
        seen_by=node,
        repository=repository_of(positioned),
        package=entry.package,
        version=entry.version,
        name=entry.name,
        digest=entry.detail if entry.kind == FILE else "",
        size=entry.size if entry.kind == FILE else 0,
        value=entry.detail if entry.kind in {POINTER, FLAG} else "",
    )


def repository_of(positioned: Positioned) -> str:
    """The repository that an entry is about, "" if it is about none."""
    entry = positioned.entry
    if entry.kind != SETTING:
        return entry.repository
    return entry.name if entry.repository == "repository" else ""


def wanted(patterns: Iterable[str], text: str) -> bool:
    """Whether one of the patterns fits; no pattern at all fits everything."""
    given = list(patterns)
    return not given or any(fnmatchcase(text, each) for each in given)


def may_hear(event: Event, reads: Callable[[str], bool], *, manages: bool) -> bool:
    """Whether somebody may hear of an event: what one may not read, one does not hear of.

    ``reads`` tells whether a repository is there and may be read.  Users, tokens, rights and the
    like, and repositories that are gone, are for those who manage the node.
    """
    return manages or bool(event.repository and reads(event.repository))
