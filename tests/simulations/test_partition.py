"""A mesh parted for days, then joined: small months; and that its checks can fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from mesh import sync
from simulations import ledgers
from simulations.ledgers import Ledgers
from simulations.partition import GUESTS, KINDS, draw, play_month
from simulations.plan import CORE, GUEST
from store import conflicts, fold, root
from store.root import Votes

SEEDS = range(3)
DAYS = 8
FEW = 2  # batches that may wait to be judged
MONTHS_MAX = 10  # that a planted bug may survive
Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("seed", SEEDS)
def test_after_a_partition_all_agree_and_nothing_was_widened_or_lost(seed: int) -> None:
    result = play_month(seed, DAYS)
    assert not result.failure, result.details
    assert result.seen["records written"] > 10


def lose_when_full(patch: Patch) -> None:
    """What comes while a ledger has much to judge is lost, though its link goes on."""
    patch.setattr(Ledgers, "full", property(lambda self: False))
    honest = Ledgers.perform

    def perform(self: Ledgers, effects: Iterable[sync.Effect]) -> None:
        for effect in effects:
            taken = isinstance(effect, sync.ApplyRecords | sync.AdoptRoot)
            honest(self, [] if taken and len(self._waiting) >= FEW else [effect])

    patch.setattr(Ledgers, "perform", perform)


@pytest.mark.parametrize("losing", [False, True])
def test_a_ledger_with_much_to_judge_reads_no_further_and_loses_nothing(*, losing: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledgers, "QUEUE_MAX", FEW)
        if losing:
            lose_when_full(patch)
        result = play_month(0, 3)
    assert bool(result.failure) is losing, result.details


def test_months_have_everything_on_all_sides() -> None:
    plans = [draw(seed) for seed in range(30)]
    seen = {step.what for plan in plans for step in plan.steps}
    assert {"file", "delete", "flag", "setting", "grant", "restore", "resolve", "point"} <= seen
    assert {"evict", "narrow", "rotate", "invite", "vote", "part", "sleep", "home", "lie"} <= seen
    assert all(plan.asleep == pytest.approx(30 * 86386) for plan in plans)
    assert KINDS.count(CORE) == 5
    assert [KINDS[guest] for guest in GUESTS] == [GUEST, GUEST]


def one_side_decides(patch: Patch) -> None:
    """The signature of one owner is enough."""
    honest = root.count_votes

    def count(*args: Any) -> Votes:
        votes = honest(*args)
        return votes._replace(missing=0) if votes.signed else votes

    patch.setattr(root, "count_votes", count)


def list_no_files(patch: Patch) -> None:
    """Conflicts of files are not shown."""

    async def files(self: Any, repository: str, **_: Any) -> list[Any]:
        return []

    patch.setattr(conflicts.Conflicts, "files", files)


def mark_nothing(patch: Patch) -> None:
    """Rival bytes are not marked as a conflict."""
    honest = fold._released
    patch.setattr(fold, "_released", lambda *a: honest(*a)._replace(conflicted=False))


PLANTED = [
    (one_side_decides, "without its quorum"),
    (list_no_files, "does not list the conflict of file"),
    (mark_nothing, "does not list the conflict of file"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("plant", "symptom"), PLANTED, ids=[p[0].__name__ for p in PLANTED])
def test_a_few_months_catch_it(plant: Callable[[Patch], None], symptom: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        failures = (play_month(seed, DAYS).failure for seed in range(MONTHS_MAX))
        failure = next(filter(None, failures), "")
    assert symptom in failure, f"{MONTHS_MAX} months: {failure or plant.__doc__}"
