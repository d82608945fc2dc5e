"""Without matplotlib there are no pictures, and no failure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from simulations.bench import plots
from simulations.bench.summary import Row

ROW = Row("R1", "index", "requests_per_second", "peer", 1.0, 2.0, 2.0, 1.5, 2.5, 5)


def test_no_matplotlib_no_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert plots.draw([ROW], tmp_path / "plots") == []
    assert not (tmp_path / "plots").exists()
