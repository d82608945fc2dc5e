"""A delta: a new version of a blob, told by what it shares with an older one.

A delta is a blob of its own: magic, header, frames.  Each frame is one zstd frame that makes the
next bytes of the *view* of the target, with a stretch of the basis' view as its prefix; so whoever
applies it needs the basis, one window and one frame in memory, and gets the target from its
beginning on.  Views are the bytes themselves, or what a form of ``store.delta_forms`` makes of
them.  Nothing in a delta is believed: whoever applies it verifies each chunk of what comes out.

Spec: docs/delta.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from store import delta_forms
from store.delta_forms import PLAIN, Form, Plain
from store.delta_sample import promising
from store.digest import Digest
from store.errors import DeltaInvalidError, DeltaUnfitError, DigestInvalidError

if TYPE_CHECKING:
    import zstandard

MAGIC = b"ATDELTA\x01"
LENGTH = struct.Struct(">H")  # of the header
FRAME = struct.Struct(">IIQI")  # packed, plain, where the window begins in the basis, its length
HEADER_MAX = 256  # bytes
PLAIN_MAX = 4 << 20  # bytes that one frame makes
WINDOW_MAX = 16 << 20  # bytes of the basis that one frame may refer to
PACKED_MAX = PLAIN_MAX + (64 << 10)
SIZE_MAX = 1 << 30  # bytes of a basis or target, and of their views: beyond that no delta is made
WINDOW_LOG_MAX = 25  # a frame and its window
FRAMES_MAX = 2 * (SIZE_MAX // PLAIN_MAX)  # each may read a whole window, however little it makes


@dataclass(frozen=True, slots=True)
class Header:
    """What a delta says of itself."""

    form: int
    basis: Digest
    target: Digest
    size: int  # bytes of the target
    work: int = 0  # bytes that have to be packed by zlib to make it

    def encode(self) -> bytes:
        """Return magic and header as they stand at the beginning."""
        body = _encode([self.form, self.basis.raw, self.target.raw, self.size, self.work])
        return MAGIC + LENGTH.pack(len(body)) + body


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: ``plain`` bytes of the target's view from ``[start, start + length)`` of ours."""

    plain: int
    start: int
    length: int
    packed: bytes


_HEADER = msgspec.msgpack.Decoder(tuple[int, bytes, bytes, int, int])
_encode = msgspec.msgpack.Encoder().encode


def read_header(data: bytes) -> tuple[Header, int] | None:
    """Read a header and where it ends, or None if more bytes are needed.

    Raises DeltaInvalidError.
    """
    fixed = len(MAGIC) + LENGTH.size
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise DeltaInvalidError("not a delta")
    if len(data) < fixed:
        return None
    (length,) = LENGTH.unpack_from(data, len(MAGIC))
    if length > HEADER_MAX:
        raise DeltaInvalidError("a delta with an oversize header")
    if len(data) < fixed + length:
        return None
    body = data[fixed : fixed + length]
    try:
        value = _HEADER.decode(body)
        form, basis, target, size, work = value
        header = Header(form, Digest.sha256(basis), Digest.sha256(target), size, work)
    except (msgspec.DecodeError, DigestInvalidError, RecursionError) as error:
        raise DeltaInvalidError("a delta with a malformed header") from error
    if _encode(value) != body or not 0 < size <= SIZE_MAX or not 0 <= work <= SIZE_MAX:
        raise DeltaInvalidError("a delta with an impossible header")
    return header, fixed + length


