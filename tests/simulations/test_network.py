"""Streams on a network that breaks: rates, delays, loss, cuts, half-open streams, crashes."""

from __future__ import annotations

import random

from simulations.network import RTO_MIN, SEND_BUFFER, Access, Network, Path, Stream
from simulations.world import World


class Ear:
    """One end of a stream, and what it hears."""

    def __init__(self, world: World, stream: Stream) -> None:
        self.world, self.stream = world, stream
        self.heard: list[tuple[float, bytes]] = []
        self.ended = ""
        self.writable = 0
        stream.receiver = self

    def on_data(self, data: bytes) -> None:
        self.heard.append((self.world.now, data))

    def on_end(self, reason: str) -> None:
        self.ended = reason

    def on_writable(self) -> None:
        self.writable += 1

    @property
    def bytes(self) -> int:
        return sum(len(data) for _, data in self.heard)


class Place:
    """A host."""

    def __init__(self, world: World) -> None:
        self.world, self.alive = world, True
        self.ears: list[Ear] = []

    def accepted(self, stream: Stream, source: str) -> None:
        self.ears.append(Ear(self.world, stream))


class Pair:
    """Two hosts and the net between them."""

    def __init__(self, *, rate: float = 1e6, delay: float = 0.1, loss: float = 0.0) -> None:
        self.world = World(random.Random(3))
        self.net = Network(self.world)
        for name in "ab":
            self.net.hosts[name] = Place(self.world)
            self.net.access[name] = Access(rate, rate)
        self.net.paths["a", "b"] = Path(delay, loss)
        self.net.paths["b", "a"] = Path(delay, loss)

    def connect(self, source: str = "a", target: str = "b", within: float = 5.0) -> Ear | None:
        found: list[Stream | None] = []
        self.net.dial(source, target, lambda stream, why: found.append(stream))
        self.world.run(self.world.now + within)
        return Ear(self.world, found[0]) if found and found[0] is not None else None

    @property
    def other(self) -> Ear:
        return self.net.hosts["b"].ears[-1]


def test_bytes_take_as_long_as_rate_and_delay_say():
    pair = Pair(rate=1e6, delay=0.1)
    ear = pair.connect()
    began = pair.world.now
    ear.stream.write(b"x" * 100_000)
    pair.world.run(began + 10)
    assert pair.other.bytes == 100_000
    took = pair.other.heard[-1][0] - began
    assert 0.2 <= took <= 0.35  # a tenth for the bytes, a tenth for the way, and a segment
    assert pair.net.paths["a", "b"].carried >= 100_000


def test_bytes_arrive_in_order_even_when_some_are_lost():
    pair = Pair(loss=0.3)
    ear = pair.connect()
    sent = [bytes([n]) * 1000 for n in range(60)]
    for data in sent:
        ear.stream.write(data)
    pair.world.run(pair.world.now + 60)
    assert b"".join(data for _, data in pair.other.heard) == b"".join(sent)
    assert pair.other.heard[-1][0] - pair.other.heard[0][0] > RTO_MIN


def test_a_cut_lets_nothing_pass_until_it_heals():
    pair = Pair()
    ear = pair.connect()
    pair.net.cut("a", "b", +1)
    ear.stream.write(b"held up")
    pair.world.run(pair.world.now + 30)
    assert pair.other.bytes == 0
    pair.net.cut("a", "b", -1)
    pair.world.run(pair.world.now + 20)
    assert pair.other.heard[-1][1] == b"held up"


def test_a_cut_in_one_direction_leaves_the_other():
    pair = Pair()
    ear = pair.connect()
    pair.net.cut("a", "b", +1)
    pair.other.stream.write(b"back")
    ear.stream.write(b"forth")
    pair.world.run(pair.world.now + 5)
    assert ear.bytes == 4
    assert pair.other.bytes == 0


