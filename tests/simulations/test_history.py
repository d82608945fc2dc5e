"""Playing plans: a seed replays, cheap and real ways agree, faults bite, and failures show."""

from __future__ import annotations

import dataclasses

import pytest

from simulations import disk, history
from simulations.history import Play, play
from simulations.plan import CORE, LinkSpec, NodeSpec, Plan, Step, draw
from simulations.quick import QuickPort
from simulations.scales import LARGE, SMALL
from simulations.signing import signatures

PAIR = (NodeSpec(CORE), NodeSpec(CORE))
LINK = (LinkSpec(0, 1, 0.01),)


def plan(*steps: Step, calm: float = 8.0, blobs: tuple[int, ...] = (300_000,), **changes) -> Plan:
    return Plan(1, PAIR, LINK, blobs, steps, calm, **changes)


FETCH = (Step(0.5, "publish", (0, 0, "p")), Step(1.0, "want", (1, 0, 1, 0)))


def test_a_seed_replays_to_the_same_history():
    one, two, other = play(draw(3)), play(draw(3)), play(draw(4))
    assert one.digest == two.digest
    assert one.steps == two.steps
    assert one.history == two.history
    assert one.digest != other.digest


@pytest.mark.parametrize("seed", [16, 17])
def test_both_databases_give_the_same_history(seed: int, monkeypatch):
    whole = dataclasses.replace(draw(seed), real=True)
    digest = play(whole).digest
    monkeypatch.setattr(disk, "MemoryPort", lambda accessing: QuickPort(accessing=accessing))
    assert play(whole).digest == digest


def test_a_blob_is_fetched_and_a_record_travels():
    result = play(plan(*FETCH))
    assert not result.failure
    assert result.seen["blobs completed"] == 1
    assert result.seen["records written"] == 1
    assert result.bytes_carried > 300_000


def test_a_crash_begins_another_life():
    result = play(plan(*FETCH, Step(1.2, "crash", (1, 1.0))))
    assert not result.failure
    assert result.seen["lives"] == 3


def test_a_trap_takes_a_node_down_in_the_middle_of_its_work():
    moments = [play(plan(*FETCH, Step(0.9, "trap", (1, n, 1.0)))) for n in (1, 2, 5)]
    assert not any(result.failure for result in moments)
    assert all(result.seen["lives"] == 3 for result in moments)
    assert len({result.digest for result in moments}) == 3


@pytest.mark.parametrize("what", ["full", "unwritable", "unreadable"])
def test_a_failing_disk_is_felt_and_outlived(what: str):
    result = play(plan(*FETCH, Step(0.7, what, (1, 4.0))))
    assert not result.failure
    assert result.digest != play(plan(*FETCH)).digest


def test_a_cut_holds_up_what_crosses_it():
    result = play(plan(*FETCH, Step(0.7, "cut", (0, 1, 6.0))))
    done = next(line for line in result.history if "has all of blob" in line)
    assert not result.failure
    assert float(done.split()[0]) > 6.7


def test_what_never_comes_right_is_a_failure(monkeypatch):
    monkeypatch.setattr(history, "LIVENESS", 5.0)
    result = play(plan(*FETCH, Step(0.7, "cut", (0, 1, 1e6))))
    assert "5 s after the last fault" in result.failure
    assert "n1 lacks blob" in result.failure or "ledgers differ" in result.failure
    assert result.history


def test_a_clock_that_jumps_goes_back():
    with signatures(real=False):
        stage = Play(plan(Step(1.0, "clock", (0, 2.0, 100.0))))
        stage.begin()
        stage.world.run(1.5)
        assert stage.nodes[0].skew == 100.0
        stage.world.run(4.0)
        assert stage.nodes[0].skew == 0.0
        stage.close()


def test_plans_are_of_all_sizes_and_name_every_fault():
    plans = [draw(seed) for seed in range(400)]
    steps = {step.what for each in plans for step in each.steps}
    assert {"cut", "oneway", "part", "forget", "forgetful", "halfopen", "slow", "loss"} <= steps
    assert {"crash", "trap", "clock", "full", "unwritable", "unreadable"} <= steps
    assert {"lie", "evict", "narrow", "want", "unwant", "delete", "setting"} <= steps
    sizes = [sum(spec.kind == CORE for spec in each.nodes) for each in plans]
    assert max(sizes) >= min(LARGE.core)
    assert sum(size in SMALL.core for size in sizes) > 200
    assert 10 < sum(each.real for each in plans) < 40
