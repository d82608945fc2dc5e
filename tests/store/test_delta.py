"""Deltas: what goes in comes out, and hostile ones are refused within their bounds."""

from __future__ import annotations

import gzip
import io
import random
import struct
import zipfile
import zlib
from contextlib import closing

import pytest
import trio
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from store import delta
from store.delta import FRAME, Applier, Frame, Header, Reader, read_header
from store.delta_forms import PIECE, PIECES_MAX, Form, Unpacked
from store.digest import Digest
from store.errors import DeltaInvalidError, StoreFullError


def made(old: bytes, new: bytes, limit: int = 1 << 30, form: Form | None = None) -> bytes | None:
    """Return a delta, or None."""
    out = bytearray()
    basis, target = (Digest.of(old), io.BytesIO(old)), (Digest.of(new), io.BytesIO(new))
    size = delta.make(basis, target, out.extend, limit=limit, form=form)
    assert size is None or size == len(out)
    return None if size is None else bytes(out)


def unpacked(old: bytes, new: bytes) -> bytes | None:
    """Return a delta of what two archives hold, or None."""
    with closing(Unpacked()) as form:
        return made(old, new, form=form)


def applied(old: bytes, data: bytes, step: int = 1 << 16) -> bytes:
    """Return what a delta makes of the old bytes, its own coming in steps."""
    reader, made_of, applier = Reader(), bytearray(), None
    try:
        for at in range(0, len(data), step):
            for frame in reader.feed(data[at : at + step]):
                assert reader.header is not None
                applier = applier or Applier(reader.header, io.BytesIO(old))
                made_of += applier.apply(frame)
        reader.finish()
        assert applier is not None
        applier.finish()
        return bytes(made_of)
    finally:
        if applier is not None:
            applier.close()


def changed(old: bytes, edits: int, seed: int = 1) -> bytes:
    """Return the bytes with some changed, put in and taken out here and there."""
    rng, new = random.Random(seed), bytearray(old)
    for _ in range(edits):
        at = rng.randrange(len(new))
        new[at : at + rng.randrange(20)] = rng.randbytes(rng.randrange(20))
    return bytes(new)


OLD = random.Random(7).randbytes(400_000)


def test_a_new_version_costs_what_is_new() -> None:
    new = changed(OLD, 40)
    data = made(OLD, new)
    assert data is not None
    assert len(data) < 4_000
    assert applied(OLD, data) == new
    assert applied(OLD, data, step=1) == new


@given(st.binary(max_size=2000), st.binary(min_size=1, max_size=2000), st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_whatever_the_bytes(old: bytes, new: bytes, step: int) -> None:
    for target in (new, old + new, new + old):
        data = made(old, target)
        assert data is not None
        assert applied(old, data, step) == target


def test_several_frames_and_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "PLAIN_MAX", 64 << 10)
    monkeypatch.setattr(delta, "WINDOW_MAX", 128 << 10)
    new = changed(OLD, 10)
    data = made(OLD, new)
    assert data is not None
    assert len(data) < 3_000
    assert applied(OLD, data) == new


