"""Couriers in histories: what they carry arrives, hoarders only delay it, and bugs are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import trio

from mesh.couriers import Cargo
from mesh.leases import Doubts, Leases
from simulations import voyages
from simulations.couriers import BUDGET
from simulations.history import Play, play
from simulations.plan import (
    CORE,
    COURIER,
    LACKING,
    LIAR,
    LinkSpec,
    NodeSpec,
    Plan,
    Step,
    Voyage,
    draw,
)
from simulations.scales import SCALES
from simulations.signing import signatures
from simulations.voyages import ON_THE_WAY

Patch = pytest.MonkeyPatch
SIZE = 300_000


def sea(couriers: int = 1, hoarders: int = 0, *, blobs: int = 2) -> Plan:
    """Two nodes that never meet, of which one lacks what the other publishes."""
    vices = ["hoarder"] * hoarders + [""] * couriers
    travellers = range(2, 2 + len(vices))
    nodes = [NodeSpec(LIAR if vice else COURIER, vice=vice) for vice in vices]
    links = [LinkSpec(end, number, 0.005) for number in travellers for end in (0, 1)]
    steps = [Step(0.5 + n / 10, "publish", (0, n, f"p{n}")) for n in range(blobs)]
    steps += [Step(2.0 + n / 10, "want", (1, n, 1, LACKING)) for n in range(blobs)]
    return Plan(
        5,
        (NodeSpec(CORE), NodeSpec(CORE), *nodes),
        tuple(links),
        (SIZE,) * blobs,
        (*steps, Step(3.0, "file", (1, "f", "1"))),
        8.0,
        voyages=tuple(Voyage(number, 0, 1) for number in travellers),
    )


@pytest.mark.parametrize(("couriers", "hoarders"), [(1, 0), (3, 0), (1, 2), (1, 4)])
def test_what_is_lacked_comes_between_nodes_that_never_meet(couriers: int, hoarders: int) -> None:
    told = play(sea(couriers, hoarders))
    assert not told.failure
    assert any("is to carry" in line for line in told.history)


@pytest.mark.parametrize(
    "step",
    [Step(0.4, "publish", (0, 1, "p0")), Step(1.0, "delete", (0, "p0", ""))],
    ids=["lost to a rival", "deleted"],
)
def test_what_no_file_names_is_not_carried(step: Step) -> None:
    plan = sea()
    told = play(replace(plan, steps=(step, *plan.steps)))
    assert not told.failure
    assert told.recovered < 200.0
    carried = [line for line in told.history if "is to carry" in line]
    assert len(carried) == 1


def beyond(*steps: Step) -> Plan:
    """Couriers call at n0, where a blob of n3 is wanted; n1 lacks it."""
    plan = sea(blobs=1)
    published, *rest = plan.steps
    nodes, links = (*plan.nodes, NodeSpec(CORE)), (*plan.links, LinkSpec(0, 3, 0.005))
    steps = (replace(published, args=(3, 0, "p0")), *rest, *steps)
    return replace(plan, nodes=nodes, links=links, steps=steps)


def test_what_is_wanted_at_a_node_that_is_down_comes_there_later_and_on_by_courier() -> None:
    told = play(beyond(Step(1.0, "crash", (0, 3.0)), Step(2.0, "want", (0, 0, 1, 0))))
    assert not told.failure
    assert any("n1: has all of blob" in line for line in told.history)


def test_nothing_need_come_from_where_couriers_call_and_nobody_wants_it() -> None:
    told = play(beyond())
    assert not told.failure
    assert not any("n1: has all of blob" in line for line in told.history)


class Boasting(Play):
    """Beside the far node sits one that holds all from the beginning, and gives nothing."""

    def begin(self) -> None:
        super().begin()
        for manifest, data in self.checker.blobs.values():
            self.nodes[-1].disk.store(manifest, data)


def beside_a_boaster() -> Plan:
    plan = sea()
    nodes = (*plan.nodes, NodeSpec(LIAR, vice="mute"))
    return replace(plan, nodes=nodes, links=(*plan.links, LinkSpec(1, 3, 0.005)))


def test_who_says_that_it_holds_a_blob_and_gives_nothing_keeps_no_courier_away(
    monkeypatch: Patch,
) -> None:
    plan = beside_a_boaster()
    monkeypatch.setattr(voyages, "ON_THE_WAY", 40.0)  # no search on another's behalf lasts so long
    told = play(plan, Boasting)
    assert not told.failure
    assert any("is to carry" in line for line in told.history)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Doubts, "credible", lambda self, blob, claimed, now: claimed)
        assert "lacks blob" in play(plan, Boasting).failure


def test_a_courier_takes_on_anew_what_it_let_go_of() -> None:
    assert not play(draw(5276)).failure


def test_a_courier_is_never_within_reach_of_both() -> None:
    plan = sea(2)

    async def travel() -> set[tuple[bool, bool]]:
        stage, seen = Play(plan), set[tuple[bool, bool]]()
        stage.begin()
        for tick in range(400):
            stage.world.run(tick * ON_THE_WAY / 4)
            for name in ("n2", "n3"):
                seen.add((stage.network.passes(name, "n0"), stage.network.passes(name, "n1")))
        stage.close()
        return seen

    with signatures(real=False):
        assert trio.run(travel) == {(True, False), (False, True), (False, False)}


def test_some_histories_have_couriers() -> None:
    plans = [draw(seed) for seed in range(300)]
    travelled = [plan for plan in plans if plan.voyages]
    assert 3 <= len(travelled) <= 30
    assert any(spec.vice == "hoarder" for plan in travelled for spec in plan.nodes)
    assert sum(scale.share for scale in SCALES) == pytest.approx(1.0)


def forget_wishes(patch: Patch) -> None:
    """What somebody lacks is forgotten as soon as nobody says it any more."""
    patch.setattr(Cargo, "expire", lambda self, now: self.wishes.clear())


def let_the_same_carry_again(patch: Patch) -> None:
    """Nobody waits for a turn: whoever asks first has the lease again."""
    patch.setattr(Leases, "_may", lambda self, courier, lease: len(lease.carried) < self._carriers)


def let_everybody_carry(patch: Patch) -> None:
    """Each courier gets a lease."""
    patch.setattr(Leases, "_may", lambda self, courier, lease: True)


def overload(patch: Patch) -> None:
    """A courier takes on whatever is wished for."""
    patch.setattr(Cargo, "used", property(lambda self: 0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "symptom", "plan"),
    [
        (forget_wishes, "lacks blob", sea(2)),
        (let_the_same_carry_again, "lacks blob", sea(1, 4)),
        (let_everybody_carry, "carry one blob", sea(3)),
        (overload, "a courier carries", sea(1, blobs=8)),
    ],
)
def test_planted_bugs_are_found(plant: Callable[[Patch], None], symptom: str, plan: Plan) -> None:
    assert not play(plan).failure
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        assert symptom in play(plan).failure


def test_any_blob_of_a_plan_fits_a_courier() -> None:
    largest = max(size for scale in SCALES for size in scale.sizes)
    assert largest * 3 // 2 <= BUDGET  # a blob may lie on top of half of an older one


def test_what_a_narrowed_members_rotations_closed_is_expected_to_count() -> None:
    assert not play(draw(3028)).failure
