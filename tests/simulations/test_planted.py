"""Bugs planted in the cores, one at a time: a few histories must catch each of them.

A simulator that finds nothing proves nothing, unless it is known to find what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from mesh import bits
from mesh.dialling import BACKOFF_MAX, Dialling
from mesh.exchange import Exchange
from mesh.link import Link
from mesh.requests import Requests
from mesh.sync import LedgerSync
from simulations.disk import Part
from simulations.history import play
from simulations.plan import draw
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


PLANTED: list[tuple[Callable[[Patch], None], str]] = [
    (skip_verification, "did not verify"),
    (count_have_twice, "did not verify"),
    (forget_to_ask_again, "not linked"),
    (ignore_a_cut_in_sync, "not linked"),
    (ignore_a_cut_in_exchange, "wrong about the link"),
    (never_suspect_silence, "after the last fault"),
    (never_reset_backoff, "after the last fault"),
    (accept_a_gap, ""),
    (skip_signatures, "no right to be"),
    (widen_rights, ""),
    (keep_roots_to_oneself, "root versions"),
    (laugh_at_forks, "other records count"),
    (fold_in_order_of_arrival, "different catalogs"),
    (bits_before_data, ""),
]


def first_failure(seeds: Iterable[int]) -> tuple[int, str]:
    """Play until something goes wrong."""
    for seed in seeds:
        result = play(draw(seed))
        if result.failure:
            return seed, result.failure
    return -1, ""


@pytest.mark.slow
@pytest.mark.parametrize(("plant", "symptom"), PLANTED, ids=[p.__name__ for p, _ in PLANTED])
def test_a_few_histories_catch_it(plant: Callable[[Patch], None], symptom: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        seed, failure = first_failure(range(SEEDS_MAX))
    assert seed >= 0, f"{SEEDS_MAX} histories did not notice: {plant.__doc__}"
    assert symptom in failure
