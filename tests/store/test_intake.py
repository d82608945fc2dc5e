from __future__ import annotations

import hashlib

import pytest

from store.chunks import Manifest
from store.digest import Digest
from store.errors import DigestMismatchError
from store.intake import Intake
from tests.store.blob_contract import MIB, noise


@pytest.mark.parametrize("size", [0, 10, 256 << 10, (256 << 10) + 1, 3 * MIB])
def test_one_pass_learns_everything(size: int) -> None:
    data = noise(size)
    intake = Intake(Digest.of(data), ["sha1"])
    for start in range(0, size, 100_000):
        intake.update(memoryview(data)[start : start + 100_000])
    found = intake.finish()
    assert found.digest == found.manifest.blob == Digest.of(data)
    assert found.size == found.manifest.size == size
    assert found.checksums["sha1"] == hashlib.sha1(data).hexdigest()
    assert sum(chunk.length for chunk in found.manifest.chunks) == size
    assert Manifest.decode(found.manifest.encode()) == found.manifest


def test_sinks_may_run_apart() -> None:
    """As in lanes: each sees everything, at its own pace."""
    data, together, apart = noise(2 * MIB), Intake(), Intake()
    together.update(memoryview(data))
    for sink in reversed(apart.sinks):
        for start in range(0, len(data), MIB):
            sink(memoryview(data)[start : start + MIB])
    assert apart.finish() == together.finish()


def test_the_mismatch_names_the_algorithm_asked_for() -> None:
    intake = Intake(Digest("sha512", "ab" * 64))
    intake.update(memoryview(b"data"))
    with pytest.raises(DigestMismatchError) as caught:
        intake.finish()
    assert caught.value.actual == Digest("sha512", hashlib.sha512(b"data").hexdigest())


def test_an_unknown_checksum_is_a_bug() -> None:
    with pytest.raises(ValueError, match="unsupported hash"):
        Intake(None, ["crc32"])
