"""What a wheel or an sdist says about itself, read within bounds."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from formats.archives import collect
from formats.pypi.names import Filename, normalize, parse_version
from store.errors import ManifestInvalidError

if TYPE_CHECKING:
    from packaging.metadata import RawMetadata

DIST_INFO = re.compile(r"([^/]+)\.dist-info/(METADATA|WHEEL|RECORD)\Z")
PKG_INFO = re.compile(r"[^/]+/PKG-INFO\Z")
UNLISTED = ("RECORD", "RECORD.jws", "RECORD.p7s")  # what RECORD need not list
PIECE = 1 << 20
SPECIFIER_MAX = 1000  # characters of Requires-Python


@dataclass(frozen=True, slots=True)
class Inspected:
    """What one reading of a distribution gave.  ``blake2_256`` is "" unless it was asked for."""

    core_metadata: bytes
    blake2_256: str


def inspect(file: BinaryIO, filename: Filename, *, blake2: bool) -> Inspected:
    """Read a distribution's core metadata.  Raises ManifestInvalidError, TooLargeError."""
    digest = ""
    if blake2:
        state = hashlib.blake2b(digest_size=32)
        while piece := file.read(PIECE):
            state.update(piece)
        digest = state.hexdigest()
        file.seek(0)
    read = read_wheel if filename.filetype == "bdist_wheel" else read_sdist
    return Inspected(read(file, filename), digest)


def read_wheel(file: BinaryIO, filename: Filename) -> bytes:
    """The METADATA of a wheel, whose RECORD must list what the archive holds."""
    if file.read(4) != b"PK\x03\x04":
        raise ManifestInvalidError("a wheel must be a zip archive")
    file.seek(0)
    found, names = collect(file, lambda name: DIST_INFO.match(name) is not None)
    folders = {name.partition("/")[0] for name in found}
    if len(folders) != 1:
        raise ManifestInvalidError("a wheel must hold exactly one .dist-info folder")
    folder = folders.pop()
    project, _, version = folder.removesuffix(".dist-info").rpartition("-")
    if normalize(project) != filename.project or parse_version(version) != filename.version:
        raise ManifestInvalidError(f"{folder} does not belong to a wheel of this name and version")
    for name in ("METADATA", "WHEEL", "RECORD"):
        if f"{folder}/{name}" not in found:
            raise ManifestInvalidError(f"the wheel has no {name}")
    _check_record(folder, found, names)
    return found[f"{folder}/METADATA"]


def _check_record(folder: str, found: dict[str, bytes], names: list[str]) -> None:
    """Compare RECORD with the archive: every file is listed, and what we read has its digest."""
    try:
        rows = list(csv.reader(io.StringIO(found[f"{folder}/RECORD"].decode())))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ManifestInvalidError(f"RECORD is malformed: {error}") from error
    listed = {row[0]: row[1] for row in rows if len(row) == 3}
    unlisted = {f"{folder}/{name}" for name in UNLISTED}
    missing = [name for name in names if name not in listed and name not in unlisted]
    if missing:
        raise ManifestInvalidError(f"RECORD does not list {missing[0]!r}")
    for name, data in found.items():
        algorithm, _, value = listed.get(name, "").partition("=")
        if algorithm == "sha256":
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            if digest != value:
                raise ManifestInvalidError(f"RECORD has another digest for {name!r}")


def read_sdist(file: BinaryIO, filename: Filename) -> bytes:
    """The PKG-INFO in the top folder of an sdist."""
    found, _ = collect(file, lambda name: PKG_INFO.match(name) is not None)
    if len(found) != 1:
        raise ManifestInvalidError("an sdist must hold one PKG-INFO in its top folder")
    return next(iter(found.values()))


def parse_core_metadata(data: bytes, filename: Filename) -> RawMetadata:
    """Read core metadata and hold it against the filename.  Raises ManifestInvalidError."""
    from packaging.metadata import parse_email  # a twentieth of a node's start

    try:
        data.decode("utf-8")
        raw, _ = parse_email(data)
    except (ValueError, RecursionError) as error:
        raise ManifestInvalidError(f"the core metadata is malformed: {error}") from error
    name, version = raw.get("name"), raw.get("version")
    if not name or not version or not raw.get("metadata_version"):
        raise ManifestInvalidError("the core metadata lacks Metadata-Version, Name or Version")
    if normalize(name) != filename.project or parse_version(version) != filename.version:
        raise ManifestInvalidError(f"the archive is {name} {version}, its filename says otherwise")
    requires_python = raw.get("requires_python")
    if requires_python:
        if len(requires_python) > SPECIFIER_MAX:  # every index page would repeat it
            raise ManifestInvalidError("Requires-Python is too long")
        try:
            SpecifierSet(requires_python)
        except InvalidSpecifier as error:
            raise ManifestInvalidError(f"Requires-Python is malformed: {error}") from error
    return raw
