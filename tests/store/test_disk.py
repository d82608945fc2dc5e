from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from store import disk
from store.errors import ReadOnlyError, RegistryError, StoreFullError, UnavailableError


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, StoreFullError),
        (errno.EDQUOT, StoreFullError),
        (errno.EROFS, ReadOnlyError),
        (errno.EACCES, ReadOnlyError),
        (errno.EPERM, ReadOnlyError),
        (errno.EMFILE, UnavailableError),
    ],
)
def test_what_the_disk_refuses_is_told_without_its_path(
    code: int, kind: type[RegistryError]
) -> None:
    with pytest.raises(kind) as caught, disk.disk_errors():
        raise OSError(code, os.strerror(code), "/secret/path")
    assert type(caught.value) is kind
    assert "secret" not in str(caught.value)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(FileNotFoundError), disk.disk_errors():
        Path("/nowhere/at/all").read_bytes()


def test_short_writes_and_reads_are_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite, pread = os.pwrite, os.pread
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:3], offset))
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: pread(fd, min(size, 4), offset))
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    disk.write_all(fd, memoryview(b"0123456789"), 5)
    assert disk.read_exactly(fd, 10, 5) == b"0123456789"
    assert disk.read_exactly(fd, 10, 12) == b"789"
    os.close(fd)


def test_replacing_a_file_leaves_no_other(tmp_path: Path) -> None:
    target = tmp_path / "file"
    disk.replace_file(target, b"long content")
    disk.replace_file(target, b"short")
    assert target.read_bytes() == b"short"
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupted_replacement_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    disk.replace_file(target, b"old")

    def refuse(fd: int) -> None:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="no"):
        disk.replace_file(target, b"new")
    assert target.read_bytes() == b"old"


def test_ensuring_a_folder_twice(tmp_path: Path) -> None:
    disk.ensure_folder(tmp_path / "a")
    disk.ensure_folder(tmp_path / "a")
    disk.sync_folder(tmp_path / "a")
    assert (tmp_path / "a").is_dir()
