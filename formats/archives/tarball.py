"""A tar reader that believes nothing.  Spec: POSIX.1-2017 pax (ustar, pax); GNU tar's L and K."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from formats.archives.compression import Source
from formats.archives.limits import LIMITS, Kind, Limits, Member, safe_link, safe_path
from store.errors import ManifestInvalidError, TooLargeError

BLOCK = 512
EXTENSIONS_MAX = 8  # extension headers before one member
SKIP = 1 << 16  # bytes skipped at a time
KINDS = {b"0": Kind.FILE, b"\0": Kind.FILE, b"7": Kind.FILE, b"5": Kind.DIRECTORY}
LINKS = {b"1": Kind.HARDLINK, b"2": Kind.SYMLINK}


@dataclass(slots=True)
class Header:
    """What a header block says."""

    name: str
    size: int
    mode: int
    typeflag: bytes
    target: str


class Content:
    """The bytes of the member that is current; what is left unread is skipped."""

    def __init__(self, source: Source, size: int, limits: Limits) -> None:
        self._source, self._limits = source, limits
        self.size, self._left = size, size
        self._padding = -size % BLOCK
        self.closed = False

    def read(self) -> bytes:
        """All of it.  Raises TooLargeError above the limit for members."""
        if self.closed or self._left != self.size:
            raise ManifestInvalidError("a member is read out of turn")
        if self.size > self._limits.member_max:
            raise TooLargeError(f"a metadata member of {self.size} bytes")
        self._left = 0
        return exactly(self._source, self.size)

    def skip(self) -> None:
        """Go to the next header."""
        self.closed = True
        left = self._left + self._padding
        while left:
            data = self._source.read(min(left, SKIP))
            if not data:
                raise ManifestInvalidError("the archive is cut short")
            left -= len(data)


def tar_members(source: Source, limits: Limits = LIMITS) -> Iterator[Member]:
    """Walk an uncompressed tar stream (wrap it by ``decompress``).

    Raises ManifestInvalidError for devices, sparse files, escaping names and links, bad checksums;
    TooLargeError for more than the limits allow.
    """
    for index, (header, extended) in enumerate(_headers(source, limits)):
        if index >= limits.members_max:
            raise TooLargeError(f"more than {limits.members_max} members")
        if any(key.startswith("GNU.sparse") for key in extended):
            raise ManifestInvalidError("sparse members are not accepted")
        name = safe_path(extended.get("path", header.name), limits)
        target = extended.get("linkpath", header.target)
        kind = KINDS.get(header.typeflag) or LINKS.get(header.typeflag)
        if kind is None:
            raise ManifestInvalidError(f"{name!r} is a device, a FIFO or of an unknown type")
        if kind is Kind.FILE and header.typeflag == b"\0" and header.name.endswith("/"):
            kind = Kind.DIRECTORY  # how tars older than POSIX say it
        if limits.portable and kind in LINKS.values():
            safe_link(name, target, symbolic=kind is Kind.SYMLINK, limits=limits)
        size = header.size if kind is Kind.FILE else 0
        content = Content(source, size, limits)
        yield Member(name, kind, size, header.mode, target, content.read)
        content.skip()


def _headers(source: Source, limits: Limits) -> Iterator[tuple[Header, dict[str, str]]]:
    """Header blocks of real members, with the extensions that apply to each."""
    everywhere: dict[str, str] = {}
    here: dict[str, str] = {}
    first, extensions = True, 0
    while True:
        block = exactly(source, BLOCK, may_end=True)
        if not block.strip(b"\0"):  # the end mark, or the end of a file that lacks it
            if first and not block:
                raise ManifestInvalidError("the archive is empty")
            _drain(source)
            return
        header = parse_header(block)
        first = False
        if header.typeflag in b"xgLK":
            extensions += 1
            if header.size > limits.header_max or extensions > EXTENSIONS_MAX:
                raise TooLargeError("too many or too large tar extension headers")
            data = exactly(source, header.size + -header.size % BLOCK)[: header.size]
            if header.typeflag == b"g":
                everywhere |= parse_pax(data)
                if sum(map(len, everywhere.values())) > limits.header_max:
                    raise TooLargeError("the tar's global headers are too large")
            elif header.typeflag == b"x":
                here.update(parse_pax(data))
            else:
                here["path" if header.typeflag == b"L" else "linkpath"] = _text(data)
            continue
        extended = everywhere | here
        if "size" in extended:
            header.size = _decimal(extended["size"])
        yield header, extended
        here, extensions = {}, 0


def parse_header(block: bytes) -> Header:
    """Decode one header block.  Raises ManifestInvalidError."""
    plain = sum(block) - sum(block[148:156]) + 8 * 32
    if _number(block[148:156]) != plain:
        raise ManifestInvalidError("a tar header has a wrong checksum")
    name, prefix = _text(block[:100]), ""
    if block[257:263] == b"ustar\0":
        prefix = _text(block[345:500])
    return Header(
        name=f"{prefix}/{name}" if prefix else name,
        size=_number(block[124:136]),
        mode=_number(block[100:108]) & 0o7777,
        typeflag=block[156:157],
        target=_text(block[157:257]),
    )


def parse_pax(data: bytes) -> dict[str, str]:
    """Decode pax records, ``length key=value`` and a newline each.  Raises ManifestInvalidError."""
    found: dict[str, str] = {}
    data = data.rstrip(b"\0")
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        length = _decimal(_text(data[at:space])) if space > 0 else 0
        record = data[at : at + length]
        if not length or len(record) != length or not record.endswith(b"\n"):
            raise ManifestInvalidError("a pax header is malformed")
        key, equals, value = record[space - at + 1 : -1].partition(b"=")
        if not equals:
            raise ManifestInvalidError("a pax header is malformed")
        found[_text(key)] = _text(value)
        at += length
    return found


def exactly(source: Source, size: int, *, may_end: bool = False) -> bytes:
    """Read ``size`` bytes; nothing at all is allowed only if ``may_end``."""
    data = bytearray()
    while len(data) < size:
        more = source.read(size - len(data))
        if not more:
            if may_end and not data:
                return b""
            raise ManifestInvalidError("the archive is cut short")
        data += more
    return bytes(data)


def _drain(source: Source) -> None:
    """Read what follows the end mark, so that bombs behind it are found and checks are done."""
    while source.read(SKIP):
        pass


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise ManifestInvalidError("a number in a tar header is malformed")
    return int(text)


def _number(field: bytes) -> int:
    """An octal field, or GNU's base-256 when the top bit is set."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if value >> 62:
            raise ManifestInvalidError("a number in a tar header is malformed")
        return value
    text = field.strip(b" \0")
    if not text:
        return 0
    if text.strip(b"01234567"):
        raise ManifestInvalidError("a number in a tar header is malformed")
    return int(text, 8)
