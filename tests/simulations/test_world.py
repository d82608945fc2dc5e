"""Virtual time: order, chance, the chronicle, and who dies in the middle of an event."""

from __future__ import annotations

import random

import pytest

from simulations.world import PowerCutError, ViolationError, World


def world(**changes) -> World:
    return World(random.Random(7), **changes)


def test_events_happen_in_order_of_time_and_then_of_planning():
    here, seen = world(), []
    here.after(2.0, lambda: seen.append(("late", here.now)))
    here.after(1.0, lambda: seen.append(("first", here.now)))
    here.after(1.0, lambda: seen.append(("second", here.now)))
    here.run(1.5)
    assert seen == [("first", 1.0), ("second", 1.0)]
    assert here.now == 1.5
    here.run(3.0)
    assert seen[-1] == ("late", 2.0)


def test_what_was_cancelled_does_not_happen():
    here, seen = world(), []
    timer = here.after(1.0, lambda: seen.append(1))
    timer.cancel()
    here.run(2.0)
    assert not seen
    assert here.steps == 0


def test_equal_chronicles_have_equal_digests():
    one, two = world(), world()
    for each in (one, two):
        each.note("hello")
    assert one.digest == two.digest
    two.note("again")
    assert one.digest != two.digest
    assert list(two.history) == ["    0.0000 hello", "    0.0000 again"]


def test_the_same_seed_draws_the_same():
    assert [world().between(1, 9) for _ in range(3)] == [world().between(1, 9) for _ in range(3)]


def test_whoever_spins_is_stopped():
    here = world(steps_max=100)

    def spin() -> None:
        here.after(0.0, spin)

    spin()
    with pytest.raises(ViolationError, match="something spins"):
        here.run(1.0)


def test_a_power_cut_is_no_error_of_the_world():
    here, died = world(), []

    def cut() -> None:
        raise PowerCutError(lambda: died.append(here.now))

    here.after(1.0, cut)
    here.after(2.0, lambda: died.append("lives on"))
    here.run(3.0)
    assert died == [1.0, "lives on"]
