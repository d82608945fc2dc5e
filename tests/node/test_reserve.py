"""The reserve is taken where there is room, and given up only on a full disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from node import reserve

Usage = shutil._ntuple_diskusage


def free(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 1 << 40, number))


def test_it_is_kept_while_there_is_room_and_spent_when_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / reserve.FILE
    free(monkeypatch, reserve.ROOM - 1)
    reserve.keep(tmp_path)
    assert not file.exists()
    free(monkeypatch, reserve.ROOM)
    reserve.keep(tmp_path)
    assert file.stat().st_blocks * 512 >= reserve.SIZE
    assert not reserve.spend(tmp_path)
    free(monkeypatch, reserve.SIZE - 1)
    reserve.keep(tmp_path)
    assert reserve.spend(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert not reserve.spend(tmp_path)
