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
