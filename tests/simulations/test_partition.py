"""A mesh parted for days, then joined: small months; and that its checks can fail."""

from __future__ import annotations

import pytest

from simulations.partition import GUESTS, KINDS, draw, play_month
from simulations.plan import CORE, GUEST

SEEDS = range(3)
DAYS = 8


@pytest.mark.parametrize("seed", SEEDS)
def test_after_a_partition_all_agree_and_nothing_was_widened_or_lost(seed: int) -> None:
    result = play_month(seed, DAYS)
    assert not result.failure, result.details
    assert result.seen["records written"] > 10


def test_months_have_everything_on_all_sides() -> None:
    plans = [draw(seed) for seed in range(30)]
    seen = {step.what for plan in plans for step in plan.steps}
    assert {"file", "delete", "flag", "setting", "grant", "restore", "resolve", "point"} <= seen
    assert {"evict", "narrow", "rotate", "invite", "vote", "part", "sleep", "home", "lie"} <= seen
    assert all(plan.asleep == pytest.approx(30 * 86386) for plan in plans)
    assert KINDS.count(CORE) == 5
    assert [KINDS[guest] for guest in GUESTS] == [GUEST, GUEST]
