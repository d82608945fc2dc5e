"""A virtual day: it is what it says, and what grows in it is seen."""

from __future__ import annotations

import pytest

from simulations import soak
from simulations.links import Links
from simulations.soak import Look, Watched, draw, held, play_day


def test_an_hour_passes_over_flapping_links_and_nothing_grows() -> None:
    result, watched = play_day(3, 1.0)
    assert not result.failure
    assert result.seen["blobs completed"] > 5
    assert sum(result.seen[each] for each in soak.OUTAGES) > 100
    found = watched.verdicts()
    assert {each.node for each in found} == {-1, 0, 1, 2, 3}
    assert all(each.flat for each in found if each.figure in {"sockets", "partials", "streams"})


def test_what_is_never_let_go_of_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something is kept of every link that breaks."""
    meet = Links.meet

    def hoard(self: Links, peer: bytes) -> None:
        vars(self).setdefault("hoard", []).extend(bytes(2000) for _ in range(20))
        meet(self, peer)

    monkeypatch.setattr(Links, "meet", hoard)
    _, watched = play_day(3, 1.0)
    grown = {each.figure for each in watched.verdicts() if not each.flat}
    assert {"objects", "size"} <= grown


def test_a_plan_keeps_to_its_time_and_is_the_same_each_time() -> None:
    plan = draw(1, 2.0)
    assert plan == draw(1, 2.0) != draw(2, 2.0)
    assert max(step.at for step in plan.steps) < plan.calm == 7200.0


def test_what_one_holds_is_counted_once() -> None:
    shared = [bytes(1000)]
    assert held([shared, shared])[0] == 3
    assert 1000 < held([shared, shared])[1] < 1500


@pytest.mark.parametrize(("last", "flat"), [(1000, True), (1600, False)])
def test_growth_is_judged_by_the_last_quarter(last: int, flat: bool) -> None:
    looks = [Look(float(at), 0, {"objects": 1000 if at < 90 else last}) for at in range(120)]
    (verdict,) = Watched(looks).verdicts()
    assert (verdict.early, verdict.late, verdict.flat) == (1000, last, flat)
