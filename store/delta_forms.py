"""Forms: what is compared instead of the bytes, where compression hides that they are the same.

A form makes a *view* of the basis, and the target of its view.  PLAIN compares the bytes.  UNPACKED
compares what zip and gzip files hold, wherever zlib makes the target's deflate streams again, bit
by bit; the level that does is found out when the delta is made.  Whoever applies a delta runs the
same zlib; one that packs otherwise makes other bytes, which no chunk digest fits.

Spec: docs/delta.md.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, BinaryIO, Protocol, cast

from store.deflated import ENTRIES_MAX, Span, inflated, spans
from store.errors import DeltaInvalidError, DeltaUnfitError, StoreFullError

PLAIN, UNPACKED = 0, 1
PACKINGS = tuple((level, memory) for memory in (8, 9) for level in (6, 9, 1, 5, 4, 7, 8, 3, 2))
RAW, UNKNOWN = 0, 255  # tags of a view's pieces; 1 to 18 is one of PACKINGS
PIECE = struct.Struct(">BI")  # its tag, and the bytes of the view that follow
BLOCK = 256 << 10  # bytes packed or unpacked at a time
ROOM = 1 << 30  # bytes of a temporary file, where nothing else is said
PIECES_MAX = 2 * ENTRIES_MAX + 2  # of a view: each costs a packer, however little it holds
WORK_MAX = 8  # times the target's size, that is packed to find out how it was


def idle() -> None:
    """Nobody stops the work."""


class Form(Protocol):
    """One way to compare.  ``work`` is how many bytes the applier has to pack."""

    number: int
    work: int
    level: int  # of zstd, to make it

    def view(self, basis: BinaryIO, limit: int) -> BinaryIO:
        """Return what frames refer to.  Raises DeltaInvalidError beyond ``limit`` bytes."""
        ...

    def views(self, basis: BinaryIO, target: BinaryIO, limit: int) -> tuple[BinaryIO, BinaryIO]:
        """Return what is compared, of both.  Raises DeltaInvalidError if it does not work."""
        ...

    def take(self, data: bytes) -> bytes:
        """Return the target's bytes for the next ones of its view.  Raises DeltaInvalidError."""
        ...

    def end(self) -> None:
        """The target's view has ended.  Raises DeltaInvalidError if it ended within a piece."""
        ...

    def close(self) -> None:
        """Let go of temporary files."""
        ...


class Plain:
    """The bytes as they are."""

    number, work, level = PLAIN, 0, 13  # finds 27 % of a wheel, where 12 finds 39 %

    def view(self, basis: BinaryIO, limit: int) -> BinaryIO:
        """Return the basis."""
        return basis

    def views(self, basis: BinaryIO, target: BinaryIO, limit: int) -> tuple[BinaryIO, BinaryIO]:
        """Return both."""
        return basis, target

    def take(self, data: bytes) -> bytes:
        """Return the same."""
        return data

    def end(self) -> None:
        """Nothing is left."""

    def close(self) -> None:
        """Nothing is held."""


class Unpacked:
    """What zip and gzip files hold: pieces, each behind its tag and length.

    A temporary file in ``folder`` takes ``room`` bytes at most.  ``beat`` is called for each block
    that is laid down, and stops the work by raising.
    """

    number, level = UNPACKED, 12  # a quarter of what 13 costs, for the same

    def __init__(
        self,
        work: int = 0,
        folder: Path | None = None,
        room: int = ROOM,
        beat: Callable[[], object] = idle,
    ) -> None:
        self._room, self._beat = room, beat
        self.work = work
        self._left = work  # bytes that may still have to be packed
        self._pieces = PIECES_MAX  # that may still come
        self._folder, self._stack = folder, ExitStack()
        self._head = bytearray()  # of a piece whose head is not whole yet
        self._tag, self._rest = RAW, 0  # of the piece we are in
        self._packer = zlib.compressobj(1)

    # --- making --------------------------------------------------------------------------------
    def view(self, basis: BinaryIO, limit: int) -> BinaryIO:
        """Lay the basis' pieces down in a temporary file."""
        file = self._temporary()
        lay(basis, Ground(file, limit, self._room, self._beat), None)
        return file

    def views(self, basis: BinaryIO, target: BinaryIO, limit: int) -> tuple[BinaryIO, BinaryIO]:
        """Lay the pieces of both down; DeltaInvalidError if nothing of the target is made again."""
        file = self._temporary()
        ground = Ground(file, limit, self._room, self._beat)
        self.work = lay(target, ground, Finder(target, file))
        if not self.work:
            raise DeltaInvalidError("nothing in it that zlib makes again")
        return self.view(basis, limit), file

    def _temporary(self) -> BinaryIO:
        file: IO[bytes] = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  the stack's
        self._stack.enter_context(file)
        return cast("BinaryIO", file)

    # --- applying ------------------------------------------------------------------------------
    def take(self, data: bytes) -> bytes:
        """Pack what was packed, and pass the rest on."""
        made, view = bytearray(), memoryview(data)
        while view:
            if not self._rest:
                view = self._begin(view)
                continue
            part, view = view[: self._rest], view[self._rest :]
            self._rest -= len(part)
            made += part if self._tag == RAW else self._pack(part)
        return bytes(made)

    def _begin(self, view: memoryview) -> memoryview:
        """Read a piece's head, as far as it is here."""
        needed = PIECE.size - len(self._head)
        self._head += view[:needed]
        if len(self._head) == PIECE.size:
            self._tag, self._rest = PIECE.unpack(self._head)
            self._head.clear()
            self._pieces -= 1
            if not self._rest or self._pieces < 0:
                raise DeltaUnfitError("a delta with an empty piece, or too many")
            if self._tag != RAW:
                self._packer = packer(self._tag)
        return view[needed:]

    def _pack(self, part: memoryview) -> bytes:
        self._left -= len(part)
        if self._left < 0:
            raise DeltaUnfitError("a delta of more work than it says")
        made = self._packer.compress(part)
        return made if self._rest else made + self._packer.flush()

    def end(self) -> None:
        """Every piece must be whole."""
        if self._rest or self._head:
            raise DeltaUnfitError("a delta that ends within a piece")

    def close(self) -> None:
        """Remove what was unpacked."""
        self._stack.close()


