"""Files in the page cache are read without a thread."""

from __future__ import annotations

from pathlib import Path

import pytest

from store import disk, warm
from store.warm import KEPT, WarmFiles

NAME = b"name"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 64)
    return path


def test_what_was_just_written_is_in_memory(file: Path) -> None:
    files = WarmFiles()
    found = files.read(NAME, lambda: file, 10, 20, 0.0)
    assert found in (bytes(range(10, 20)), None)  # None where the file system cannot tell
    assert len(files) == 1
    files.close()
    assert not len(files)


def test_beyond_the_end_there_is_nothing(file: Path) -> None:
    files = WarmFiles()
    assert files.read(NAME, lambda: file, 16_380, 16_390, 0.0) is None
    files.close()


def test_a_file_that_was_replaced_is_opened_again(file: Path) -> None:
    files = WarmFiles()
    files.read(NAME, lambda: file, 0, 4, 0.0)
    other = file.with_name("other")
    other.write_bytes(b"other")
    other.replace(file)
    assert files.read(NAME, lambda: file, 0, 5, 0.0) in (b"other", None)
    file.unlink()
    assert files.read(NAME, lambda: file, 0, 5, 0.0) is None
    assert files.read(NAME, lambda: None, 0, 5, 0.0) is None
    assert not len(files)


def test_few_files_stay_open_and_not_for_long(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "FILES_MAX", 2)
    files = WarmFiles()
    for number in range(5):
        files.read(b"%d" % number, lambda: file, 0, 4, float(number))
    assert len(files) == 2
    files.tidy(3.5 + KEPT)
    assert len(files) == 1
    files.close()


def test_without_the_system_call_everything_takes_a_thread(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "NOWAIT", 0)
    with file.open("rb") as opened:
        assert disk.read_cached(opened.fileno(), 4, 0) is None
