"""Reading /proc for this very process."""

from __future__ import annotations

import os
import sys

import pytest

from simulations.bench import usage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_this_process_uses_something() -> None:
    assert os.getpid() in usage.tree(os.getpid())
    assert usage.cpu_seconds(os.getpid()) > 0
    assert usage.resident(os.getpid()) > 1 << 20
    assert usage.peak(os.getpid()) >= 1 << 20
    assert usage.machine_busy() > 0
    assert usage.own_seconds() > 0


def test_a_process_that_is_gone_uses_nothing() -> None:
    gone = 1 << 30
    assert usage.stat_of(gone) == []
    assert usage.cpu_seconds(gone) == 0
    assert usage.resident(gone) == 0
    assert usage.peak(gone) == 0


def test_a_peak_may_begin_anew() -> None:
    held = bytearray(b"x") * (64 << 20)
    before = usage.peak_of(os.getpid())
    del held
    usage.forget_peak(os.getpid())
    assert usage.peak_of(os.getpid()) <= before


def test_cpu_time_is_told_finely() -> None:
    before = usage.cpu_nanoseconds(os.getpid())
    sum(range(200_000))
    assert usage.cpu_nanoseconds(os.getpid()) > before
    assert usage.cpu_nanoseconds(1 << 30) == 0