def of(
    number: int,
    work: int,
    folder: Path | None = None,
    room: int = ROOM,
    beat: Callable[[], object] = idle,
) -> Form:
    """Return the form that a delta names; the rest is as ``Unpacked`` has it.

    Raises DeltaInvalidError.
    """
    if number == PLAIN and not work:
        return Plain()
    if number == UNPACKED and work > 0:
        return Unpacked(work, folder, room, beat)
    raise DeltaInvalidError("a delta of an unknown form")


def packer(tag: int) -> zlib._Compress:
    """Return what makes a deflate stream.  Raises DeltaInvalidError for an unknown tag."""
    if not 1 <= tag <= len(PACKINGS):
        raise DeltaUnfitError("a delta with an unknown piece")
    level, memory = PACKINGS[tag - 1]
    return zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, memory)


class Ground:
    """A file in which pieces are laid down, and what bounds that.

    ``limit`` bounds the file, and also what is unpacked for it, kept or not: a stream that ends
    wrongly is known for that only when all of it has been unpacked.
    """

    def __init__(self, file: BinaryIO, limit: int, room: int, beat: Callable[[], object]) -> None:
        self.file = file
        self._limit, self._room, self._beat = limit, room, beat
        self._unpacked = 0

    def put(self, block: bytes) -> None:
        """Lay bytes down.  Raises DeltaInvalidError, StoreFullError, and what ``beat`` raises."""
        self._beat()
        end = self.file.tell() + len(block)
        if end > self._limit:
            raise DeltaUnfitError("a file that holds too much")
        if end > self._room:
            raise StoreFullError("no room to unpack a file for its delta")
        self.file.write(block)

    def unpack(self, block: bytes) -> None:
        """Lay down what has been unpacked.  Raises what ``put`` does."""
        self._unpacked += len(block)
        if self._unpacked > self._limit:
            raise DeltaUnfitError("a file that holds too much")
        self.put(block)


def lay(source: BinaryIO, ground: Ground, finder: Finder | None) -> int:
    """Lay a file down piece by piece; return how many bytes of it have been unpacked.

    With a finder only what it finds the packing of is unpacked, and tagged with it.  Raises what
    ``Ground.put`` does.
    """
    done, work, file = 0, 0, ground.file
    for span in spans(source):
        copy(source, ground, Span(done, span.start))
        done, at, size = span.start, file.tell(), 0
        file.write(PIECE.pack(UNKNOWN, 0))
        try:
            for block in inflated(source, span):
                size += len(block)
                ground.unpack(block)
        except zlib.error:
            size = 0
        tag = UNKNOWN if finder is None or not size else finder.find(span, at + PIECE.size)
        file.seek(at)
        if not size or tag is None:
            file.truncate()
            continue
        file.write(PIECE.pack(tag, size))
        file.seek(0, 2)
        done, work = span.stop, work + size
    copy(source, ground, Span(done, source.seek(0, 2)))
    return work


def copy(source: BinaryIO, ground: Ground, span: Span) -> None:
    """Lay bytes down as they are."""
    if span.start < span.stop:
        ground.put(PIECE.pack(RAW, span.stop - span.start))
        for at in range(span.start, span.stop, BLOCK):
            source.seek(at)
            ground.put(source.read(min(BLOCK, span.stop - at)))


class Finder:
    """Finds how zlib made the streams of a file; looks first for what it found last."""

    def __init__(self, source: BinaryIO, file: BinaryIO) -> None:
        self._source, self._file = source, file
        self._tags = list(range(1, len(PACKINGS) + 1))
        self._left = WORK_MAX * source.seek(0, 2)

    def find(self, span: Span, at: int) -> int | None:
        """Return the tag of a stream whose content lies at the file's end, from ``at`` on."""
        for tag in self._tags:
            if self._left <= 0:
                return None
            if self._made(span, at, packer(tag)):
                self._tags.remove(tag)
                self._tags.insert(0, tag)
                return tag
        return None

    def _made(self, span: Span, at: int, packing: zlib._Compress) -> bool:
        start = span.start
        self._file.seek(at)
        while True:
            block = self._file.read(BLOCK)
            made = packing.compress(block) if block else packing.flush()
            self._left -= len(made)
            self._source.seek(start)
            if self._source.read(len(made)) != made:
                return False
            start += len(made)
            if not block:
                return start == span.stop
