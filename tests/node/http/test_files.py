"""Reading file bytes for responses, warm and cold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from node.http import files
from node.http.files import PIECE_SIZE, pieces, read_piece

CONTENT = os.urandom(PIECE_SIZE * 2 + 100)


@pytest.fixture
def blob(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "blob"
    path.write_bytes(CONTENT)
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(params=["warm", "cold", "half"])
def warmth(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page cache as it is, or as if it held nothing, or half of what is asked."""
    found = files._read_cached
    if request.param == "cold":
        monkeypatch.setattr(files, "_read_cached", lambda *_: b"")
    elif request.param == "half":
        monkeypatch.setattr(
            files, "_read_cached", lambda file, offset, size: found(file, offset, size // 2)
        )
    return str(request.param)


async def test_a_piece_is_exactly_what_was_asked_for(blob: int, warmth: str) -> None:
    threads = trio.CapacityLimiter(1)
    for offset, size in ((0, 1), (7, 5000), (PIECE_SIZE, PIECE_SIZE)):
        assert await read_piece(blob, offset, size, threads) == CONTENT[offset : offset + size]


async def test_pieces_make_the_whole(blob: int, warmth: str) -> None:
    found = [piece async for piece in pieces(blob, 50, len(CONTENT) - 50, trio.CapacityLimiter(1))]
    assert b"".join(found) == CONTENT[50:]
    assert max(map(len, found)) <= PIECE_SIZE


async def test_the_end_of_the_file_is_an_error(blob: int, warmth: str) -> None:
    with pytest.raises(EOFError, match="1 bytes early"):
        await read_piece(blob, len(CONTENT) - 10, 11, trio.CapacityLimiter(1))


async def test_a_file_system_that_cannot_say_is_read_in_a_thread(
    blob: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(95, "not supported")

    monkeypatch.setattr(os, "preadv", refuse)
    assert await read_piece(blob, 3, 4, trio.CapacityLimiter(1)) == CONTENT[3:7]


def test_what_was_just_written_is_in_the_page_cache(blob: int) -> None:
    if not hasattr(os, "RWF_NOWAIT"):
        pytest.skip("this system cannot say what its page cache holds")
    assert files.cached(blob, 0, len(CONTENT))
    assert files.cached(blob, PIECE_SIZE, 1)
    # Beyond the end nothing is cached: the thread that reads there finds out why.
    assert not files.cached(blob, len(CONTENT) - 1, 10)


def test_a_probe_that_would_wait_is_no(blob: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def preadv(file: int, buffers: list[bytearray], offset: int, flags: int) -> int:
        asked.append(offset)
        if offset >= files.PROBE_SIZE:
            raise BlockingIOError
        return 1

    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(os, "RWF_NOWAIT", 8, raising=False)
    assert not files.cached(blob, 0, PIECE_SIZE)
    assert asked == [0, files.PROBE_SIZE]
    assert files.cached(blob, 0, files.PROBE_SIZE - 1)


def test_a_system_without_the_flag_never_knows(blob: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "RWF_NOWAIT", raising=False)
    assert not files.cached(blob, 0, 1)
