"""Binary packages: the ar archive, its control file and its file list.

Synchronous and bounded, for ``Repository.inspect``.

Spec: deb(5), deb-control(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from formats.archives import LIMITS, Kind, decompress, tar_members
from formats.debian import control
from formats.debian.versions import is_version, without_epoch
from store.errors import ManifestInvalidError, TooLargeError

MAGIC = b"!<arch>\n"
HEADER_SIZE = 60
MEMBERS_MAX = 16
LISTING_MAX = 16 << 20  # bytes of file names
ANY = re.compile(r".+\Z", re.DOTALL)
DATA = replace(LIMITS, portable=False)  # installed systems are full of absolute links
COMPRESSIONS = ("", ".gz", ".xz", ".zst", ".bz2", ".lzma")


@dataclass(frozen=True, slots=True)
class Member:
    """Where a member of the ar archive is."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Package:
    """What a ``.deb`` says of itself.  ``files`` is its file list, sorted, a line each."""

    fields: dict[str, str]
    files: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """The binary package's name."""
        return control.field(self.fields, "Package")

    @property
    def version(self) -> str:
        """The version, with its epoch."""
        return control.field(self.fields, "Version")

    @property
    def architecture(self) -> str:
        """The architecture, or ``all``."""
        return control.field(self.fields, "Architecture")

    @property
    def source(self) -> str:
        """The source package it was built from."""
        return control.field(self.fields, "Source").partition("(")[0].strip() or self.name

    @property
    def filename(self) -> str:
        """The name that dpkg gives the file; never with an epoch."""
        return f"{self.name}_{without_epoch(self.version)}_{self.architecture}.deb"


class Slice:
    """A part of a file as a stream of its own."""

    def __init__(self, file: BinaryIO, member: Member) -> None:
        self._file, self._at, self._end = file, member.offset, member.offset + member.size

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes."""
        self._file.seek(self._at)
        data = self._file.read(min(size, self._end - self._at))
        self._at += len(data)
        return data


def read_deb(file: BinaryIO) -> Package:
    """Read a package.  Raises ManifestInvalidError, TooLargeError."""
    members = [each for each in ar_members(file) if not each.name.startswith("_")]
    names = [each.name for each in members]
    if len(members) != 3 or names[0] != "debian-binary":
        raise ManifestInvalidError(f"not the members of a .deb: {names[:MEMBERS_MAX]}")
    for name, stem in zip(names[1:], ("control.tar", "data.tar"), strict=True):
        if not name.startswith(stem) or name.removeprefix(stem) not in COMPRESSIONS:
            raise ManifestInvalidError(f"not a member of a .deb: {name!r}")
    if not Slice(file, members[0]).read(16).startswith(b"2."):
        raise ManifestInvalidError("not a .deb of format 2")
    found = Package(_read_control(Slice(file, members[1])), _read_listing(Slice(file, members[2])))
    check_fields(found)
    return found


def check_fields(package: Package) -> None:
    """See that a package can be named and indexed.  Raises ManifestInvalidError."""
    control.required(package.fields, "Package", control.NAME)
    control.required(package.fields, "Architecture", control.ARCHITECTURE)
    control.required(package.fields, "Version", ANY)
    if not is_version(package.version):
        raise ManifestInvalidError(f"not a Debian version: {package.version[:200]!r}")
    if not control.NAME.match(package.source):
        raise ManifestInvalidError(f"not a source package name: {package.source[:200]!r}")


def ar_members(file: BinaryIO) -> Iterator[Member]:
    """Walk an ar archive; extended names, duplicates and lies about sizes are refused."""
    end = file.seek(0, 2)
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        raise ManifestInvalidError("not an ar archive")
    at, seen = len(MAGIC), set[str]()
    while at < end:
        file.seek(at)
        header = file.read(HEADER_SIZE)
        member = _ar_header(header, at + HEADER_SIZE)
        at = member.offset + member.size
        if at > end:
            raise ManifestInvalidError("the ar archive is cut short")
        if member.name in seen:
            raise ManifestInvalidError(f"{member.name!r} occurs twice in the ar archive")
        seen.add(member.name)
        if len(seen) > MEMBERS_MAX:
            raise TooLargeError(f"more than {MEMBERS_MAX} members in an ar archive")
        yield member
        at += at % 2


def _ar_header(header: bytes, offset: int) -> Member:
    name, size = header[:16].rstrip(b" "), header[48:58].strip(b" ")
    if len(header) != HEADER_SIZE or header[58:] != b"`\n" or not size.isdigit():
        raise ManifestInvalidError("an ar header is malformed")
    name = name.removesuffix(b"/")
    if not re.fullmatch(rb"[A-Za-z0-9_.-]{1,16}", name):
        raise ManifestInvalidError(f"not a member of a .deb: {name!r}")
    return Member(name.decode("ascii"), offset, int(size))


def _read_control(source: Slice) -> dict[str, str]:
    found = None
    for member in tar_members(decompress(source)):
        if member.name != "control":
            continue
        if found is not None or member.kind is not Kind.FILE:
            raise ManifestInvalidError("control.tar has no single control file")
        if member.size > control.CONTROL_MAX:
            raise TooLargeError("the control file is too large")
        found = member.read()
    if found is None:
        raise ManifestInvalidError("control.tar has no control file")
    return control.read_paragraph(found)


def _read_listing(source: Slice) -> bytes:
    names, size = set[bytes](), 0
    for member in tar_members(decompress(source, DATA), DATA):
        if member.kind is Kind.DIRECTORY or not member.name:
            continue
        if "\n" in member.name or "\r" in member.name:
            raise ManifestInvalidError("a file name holds a line break")
        name = member.name.encode("utf-8", "surrogateescape")
        size += len(name) + 1
        if size > LISTING_MAX:
            raise TooLargeError("the package's file list is too large")
        names.add(name)
    return b"".join(name + b"\n" for name in sorted(names))
