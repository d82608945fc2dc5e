"""Pruned cells read the same, whatever comes later and whoever loses its rights."""

from __future__ import annotations

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from store import fold, pruning, root
from store.facts import Cached, Point
from store.fold import Claim
from tests.store.ledgers import Node, deliver, file, mesh, publish, revise


def id_(number: int) -> bytes:
    return bytes([number]) * 32


def move(number: int, *seen: int) -> Claim:
    fact = Point("r", "p", "n", b"%d" % number, tuple(map(id_, seen)))
    return Claim(id_(number), 0, number, "a", fact)


def test_a_line_of_moves_shrinks_to_its_end() -> None:
    line = [move(1), *(move(n, n - 1) for n in range(2, 9))]
    assert pruning.superfluous("p", line, []) == {id_(n) for n in range(1, 8)}
    later = [move(8, 7), move(9, 8)]
    assert pruning.superfluous("p", later, [id_(7)]) == {id_(8)}


def test_what_supersedes_the_unknown_stays_and_what_it_needs() -> None:
    assert pruning.superfluous("p", [move(2, 1), move(3, 2)], []) == set()
    # 3 goes only if 2, which must stay for 1's sake, is superseded by somebody who stays
    assert pruning.superfluous("p", [move(2, 1), move(3, 2), move(4, 3)], []) == set()
    assert pruning.superfluous("p", [move(2, 1), move(3, 2), move(4, 2, 3)], []) == {id_(3)}


@given(
    st.lists(st.sets(st.integers(1, 14), max_size=4), min_size=1, max_size=14),
    st.integers(0, 14),
    st.integers(0, 9999),
)
def test_whatever_arrives_later_reads_the_same(
    parents: list[set[int]], cut: int, seed: int
) -> None:
    story = [move(n, *(p for p in seen if p < n)) for n, seen in enumerate(parents, 1)]
    random.Random(seed).shuffle(story)
    early, late = story[:cut], story[cut:]
    gone = pruning.superfluous("p", early, [])
    kept = [claim for claim in early if claim.record not in gone]
    if kept or late:
        assert fold.resolve_pointer(kept + late) == fold.resolve_pointer(story)


def test_of_a_mutable_file_the_newest_revisions_matter() -> None:
    """The newest is what there is; the one before it is what a rollback brings back."""
    about = [Claim(id_(n), 0, n, "a", publish("a", str(n), mutable=True)) for n in range(1, 5)]
    about += [Claim(id_(n), 0, n, "a", Cached("r", "p", "1", (file("a", str(n)),))) for n in (5, 6)]
    about += [Claim(id_(7), 0, 7, "a", publish("a", "released"))]
    assert pruning.superfluous("f", about, []) == {id_(n) for n in (1, 2, 5)}


# --- in a ledger ---------------------------------------------------------------------------------
async def moved(node: Node, first: int, last: int) -> None:
    for number in range(first, last):
        await node.append(
            Point("r", "p", "latest", b"%d" % number), publish("m", str(number), mutable=True)
        )


def catalog(node: Node) -> dict[str, object]:
    return {name: rows for name, rows in node.catalog().items() if name != "claims"}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "PRUNE_AT", 8)


async def test_claims_stay_few_and_late_records_change_nothing() -> None:
    one, two, reader = await mesh(3)
    await moved(two, 0, 3)
    late = await two.batches()
    await moved(one, 0, 30)
    assert len(one.rows("claims")) < 20
    await reader.ledger.apply([*await one.batches(), *late])
    await one.ledger.apply(late)
    assert catalog(one) == catalog(reader)
    assert one.rows("pointers")[0]["value"] == b"29"
    assert len(one.rows("records")) == 66


async def test_what_was_superseded_comes_back_when_its_successor_stops_counting() -> None:
    owner, other, reader = await mesh(3)
    await moved(owner, 0, 20)
    await deliver(owner, other)
    await other.append(Point("r", "p", "latest", b"bad"), publish("m", "bad", mutable=True))
    await moved(other, 100, 120)
    await deliver(other, reader)
    await deliver(owner, reader)
    assert reader.rows("pointers")[0]["value"] == b"119"
    members = owner.ledger.authority.members()
    members[other.ledger.node] = root.member_of(other.identity, roles=("mirror",))
    await revise(owner, members.values())  # the owner has seen nothing of it: none of it counts
    await deliver(owner, reader)
    assert reader.rows("pointers")[0]["value"] == b"19"
    assert catalog(reader) == catalog(owner)
    await moved(owner, 20, 40)
    await deliver(owner, reader)
    assert catalog(reader) == catalog(owner)
    members[other.ledger.node] = root.member_of(other.identity)  # and back: its chain counts again
    await revise(owner, members.values())
    await deliver(owner, reader)
    await deliver(reader, owner)
    assert catalog(reader) == catalog(owner)
