"""How many sockets: over lines that lose at random, that are full, that drop what is too much."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from mesh.widening import ANSWER, IDLE, REST, Seen, Widening

TICK = 0.1
RATE = 2_500_000.0  # bytes per second of the line
SEGMENT = 1448


@dataclass
class Line:
    """A line and the sockets over it; each carries ``each`` at most."""

    each: float = 0.4 * RATE
    loss: float = 0.001
    rtt: float = 0.05
    polices: bool = False  # drops what is too much, without a queue
    queued: bool = True
    answers: bool = True
    yields: bool = True
    cap: float = 0.0
    now: float = 100.0
    sockets: int = 1
    widening: Widening = field(default_factory=Widening)
    history: list[int] = field(default_factory=list[int])
    _sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])

    @property
    def carried(self) -> float:
        return min(self.sockets * self.each, RATE, self.cap or RATE) if self.queued else 0.0

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            segments = self.carried * TICK / SEGMENT
            loss = self.loss * self.sockets**2 if self.polices else self.loss
            for index, more in enumerate((self.carried * TICK, segments * loss, segments)):
                self._sums[index] += more
            self._look()

    def _look(self) -> None:
        acked, again, sent = (int(each) for each in self._sums)
        full = self.sockets * self.each >= RATE and not self.polices
        seen = Seen(
            self.sockets,
            self.queued,
            acked,
            again,
            sent,
            self.rtt + (0.1 if full else 0.0),
            self.rtt,
            self.yields,
            self.cap,
        )
        wanted = self.widening.look(seen, self.now)
        if self.answers or wanted < self.sockets:
            self.sockets = wanted
        self.history.append(wanted)


def test_random_loss_opens_as_many_as_fill_the_line() -> None:
    line = Line(each=0.6 * RATE)
    line.run(2.0)
    assert line.sockets == 2
    line.run(60.0)
    assert line.sockets == 2


@pytest.mark.parametrize("rtt", [0.02, 0.05, 0.2])
def test_heavy_loss_opens_all_within_a_few_round_trips(rtt: float) -> None:
    line = Line(each=0.1 * RATE, loss=0.01, rtt=rtt)
    line.run(1.6 + 4 * rtt)
    assert line.sockets == 4
    line.run(60.0)
    assert line.sockets == 4
    assert max(line.history) == 4


@pytest.mark.parametrize(
    "line",
    [
        Line(loss=0.0),
        Line(loss=0.0001),
        Line(each=RATE, loss=0.01),
        Line(yields=False, loss=0.03),
        Line(cap=0.35 * RATE),
        Line(rtt=0.0005),
    ],
    ids=["no loss", "hardly any", "a full line", "BBR", "a cap", "next door"],
)
def test_one_is_enough(line: Line) -> None:
    line.run(30.0)
    assert line.sockets == 1


def test_losses_that_are_our_own_end_it_for_a_while() -> None:
    line = Line(each=RATE, polices=True)
    line.run(10.0)
    assert max(line.history) == 4
    assert line.sockets == 1
    line.history.clear()
    line.run(REST - 15.0)
    assert set(line.history) == {1}
    line.run(30.0)  # it is tried again, and the next pause is longer
    assert max(line.history) == 4
    line.history.clear()
    line.run(1.5 * REST)
    assert line.history[-1] == 1
    assert line.sockets == 1


def test_without_payload_one_remains() -> None:
    line = Line()
    line.run(4.0)
    line.queued = False
    line.run(IDLE - 1.0)
    assert line.sockets == 4
    assert not line.widening.idle
    line.run(2.0)
    assert line.sockets == 1
    assert line.widening.idle
    line.queued = True
    line.run(4.0)
    assert line.sockets == 4


def test_who_asks_for_little_needs_one() -> None:
    line = Line()
    for _ in range(40):
        line.queued = True
        line.run(TICK)
        line.queued = False
        line.run(2 * TICK)
    assert line.sockets == 1


def test_a_peer_that_opens_none_is_not_asked_again_and_again() -> None:
    line = Line(answers=False)
    line.run(ANSWER + 5.0)
    assert line.sockets == 1
    assert max(line.history) == 2
    line.history.clear()
    line.run(REST / 2)
    assert set(line.history) == {1}


def test_some_are_better_than_none() -> None:
    line = Line(each=0.1 * RATE, loss=0.01)
    line.run(0.9)
    assert line.sockets == 2
    line.answers = False
    line.run(1.0)
    assert line.history[-1] == 4
    line.sockets = 3
    line.run(ANSWER)
    line.answers = True
    line.run(1.0)
    assert line.sockets == 4


def test_a_bundle_that_broke_is_opened_anew() -> None:
    line = Line()
    line.run(4.0)
    line.sockets, line._sums = 1, [0.0, 0.0, 0.0]
    line.run(4.0)
    assert line.sockets == 4