class Reader:
    """Take a delta apart as its bytes come.  Holds one frame, and what one ``feed`` brought."""

    def __init__(self) -> None:
        self.header: Header | None = None
        self._buffer = bytearray()
        self._begun = False  # there was a frame

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take bytes in order; iterate over the frames they complete.  Raises DeltaInvalidError."""
        self._buffer += data
        if self.header is None:
            found = read_header(bytes(self._buffer[: HEADER_MAX + 64]))
            if found is None:
                return
            self.header, end = found
            del self._buffer[:end]
        while len(self._buffer) >= FRAME.size:
            packed, plain, start, length = FRAME.unpack_from(self._buffer)
            if not 0 < packed <= PACKED_MAX or not 0 < plain <= PLAIN_MAX or length > WINDOW_MAX:
                raise DeltaInvalidError("a delta with an impossible frame")
            end = FRAME.size + packed
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[FRAME.size : end])
            del self._buffer[:end]
            self._begun = True
            yield Frame(plain, start, length, body)

    def finish(self) -> None:
        """The delta has ended.  Raises DeltaInvalidError if it ended within something."""
        if self._buffer or not self._begun:
            raise DeltaInvalidError("a truncated delta")


class Applier:
    """Make a target of its basis, frame by frame.  Blocks; use it in a worker thread.

    ``basis`` is open while this is in use; what has to be unpacked lies in ``folder``, where it
    takes ``room`` bytes at most, and ``beat`` may stop that by raising.  Holds a frame, its window
    twice, and what the form keeps.  Gives at most ``header.size`` bytes.  Raises StoreFullError;
    DeltaUnfitError where the basis that is here, or our zlib, may be what is wrong, and any other
    DeltaInvalidError only for what is malformed whatever the basis.
    """

    def __init__(
        self,
        header: Header,
        basis: BinaryIO,
        folder: Path | None = None,
        *,
        room: int = SIZE_MAX,
        beat: Callable[[], object] = delta_forms.idle,
    ) -> None:
        self._form = delta_forms.of(header.form, header.work, folder, room, beat)
        try:
            self._basis = self._form.view(basis, SIZE_MAX)
        except BaseException:  # cancelled, too
            self._form.close()
            raise
        self._left, self._plain, self._frames = header.size, SIZE_MAX, FRAMES_MAX

    def apply(self, frame: Frame) -> bytes:
        """Return the next bytes of the target.  Raises DeltaInvalidError."""
        self._plain -= frame.plain
        self._frames -= 1
        if self._plain < 0 or self._frames < 0:
            raise DeltaInvalidError("a delta of more than it may make")
        if frame.start > SIZE_MAX:
            raise DeltaInvalidError("a delta that refers beyond its basis")
        self._basis.seek(frame.start)
        window = self._basis.read(frame.length)
        if len(window) != frame.length:
            raise DeltaUnfitError("a delta that refers beyond its basis")
        return self._given(self._form.take(unpack(frame, window)))

    def finish(self) -> None:
        """The delta has ended.  Raises DeltaInvalidError if the target is not whole."""
        self._form.end()
        if self._left:
            raise DeltaUnfitError("a delta of less than it says")

    def _given(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise DeltaUnfitError("a delta of more than it says")
        return data

    def close(self) -> None:
        """Let go of what the form has laid down; the basis stays open."""
        self._form.close()


def unpack(frame: Frame, window: bytes) -> bytes:
    """Return what a frame makes.  Raises DeltaInvalidError."""
    import zstandard  # only who has a delta at hand pays for it

    damaged: type[DeltaInvalidError] = DeltaInvalidError
    try:
        told = zstandard.get_frame_parameters(frame.packed)
        if told.content_size != frame.plain or told.window_size > 1 << WINDOW_LOG_MAX:
            raise DeltaInvalidError("a delta whose frame is of another size than it says")
        if told.has_checksum:  # of what comes out, so of the window, too
            damaged = DeltaUnfitError
        decoder = zstandard.ZstdDecompressor(
            dict_data=_prefix(window), max_window_size=1 << WINDOW_LOG_MAX
        )
        plain = decoder.decompress(frame.packed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise damaged("a delta with a damaged frame") from error
    if len(plain) != frame.plain:
        raise DeltaInvalidError("a delta whose frame is of another size than it says")
    return plain


def pack(plain: bytes, window: bytes, level: int) -> bytes:
    """Return one zstd frame that makes ``plain`` with ``window`` as its prefix."""
    import zstandard

    log = min(WINDOW_LOG_MAX, max(18, (len(plain) + len(window)).bit_length()))
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, window_log=log, source_size=len(plain), dict_size=len(window), write_dict_id=0
    )
    packer = zstandard.ZstdCompressor(dict_data=_prefix(window), compression_params=parameters)
    return packer.compress(plain)


def _prefix(window: bytes) -> zstandard.ZstdCompressionDict | None:
    import zstandard

    if len(window) < 8:
        return None  # zstd takes none so short
    return zstandard.ZstdCompressionDict(window, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def make(
    basis: tuple[Digest, BinaryIO],
    target: tuple[Digest, BinaryIO],
    write: Callable[[bytes], object],
    *,
    limit: int,
    form: Form | None = None,
    sample: bool = False,
    beat: Callable[[float], object] = lambda _: None,
) -> int | None:
    """Write a delta from ``basis`` to ``target``; return its size, or None beyond ``limit``.

    None also for what is too large, or has nothing that the form needs; with ``sample`` also for
    what has nothing in common where one looks.  ``beat`` is told after each frame which share of
    them is made, and stops it by raising.  Blocks, at 1 to 8 MB/s of the view; holds some 150 MB.
    """
    form = form or Plain()
    size = _size(target[1])
    if not 0 < size <= SIZE_MAX or _size(basis[1]) > SIZE_MAX:
        return None
    try:
        views = form.views(basis[1], target[1], SIZE_MAX)
    except DeltaInvalidError:
        return None
    if sample and not promising(*views, window, PLAIN_MAX, packs=form.number == PLAIN):
        return None
    header = Header(form.number, basis[0], target[0], size, form.work).encode()
    write(header)
    total = len(header)
    count = -(-_size(views[1]) // PLAIN_MAX)
    for number, piece in enumerate(_frames(*views, form.level), 1):
        total += len(piece)
        if total > limit:
            return None
        write(piece)
        beat(number / count)
    return total


def _frames(basis: BinaryIO, target: BinaryIO, level: int) -> Iterator[bytes]:
    here, there = _size(basis), _size(target)
    for at in range(0, there, PLAIN_MAX):
        target.seek(at)
        plain = target.read(PLAIN_MAX)
        start, length = window(at, len(plain), here, there)
        basis.seek(start)
        packed = pack(plain, basis.read(length), level)
        yield FRAME.pack(len(packed), len(plain), start, length) + packed


def window(at: int, length: int, here: int, there: int) -> tuple[int, int]:
    """Return the stretch of the basis around what corresponds to bytes of the target."""
    if here <= WINDOW_MAX:
        return 0, here
    middle = (at + length // 2) * here // there
    start = min(max(0, middle - WINDOW_MAX // 2), here - WINDOW_MAX)
    return start, WINDOW_MAX


def _size(file: BinaryIO) -> int:
    return file.seek(0, 2)
