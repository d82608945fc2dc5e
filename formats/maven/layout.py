"""Maven 2 repository layout: paths to coordinates.

Spec: Maven Repository Metadata and Layout (maven.apache.org/repositories/layout.html).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from store.errors import PathInvalidError

METADATA = "maven-metadata.xml"
CATALOG = "archetype-catalog.xml"
SIDECARS = ("md5", "sha1", "sha256", "sha512")  # also the algorithms computed on ingest
SNAPSHOT = "SNAPSHOT"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~-]*\Z")
ODD = r"\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff"  # metadata is XML, which holds none of these
VERSION = re.compile(rf"[A-Za-z0-9_][^\s/:\"<>|?*\[\](),%{ODD}]*\Z")
FILENAME = re.compile(rf"[^/{ODD}]+\Z")
STAMPED = re.compile(r"(?P<stamp>\d{8}\.\d{6})-(?P<build>\d{1,9})(?=[-.])")
DOUBLE = re.compile(r"\.(?P<extension>tar\.(?:gz|bz2|xz|zst|Z|lzma)(?:\.asc)?|[^.]+\.asc|[^.]+)\Z")
MEDIA_TYPES = {
    "pom": "text/xml",
    "xml": "text/xml",
    "jar": "application/java-archive",
    "war": "application/java-archive",
    "ear": "application/java-archive",
    "aar": "application/java-archive",
    "module": "application/vnd.org.gradle.module+json",
    "json": "application/json",
    "asc": "text/plain",
    "zip": "application/zip",
}


@dataclass(frozen=True, slots=True)
class Coordinates:
    """What a path names.  ``version`` is the directory's: for snapshots, the base version."""

    group: str
    artifact: str
    version: str
    filename: str

    @property
    def package(self) -> str:
        """How the catalog calls the artifact."""
        return f"{self.group}:{self.artifact}"

    @property
    def is_snapshot(self) -> bool:
        """Tell a version that keeps moving from a release."""
        return is_snapshot(self.version)

    @property
    def is_mutable(self) -> bool:
        """Whether other bytes may come: a snapshot file without a timestamp of its own."""
        return self.is_snapshot and not (self.parts and self.parts.stamp)

    @property
    def parts(self) -> Parts | None:
        """The filename taken apart, or None when it does not follow the layout."""
        return split_filename(self.artifact, self.version, self.filename)


@dataclass(frozen=True, slots=True)
class Parts:
    """A filename.  ``value`` is the version as the name spells it."""

    value: str
    classifier: str
    extension: str
    stamp: str = ""  # yyyymmdd.hhmmss of a unique snapshot
    build: int = 0


def is_snapshot(version: str) -> bool:
    """Tell a snapshot's directory from a release's."""
    return version == SNAPSHOT or version.endswith(f"-{SNAPSHOT}")


def read_path(path: str) -> Coordinates:
    """Read ``group/…/artifact/version/filename``.  Raises PathInvalidError."""
    *groups, artifact, version, filename = ["", "", "", *path.split("/")]
    group = ".".join(each for each in groups[3:] if each)
    valid = group and all(NAME.match(each) for each in (*groups[3:], artifact))
    if not valid or not VERSION.match(version) or not FILENAME.match(filename):
        raise PathInvalidError(f"not a path of the Maven layout: {path[:300]!r}")
    return Coordinates(group, artifact, version, filename)


def split_filename(artifact: str, version: str, filename: str) -> Parts | None:
    """Take ``artifact-version[-classifier].extension`` apart.

    ``1.0-20240101.120000-1`` is the value of a unique snapshot, never a classifier.
    """
    stamp, build, value = "", 0, version
    start = f"{artifact}-{version}"
    if is_snapshot(version) and not filename.startswith(start):
        base = f"{artifact}-{version.removesuffix(SNAPSHOT)}"
        found = STAMPED.match(filename, len(base)) if filename.startswith(base) else None
        if found is None:
            return None
        stamp, build, start = found["stamp"], int(found["build"]), filename[: found.end()]
        value = start[len(artifact) + 1 :]
    rest = filename.removeprefix(start)
    if rest == filename or rest[:1] not in {"-", "."}:
        return None
    extension = DOUBLE.search(rest)
    if extension is None:
        return None
    classifier = rest[: extension.start()].removeprefix("-")
    if rest[0] == "." and classifier:  # a name like demo-1.0.tar.weird has no classifier
        return Parts(value, "", rest[1:], stamp, build)
    return Parts(value, classifier, extension["extension"], stamp, build)


def sidecar_of(path: str) -> tuple[str, str] | None:
    """The file that a checksum belongs to, and its algorithm; None for any other path."""
    base, _, suffix = path.rpartition(".")
    if suffix in SIDECARS and base and not base.endswith("/"):
        return base, suffix
    return None


def media_type(filename: str) -> str:
    """The media type of a file, by its extension."""
    return MEDIA_TYPES.get(filename.rpartition(".")[2].lower(), "application/octet-stream")