def test_windows_lie_around_what_corresponds_and_within_the_basis() -> None:
    assert delta.window(0, 10, 100, 1000) == (0, 100)
    here, there = 100 << 20, 50 << 20
    for at in range(0, there, delta.PLAIN_MAX):
        start, length = delta.window(at, delta.PLAIN_MAX, here, there)
        assert length == delta.WINDOW_MAX
        assert 0 <= start <= here - length
        assert start <= (at + delta.PLAIN_MAX // 2) * 2 <= start + length


def test_none_is_made_beyond_the_limit() -> None:
    assert made(OLD, random.Random(8).randbytes(100_000), limit=50_000) is None


# --- what is packed ------------------------------------------------------------------------------
def text(seed: int) -> bytes:
    rng = random.Random(seed)
    words = [rng.randbytes(4).hex() for _ in range(400)]
    return " ".join(rng.choice(words) for _ in range(60_000)).encode()


def archive(parts: dict[str, bytes], level: int = 6, stored: str = "") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as files:
        for name, data in parts.items():
            files.writestr(name, data, zipfile.ZIP_STORED if name == stored else None)
    return out.getvalue()


@pytest.mark.parametrize("level", [1, 6, 9])
def test_what_zlib_packed_is_compared_unpacked(level: int) -> None:
    plain = text(1)
    old = gzip.compress(plain, level, mtime=1)
    new = gzip.compress(b"another beginning" + plain[:-70_000] + text(2)[:500], level, mtime=2)
    data = unpacked(old, new)
    assert data is not None
    found = read_header(data)
    assert found is not None
    assert found[0].work == len(gzip.decompress(new))
    assert len(data) < len(new) / 20
    assert applied(old, data) == new
    assert applied(old, data, step=7) == new


def test_members_of_a_zip_file_are_compared_unpacked() -> None:
    parts = {f"{n}.txt": text(n)[:40_000] for n in range(8)}
    old = archive(parts)
    parts["3.txt"] = parts["3.txt"][:20_000] + b"new" + parts["3.txt"][20_000:]
    parts["stored"] = random.Random(1).randbytes(500)
    new = archive(parts, stored="stored")
    data = unpacked(old, new)
    assert data is not None
    assert len(data) < len(new) / 50
    assert applied(old, data) == new


def test_a_gzip_header_with_a_name_and_a_comment_is_kept() -> None:
    plain = text(3)
    body = zlib.compressobj(6, zlib.DEFLATED, -15)
    head = b"\x1f\x8b\x08\x18\x01\x02\x03\x04\x00\x03name\x00a comment\x00"
    new = head + body.compress(plain) + body.flush()
    new += struct.pack("<II", zlib.crc32(plain), len(plain))
    old = gzip.compress(plain[5:])
    data = unpacked(old, new)
    assert data is not None
    assert len(data) < len(new) / 20
    assert applied(old, data) == new


STORED = b"".join(
    b"\x00" + struct.pack("<HH", 60_000, 0xFFFF ^ 60_000) + text(n)[:60_000] for n in range(4)
)
ODD = {
    "two members": gzip.compress(text(4)) + gzip.compress(b"more"),
    "cut off": gzip.compress(text(4))[:-20],
    "a gzip header only": b"\x1f\x8b\x08\xff" + bytes(4000),
    "packed by something else": b"\x1f\x8b\x08\x00" + bytes(6) + STORED + b"\x03\x00" + bytes(8),
    "a zip header only": b"PK\x03\x04" + bytes(4000),
    "half a zip file": archive({"a": text(1), "b": text(2)})[-90_000:],
}


@pytest.mark.parametrize("new", ODD.values(), ids=ODD.keys())
def test_where_zlib_makes_nothing_again_there_is_none(new: bytes) -> None:
    old = gzip.compress(text(4))
    assert unpacked(old, new) is None
    data = made(old, new)
    assert data is not None
    assert applied(old, data) == new


def test_a_basis_may_be_anything() -> None:
    new = gzip.compress(text(4))
    for old in (*ODD.values(), b"", text(4), archive({"a": text(4)})):
        data = unpacked(old, new)
        assert data is not None
        assert applied(old, data) == new


def test_a_zip_file_whose_tables_lie_has_fewer_streams() -> None:
    whole = archive({f"{n}": text(n)[:3000] for n in range(4)})
    at, rng = whole.index(b"PK\x01\x02"), random.Random(1)
    for _ in range(200):
        bad = bytearray(whole)
        bad[rng.randrange(at, len(bad))] ^= rng.randrange(1, 256)
        data = unpacked(whole, bytes(bad))
        if data is not None:
            assert applied(whole, data) == bad


# --- hostile ones ---------------------------------------------------------------------------------
def header(size: int, form: int = 0, work: int = 0) -> bytes:
    return Header(form, Digest.of(OLD), Digest.of(b"new"), size, work).encode()


def frame(packed: bytes, plain: int, start: int = 0, length: int = 0) -> bytes:
    return FRAME.pack(len(packed), plain, start, length) + packed


def pieces(view: bytes, work: int, size: int = 1000) -> bytes:
    packed = zstandard.ZstdCompressor().compress(view)
    return header(size, 1, work) + frame(packed, len(view))


GOOD = zstandard.ZstdCompressor().compress(b"x" * 100)
BOMB = zstandard.ZstdCompressor().compress(bytes(3 << 20))
UNSAID = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(3 << 20))
EMPTY = zstandard.ZstdCompressor().compress(b"x")
WIDE = zstandard.FRAME_HEADER + bytes([0x80, 16 << 3]) + struct.pack("<I", 100)  # 64 MiB
WIDE += (100 << 3 | 1).to_bytes(3, "little") + b"x" * 100
TINY = (PIECE.pack(0, 1) + b"x") * 2
HOSTILE = {
    "garbage": b"ATDELTA\x02" + bytes(100),
    "empty": b"",
    "truncated header": header(100)[:-1],
    "truncated frame": header(100) + frame(GOOD, 100)[:-1],
    "no frame": header(100),
    "oversize header": delta.MAGIC + b"\xff\xff" + bytes(70_000),
    "header of something else": delta.MAGIC + b"\x00\x05hello",
    "no size": header(0),
    "an endless size": header(1 << 40),
    "more than it says": header(99) + frame(GOOD, 100),
    "less than it says": header(101) + frame(GOOD, 100),
    "a frame of another size": header(99) + frame(GOOD, 99),
    "a bomb": header(100) + frame(BOMB, 100),
    "a bomb without size": header(100) + frame(UNSAID, 100),
    "a huge frame": header(1 << 29) + frame(GOOD, 1 << 30),
    "a huge window": header(100) + frame(GOOD, 100, 0, 1 << 30),
    "beyond the basis": header(100) + frame(GOOD, 100, len(OLD) - 5, 10),
    "far beyond the basis": header(100) + frame(GOOD, 100, 1 << 63, 10),
    "two frames in one": header(200) + frame(GOOD + GOOD, 100),
    "frames without end": header(1000) + frame(EMPTY, 1) * (delta.FRAMES_MAX + 1),
    "a window beyond what is held": header(100) + frame(WIDE, 100),
    "pieces without end": pieces(TINY * (PIECES_MAX // 2 + 1), 1, 1 << 20),
    "damaged": header(100) + frame(GOOD[:-3] + b"abc", 100),
    "an unknown form": header(100, 9, 1) + frame(GOOD, 100),
    "work for nothing": header(100, 0, 1) + frame(GOOD, 100),
    "no work": header(100, 1, 0) + frame(GOOD, 100),
    "an unknown piece": pieces(PIECE.pack(99, 3) + b"abc", 3),
    "an empty piece": pieces(PIECE.pack(0, 0), 3),
    "half a piece": pieces(PIECE.pack(1, 9) + b"abc", 9),
    "half a head": pieces(PIECE.pack(0, 1000) + bytes(1000) + b"\x00", 9),
    "more work than it says": pieces(PIECE.pack(1, 9) + b"abc" * 3, 8),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_deltas_are_refused(data: bytes) -> None:
    with pytest.raises(DeltaInvalidError):
        applied(OLD, data)


def test_a_basis_that_unpacks_without_end_is_refused() -> None:
    bomb = gzip.compress(bytes(8 << 20))
    with closing(Unpacked(1)) as form, pytest.raises(DeltaInvalidError, match="holds too much"):
        form.view(io.BytesIO(bomb), 1 << 20)


def longer(data: bytes) -> bytes:
    """Return a zip file whose central directory has every packed size one byte too long."""
    out, at = bytearray(data), data.index(b"PK\x01\x02")
    while data[at : at + 4] == b"PK\x01\x02":
        (size,) = struct.unpack_from("<I", data, at + 20)
        struct.pack_into("<I", out, at + 20, size + 1)
        at += 46 + sum(struct.unpack_from("<3H", data, at + 28))
    return bytes(out)


def test_what_is_unpacked_in_vain_is_bounded_too() -> None:
    bomb = longer(archive({str(n): bytes(1 << 20) for n in range(8)}))
    with closing(Unpacked(1)) as form:
        assert form.view(io.BytesIO(bomb), 9 << 20).seek(0, 2) < 2 * len(bomb)  # nothing is kept
    with closing(Unpacked(1)) as form, pytest.raises(DeltaInvalidError, match="holds too much"):
        form.view(io.BytesIO(bomb), 4 << 20)


def test_what_is_unpacked_has_so_much_room_and_that_is_not_the_deltas_fault() -> None:
    basis = io.BytesIO(gzip.compress(bytes(2 << 20)))
    told = Header(1, Digest.of(OLD), Digest.of(b"new"), 100, 1)
    Applier(told, basis, room=3 << 20).close()
    with pytest.raises(StoreFullError):
        Applier(told, basis, room=1 << 20)


async def test_unpacking_stops_when_nobody_waits_any_more() -> None:
    basis, beats = io.BytesIO(gzip.compress(bytes(8 << 20))), list[None]()
    told = Header(1, Digest.of(OLD), Digest.of(b"new"), 100, 1)

    def beat() -> None:
        beats.append(None)
        if len(beats) == 3:
            trio.from_thread.run_sync(scope.cancel, trio_token=token)
        trio.from_thread.check_cancelled()

    token = trio.lowlevel.current_trio_token()
    with trio.CancelScope() as scope:
        await trio.to_thread.run_sync(lambda: Applier(told, basis, beat=beat))
    assert scope.cancelled_caught
    assert len(beats) < 8


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_delta_makes_other_bytes_or_none(data: st.DataObject) -> None:
    new = changed(OLD[:3000], 5)
    good = made(OLD[:3000], new)
    assert good is not None
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    try:
        found = applied(OLD[:3000], bad)
    except DeltaInvalidError:
        return
    assert len(found) <= delta.SIZE_MAX


def test_a_frame_of_a_delta_is_taken_by_hand() -> None:
    applier = Applier(Header(0, Digest.of(OLD), Digest.of(b"new"), 100), io.BytesIO(OLD))
    assert applier.apply(Frame(100, 0, 0, GOOD)) == b"x" * 100
    applier.finish()
