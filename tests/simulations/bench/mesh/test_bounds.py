"""The bound, and what outages leave of it."""

from __future__ import annotations

import math

import pytest

from simulations.bench.mesh.bounds import (
    finish,
    fluid_bound,
    lags,
    mathis,
    middle,
    payload_share,
    percentile,
    time_up,
)
from simulations.lab.shaping import MBIT, Outage, Scenario, uniform

MIB = 1 << 20
HALF = (Outage(2.0, 3.0), Outage(7.0, 3.0))


def links(up: tuple[float, ...], down: tuple[float, ...]) -> Scenario:
    flat = ((0.0,) * len(up),) * len(up)
    return Scenario(up=up, down=down, delay=flat, loss=flat)


@pytest.mark.parametrize(
    ("up", "down", "bound"),
    [
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 60.0),  # each uplink once
        ((0.5, 9.0, 9.0), (9.0, 9.0, 9.0), 120.0),  # the source is thin
        ((9.0, 9.0, 9.0), (9.0, 0.25, 9.0), 240.0),  # a receiver is thin
        ((4.0, 0.5, 0.5), (9.0, 9.0, 9.0), 24.0),  # everybody's uplinks together
    ],
)
def test_the_slowest_of_three_limits_counts(
    up: tuple[float, ...], down: tuple[float, ...], bound: float
) -> None:
    assert fluid_bound(60, links(up, down)) == bound


def test_two_sources_share_the_work() -> None:
    assert fluid_bound(60, links((1.0, 1.0, 1.0), (9.0, 9.0, 9.0)), (0, 1)) == 30.0


def test_the_pilot_case_takes_thirteen_seconds() -> None:
    assert fluid_bound(32 * MIB, uniform(5, rate=20 * MBIT, rtt=0.05)) == pytest.approx(13.42, 1e-3)


def test_work_waits_for_the_link() -> None:
    assert finish(2.0, HALF) == 2.0
    assert finish(3.0, HALF) == 6.0
    assert finish(10.0, HALF) == 16.0
    assert finish(10.0, ()) == 10.0


@pytest.mark.parametrize(("at", "up"), [(1.0, 1.0), (3.5, 2.0), (6.0, 3.0), (12.0, 6.0)])
def test_only_time_that_the_link_was_up_counts(at: float, up: float) -> None:
    assert time_up(at, HALF) == up


def test_a_lag_is_from_the_end_of_the_outage_to_the_first_payload() -> None:
    timeline = [(1.9, 1e6), (4.9, 1e6), (5.2, 1e6 + 100), (5.4, 2e6), (6.9, 3e6), (10.1, 4e6)]
    assert lags(timeline, HALF) == pytest.approx([0.4, 0.1])


def test_an_outage_after_the_end_has_no_lag() -> None:
    assert lags([(1.0, 1e6), (6.0, 1e6)], HALF) == []
    assert lags([], HALF) == []


def test_arithmetic_of_figures() -> None:
    assert middle([3, 1, 2]) == 2
    assert math.isnan(middle([]))
    assert percentile([1, 2, 3, 4], 0.5) == 3
    assert percentile([1, 2, 3, 4], 1.0) == 4
    assert math.isnan(percentile([], 0.5))
    assert payload_share(1500) == pytest.approx(0.965, abs=1e-3)
    assert mathis(0.05, 0.01) / MBIT == pytest.approx(2.8, abs=0.05)
