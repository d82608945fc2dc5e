"""A zip reader that believes nothing.  Spec: PKWARE APPNOTE 6.3.10 §4.

Everything a reader could disagree about is refused: local headers that differ from the central
directory, members that overlap, encrypted members, archives split over disks.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from formats.archives.limits import LIMITS, Kind, Limits, Member, safe_link, safe_path
from store.errors import ManifestInvalidError, TooLargeError

END = struct.Struct("<4s4H2LH")  # §4.3.16 end of central directory
END64_LOCATOR = struct.Struct("<4sLQL")  # §4.3.15
END64 = struct.Struct("<4sQ2H2L4Q")  # §4.3.14
CENTRAL = struct.Struct("<4s6H3L5H2L")  # §4.3.12
LOCAL = struct.Struct("<4s5H3L2H")  # §4.3.7
COMMENT_MAX = 0xFFFF
STORED, DEFLATED = 0, 8
ENCRYPTED, DESCRIPTOR, UTF8 = 0x1, 0x8, 0x800  # §4.4.4 general purpose bits
STRONG, MASKED = 0x40, 0x2000
FULL16, FULL32 = 0xFFFF, 0xFFFFFFFF  # "see the zip64 field"
S_IFMT, S_IFREG, S_IFDIR, S_IFLNK = 0o170000, 0o100000, 0o040000, 0o120000
UNIX = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the central directory."""

    raw_name: bytes
    name: str
    flags: int
    method: int
    crc: int
    compressed: int
    size: int
    offset: int
    mode: int


def zip_members(file: BinaryIO, limits: Limits = LIMITS) -> Iterator[Member]:
    """Walk a zip by its central directory, every local header compared with it.

    Raises ManifestInvalidError, TooLargeError.
    """
    try:
        entries, ceiling = _central_directory(file, limits)
        _check_sizes(entries, ceiling, limits)
        _check_local_headers(file, entries, ceiling)
    except struct.error as error:
        raise ManifestInvalidError("the zip is cut short") from error
    for entry in entries:
        name, kind, target = safe_path(entry.name, limits), Kind.FILE, ""
        if entry.name.endswith("/") or entry.mode & S_IFMT == S_IFDIR:
            kind = Kind.DIRECTORY
        elif entry.mode & S_IFMT == S_IFLNK:
            kind = Kind.SYMLINK
            target = _read(file, entry, limits).decode("utf-8", "surrogateescape")
            safe_link(name, target, symbolic=True, limits=limits)
        elif entry.mode & S_IFMT not in {0, S_IFREG}:
            raise ManifestInvalidError(f"{name!r} is a device or a FIFO")
        read = partial(_read, file, entry, limits)
        yield Member(name, kind, entry.size, entry.mode & 0o7777, target, read)


def _central_directory(file: BinaryIO, limits: Limits) -> tuple[list[Entry], int]:
    """Read the central directory; also tell where it starts, which no member may pass."""
    size = file.seek(0, 2)
    tail_size = min(size, END.size + COMMENT_MAX)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        raise ManifestInvalidError("the zip has no end record")
    end = size - tail_size + at
    _, disk, start_disk, here, count, length, offset, comment = END.unpack_from(tail, at)
    if end + END.size + comment != size:
        raise ManifestInvalidError("something follows the zip's end record")
    if FULL16 in {here, count} or FULL32 in {length, offset}:
        disk, start_disk, here, count, length, offset, end = _end64(file, end)
    if disk or start_disk or here != count:
        raise ManifestInvalidError("the zip is split over disks")
    if count > limits.members_max:
        raise TooLargeError(f"more than {limits.members_max} members")
    if length > limits.directory_max:
        raise TooLargeError("the zip's directory is too large")
    if offset + length != end:
        raise ManifestInvalidError("the zip's directory is not where its end record says")
    file.seek(offset)
    return _entries(file.read(length), count), offset


def _end64(file: BinaryIO, end: int) -> tuple[int, int, int, int, int, int, int]:
    """The zip64 end record, which must stand right before its locator."""
    place = end - END64_LOCATOR.size
    if place < END64.size:
        raise ManifestInvalidError("the zip64 end record is missing")
    file.seek(place)
    signature, _, start, _ = END64_LOCATOR.unpack(file.read(END64_LOCATOR.size))
    if signature != b"PK\x06\x07" or start > place - END64.size:
        raise ManifestInvalidError("the zip64 end record is missing")
    file.seek(start)
    found = END64.unpack(file.read(END64.size))
    if found[0] != b"PK\x06\x06" or start + 12 + found[1] != place:
        raise ManifestInvalidError("the zip64 end record is malformed")
    return found[4], found[5], found[6], found[7], found[8], found[9], start


