"""The stanzas of an index, read a piece at a time: however large it is, little of it is in memory.

Spec: Debian repository format §Packages indices; deb822(5).
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO, Protocol

from store.errors import ManifestInvalidError

PIECE = 256 << 10  # bytes read at a time
TEXT = 1 << 20  # bytes unpacked at a time
STANZA_MAX = 4 << 20  # bytes of one stanza
UNPACKED_MAX = 2 << 30  # bytes of one unpacked index
FIELDS = re.compile(rb"^([A-Za-z0-9-]+):[ \t]*([^\r\n]*)", re.MULTILINE)
# Lines that are no field's, and characters that some readers take for the end of a line.
ODD = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|^(?![ \t]|[!-,.-9;-~][!-9;-~]*:)(?=.)", re.MULTILINE)
ONCE = frozenset({"package", "version", "architecture", "filename", "directory"})
UNREADABLE = (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error)


class Unpacker(Protocol):
    """What bz2 and lzma agree on."""

    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def eof(self) -> bool: ...


class Plain:
    """Text that nothing packed."""

    needs_input, eof = True, False

    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes:
        """Give it back."""
        return data


class Gzip:
    """zlib's unpacker, with bounded output; members that follow each other are one text."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)
        self._left = b""

    @property
    def needs_input(self) -> bool:
        """Whether all of the input is used up."""
        return not self._left

    @property
    def eof(self) -> bool:
        """Never: another member may follow."""
        return False

    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes:
        """Unpack at most so many bytes."""
        found = self._inner.decompress(self._left + data, max(max_length, 0))
        self._left = self._inner.unconsumed_tail
        if self._inner.eof:
            self._left, self._inner = self._inner.unused_data, zlib.decompressobj(31)
        return found


UNPACKERS: Mapping[str, Callable[[], Unpacker]] = {
    ".xz": lzma.LZMADecompressor,
    ".gz": Gzip,
    ".bz2": bz2.BZ2Decompressor,
    "": Plain,
}


class Reader:
    """Where the reading of one index stands."""

    def __init__(self, suffix: str) -> None:
        self._unpacker = UNPACKERS[suffix]()
        self._offset = self._unpacked = 0
        self._rest = b""
        self.ended = False

    def __call__(self, file: BinaryIO) -> Sequence[bytes]:
        """The next stanzas, each with its last line's end.  Raises ManifestInvalidError."""
        try:
            data = self._next(file)
        except UNREADABLE as error:
            raise ManifestInvalidError(f"an index is unreadable: {error}"[:300]) from error
        self._unpacked += len(data)
        text = (self._rest + data).replace(b"\r\n", b"\n")
        *whole, self._rest = re.split(rb"\n(?:[ \t]*\n)+", text)
        if self.ended:
            whole, self._rest = [*whole, self._rest], b""
        if len(self._rest) > STANZA_MAX or self._unpacked > UNPACKED_MAX:
            raise ManifestInvalidError("an index, or a stanza of it, is too large")
        return [each.strip(b"\n") + b"\n" for each in whole if each.strip()]

    def _next(self, file: BinaryIO) -> bytes:
        piece = b""
        if self._unpacker.needs_input:
            file.seek(self._offset)
            piece = file.read(PIECE)
            self._offset += len(piece)
            if not piece:
                self.ended = True
                return b""
        data = self._unpacker.decompress(piece, TEXT)
        self.ended = self._unpacker.eof
        return data


def fields_of(stanza: bytes) -> dict[str, str]:
    """The first lines of a stanza's fields, by lower-case name; none if readers may differ on them.

    Of a repeated field apt takes the last, others the first, and apt allows blanks before the
    colon: what is judged as one package must not be installed as another.
    """
    found: dict[str, str] = {}
    if ODD.search(stanza):
        return found
    for raw, value in FIELDS.findall(stanza):
        name = raw.decode().lower()
        if name in ONCE and name in found:
            return {}
        found.setdefault(name, value.decode("utf-8", "replace").strip())
    return found


def moved(stanza: bytes, field: str, prefix: str) -> bytes:
    """The stanza with its files below another folder."""
    pattern = rb"^(" + field.encode() + rb":[ \t]*)(?:\./)*/*"
    told = prefix.encode()
    return re.sub(
        pattern,
        lambda found: found[1] + told,
        stanza,
        count=1,
        flags=re.MULTILINE | re.IGNORECASE,
    )
