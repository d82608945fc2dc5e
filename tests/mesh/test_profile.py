"""Estimators, fed with what paths really do."""

from __future__ import annotations

import pytest

from mesh.profile import (
    DELIVERED_IN,
    DELIVERED_MIN,
    RTT_WINDOW,
    Meter,
    Outflow,
    RateEstimator,
    RttEstimator,
)


def test_round_trips_are_smoothed_and_the_minimum_forgets() -> None:
    rtt = RttEstimator()
    rtt.add(0.1, 0.0)
    assert (rtt.smoothed, rtt.deviation, rtt.minimum) == (0.1, 0.05, 0.1)
    for second in range(1, 100):
        rtt.add(0.2, float(second))
    assert rtt.smoothed == pytest.approx(0.2, rel=0.01)
    assert rtt.minimum == 0.2  # the 0.1 lies further back than RTT_WINDOW
    assert RTT_WINDOW < 99


def test_a_rate_is_the_best_recent_one_for_the_pipeline_and_an_average_for_choosing() -> None:
    rate = RateEstimator()
    for second, size in enumerate((1_000_000, 4_000_000, 1_000_000)):
        rate.add(size, 1.0, float(second))
    assert rate.maximum == 4_000_000
    assert 1_000_000 < rate.average < 2_000_000


def test_a_path_that_was_not_full_only_raises_the_estimate() -> None:
    rate = RateEstimator()
    rate.add(5_000_000, 1.0, 0.0)
    rate.add(100, 1.0, 1.0, limited=True)
    assert rate.average == 5_000_000
    rate.add(9_000_000, 1.0, 2.0, limited=True)
    assert rate.maximum == 9_000_000


def test_a_short_transfer_tells_the_rate_of_a_path() -> None:
    outflow = Outflow()
    for now in range(6):  # nothing waits when one looks
        outflow.look(0, 0, float(now))
        outflow.arrived(now * 400_000, 0.8 * now, 300_000.0, float(now))
    assert outflow.rate.measured
    assert outflow.rate.average == pytest.approx(500_000)
    outflow.arrived(4_000_000, 6.0, 9e6, 7.0)  # while it fills, bytes by time are less
    assert outflow.rate.maximum == pytest.approx(9e6)
    outflow.arrived(DELIVERED_MIN, 0.5, 1.0, 8.0)  # another socket
    assert outflow.rate.average < 9e6


def test_small_talk_tells_no_rate() -> None:
    outflow = Outflow()
    for number in range(100):
        now = number * DELIVERED_IN / 2
        outflow.arrived(number * DELIVERED_MIN // 4, 0.1 * number, 1000.0, now)
    assert not outflow.rate.measured


def test_a_meter_shows_the_present_rate() -> None:
    meter = Meter(halflife=1.0)
    for tick in range(100):
        meter.add(1000, tick / 10)
    assert meter.total == 100_000
    assert meter.rate(9.9) == pytest.approx(10_000, rel=0.05)
    assert meter.rate(19.9) < 100