def test_two_cuts_need_two_healings():
    pair = Pair()
    pair.net.cut("a", "b", +1)
    pair.net.cut("a", "b", +1)
    pair.net.cut("a", "b", -1)
    assert not pair.net.passes("a", "b")
    pair.net.cut("a", "b", -1)
    assert pair.net.passes("a", "b")


def test_nobody_is_dialled_through_a_cut_in_either_direction():
    for way in (("a", "b"), ("b", "a")):
        pair = Pair()
        pair.net.cut(*way, +1)
        assert pair.connect(within=30.0) is None


def test_a_half_open_stream_swallows_one_direction_for_ever_and_new_ones_pass():
    pair = Pair()
    ear = pair.connect()
    far = pair.other
    pair.net.forget("a", "b", both=False)
    ear.stream.write(b"swallowed")
    far.stream.write(b"heard")
    pair.world.run(pair.world.now + 60)
    assert far.bytes == 0
    assert ear.bytes == 5
    again = pair.connect()
    again.stream.write(b"anew")
    pair.world.run(pair.world.now + 5)
    assert pair.other.bytes == 4


def test_a_forgotten_stream_is_silent_on_both_sides():
    pair = Pair()
    ear = pair.connect()
    far = pair.other
    pair.net.forget("a", "b")
    ear.stream.write(b"one")
    far.stream.write(b"two")
    pair.world.run(pair.world.now + 60)
    assert (ear.bytes, far.bytes, ear.ended, far.ended) == (0, 0, "", "")


def test_a_host_behind_a_wall_can_dial_and_not_be_dialled():
    pair = Pair()
    pair.net.paths["a", "b"].diallable = False
    assert pair.connect("a", "b", within=30.0) is None
    assert pair.connect("b", "a") is not None


def test_a_dead_host_refuses_and_resets():
    pair = Pair()
    ear = pair.connect()
    pair.net.crash("b")
    ear.stream.write(b"anybody?")
    pair.world.run(pair.world.now + 5)
    assert ear.ended == "connection reset"
    pair.net.hosts["b"].alive = False
    assert pair.connect() is None


def test_whoever_closes_is_heard_after_what_it_said():
    pair = Pair()
    ear = pair.connect()
    ear.stream.write(b"last words")
    ear.stream.close()
    pair.world.run(pair.world.now + 5)
    assert pair.other.bytes == 10
    assert pair.other.ended == "the peer closed the connection"


def test_a_full_stream_takes_no_more_until_it_has_drained():
    pair = Pair(rate=1e6)
    ear = pair.connect()
    ear.stream.write(b"x" * SEND_BUFFER)
    assert not ear.stream.writable
    pair.world.run(pair.world.now + 5)
    assert ear.stream.writable
    assert ear.writable == 1


def test_a_slow_link_is_slow_in_one_direction():
    pair = Pair(rate=1e6)
    ear = pair.connect()
    pair.net.paths["a", "b"].slowdown = 20.0
    began = pair.world.now
    ear.stream.write(b"x" * 50_000)
    pair.other.stream.write(b"x" * 50_000)
    pair.world.run(began + 20)
    assert pair.other.heard[-1][0] - began > 1.0
    assert ear.heard[-1][0] - began < 0.5


def test_a_queue_on_its_way_to_one_does_not_hold_up_another():
    """What waits before a thin uplink takes no turn at a downlink that is free meanwhile."""
    pair = Pair(rate=1e6)
    pair.net.access["c"] = Access(1e3, 1e6)
    pair.net.hosts["c"] = Place(pair.world)
    pair.net.paths["c", "b"] = pair.net.paths["b", "c"] = Path(0.1)
    slow = pair.connect("c", "b")
    fast = pair.connect("a", "b")
    far = pair.other
    began = pair.world.now
    slow.stream.write(b"x" * 20_000)
    fast.stream.write(b"x" * 20_000)
    pair.world.run(began + 30)
    assert far.heard[-1][0] - began < 0.3
