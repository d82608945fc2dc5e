"""The archive readers: what they read, what they refuse, and that nothing else ever escapes them."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections import deque
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.archives import Kind, Limits, collect, decompress, members, safe_path, tar_members
from formats.archives.limits import safe_link
from store.errors import ManifestInvalidError, RejectedError, TooLargeError

SMALL = Limits(expanded_max=1 << 20, ratio_floor=1 << 16, members_max=20, member_max=1 << 12)
CODECS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}


def tar(*entries: tuple[str, bytes] | tarfile.TarInfo, fmt: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of regular files, or of ready-made headers without content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                archive.addfile(info, io.BytesIO(entry[1]))
    return out.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zipped(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return out.getvalue()


def read_all(data: bytes, limits: Limits = SMALL) -> dict[str, bytes]:
    return {m.name: m.read() for m in members(io.BytesIO(data), limits) if m.kind is Kind.FILE}


# --- what they read -----------------------------------------------------------------------------
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("fmt", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_tar_is_read_under_any_compression_and_dialect(codec: str, fmt: int) -> None:
    long = "d" * 90 + "/" + "e" * 90
    data = CODECS[codec](tar(("a", b"one"), (long, b"2" * 700), ("empty", b""), fmt=fmt))
    assert read_all(data) == {"a": b"one", long: b"2" * 700, "empty": b""}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_read(method: int) -> None:
    data = zipped(("a/b.txt", b"text" * 10), ("ü", b""), ("d/", b""), method=method)
    assert read_all(data) == {"a/b.txt": b"text" * 10, "ü": b""}


def test_a_zip_written_to_a_pipe_is_read() -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: object, /) -> int:
            self.data += bytes(data)  # type: ignore[call-overload]  # any buffer
            return len(bytes(data))  # type: ignore[call-overload]  # any buffer

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        archive.writestr("a", b"deferred sizes")
    assert read_all(bytes(pipe.data)) == {"a": b"deferred sizes"}


def test_a_zip64_member_is_read() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, archive.open("a", "w", force_zip64=True) as member:
        member.write(b"large, they said")
    assert read_all(out.getvalue()) == {"a": b"large, they said"}


def test_compressed_streams_may_be_concatenated_and_padded() -> None:
    plain = tar(("a", b"one"))
    for codec in ("gzip", "bzip2", "xz", "zstd"):
        pack = CODECS[codec]
        padding = b"\0" * 512 if codec != "zstd" else b""
        assert read_all(pack(plain[:700]) + pack(plain[700:]) + padding) == {"a": b"one"}


def test_collect_returns_what_is_wanted_and_every_name() -> None:
    data = tar(("p/a", b"1"), ("p/b", b"2"), special("p/c", tarfile.SYMTYPE, "a"))
    found, names = collect(io.BytesIO(data), lambda name: name == "p/b", SMALL)
    assert found == {"p/b": b"2"}
    assert names == ["p/a", "p/b"]


def test_links_keep_their_targets() -> None:
    data = tar(special("d/l", tarfile.SYMTYPE, "../x"), special("h", tarfile.LNKTYPE, "d/x"))
    found = [(m.kind, m.target) for m in members(io.BytesIO(data), SMALL)]
    assert found == [(Kind.SYMLINK, "../x"), (Kind.HARDLINK, "d/x")]


def test_a_member_is_only_read_in_turn() -> None:
    walk = members(io.BytesIO(tar(("a", b"1"), ("b", b"2"))), SMALL)
    first = next(walk)
    next(walk)
    with pytest.raises(ManifestInvalidError):
        first.read()


# --- what they refuse ---------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "C:/x", "a\\b", "a" * 5000])
def test_names_outside_the_archive_are_refused(name: str) -> None:
    with pytest.raises(ManifestInvalidError):
        safe_path(name)
    with pytest.raises(ManifestInvalidError):
        read_all(tar((name, b"")))
    if "\\" not in name:
        with pytest.raises(ManifestInvalidError):
            read_all(zipped((name, b"")))


@pytest.mark.parametrize(
    "entry",
    [
        special("l", tarfile.SYMTYPE, "/etc/passwd"),
        special("d/l", tarfile.SYMTYPE, "../../x"),
        special("l", tarfile.LNKTYPE, "../x"),
        special("f", tarfile.FIFOTYPE),
        special("c", tarfile.CHRTYPE),
        special("b", tarfile.BLKTYPE),
        special("s", tarfile.GNUTYPE_SPARSE),
    ],
    ids=lambda entry: f"{entry.type!r}-{entry.linkname}",
)
def test_devices_sparse_members_and_escaping_links_are_refused(entry: tarfile.TarInfo) -> None:
    with pytest.raises(ManifestInvalidError):
        read_all(tar(entry))


def test_pax_sparse_members_are_refused() -> None:
    info = tarfile.TarInfo("a")
    info.pax_headers = {"GNU.sparse.major": "1"}
    with pytest.raises(ManifestInvalidError):
        read_all(tar(info))


def test_duplicate_metadata_members_are_refused() -> None:
    for data in (tar(("a", b"1"), ("./a", b"2")),):
        with pytest.raises(ManifestInvalidError, match="twice"):
            collect(io.BytesIO(data), lambda name: name == "a", SMALL)


def test_a_metadata_member_must_be_a_regular_file() -> None:
    data = tar(special("a", tarfile.SYMTYPE, "b"))
    with pytest.raises(ManifestInvalidError):
        collect(io.BytesIO(data), lambda name: name == "a", SMALL)


@pytest.mark.parametrize("codec", [name for name in CODECS if name != "none"])
def test_bombs_stop_early(codec: str) -> None:
    bomb = CODECS[codec](b"\0" * (8 << 20))
    source = decompress(io.BytesIO(bomb), SMALL)
    with pytest.raises(TooLargeError):
        deque(iter(lambda: source.read(1 << 16), b""), maxlen=0)
    with pytest.raises(RejectedError):
        read_all(CODECS[codec](tar(("a", b"\0" * (8 << 20)))))


def test_a_zip_bomb_is_refused_by_its_directory() -> None:
    with pytest.raises(TooLargeError):
        read_all(zipped(("a", b"\0" * (2 << 20))))


def test_too_many_members_are_refused() -> None:
    entries = [(f"f{i}", b"") for i in range(21)]
    with pytest.raises(TooLargeError):
        read_all(tar(*entries))
    with pytest.raises(TooLargeError):
        read_all(zipped(*entries))


def test_a_large_metadata_member_is_refused() -> None:
    content = bytes(range(256)) * 20
    for data in (tar(("a", content)), zipped(("a", content))):
        with pytest.raises(TooLargeError):
            read_all(data)


def test_large_extension_headers_are_refused() -> None:
    info = tarfile.TarInfo("a")
    info.pax_headers = {"comment": "x" * (2 << 20)}
    with pytest.raises(TooLargeError):
        read_all(tar(info), Limits())


def test_a_tar_cut_anywhere_is_refused_or_shorter() -> None:
    whole = tar(("a", b"1" * 600), ("b", b"2" * 600))
    for size in range(0, len(whole), 97):
        try:
            found = read_all(whole[:size])
        except ManifestInvalidError:
            continue
        assert found.items() <= {"a": b"1" * 600, "b": b"2" * 600}.items()
    for codec in ("gzip", "bzip2", "xz", "lzma"):
        packed = CODECS[codec](whole)
        with pytest.raises(ManifestInvalidError):
            read_all(packed[:-6])


def test_a_wrong_tar_checksum_is_refused() -> None:
    data = bytearray(tar(("a", b"1")))
    data[0] = ord("b")
    with pytest.raises(ManifestInvalidError, match="checksum"):
        read_all(bytes(data))


def patch(data: bytes, at: int, *, layout: str, value: int) -> bytes:
    out = bytearray(data)
    struct.pack_into(layout, out, at, value)
    return bytes(out)


def test_zips_whose_headers_disagree_are_refused() -> None:
    good = zipped(("abc", b"data" * 30), ("def", b"more" * 30), method=zipfile.ZIP_STORED)
    central = good.index(b"PK\x01\x02")
    bad = {
        "local name": good.replace(b"abc", b"xyz", 1),
        "local crc": patch(good, 14, layout="<L", value=7),
        "local size": patch(good, 22, layout="<L", value=1),
        "local method": patch(good, 8, layout="<H", value=zipfile.ZIP_DEFLATED),
        "encrypted": patch(good, central + 8, layout="<H", value=1),
        "two sizes": patch(good, central + 24, layout="<L", value=1),
        "disk": patch(good, central + 34, layout="<H", value=1),
        "offset": patch(good, central + 42, layout="<L", value=1),
        "trailing": good + b"x",
        "prefix": good[:4] + b"x" + good[4:],
        "cut": good[: central + 60] + good[-22:],
        "no end": good[:-22],
    }
    assert read_all(good)
    for what, data in bad.items():
        with pytest.raises(ManifestInvalidError):
            raise AssertionError(f"{what}: {read_all(data)}")


def test_overlapping_zip_members_are_refused() -> None:
    good = zipped(("a", b"data"), method=zipfile.ZIP_STORED)
    central, end = good.index(b"PK\x01\x02"), good.index(b"PK\x05\x06")
    row = good[central:end]
    twice = good[:central] + row * 2 + good[end:]
    twice = patch(twice, len(twice) - 14, layout="<H", value=2)
    twice = patch(twice, len(twice) - 12, layout="<H", value=2)
    twice = patch(twice, len(twice) - 10, layout="<L", value=2 * len(row))
    with pytest.raises(ManifestInvalidError, match="overlap"):
        read_all(twice)


def test_a_zip_member_that_lies_about_its_content_is_refused() -> None:
    good = zipped(("a", b"data" * 30), method=zipfile.ZIP_STORED)
    with pytest.raises(ManifestInvalidError, match="CRC"):
        read_all(good.replace(b"datadata", b"DATAdata", 1))
    deflated = zipped(("a", b"data" * 30))
    body = 30 + 1
    broken = deflated[:body] + b"\xff\xff" + deflated[body + 2 :]
    with pytest.raises(ManifestInvalidError):
        read_all(broken)


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x03\x04", b"\x1f\x8b", b"BZh9", b"x" * 600])
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestInvalidError):
        read_all(data)


# --- nothing else escapes -----------------------------------------------------------------------
SEEDS = [
    tar(("p/a", b"one"), special("p/l", tarfile.SYMTYPE, "a"), ("d" * 120, b"2")),
    gzip.compress(tar(("a", b"one")), mtime=0),
    zstandard.ZstdCompressor().compress(tar(("a", b"one"))),
    lzma.compress(tar(("a", b"one"))),
    zipped(("a", b"one"), ("b/c", b"two" * 50)),
]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_mutated_archives_are_read_or_refused(seed: bytes, data: st.DataObject) -> None:
    mutated = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        mutated[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(mutated)))
    whole = data.draw(st.booleans())
    with contextlib.suppress(RejectedError):
        read_all(bytes(mutated if whole else mutated[:end]))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_tars_with_valid_checksums_and_hostile_fields(seed: bytes, data: st.DataObject) -> None:
    """A mutated header whose checksum is put right again gets past the first gate."""
    block = bytearray(seed[:512] if seed[257:262] == b"ustar" else SEEDS[0][:512])
    for _ in range(data.draw(st.integers(1, 8))):
        block[data.draw(st.integers(0, 511))] = data.draw(st.integers(0, 255))
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    try:
        for member in tar_members(io.BytesIO(bytes(block) + SEEDS[0][512:]), SMALL):
            if member.kind is Kind.FILE:
                member.read()
    except RejectedError:
        pass


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.text("abc/.é", min_size=1, max_size=12), st.binary(max_size=900))))
def test_what_python_writes_is_read_alike(entries: list[tuple[str, bytes]]) -> None:
    entries = [(name, data) for name, data in entries if _plain(name)][:20]
    unique = dict(entries)
    data = gzip.compress(tar(*unique.items()), mtime=0)
    assert read_all(data) == unique
    assert read_all(zipped(*unique.items())) == unique
    assert zlib.crc32(data) == zlib.crc32(gzip.compress(tar(*unique.items()), mtime=0))


def _plain(name: str) -> bool:
    return not name.startswith("/") and all(part not in {"", ".", ".."} for part in name.split("/"))


# --- corners ------------------------------------------------------------------------------------
def header(**change: bytes) -> bytes:
    """A raw tar header with fields replaced and the checksum put right."""
    block = bytearray(tar(("a", b""))[:512])
    places = {"name": 0, "mode": 100, "size": 124, "kind": 156, "target": 157, "magic": 257}
    for field, value in change.items():
        at = places[field]
        block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def extension(kind: bytes, data: bytes) -> bytes:
    return header(kind=kind, size=b"%011o\0" % len(data)) + data + b"\0" * (-len(data) % 512)


END_MARK = b"\0" * 1024


def test_tar_numbers_may_be_binary_or_empty() -> None:
    size = b"\x80" + (3).to_bytes(11, "big")
    content = b"abc" + b"\0" * 509
    assert read_all(header(size=size) + content + END_MARK) == {"a": b"abc"}
    assert read_all(header(size=b" " * 12) + END_MARK) == {"a": b""}
    for bad in (b"\xff" * 12, b"99999999999\0"):
        with pytest.raises(ManifestInvalidError, match="number"):
            read_all(header(size=bad) + END_MARK)


def test_older_tars_say_directory_by_a_slash() -> None:
    data = header(kind=b"\0", name=b"dir/\0", magic=b"\0" * 8) + END_MARK
    assert [m.kind for m in members(io.BytesIO(data), SMALL)] == [Kind.DIRECTORY]


def test_pax_headers_for_one_member_and_for_all() -> None:
    one = extension(b"x", b"14 path=other\n")
    every = extension(b"g", b"15 comment=abc\n")
    assert set(read_all(every + one + header() + header() + END_MARK)) == {"other", "a"}
    sized = extension(b"x", b"9 size=3\n")
    assert read_all(sized + header() + b"abc" + b"\0" * 509 + END_MARK) == {"a": b"abc"}


@pytest.mark.parametrize(
    "record", [b"x", b"9 size=x\n", b"99 path=a\n", b"9 path=a", b"7 path\n", b"0 a=b\n"]
)
def test_malformed_pax_headers_are_refused(record: bytes) -> None:
    with pytest.raises(ManifestInvalidError):
        read_all(extension(b"x", record) + header() + END_MARK)


def test_extension_headers_are_bounded_in_number_and_size() -> None:
    with pytest.raises(TooLargeError):
        read_all(extension(b"x", b"6 a=b\n") * 9 + header() + END_MARK)
    limits = Limits(header_max=900)
    value = b"x" * 490
    many = b"".join(extension(b"g", b"500 key%d=%s\n" % (n, value)) for n in range(2))
    with pytest.raises(TooLargeError, match="global"):
        read_all(many + header() + END_MARK, limits)


@pytest.mark.parametrize("target", ["a\0b", "x" * 5000, "a/../../b"])
def test_malformed_links_are_refused(target: str) -> None:
    with pytest.raises(ManifestInvalidError):
        safe_link("l", target, symbolic=True)


def with_mode(mode: int, content: bytes = b"x") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("d/l")
        info.create_system, info.external_attr = 3, mode << 16
        archive.writestr(info, content)
    return out.getvalue()


def test_zip_members_have_kinds() -> None:
    [link] = members(io.BytesIO(with_mode(0o120777, b"../x")), SMALL)
    assert (link.kind, link.target) == (Kind.SYMLINK, "../x")
    [folder] = members(io.BytesIO(with_mode(0o040755)), SMALL)
    assert folder.kind is Kind.DIRECTORY
    for mode, content in ((0o120777, b"../../x"), (0o060644, b""), (0o010644, b"")):
        with pytest.raises(ManifestInvalidError):
            list(members(io.BytesIO(with_mode(mode, content)), SMALL))


def zip64(good: bytes, **change: int) -> bytes:
    """The same zip with its end record replaced by the 64-bit kind."""
    end = good.index(b"PK\x05\x06")
    count, length, offset = struct.unpack_from("<H2L", good, end + 10)
    fields = {"disk": 0, "count": count, "length": length, "offset": offset, "size": 44} | change
    record = struct.pack(
        "<4sQ2H2L4Q",
        b"PK\x06\x06",
        fields["size"],
        45,
        45,
        fields["disk"],
        0,
        fields["count"],
        fields["count"],
        fields["length"],
        fields["offset"],
    )
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end + change.get("moved", 0), 1)
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0, 0xFFFFFFFF, 0)
    return good[:end] + record + locator + tail


def test_the_zip64_end_record_is_read_and_checked() -> None:
    good = zipped(("a", b"one"))
    assert read_all(zip64(good)) == {"a": b"one"}
    for change in ({"disk": 1}, {"size": 45}, {"moved": 10**9}, {"moved": -1}, {"offset": 1}):
        with pytest.raises(ManifestInvalidError):
            read_all(zip64(good, **change))
    for change in ({"count": 10**6}, {"length": 1 << 40}):
        with pytest.raises(TooLargeError):
            read_all(zip64(good, **change))
    bare = b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 0xFFFF, 0xFFFF, 0, 0, 0)
    for data in (bare, b"x" * 200 + bare):
        with pytest.raises(ManifestInvalidError):
            read_all(b"PK\x03\x04" + data)


def test_more_disagreements_in_zips_are_refused() -> None:
    good = zipped(("ab", b"one"), method=zipfile.ZIP_STORED)
    central = good.index(b"PK\x01\x02")
    end = good.index(b"PK\x05\x06")
    bad = [
        patch(good, central, layout="<L", value=0),
        patch(good, central + 28, layout="<H", value=500),  # the name's length
        patch(good, central + 24, layout="<L", value=0xFFFFFFFF),  # a zip64 field, and none there
        patch(patch(good, end + 8, layout="<H", value=0), end + 10, layout="<H", value=0),
        patch(good, end + 8, layout="<H", value=2),
        patch(good, end + 16, layout="<L", value=3),
        patch(
            patch(good, 8, layout="<H", value=99), central + 10, layout="<H", value=99
        ),  # a method nobody knows
    ]
    for data in bad:
        with pytest.raises(ManifestInvalidError):
            read_all(data)
    utf8 = 0x800
    named = patch(patch(good, 6, layout="<H", value=utf8), central + 8, layout="<H", value=utf8)
    with pytest.raises(ManifestInvalidError, match="UTF-8"):
        read_all(named.replace(b"ab", b"\xff\xfe"))


def test_a_member_that_reaches_into_the_directory_is_refused() -> None:
    good = zipped(("a", b"data"), method=zipfile.ZIP_STORED)
    central = good.index(b"PK\x01\x02")
    for at in (18, 22):
        good = patch(good, at, layout="<L", value=4000)
    for at in (20, 24):
        good = patch(good, central + at, layout="<L", value=4000)
    with pytest.raises(ManifestInvalidError, match="runs into"):
        read_all(good)
