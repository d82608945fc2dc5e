"""Digests declared in headers."""

from __future__ import annotations

import base64
import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.digests import compare, declared_digests, digest_headers, hex_digest, verify
from store.errors import DigestInvalidError, DigestMismatchError
from tests.formats.fake import FakeRepository
from tests.formats.test_generic import put

DATA = b"data"


def b64(name: str) -> str:
    return base64.b64encode(hashlib.new(name, DATA).digest()).decode()


def test_every_spelling_is_read() -> None:
    headers = {
        "x-checksum-sha256": hashlib.sha256(DATA).hexdigest().upper(),
        "content-md5": b64("md5"),
        "content-digest": f"sha-256=:{b64('sha256')}:, other=:AAAA:",
        "repr-digest": f"sha-512=:{b64('sha512')}:",
        "digest": f"SHA={b64('sha1')}, other=x, MD5={b64('md5')}",
    }
    expected = ["sha256", "md5", "sha256", "sha512", "sha1", "md5"]
    assert declared_digests(headers) == [
        (name, hashlib.new(name, DATA).hexdigest()) for name in expected
    ]
    assert declared_digests({}) == []


@given(st.sampled_from(["content-md5", "content-digest", "repr-digest", "digest"]), st.text())
def test_rubbish_is_refused_or_passed_over(name: str, text: str) -> None:
    with contextlib.suppress(DigestInvalidError):
        assert all(algorithm for algorithm, _ in declared_digests({name: text}))


def test_comparing() -> None:
    compare("md5", "00", "00")
    with pytest.raises(DigestMismatchError, match="md5:00"):
        compare("md5", "00", "01")
    with pytest.raises(DigestInvalidError):
        hex_digest("md5", "0" * 31)


async def test_what_the_ingest_did_not_compute_is_computed() -> None:
    repository = FakeRepository()
    blob = repository.add_blob(DATA)
    for name in ("sha256", "sha1", "md5", "sha512", "sha384"):
        await verify([(name, hashlib.new(name, DATA).hexdigest())], blob, repository)
        with pytest.raises(DigestMismatchError):
            await verify([(name, "00")], blob, repository)


async def test_downloads_carry_what_is_known() -> None:
    repository = FakeRepository()
    await put(repository, "/x", DATA)
    names = [name for name, _ in digest_headers(await repository.artifact("x"))]
    assert names == ["x-checksum-sha256", "x-checksum-sha1", "x-checksum-md5"]
