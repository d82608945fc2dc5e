"""What a package-lock.json wants of a registry.  Spec: npm "package-lock.json", versions 1 to 3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from formats.npm.documents import MALFORMED
from formats.npm.names import tarball_name
from formats.npm.packument import ABBREVIATED_TYPE
from formats.remote import Wish, paths_only
from store.errors import RejectedError

PACKAGES_MAX = 100_000


class Entry(msgspec.Struct):
    """One package of a lock file."""

    version: str = ""
    name: str = ""
    link: bool = False
    dependencies: dict[str, msgspec.Raw] = {}


class Lock(msgspec.Struct):
    """A lock file."""

    packages: dict[str, Entry] = {}
    dependencies: dict[str, msgspec.Raw] = {}


def wishes(name: str, text: str) -> Sequence[Wish]:
    """Every packument and tarball that a lock file names; else lines ``name@version``."""
    if not text.lstrip().startswith("{"):
        pairs = _lines(text)
    else:
        try:
            lock = msgspec.json.decode(text, type=Lock)
            pairs = dict.fromkeys([*_packages(lock.packages), *_nested(lock.dependencies)])
        except MALFORMED as error:
            raise RejectedError(f"{name}: not a lock file: {error}"[:300]) from None
    found: dict[Wish, None] = {}
    for package, version in list(pairs)[:PACKAGES_MAX]:
        found[Wish(f"/{package}", ABBREVIATED_TYPE)] = None
        found[Wish(f"/{package}/-/{tarball_name(package, version)}")] = None
    return list(found)


def _lines(text: str) -> dict[tuple[str, str], None]:
    found: dict[tuple[str, str], None] = {}
    for wish in paths_only("", text):
        package, at, version = wish.path.strip("/").rpartition("@")
        if at and package:
            found[package, version] = None
    return found


def _packages(entries: Mapping[str, Entry]) -> Iterator[tuple[str, str]]:
    for path, entry in entries.items():
        package = entry.name or path.rpartition("node_modules/")[2]
        if path and entry.version and not entry.link:
            yield package, entry.version


def _nested(entries: Mapping[str, msgspec.Raw]) -> Iterator[tuple[str, str]]:
    waiting = [entries]
    while waiting:
        for package, raw in waiting.pop().items():
            try:
                entry = msgspec.json.decode(raw, type=Entry)
            except msgspec.ValidationError:
                continue  # of version 2 and later: ranges, not packages
            if entry.version and "/" not in entry.version:
                yield package, entry.version
            waiting.append(entry.dependencies)
