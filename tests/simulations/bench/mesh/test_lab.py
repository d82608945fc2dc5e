"""The lab itself, once and small: a real pair of nodes and curl over a shaped link."""

from __future__ import annotations

import shutil

import pytest

from simulations.bench.mesh.calibrate import carry, ping
from simulations.bench.mesh.model import Case
from simulations.bench.mesh.play import distribute
from simulations.bench.mesh.systems.atoll import Atoll
from simulations.lab.namespaces import why_not
from simulations.lab.net import Net
from simulations.lab.shaping import MBIT, Outage, uniform

REASON = why_not()
pytestmark = [
    pytest.mark.serial,
    pytest.mark.skipif(bool(REASON), reason=REASON or "namespaces can be made"),
]
RATE, RTT, SIZE = 20 * MBIT, 0.04, 1 << 20


def test_a_link_has_the_delay_and_the_rate_that_it_should_have(tmp_path) -> None:
    with Net(uniform(2, rate=RATE, rtt=RTT, congestion="bbr"), tmp_path) as net:
        assert ping(net, 0, 1) >= RTT
        # What waits in the queue counts already, and the window is short.
        assert 0 < carry(net, 0, 1, 2.6) <= RATE * 1.2
        net.block([(0, 1)])
        assert net.counts().carried[0][1] > SIZE


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_a_blob_crosses_an_outage_between_two_real_nodes() -> None:
    links = uniform(2, rate=RATE, rtt=RTT, outages=(Outage(0.2, 1.0),), congestion="bbr")
    case = Case("small", links, SIZE, SIZE / RATE, patience=60.0)
    run = distribute("B7", case, Atoll, 0)
    assert not run.failed
    assert run.times[0] > 1.0
    assert run.values["source_copies"] >= 1.0
    assert 0 <= run.values["overhead"] < 0.5
    assert run.timeline[-1][1] >= SIZE
