"""Two nodes behind translators: they join, meet, fetch, and take the direct path when it opens."""

from __future__ import annotations

import pytest

from simulations.lab.nat import PATIENCE, experiment, why_not

pytestmark = [pytest.mark.slow, pytest.mark.serial]


@pytest.mark.timeout(600)
def test_nodes_behind_two_translators_join_fetch_and_go_direct_when_they_can() -> None:
    if reason := why_not():
        pytest.skip(reason)
    report = experiment(4 << 20)
    assert report.paths[0].startswith("relayed by")
    assert report.paths[1:] == ["direct", "chunks direct"]
    assert report.opened < PATIENCE
