"""Bugs planted in the cores, one at a time: a few cheap histories must catch each of them.

A simulator that finds nothing proves nothing, unless it is known to find what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import pytest

from mesh import bits, gate
from mesh.beliefs import PeerBelief
from mesh.dialling import BACKOFF_MAX, Dialling
from mesh.exchange import Exchange
from mesh.link import Link
from mesh.requests import Requests
from mesh.sync import LedgerSync
from simulations.disk import DiskKeys, Part
from simulations.history import play
from simulations.plan import CORE, GUEST, LIAR, VICTIM, LinkSpec, NodeSpec, Plan, Step, draw
from store import applying, council, fold, rebase, root, truncating, view
from store.authority import Authority
from store.chain import End
from store.council import Council
from store.drafts import Desk
from store.ledger import Ledger

SEEDS_MAX = 30  # histories that a planted bug may survive
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


def never_judge_again(patch: Patch) -> None:
    """An eviction does not reach back: what counts goes on counting, whoever is out."""
    patch.setattr(rebase, "rejudge_changed", lambda *a, **k: [])


def follow_an_old_root(patch: Patch) -> None:
    """The document before the newest stays in force: evictions are undone by it."""
    honest = Authority.__init__

    def init(self: Authority, mesh: str, documents: Any, *a: Any, **k: Any) -> None:
        newest = max((d.version for d in documents.values()), default=0)
        rest = {id_: d for id_, d in documents.items() if d.version < max(newest, 3)}
        honest(self, mesh, rest, *a, **k)
        self.documents = dict(documents)

    patch.setattr(Authority, "__init__", init)


def believe_old_keys(patch: Patch) -> None:
    """Any key that was ever its author's may end a chain."""
    honest = Authority.judge_head

    def judge_head(self: Authority, head: Any) -> str | None:
        if self.is_member(head.author) and self.knows_key(head.author, head.key):
            return None
        return honest(self, head)

    patch.setattr(Authority, "judge_head", judge_head)


def keep_what_a_thief_wrote(patch: Patch) -> None:
    """A new key does not cut off what the old one signed meanwhile."""
    patch.setattr(truncating, "cut_chains", lambda *a, **k: None)


def tell_the_evicted_nothing(patch: Patch) -> None:
    """Who is out is turned away without a word."""
    patch.setattr(gate, "farewell", lambda papers, node: iter(()))


def invite_to_everything(patch: Patch) -> None:
    """Whoever is let in by an owner gets every role."""
    honest = Desk.add

    def add(self: Desk, member: Any) -> Any:
        return honest(self, msgspec.structs.replace(member, roles=tuple(sorted(root.ROLES))))

    patch.setattr(Desk, "add", add)


def admit_to_everything(patch: Patch) -> None:
    """A delegate lets in whom it likes, as what it likes."""
    honest = Council.admit

    async def admit(self: Council, member: Any) -> Any:
        return await honest(self, msgspec.structs.replace(member, roles=("admin", "writer")))

    patch.setattr(Council, "admit", admit)
    patch.setattr(council, "exceeds", lambda *a: "")
    patch.setattr(view, "exceeds", lambda *a: "")


def lose_the_new_key(patch: Patch) -> None:
    """A crash in the middle of a rotation leaves a node with its old key only."""

    async def keep(self: DiskKeys, current: Any) -> None:
        self.current = current

    patch.setattr(DiskKeys, "keep", keep)


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
    patch.setattr(PeerBelief, "overdue", lambda self, chunk, now: 0.0)  # nor is another one asked


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


def council_of(*steps: Step, vice: str = "", seed: int = 6) -> Plan:
    """An owner, its delegate, a third member, one to be removed, a liar and a guest, all linked."""
    kinds = (CORE, CORE, CORE, VICTIM, LIAR, GUEST)
    nodes = tuple(NodeSpec(kind, vice=vice if kind == LIAR else "") for kind in kinds)
    links = tuple(LinkSpec(a, b, 0.01) for b in range(len(kinds)) for a in range(b))
    work = tuple(Step(0.6 + n / 5, "file", (n % 4, f"c{n}", "1")) for n in range(20))
    return Plan(seed, nodes, links, (900,), (*work, *steps), 8.0, delegates=(1,))


FORK = (Step(2.0, "file", (4, "f", "1")), Step(4.0, "lie", (4, "fork")))
THEFT = (
    Step(2.05, "cut", (1, 2, 3.0)),
    Step(2.1, "rotate", (1,)),
    Step(2.101, "lie", (4, "outworn")),
)
LATE = (
    Step(2.1, "rotate", (1,)),
    Step(4.0, "lie", (4, "outworn")),
    Step(5.0, "lie", (4, "outworn")),
)
OUT = (
    Step(2.0, "part", ((3,), 2.0)),
    Step(2.1, "evict", (3,)),
    Step(3.0, "file", (3, "late", "1")),
)
GUESTS = (Step(1.0, "invite", (5, 1, "writer", "*")), Step(3.5, "file", (5, "mine", "1")))
BURST = tuple(Step(0.01 + n / 100, "file", (4, f"b{n}", "1")) for n in range(4))
FILES = [Step(0.2 * n + 0.1, "file", (n % 3, f"f{n}", "1")) for n in range(30)]
LIES = [Step(1 + 0.3 * n, "lie", (2, ("forge", "impersonate")[n % 2])) for n in range(12)]
SEEDS = tuple(draw(seed) for seed in range(SEEDS_MAX))

# What is planted, what a history says of it, and the histories that are aimed at it.
PLANTED: list[tuple[Callable[[Patch], None], str, Sequence[Plan]]] = [
    (skip_verification, "did not verify", (company("corruptor", 2800000),)),
    (count_have_twice, "did not verify", SEEDS),
    (forget_to_ask_again, "not linked", SEEDS),
    (ignore_a_cut_in_sync, "not linked", SEEDS),
    (ignore_a_cut_in_exchange, "wrong about the link", SEEDS),
    (never_suspect_silence, "after the last fault", SEEDS),
    (never_reset_backoff, "after the last fault", SEEDS),
    (wait_for_the_mute, "lacks blob", (company("mute", 3_000_000),)),
    (accept_a_gap, "with a gap", (council_of(*BURST, vice="skipper"),)),
    (skip_signatures, "no right to be", (company("", 900, *FILES, *LIES),)),
    (widen_rights, "", SEEDS),
    (keep_roots_to_oneself, "root versions", SEEDS),
    (laugh_at_forks, "other records count", (council_of(*FORK, seed=0), council_of(*FORK, seed=1))),
    (fold_in_order_of_arrival, "different catalogs", SEEDS),
    (bits_before_data, "", SEEDS),
    (never_judge_again, "papers do not give", (council_of(*OUT),)),
    (follow_an_old_root, "papers do not give", (council_of(*OUT),)),
    (believe_old_keys, "", (council_of(*LATE),)),
    (keep_what_a_thief_wrote, "", (council_of(*THEFT),)),
    (tell_the_evicted_nothing, "does not know", (council_of(*OUT),)),
    (invite_to_everything, "has got", SEEDS),
    (admit_to_everything, "", (council_of(*GUESTS),)),
    (lose_the_new_key, "", SEEDS),
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
