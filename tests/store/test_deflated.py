"""Where deflate streams lie: found by the tables of whole files, and nowhere else."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
import zlib

import pytest

from store.deflated import Span, inflated, spans

PARTS = {f"{n}.txt": random.Random(n).randbytes(500).hex().encode() for n in range(5)}


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as files:
        for name, data in PARTS.items():
            files.writestr(name, data)
        files.writestr("stored", b"as it is", zipfile.ZIP_STORED)
        files.comment = b"PK"
    return out.getvalue()


def held(data: bytes) -> list[bytes]:
    file = io.BytesIO(data)
    return [b"".join(inflated(file, span)) for span in spans(file)]


def test_every_deflated_member_of_a_zip_file() -> None:
    assert held(archive()) == list(PARTS.values())


def test_the_stream_of_a_gzip_file() -> None:
    data = PARTS["1.txt"] * 2000  # some blocks
    assert held(gzip.compress(data)) == [data]


@pytest.mark.parametrize("data", [b"", b"PK", b"\x1f\x8b\x08", b"PK\x03\x04" + bytes(100), b"text"])
def test_other_files_have_none(data: bytes) -> None:
    assert spans(io.BytesIO(data)) == []


def test_spans_are_in_order_within_the_file_and_apart_whatever_the_tables_say() -> None:
    whole, rng = archive(), random.Random(1)
    at = whole.index(b"PK\x01\x02")
    for _ in range(500):
        bad = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            bad[rng.randrange(at, len(bad))] = rng.randrange(256)
        before = 0
        for span in spans(io.BytesIO(bad)):
            assert before <= span.start < span.stop <= len(bad)
            before = span.stop


def test_a_stream_must_end_where_its_span_does() -> None:
    packer = zlib.compressobj(wbits=-15)
    data = packer.compress(b"content" * 100) + packer.flush()
    assert b"".join(inflated(io.BytesIO(data), Span(0, len(data)))) == b"content" * 100
    for wrong in (Span(0, len(data) - 1), Span(1, len(data)), Span(0, len(data) + 5)):
        with pytest.raises(zlib.error):
            list(inflated(io.BytesIO(data + bytes(9)), wrong))
