"""What the load generator reports."""

from __future__ import annotations

import pytest

from simulations.bench.wrk import LoadError, read_report

REPORT = """\
Running 4s test @ http://127.0.0.1:1/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    12.05ms    3.10ms  90.91ms   93.01%
  Latency Distribution
     50%  812.00us
     75%   12.94ms
     90%   14.02ms
     99%    1.25s
  10643 requests in 4.00s, 43.30MB read
Requests/sec:   2660.08
Transfer/sec:     10.82MB
"""


def test_a_report_is_read_in_base_units() -> None:
    found = read_report(REPORT)
    assert found["requests"] == 10643
    assert found["requests_per_second"] == 2660.08
    assert found["bytes"] == pytest.approx(43.30 * (1 << 20))
    assert found["bytes_per_second"] == pytest.approx(10.82 * (1 << 20))
    assert found["p50"] == pytest.approx(812e-6)
    assert found["p99"] == 1.25
    assert found["errors"] == 0


def test_answers_that_are_not_answers_are_no_measurement() -> None:
    with pytest.raises(LoadError, match="Non-2xx or 3xx responses: 445"):
        read_report(REPORT + "  Non-2xx or 3xx responses: 445\n")
    with pytest.raises(LoadError):
        read_report(REPORT + "  Socket errors: connect 3, read 0, write 0, timeout 0\n")
    with pytest.raises(LoadError):
        read_report("unable to connect to 127.0.0.1:1")


def test_slow_answers_are_counted() -> None:
    found = read_report(REPORT + "  Socket errors: connect 0, read 1, write 0, timeout 2\n")
    assert found["errors"] == 3