def _entries(data: bytes, count: int) -> list[Entry]:
    entries, at = [], 0
    for _ in range(count):
        fields = CENTRAL.unpack_from(data, at)
        if fields[0] != b"PK\x01\x02":
            raise ManifestInvalidError("the zip's directory is malformed")
        name_size, extra_size, comment_size = fields[10:13]
        begin = at + CENTRAL.size
        at = begin + name_size + extra_size + comment_size
        if at > len(data):
            raise ManifestInvalidError("the zip's directory is cut short")
        extra = data[begin + name_size : begin + name_size + extra_size]
        entries.append(_entry(fields, data[begin : begin + name_size], extra))
    if at != len(data):
        raise ManifestInvalidError("the zip's directory holds more than its count")
    return entries


def _entry(fields: tuple[int, ...], raw_name: bytes, extra: bytes) -> Entry:
    made_by, flags, method = fields[1], fields[3], fields[4]
    compressed, size, disk, offset = fields[8], fields[9], fields[13], fields[16]
    if flags & (ENCRYPTED | STRONG | MASKED):
        raise ManifestInvalidError("the zip is encrypted")
    large = [size == FULL32, compressed == FULL32, offset == FULL32]
    if any(large):
        values = iter(_zip64(extra, sum(large)))
        size = next(values) if large[0] else size
        compressed = next(values) if large[1] else compressed
        offset = next(values) if large[2] else offset
    if disk:
        raise ManifestInvalidError("the zip is split over disks")
    name = decode_name(raw_name, flags)
    mode = fields[15] >> 16 if made_by >> 8 == UNIX else 0
    return Entry(raw_name, name, flags, method, fields[7], compressed, size, offset, mode)


def decode_name(raw: bytes, flags: int) -> str:
    """Read a member name: UTF-8 if the archive says so, else the historical code page 437."""
    if not flags & UTF8:
        return raw.decode("cp437")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ManifestInvalidError("a member name is not UTF-8") from error


def _zip64(extra: bytes, count: int) -> tuple[int, ...]:
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == 1 and size >= 8 * count and at + 4 + size <= len(extra):
            return struct.unpack_from(f"<{count}Q", extra, at + 4)
        at += 4 + size
    raise ManifestInvalidError("a zip64 field is missing")


def _check_sizes(entries: list[Entry], ceiling: int, limits: Limits) -> None:
    expanded = sum(entry.size for entry in entries)
    if expanded > limits.allowed(ceiling):
        raise TooLargeError("the archive expands to more than is allowed")
    for entry in entries:
        if entry.method == STORED and entry.size != entry.compressed:
            raise ManifestInvalidError(f"{entry.name!r}: stored, yet of two sizes")


def _check_local_headers(file: BinaryIO, entries: list[Entry], ceiling: int) -> None:
    """Compare each local header with the directory, and see that no two members overlap."""
    reached = 0
    for entry in sorted(entries, key=lambda each: each.offset):
        if entry.offset < reached:
            raise ManifestInvalidError("members of the zip overlap")
        begin = _data_offset(file, entry)
        reached = begin + entry.compressed
    if reached > ceiling:
        raise ManifestInvalidError("a member runs into the zip's directory")


def _data_offset(file: BinaryIO, entry: Entry) -> int:
    """Where a member's data begins.  Raises ManifestInvalidError when the headers disagree."""
    file.seek(entry.offset)
    head = LOCAL.unpack(file.read(LOCAL.size))
    signature, _, flags, method, _, _, crc, compressed, size, name_size, extra_size = head
    raw_name, extra = file.read(int(name_size)), file.read(int(extra_size))
    if FULL32 in {compressed, size} and not flags & DESCRIPTOR:
        size, compressed = _zip64(extra, 2)
    same = signature == b"PK\x03\x04" and raw_name == entry.raw_name and method == entry.method
    same = same and (flags ^ entry.flags) & (UTF8 | DESCRIPTOR | ENCRYPTED) == 0
    deferred = flags & DESCRIPTOR and not crc and {compressed, size} <= {0, FULL32}
    if not deferred:  # else they follow the data, §4.3.9
        same = same and (crc, compressed, size) == (entry.crc, entry.compressed, entry.size)
    if not same:
        raise ManifestInvalidError(f"{entry.name!r}: local and central headers disagree")
    return entry.offset + LOCAL.size + len(raw_name) + len(extra)


def _read(file: BinaryIO, entry: Entry, limits: Limits) -> bytes:
    """The checked content of a member."""
    if max(entry.size, entry.compressed) > limits.member_max:
        raise TooLargeError(f"a metadata member of {entry.size} bytes")
    if entry.method not in {STORED, DEFLATED}:
        raise ManifestInvalidError(f"{entry.name!r}: compression method {entry.method}")
    file.seek(_data_offset(file, entry))
    data = file.read(entry.compressed)
    if entry.method == DEFLATED:
        inflater = zlib.decompressobj(wbits=-15)
        try:
            data = inflater.decompress(data, entry.size + 1)
        except zlib.error as error:
            raise ManifestInvalidError(f"{entry.name!r}: {error}") from error
    if len(data) != entry.size or zlib.crc32(data) != entry.crc:
        raise ManifestInvalidError(f"{entry.name!r}: size or CRC does not match")
    return data
