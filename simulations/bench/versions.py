"""What a new version costs whoever holds the old one: bytes moved, by several ways of cutting.

``moved`` is what a node fetches today, for benchmark B11; ``shares`` tells what other cuts would
find, for docs/delta.md.  Files are read whole: these are packages, not disks.

    python -m simulations.bench.versions OLD NEW
"""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import struct
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from store import delta
from store.chunking import Cutter
from store.chunks import PAGE_CHUNKS
from store.delta_forms import Plain, Unpacked
from store.digest import Digest

LOCAL_HEADER = 30  # bytes of a zip member's local header before its name
LENGTHS = struct.Struct("<HH")  # of name and extra field, 26 bytes into it
ENTRY = 36  # bytes of a chunk in a manifest
PAGE = 34 + 8  # bytes that each page of it adds
LEVELS = (9, 6, 1, 2, 3, 4, 5, 7, 8)  # of zlib, the usual ones first

Pieces = dict[bytes, int]  # SHA-256 → length


@dataclass(frozen=True, slots=True)
class Shares:
    """Parts of the new version that the old one holds, 0 to 1; None where the format has none.

    ``members`` cuts at every zip member's header and data; ``inside`` cuts what gzip holds, at
    every tar member; ``exact`` tells whether zlib makes the same gzip bytes of it again.
    """

    size: int
    chunks: float
    members: float | None = None
    inside: float | None = None
    exact: bool | None = None


class Made(NamedTuple):
    """One delta: its size, the seconds to make and to apply it, and whether it is right."""

    form: int
    size: int
    making: float
    applying: float
    right: bool


def moved(old: bytes, new: bytes) -> int:
    """Return the bytes that a node with ``old`` fetches for ``new``: chunks and manifest."""
    here, there = pieces([old]), pieces([new])
    count = len(list(cut(new)))
    manifest = count * ENTRY + -(-count // PAGE_CHUNKS) * PAGE if count > 1 else 0
    return sum(length for sha256, length in there.items() if sha256 not in here) + manifest


def shares(old: bytes, new: bytes) -> Shares:
    """Return what several ways of cutting find again."""
    chunks = found(pieces([old]), pieces([new]))
    if new.startswith(b"PK\x03\x04") and old.startswith(b"PK\x03\x04"):
        return Shares(len(new), chunks, members=found(pieces(members(old)), pieces(members(new))))
    if new.startswith(b"\x1f\x8b") and old.startswith(b"\x1f\x8b"):
        before, after = gzip.decompress(old), gzip.decompress(new)
        inside = found(pieces(files(before)), pieces(files(after)))
        return Shares(len(new), chunks, inside=inside, exact=reproduces(new, after))
    return Shares(len(new), chunks)


def deltas(old: bytes, new: bytes) -> list[Made]:
    """Make the deltas of both forms that there are, and apply them."""
    found: list[Made] = []
    for form in (Plain(), Unpacked()):
        out, began = bytearray(), time.process_time()
        pairs = [(Digest.of(data), io.BytesIO(data)) for data in (old, new)]
        with closing(form):
            size = delta.make(pairs[0], pairs[1], out.extend, limit=len(new), form=form)
        made = time.process_time()
        if size is not None:
            right = applied(old, bytes(out)) == new
            found.append(Made(form.number, size, made - began, time.process_time() - made, right))
    return found


def applied(old: bytes, told: bytes) -> bytes:
    """Return what a delta makes."""
    reader, whole = delta.Reader(), bytearray()
    frames = reader.feed(told)
    first = next(frames)
    assert reader.header is not None
    with closing(delta.Applier(reader.header, io.BytesIO(old))) as applier:
        for frame in itertools.chain([first], frames):
            whole += applier.apply(frame)
        applier.finish()
    return bytes(whole)


def cut(data: bytes) -> Iterator[bytes]:
    """Cut as the blob store does."""
    cutter = Cutter()
    for chunk in cutter.chunks(data):
        yield bytes(chunk)
    for chunk in cutter.rest():
        yield bytes(chunk)


def pieces(parts: Iterable[bytes]) -> Pieces:
    """Cut each part; what occurs twice counts once."""
    return {hashlib.sha256(each).digest(): len(each) for part in parts for each in cut(part)}


def found(old: Pieces, new: Pieces) -> float:
    """Return the share of ``new`` that is in ``old``."""
    total = sum(new.values())
    return sum(length for sha256, length in new.items() if sha256 in old) / total if total else 1.0


def members(data: bytes) -> Iterator[bytes]:
    """Part a zip file at the header and the data of every member."""
    at = 0
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        listed = sorted(opened.infolist(), key=lambda member: member.header_offset)
    for member in listed:
        name, extra = LENGTHS.unpack_from(data, member.header_offset + 26)
        start = member.header_offset + LOCAL_HEADER + name + extra
        yield data[at:start]
        at = start + member.compress_size
        yield data[start:at]
    yield data[at:]


def files(data: bytes) -> Iterator[bytes]:
    """Part a tar file at every file; anything else stays whole."""
    at = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as opened:
            for member in opened:
                if member.isreg() and member.size:
                    yield data[at : member.offset_data]
                    at = member.offset_data + member.size
                    yield data[member.offset_data : at]
    except tarfile.TarError:
        at = 0
    yield data[at:]


def reproduces(data: bytes, plain: bytes) -> bool:
    """Tell whether zlib compresses ``plain`` to the deflate stream that ``data`` holds."""
    for level in LEVELS:
        for memory in (8, 9):
            packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, memory)
            if packer.compress(plain) + packer.flush() in data:
                return True
    return False


def main(old: Path, new: Path) -> str:
    """Say what two versions share."""
    before, after = old.read_bytes(), new.read_bytes()
    told = shares(before, after)
    parts = {"chunks": told.chunks, "members": told.members, "inside": told.inside}
    text = " ".join(f"{name} {part:.1%}" for name, part in parts.items() if part is not None)
    exact = "" if told.exact is None else f" exact {told.exact}"
    lines = [
        f"{new.name}: {told.size} bytes, moved {moved(before, after)}, found again: {text}{exact}"
    ]
    for each in deltas(before, after):
        told_of = f"delta of form {each.form}: {each.size} bytes, {each.size / told.size:.1%}, "
        took = f"made in {each.making:.2f} s, applied in {each.applying:.2f} s, right {each.right}"
        lines.append(told_of + took)
    return "\n".join(lines)


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), Path(sys.argv[2])))
