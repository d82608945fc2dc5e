"""Bugs planted in the cores, one at a time: a few cheap histories must catch each of them.

A simulator that finds nothing proves nothing, unless it is known to find what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from mesh import bits
from mesh.beliefs import PeerBelief
from mesh.dialling import BACKOFF_MAX, Dialling
from mesh.exchange import Exchange
from mesh.link import Link
from mesh.requests import Requests
from mesh.sync import LedgerSync
from simulations.disk import Part
from simulations.history import play
from simulations.plan import CORE, LIAR, LinkSpec, NodeSpec, Plan, Step, draw
from store import applying, fold
from store.authority import Authority
from store.chain import End
from store.ledger import Ledger

SEEDS_MAX = 100  # histories that a planted bug may survive
Patch = pytest.MonkeyPatch


def skip_verification(patch: Patch) -> None:
    """The exchange takes chunks for good that the store found wrong."""
    honest = Exchange.written

    def written(self: Exchange, blob: bytes, peer: bytes, span: Any, bad: Any, *a: Any, **k: Any):
        k["have"] = None  # nor does it listen to what the disk has
        return honest(self, blob, peer, span, (), *a, **k)

    patch.setattr(Exchange, "written", written)


def count_have_twice(patch: Patch) -> None:
    """One chunk that comes counts for the next one, too."""
    honest = Exchange.written

    def written(self: Exchange, blob: bytes, peer: bytes, span: Any, bad: Any, *a: Any, **k: Any):
        download = self.downloads.get(blob)
        if download is not None and download.open:
            download.have |= bits.span(sum(span), sum(span) + 1) & bits.full(download.count)
        return honest(self, blob, peer, span, bad, *a, **k)

    patch.setattr(Exchange, "written", written)


def forget_to_ask_again(patch: Patch) -> None:
    """What a lost peer owed stays awaited for ever."""
    patch.setattr(Requests, "drop_peer", lambda self, *_: None)


def ignore_a_cut_in_sync(patch: Patch) -> None:
    """Ledger synchronisation does not notice that a link is gone."""
    patch.setattr(LedgerSync, "unlinked", lambda self, peer, now: [])


def ignore_a_cut_in_exchange(patch: Patch) -> None:
    """The exchange does not notice that a link is gone."""
    patch.setattr(Exchange, "unlinked", lambda self, peer, now: [])


def never_suspect_silence(patch: Patch) -> None:
    """A link that nothing comes from counts as up."""
    honest = Link.tick

    def tick(self: Link, now: float) -> None:
        self._heard = now
        honest(self, now)

    patch.setattr(Link, "tick", tick)


def never_reset_backoff(patch: Patch) -> None:
    """Once failed, a peer is dialled every five minutes, whatever is heard of it."""

    def failed(self: Dialling, peer: bytes, error: str, now: float, *, busy: bool) -> None:
        if peer in self.dials:
            self.dials[peer].attempts -= 1
            self.dials[peer].next_at = now + BACKOFF_MAX

    patch.setattr(Dialling, "failed", failed)
    patch.setattr(Dialling, "hurry", lambda self, now: None)
    patch.setattr(Dialling, "heard", lambda self, peer, now: self.want(peer, now))


def accept_a_gap(patch: Patch) -> None:
    """Records are taken although those before them are missing."""
    honest = applying.Applying._place

    def place(self: Any, batch: Any, found: Any, outcome: Any) -> None:
        key, first = (outcome.author, outcome.incarnation), found[0].header
        if first.seq > self._end(*key).seq + 1:
            self._ends[key] = End(first.seq - 1, first.prev, 0)
        honest(self, batch, found, outcome)

    patch.setattr(applying.Applying, "_place", place)


def skip_signatures(patch: Patch) -> None:
    """Heads count whoever signed them."""
    patch.setattr(applying, "head_holds", lambda head: True)


def widen_rights(patch: Patch) -> None:
    """Every member may write everything."""
    patch.setattr(Authority, "judge", lambda self, header, facts: None)


def keep_roots_to_oneself(patch: Patch) -> None:
    """Newer root documents are never asked for."""
    patch.setattr(LedgerSync, "_ask_roots", lambda self, peer, known, now: iter(()))


def laugh_at_forks(patch: Patch) -> None:
    """Proofs of forks are not believed."""

    async def accept_fork(self: Ledger, proof: bytes) -> bool:
        return False

    patch.setattr(Ledger, "accept_fork", accept_fork)


def fold_in_order_of_arrival(patch: Patch) -> None:
    """The last claim to arrive wins."""

    def resolve(cell: str, claims: Any, rules: Any = fold.NO_RULES) -> Any:
        if cell[0] == fold.POINTER:
            return fold._register(claims[-1], [claims[-1]])
        return honest(cell, claims, rules)

    honest = fold.resolve
    patch.setattr(fold, "resolve", resolve)


def bits_before_data(patch: Patch) -> None:
    """The bitmap is durable before the bytes are."""
    honest = Part.put

    def put(self: Part, index: int, piece: bytes) -> bool:
        right = honest(self, index, piece)
        if right:
            self.durable |= 1 << index
            self.data[self.manifest.offset(index)] ^= 1
        return right

    patch.setattr(Part, "put", put)


def wait_for_the_mute(patch: Patch) -> None:
    """A peer that owes chunks and says nothing is waited for, for ever."""
    patch.setattr(PeerBelief, "stalled", lambda self, now: False)


def company(vice: str, size: int, *steps: Step) -> Plan:
    """Two honest nodes and a liar, all linked: one wants a blob that the two others have."""
    nodes = (NodeSpec(CORE), NodeSpec(CORE), NodeSpec(LIAR, vice=vice))
    links = tuple(LinkSpec(one, two, 0.01) for one, two in ((0, 1), (0, 2), (1, 2)))
    work = (
        Step(0.5, "publish", (0, 0, "p")),
        Step(1.0, "want", (2, 0, 0, 0)),
        Step(3.0, "want", (1, 0, 0, 0)),
    )
    return Plan(5, nodes, links, (size,), (*work, *steps), 8.0)


FILES = [Step(0.2 * n + 0.1, "file", (n % 3, f"f{n}", "1")) for n in range(30)]
LIES = [Step(1 + 0.3 * n, "lie", (2, ("forge", "impersonate")[n % 2])) for n in range(12)]
SEEDS = tuple(draw(seed) for seed in range(12))

# What is planted, what a history says of it, and the histories that are aimed at it.
PLANTED: list[tuple[Callable[[Patch], None], str, Sequence[Plan]]] = [
    (skip_verification, "did not verify", (company("corruptor", 700_000),)),
    (count_have_twice, "did not verify", SEEDS),
    (forget_to_ask_again, "not linked", SEEDS),
    (ignore_a_cut_in_sync, "not linked", SEEDS),
    (ignore_a_cut_in_exchange, "wrong about the link", SEEDS),
    (never_suspect_silence, "after the last fault", SEEDS),
    (never_reset_backoff, "after the last fault", SEEDS),
    (wait_for_the_mute, "lacks blob", (company("mute", 3_000_000),)),
    (accept_a_gap, "", (draw(62),)),
    (skip_signatures, "no right to be", (company("", 900, *FILES, *LIES),)),
    (widen_rights, "", SEEDS),
    (keep_roots_to_oneself, "root versions", SEEDS),
    (laugh_at_forks, "other records count", (draw(30),)),
    (fold_in_order_of_arrival, "different catalogs", SEEDS),
    (bits_before_data, "", SEEDS),
]


def first_failure(plans: Iterable[Plan]) -> str:
    """Play until something goes wrong."""
    return next((failure for plan in plans if (failure := play(plan).failure)), "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "symptom", "plans"), PLANTED, ids=[p[0].__name__ for p in PLANTED]
)
def test_a_few_histories_catch_it(
    plant: Callable[[Patch], None], symptom: str, plans: Sequence[Plan]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        failure = first_failure(plans)
    assert failure, f"{len(plans)} histories did not notice: {plant.__doc__}"
    assert symptom in failure


def test_without_a_bug_they_find_nothing() -> None:
    aimed = [plans for _, _, plans in PLANTED if plans is not SEEDS]
    assert not first_failure(plan for plans in (SEEDS[:4], *aimed) for plan in plans)
