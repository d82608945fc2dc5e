"""Before each run: are the links what the scenario says?"""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress

import msgspec

from simulations.bench.mesh.bounds import middle
from simulations.lab.namespaces import address, within
from simulations.lab.net import LabError, Net

PORT = 9
PINGS = 12
PING_SECONDS_MAX = 3.0
FLOW_SECONDS = 4.0
FLOW_WARM_SECONDS = 1.8  # slow start, and the queue that it leaves, are not the link's rate
FLOW_END_SECONDS = 0.1
FLOW_ERROR_MAX = 0.05
RTT_ERROR_MAX = 0.003  # seconds


class Calibration(msgspec.Struct):
    """What was found on one pair.  ``flow`` is bytes per second on the wire, 0.0 if not tried."""

    rtt: float
    rtt_expected: float
    flow: float
    rate: float

    def doubts(self) -> str:
        """Return why a run over these links would say little; "" if it may be run."""
        found = []
        if self.rtt - self.rtt_expected > RTT_ERROR_MAX:
            found.append(f"a ping took {self.rtt * 1e3:.1f} ms, not {self.rtt_expected * 1e3:.1f}")
        if self.flow and abs(self.flow / self.rate - 1) > FLOW_ERROR_MAX:
            found.append(f"one flow had {self.flow / self.rate:.0%} of the rate")
        return ", ".join(found)


def calibrate(net: Net, source: int, target: int) -> Calibration:
    """Measure one pair: pings, and one TCP flow where nothing is lost on purpose."""
    scenario = net.scenario
    rate = min(scenario.up[source], scenario.down[target])
    if scenario.apart(source, target):
        rate = min(rate, *(scenario.wan[scenario.sites[each]] for each in (source, target)))
    expected = scenario.delay[source][target] + scenario.delay[target][source]
    rtt = ping(net, source, target)
    clean = not scenario.loss[source][target]
    flow = carry(net, source, target, FLOW_SECONDS) if clean else 0.0
    return Calibration(rtt, expected, flow, rate)


def ping(net: Net, source: int, target: int) -> float:
    """Return the median round trip of small datagrams.  Raises LabError when none comes back."""
    with within(net.namespace(target)):
        echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with within(net.namespace(source)):
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with echo, asking:
        echo.bind((address(target), PORT))
        echo.settimeout(PING_SECONDS_MAX)
        asking.settimeout(0.8)
        answering = threading.Thread(target=_echo, args=(echo,), daemon=True)
        answering.start()
        trips = []
        for number in range(PINGS):
            began = time.monotonic()
            asking.sendto(struct.pack("!I", number), (address(target), PORT))
            try:
                asking.recv(16)
            except TimeoutError:
                continue  # a lossy link
            trips.append(time.monotonic() - began)
        asking.sendto(b"over", (address(target), PORT))
        answering.join()
    if not trips:
        raise LabError(f"no ping comes back from n{target} to n{source}")
    return middle(trips)


def _echo(echo: socket.socket) -> None:
    try:
        while True:
            data, sender = echo.recvfrom(16)
            if data == b"over":
                return
            echo.sendto(data, sender)
    except OSError:
        return  # the last datagram was lost


def carry(net: Net, source: int, target: int, seconds: float) -> float:
    """Return the bytes per second that one TCP flow has on the wire, its slow start left out."""
    with within(net.namespace(target)):
        listener = socket.create_server((address(target), 0))
    with within(net.namespace(source)):
        sender = socket.socket()
    with listener, sender:
        listener.settimeout(PING_SECONDS_MAX)
        sender.settimeout(PING_SECONDS_MAX)
        sender.connect(listener.getsockname())
        receiver, _ = listener.accept()
        receiver.settimeout(PING_SECONDS_MAX)
        ends = [
            threading.Thread(target=_pour, args=(sender, seconds), daemon=True),
            threading.Thread(target=_drink, args=(receiver,), daemon=True),
        ]
        for end in ends:
            end.start()
        time.sleep(FLOW_WARM_SECONDS)
        first = net.counts()
        time.sleep(seconds - FLOW_WARM_SECONDS - FLOW_END_SECONDS)
        last = net.counts()
        for end in ends:
            end.join()
        receiver.close()
    moved = last.carried[source][target] - first.carried[source][target]
    return moved / (last.elapsed - first.elapsed)


def _pour(sender: socket.socket, seconds: float) -> None:
    deadline, data = time.monotonic() + seconds, bytes(16384)
    with suppress(OSError):  # the receiver has seen enough
        while time.monotonic() < deadline:
            sender.sendall(data)
        sender.shutdown(socket.SHUT_WR)


def _drink(receiver: socket.socket) -> None:
    with suppress(OSError):
        while receiver.recv(1 << 16):
            pass
