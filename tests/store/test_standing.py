"""How authors stand: what an operator sees of held, refused, forked and rejected records."""

from __future__ import annotations

from store import standing
from store.applying import Outcome
from store.authority import Authority
from store.standing import AuthorStatus, Rejections
from tests.store.ledgers import deliver, mesh, publish, revise

NOBODY = Authority("ab" * 32, {})


def test_rejections_are_counted_and_gaps_are_not() -> None:
    known = Rejections()
    known.note([Outcome("a", 1, refused="forged"), Outcome("a", 1, refused="truncated")], 5.0)
    known.note([Outcome("a", 1, refused="a gap: 7"), Outcome("b", 1), Outcome("c", 1)], 6.0)
    (status,) = known.merge({}, NOBODY)
    assert (status.author, status.rejected, status.rejected_count) == ("a", "truncated", 2)
    assert status.rejected_at == 5.0
    assert not status.member


def test_memory_of_rejections_is_bounded() -> None:
    known = Rejections()
    for number in range(standing.AUTHORS_MAX + 5):
        known.note([Outcome(f"{number}", 1, refused="forged")], 0.0)
    assert len(known.merge({}, NOBODY)) == standing.AUTHORS_MAX


async def test_every_chain_is_listed_with_its_reasons() -> None:
    owner, other = await mesh(2)
    await other.append(publish("a"))
    await deliver(other, owner)
    members = owner.ledger.authority.members()
    del members[other.ledger.node]
    await owner.append(publish("b"))
    await revise(owner, members.values())
    status = {each.author: each for each in await owner.ledger.authors_status()}
    mine, theirs = status[owner.ledger.node], status[other.ledger.node]
    assert (mine.name, mine.member, mine.seq, mine.held, mine.refused) == ("node1", True, 1, 0, 0)
    assert (theirs.member, theirs.seq, theirs.refused) == (False, 1, 0)
    assert isinstance(mine, AuthorStatus)
    assert mine.record == (await owner.ledger.heads())[mine.author, mine.incarnation][1]
