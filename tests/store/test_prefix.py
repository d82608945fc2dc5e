from __future__ import annotations

from pathlib import Path

from store.digest import Digest
from store.partial_folder import PartialFolder
from store.prefix import HASH_AHEAD, Prefix
from tests.store.partial_blobs import COUNT, DATA, MANIFEST, chunk


def test_the_digest_follows_the_chunks(tmp_path: Path) -> None:
    """Hashing runs along, so that little is left to do at the end."""
    files = PartialFolder.open(tmp_path / "blob", MANIFEST)
    prefix = Prefix(files)

    def arrive(index: int) -> None:
        files.write([index], chunk(index))
        prefix.push(index, chunk(index))
        files.have.mark(index)

    for index in (0, 1, 2, 3, 4, 6, 7, 8, 9):
        arrive(index)
    assert prefix.digest == Digest.of(DATA[: MANIFEST.offset(5)])
    arrive(5)
    assert prefix.digest == Digest.of(DATA[: MANIFEST.offset(5 + HASH_AHEAD)])
    assert not prefix.catch_up(100)
    assert prefix.digest == Digest.of(DATA[: MANIFEST.offset(10)])
    for index in range(10, COUNT):
        files.write([index], chunk(index))
        files.have.mark(index)
    assert not prefix.catch_up(1)
    assert prefix.catch_up(100)
    assert prefix.digest == MANIFEST.blob
    files.close()


def test_who_finds_it_busy_goes_on(tmp_path: Path) -> None:
    files = PartialFolder.open(tmp_path / "blob", MANIFEST)
    prefix = Prefix(files)
    with prefix._lock:
        prefix.push(0, chunk(0))
    assert prefix.digest == Digest.of(b"")
    files.close()
