"""The hub: a process that carries every packet of the lab, when and if the scenario lets it pass.

``python -m simulations.lab.hub PREFIX SCENARIO.json`` makes the namespaces and says ``ready``.
Lines on standard input steer it: ``go`` starts the clock of the outages, ``count`` prints what was
carried so far, as JSON, ``block [[0,1],…]`` cuts exactly these pairs of nodes, and ``stop`` (or the
end of input) ends it and deletes the namespaces.
"""

from __future__ import annotations

import gc
import heapq
import os
import select
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from simulations.lab.namespaces import NETWORK, Namespaces
from simulations.lab.shaping import Scenario, Shaper

BURST = 16  # packets read from one node before the others have their turn
IDLE = 0.05  # seconds between looks at the clock
LATE_STEP = 1e-4  # seconds that a bucket of delivery errors spans
LATE_STEPS = 1000  # and the last one everything beyond
HEADER = 20  # bytes of IPv4 at least
TCP, UDP = 6, 17
PREFIX = bytes(int(part) for part in NETWORK.split("."))


class Counts(msgspec.Struct):
    """What the hub has seen.  ``carried`` is bytes by source and target, ``payload`` without the
    headers of IP and TCP or UDP.
    """

    elapsed: float
    carried: list[list[int]]
    payload: list[list[int]]
    dropped: dict[str, int]
    cpu: float  # seconds of processor time
    late_ms: float  # the 99th percentile of delivery error, since ``go``


class Hub:
    """Reads packets from every node, and writes them where they belong, in time."""

    def __init__(self, scenario: Scenario, tuns: list[int]) -> None:
        self.shaper = Shaper(scenario)
        self._tuns = tuns
        self._heap: list[tuple[float, int, int, int, int, bytes]] = []  # due, …, hop, packet
        self._count = 0
        self._late = [0] * LATE_STEPS  # packets by delivery error: counting them holds nothing up
        self._began = time.monotonic()
        self._go: float | None = None
        self._commands = b""

    def run(self) -> None:
        """Carry packets until told to stop."""
        places = {tun: index for index, tun in enumerate(self._tuns)}
        while True:
            now = time.monotonic()
            self._deliver(now)
            wait = min(self._heap[0][0] - now, IDLE) if self._heap else IDLE
            # select waits for microseconds where epoll and poll wait for whole milliseconds.
            ready, _, _ = select.select([0, *self._tuns], [], [], max(0.0, wait))
            for descriptor in ready:
                if descriptor != 0:
                    self._read(places[descriptor], descriptor)
                    self._deliver(time.monotonic())  # what is due waits for no other node's burst
                elif not self._command():
                    return

    def _deliver(self, now: float) -> None:
        heap, shaper = self._heap, self.shaper
        while heap and heap[0][0] <= now:
            due, number, source, target, hop, packet = heapq.heappop(heap)
            if hop < shaper.hops(source, target):
                size = len(packet)
                due = shaper.onward(source, target, size, hop, due, payload_size(packet))
                if due >= 0:
                    heapq.heappush(heap, (due, number, source, target, hop + 1, packet))
                continue
            self._late[min(int((now - due) / LATE_STEP), LATE_STEPS - 1)] += 1
            try:
                os.write(self._tuns[target], packet)
            except BlockingIOError:
                shaper.dropped["device"] += 1

    def _read(self, source: int, tun: int) -> None:
        for _ in range(BURST):
            try:
                packet = os.read(tun, 65536)
            except BlockingIOError:
                return
            if len(packet) < HEADER or packet[0] >> 4 != 4 or packet[16:19] != PREFIX:
                continue
            target = packet[19] - 1
            if not 0 <= target < len(self._tuns):
                continue
            now = time.monotonic()
            elapsed = -1.0 if self._go is None else now - self._go
            due = self.shaper.admit(source, target, len(packet), now, elapsed)
            if due >= 0:
                self._count += 1
                heapq.heappush(self._heap, (due, self._count, source, target, 1, packet))

    def _command(self) -> bool:
        """Do what standard input says; False: stop."""
        data = os.read(0, 4096)
        self._commands += data
        while b"\n" in self._commands:
            line, _, self._commands = self._commands.partition(b"\n")
            if line == b"go":
                self._go = time.monotonic()
                self._late = [0] * LATE_STEPS
                self._say("gone")
            elif line == b"count":
                self._say(msgspec.json.encode(self.counts()).decode())
            elif line.startswith(b"block "):
                pairs = msgspec.json.decode(line[6:], type=list[tuple[int, int]])
                self.shaper.block(pairs)
                self._say("blocked")
            elif line == b"stop":
                return False
        return bool(data)

    def _say(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def counts(self) -> Counts:
        """Return what was seen so far."""
        nodes = range(self.shaper.scenario.count)
        carried, payload = self.shaper.carried, self.shaper.payload
        elapsed = time.monotonic() - self._began
        return Counts(
            elapsed=elapsed,
            carried=[[carried[a, b] for b in nodes] for a in nodes],
            payload=[[payload[a, b] for b in nodes] for a in nodes],
            dropped=dict(self.shaper.dropped),
            cpu=time.process_time(),
            late_ms=late_for(self._late, 0.99) * 1000,
        )


def late_for(buckets: list[int], share: float) -> float:
    """Return within how many seconds that share of packets was delivered, rounded up."""
    wanted, seen = sum(buckets) * share, 0
    for index, count in enumerate(buckets):
        seen += count
        if seen >= wanted:
            return (index + 1) * LATE_STEP if seen else 0.0
    return 0.0


def payload_size(packet: bytes) -> int:
    """Return the bytes of an IPv4 packet that TCP or UDP carries; 0 for other protocols."""
    header = (packet[0] & 15) * 4
    if packet[9] == TCP and len(packet) > header + 12:
        return max(0, len(packet) - header - (packet[header + 12] >> 4) * 4)
    return max(0, len(packet) - header - 8) if packet[9] == UDP else 0


def main() -> None:
    """Make the namespaces, carry packets, clean up."""
    name, file = sys.argv[1:3]
    with suppress(OSError):  # packets are late when others keep the processors busy
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    gc.disable()  # nothing here refers to itself, and a full collection holds packets up
    scenario = msgspec.json.decode(Path(file).read_bytes(), type=Scenario)
    with Namespaces(name, scenario.count, scenario.mtu, scenario.congestion) as made:
        hub = Hub(scenario, made.tuns)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        hub.run()


if __name__ == "__main__":
    main()
