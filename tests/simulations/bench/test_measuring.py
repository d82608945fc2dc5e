"""What a measurement adds to what was done."""

from __future__ import annotations

import pytest

from simulations.bench import measuring


def test_work_without_a_server_has_no_server_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SETTLE_SECONDS", 0.0)
    found = measuring.sample("R3", "upload", "floor", 2, None, lambda: {"bytes": 5.0})
    assert (found.figure, found.server, found.round) == ("R3", "floor", 2)
    assert found.values == {"bytes": 5.0}
    assert found.foreign_cpus >= 0
